"""What can be wrong with a template: one code and one plain sentence for each."""

from dataclasses import dataclass

# Sentences are shown to the author beside the place at fault. {what} is the author's own word.
SENTENCES: dict[str, str] = {
    # the document
    "wrong_type": "This should be {what}.",
    "wrong_version": "This template was made by another version and cannot be read.",
    "unknown_key": "“{what}” is not known here.",
    "missing_key": "“{what}” is missing.",
    "unknown_block": "There is no block called “{what}”.",
    "too_many_blocks": "A template holds at most {what} blocks.",
    "too_deep": "Columns cannot stand inside columns, nor can a header or a footer.",
    "bad_id": "A block's id is 1 to 16 small letters, digits or hyphens.",
    "repeated_id": "Two blocks have the id “{what}”.",
    "bad_choice": "Choose one of: {what}.",
    "out_of_range": "This number should be from {what}.",
    "uneven_widths": "The widths of the columns should have one number each and make 100.",
    "bad_colour": "A colour is written like #1f6f78.",
    "low_contrast": "This text would be hard to read: choose colours that differ more.",
    "empty_text": "This cannot be empty.",
    "too_long": "This is too long; at most {what} characters.",
    "too_big": "The template is too big; at most {what} characters in all.",
    "control_characters": "There is an invisible control or direction character here; type the text again.",
    "footer_missing": "The footer with postal address and unsubscribe link must be there.",
    "footer_repeated": "There can be only one footer.",
    "footer_not_last": "The footer must be the last block.",
    "no_alt": "Describe the image in words, or mark it as decoration.",
    "alt_on_decoration": "Decoration has no description; clear it or unmark the image.",
    "bad_image": "Choose an uploaded image, or one on an address that is allowed.",
    "unknown_media": "This image is no longer there.",
    # rich text
    "forbidden_markup": "“{what}” cannot be used in a text.",
    "too_nested": "This text has too many layers of lists or emphasis inside each other.",
    # addresses of links
    "bad_address": "A link starts with https://, mailto: or tel: and has no spaces or odd characters.",
    "bad_scheme": "Links with “{what}” are refused; use https://, mailto: or tel:.",
    "tag_begins_address": "A merge tag cannot choose where a link leads; put it after the site's name and a slash.",
    # merge tags
    "unknown_tag": "There is no merge tag called “{what}”.",
    "reserved_tag": "“{what}” is written by the footer and cannot be used elsewhere.",
    "bad_tag": 'This merge tag cannot be read; write it like {{{{ first_name | fallback: "there" }}}}.',
    "unbalanced_braces": "A merge tag is opened or closed by itself here; it takes {{{{ and }}}}.",
    "template_code": "Only merge tags are possible, no program code.",
    "attribute_access": "A merge tag is one plain name, without dots, brackets or parentheses.",
    "unknown_filter": "“{what}” is not known; a merge tag takes “fallback” and “date” only.",
    "repeated_filter": "“{what}” is there twice.",
    "empty_fallback": "The fallback is empty; say what to write instead.",
    "unknown_format": "There is no such way to write a date; choose one of: {what}.",
    "not_a_date": "“{what}” is not a date.",
    "tag_in_markup": "A merge tag can stand in text or in the address of a link, not here.",
    "sensitive_place": "“{what}” says something private and cannot stand in a subject, preview line, link or image description.",
    # subject and brand
    "encoded_word": "“=?” cannot stand in a subject.",
    "false_reply": "A subject cannot begin like a reply or a forwarded mail.",
    "bad_language": "A language is written like en or es-MX.",
    "incomplete_brand": "The organization's “{what}” is needed in every footer.",
    # notices: said, not refused
    "clipped_by_gmail": "The mail is over 100 kB; Gmail would cut off its end, the footer with it.",
}
NOTICES = frozenset({"clipped_by_gmail"})


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong: where (`path`, and `position` in the text there), what (`code`), and a sentence."""

    code: str
    path: str
    sentence: str
    position: int | None = None


class Invalid(ValueError):
    """The author's document, subject or brand cannot be compiled; `problems` says why."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        first = problems[0]
        super().__init__(f"{len(problems)} problem(s), the first: {first.code} at {first.path!r}")


def problem(code: str, path: str, what: object = "", position: int | None = None) -> Problem:
    """Make a Problem; `what` is shortened, since it may be anything that somebody sent."""
    return Problem(code, path, SENTENCES[code].format(what=_short(what)), position)


def _short(what: object) -> str:
    text = "".join(c for c in str(what) if c.isprintable())
    return text if len(text) <= 120 else text[:119] + "…"
