"""Step 3, compile: the revision becomes encoded MIME with holes; the only door to mjml."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from html.parser import HTMLParser

import mjml

from builder import blocks, characters, links, marks, markup, plain
from builder import brand as brands
from builder import pieces as encoded
from builder.brand import Brand
from builder.marks import Marks
from builder.pieces import Pieces
from builder.problems import Invalid, Problem, problem
from builder.tags import Context, Hole, Registry, parse
from builder.theme import theme

MAX_SUBJECT = 150  # characters; a phone shows about 40
MAX_PREHEADER = 200
GMAIL_CLIPS = 100_000  # bytes of HTML; what follows 102 kB is behind a link, the footer with it

_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")
_INDENT = re.compile(r"\n[ \t]+")
_FALSE_REPLY = re.compile(r"\s*(?:re|fw|fwd|aw|wg|rv)\s*:", re.IGNORECASE)


class CompileError(RuntimeError):
    """The engine failed, or its output breaks a rule that must hold; nothing of it may be sent."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A mail with holes: its source, both parts with marks (mark n stands for `holes[n]`), and its pieces."""

    mjml: str
    html: str
    text: str
    subject: tuple[str | Hole, ...]
    holes: tuple[Hole, ...]
    language: str
    notices: tuple[Problem, ...]
    pieces: Pieces
    media: tuple[str, ...]


def compile_document(
    document: dict,
    *,
    brand: Brand,
    tags: Registry,
    subject: str,
    preheader: str = "",
    resolve_media: Callable[[str], str] | None = None,
    image_hosts: Collection[str] = (),
    language: str = "en",
) -> Compiled:
    """Compile a document for one organization.

    `resolve_media` gives the first-party https address of an uploaded image, by its id, and raises
    LookupError for one that is not there. Raises Invalid with every problem of the document, subject,
    preheader, brand and images; CompileError when the result cannot be trusted.
    """
    problems = blocks.validate(document, tags=tags, image_hosts=image_hosts)
    problems += brands.problems(brand)
    problems += check_subject(subject, tags)
    problems += check_preheader(preheader, tags)
    if not _LANGUAGE.fullmatch(language):
        problems.append(problem("bad_language", "language"))
    if problems:
        raise Invalid(problems)
    images = _resolved(document, brand, resolve_media)
    mail = markup.Mail(
        theme=theme(document.get("settings", {}), brand.accent),
        brand=brand,
        tags=tags,
        marks=Marks(),
        language=language,
        images=images,
    )
    return _compiled(document["blocks"], mail, subject, preheader, frozenset(image_hosts))


def check_subject(subject: str, tags: Registry | None) -> list[Problem]:
    """What is wrong with a subject line."""
    found = _check_line(subject, "subject", MAX_SUBJECT, Context.HEADER, tags)
    if not subject.strip():
        found.append(problem("empty_text", "subject"))
    if "=?" in subject:
        found.append(problem("encoded_word", "subject"))
    if _FALSE_REPLY.match(subject):  # 15 U.S.C. 7704(a)(2)
        found.append(problem("false_reply", "subject"))
    return found


def check_preheader(preheader: str, tags: Registry | None) -> list[Problem]:
    """What is wrong with a preview line; it may be empty."""
    return _check_line(preheader, "preheader", MAX_PREHEADER, Context.PREHEADER, tags)


def _check_line(
    text: str, path: str, limit: int, context: Context, tags: Registry | None
) -> list[Problem]:
    if len(text) > limit:
        return [problem("too_long", path, limit)]
    if characters.broken(text):
        return [problem("control_characters", path)]
    return parse(text, tags, context=context, path=path)[1]


def _resolved(
    document: dict, brand: Brand, resolve_media: Callable[[str], str] | None
) -> dict[str, str]:
    """The address of every uploaded image, by id."""
    wanted = [("brand.logo", brand.logo)] if brand.logo else []
    wanted += [
        (f"{path}.src", block["src"])
        for path, block in blocks.walk(document)
        if block["type"] == "image"
    ]
    addresses: dict[str, str] = {}
    problems: list[Problem] = []
    for path, src in wanted:
        media = links.media_id(src)
        if media is None or media in addresses:
            continue
        try:
            if resolve_media is None:
                raise LookupError(media)
            addresses[media] = resolve_media(media)
        except LookupError:
            problems.append(problem("unknown_media", path))
    if problems:
        raise Invalid(problems)
    if not all(map(links.is_resolved, addresses.values())):
        raise CompileError("an uploaded image resolved to something that is no https address")
    return addresses


def _compiled(
    given: list[dict], mail: markup.Mail, subject: str, preheader: str, image_hosts: frozenset[str]
) -> Compiled:
    """Compile what was checked; HTML first, then text, as marks are numbered in that order."""
    line = parse(subject, mail.tags, context=Context.HEADER, path="subject")[0]
    source = markup.document(given, mail, title=_title(line), preheader=preheader)
    holes = mail.marks.holes
    in_html = frozenset(range(len(holes)))
    html = marks.restored(_engine(source))
    _trust(html, holes, in_html, image_hosts | set(map(links.host, mail.images.values())))
    text = plain.document(given, mail)
    _has_way_out(text, holes, Context.TEXT_LINK)
    _has_way_out(html, holes, Context.LINK)
    notices = [problem("clipped_by_gmail", "")] if len(html.encode()) > GMAIL_CLIPS else []
    return Compiled(
        mjml=source,
        html=html,
        text=text,
        subject=line,
        holes=tuple(holes),
        language=mail.language,
        notices=tuple(notices),
        pieces=encoded.build(
            language=mail.language, subject=line, text=text, html=html, holes=holes
        ),
        media=tuple(mail.images),
    )


def _title(subject: tuple[str | Hole, ...]) -> str:
    """The subject with fallbacks in place of its holes: the title is the same for everybody."""
    text = "".join(part if isinstance(part, str) else part.fallback or "" for part in subject)
    return re.sub(r"\s+([,.:;!?])", r"\1", " ".join(text.split()))


def _engine(source: str) -> str:
    """MJML to HTML. Depth is bounded by `blocks` and `rich`: the engine recurses, and would crash the process."""
    try:
        # fonts={}: no web fonts; the two that remain third-party (social icons, carousel) are no blocks of ours
        html = mjml.mjml2html(source, disable_comments=True, fonts={})
    except ValueError as error:
        raise CompileError("the MJML engine refused its source") from error
    return _INDENT.sub("\n", html) + "\n"


# --- what must hold ---------------------------------------------------------------------------------

_FORBIDDEN = frozenset(
    [
        "applet",
        "audio",
        "base",
        "button",
        "canvas",
        "embed",
        "form",
        "frame",
        "frameset",
        "iframe",
        "input",
        "link",
        "math",
        "object",
        "script",
        "select",
        "source",
        "svg",
        "textarea",
        "track",
        "video",
    ]
)
_LOADS = frozenset({"src", "background", "srcset", "poster", "data", "cite", "longdesc", "lowsrc"})
_CSS_LOADS = re.compile(r"url\s*\(|@import|expression\s*\(|//", re.IGNORECASE)
_ELSEWHERE = re.compile(r"//[A-Za-z0-9]")
_PLACES = {
    "text": frozenset({Context.HTML, Context.PREHEADER}),
    "href": frozenset({Context.URL, Context.LINK}),
    "alt": frozenset({Context.ATTRIBUTE}),
}


class _Audit(HTMLParser):
    """Reads the finished HTML as a mail program would, and notes what breaks a rule."""

    def __init__(self, holes: list[Hole], hosts: frozenset[str]) -> None:
        super().__init__(convert_charrefs=True)
        self.holes = holes
        self.hosts = hosts
        self.seen: set[int] = set()
        self.faults: list[str] = []
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag if tag in ("style", "title") else ""
        if tag in _FORBIDDEN:
            self.faults.append(f"<{tag}>")
        for name, value in attrs:
            self._attribute(tag, name, value or "")

    def _attribute(self, tag: str, name: str, value: str) -> None:
        self._marks(value, name)
        if name.startswith("on") or name in ("action", "formaction", "ping"):
            self.faults.append(f"{name}=")
        elif name in _LOADS and links.host(value) not in self.hosts:
            self.faults.append(f"{tag} {name}= of another host")
        elif name == "style" and _CSS_LOADS.search(value):
            self.faults.append("style= that loads")
        elif name == "href" and tag != "a":
            self.faults.append(f"{tag} href=")
        elif tag == "meta" and name == "http-equiv" and value.lower() == "refresh":
            self.faults.append("meta refresh")
        elif tag == "a" and name == "href":
            bare = re.sub("\ue000[0-9]+\ue001", "x", value)
            if value[:1] != "\ue000" and not re.match(
                r"(?:https|mailto|tel):|http://(?:localhost|127\.0\.0\.1)[:/]", bare
            ):
                self.faults.append("a href= of another scheme")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        self._marks(data, self.inside or "text")
        if self.inside == "style" and _CSS_LOADS.search(data):
            self.faults.append("style that loads")

    def handle_comment(self, data: str) -> None:
        """Outlook reads what stands in its conditional comments."""
        self._marks(data, "comment")
        if _ELSEWHERE.search(data):
            self.faults.append("comment that loads")

    def _marks(self, text: str, place: str) -> None:
        for number in marks.numbers(text):
            self.seen.add(number)
            if number >= len(self.holes) or self.holes[number].context not in _PLACES.get(
                place, ()
            ):
                self.faults.append(f"hole {number} in {place}")


def _trust(html: str, holes: list[Hole], expected: frozenset[int], hosts: frozenset[str]) -> None:
    """Nothing foreign is loaded, nothing runs, every hole is there and in its context; else CompileError."""
    audit = _Audit(holes, hosts)
    audit.feed(html)
    audit.close()
    if audit.seen != expected:
        audit.faults.append("holes lost")
    if audit.faults:
        raise CompileError(f"the compiled mail breaks a rule: {audit.faults[0]}")


def _has_way_out(part: str, holes: list[Hole], context: Context) -> None:
    """A mail without its unsubscribe link does not leave (15 U.S.C. 7704(a)(3))."""
    ways = {i for i, hole in enumerate(holes) if hole.context is context}
    if not ways.intersection(marks.numbers(part)):
        raise CompileError("the compiled mail has no unsubscribe link")
