"""Reads a cell or a criterion's value into the type of its field; a sentence about it never repeats it."""

import datetime as dt
import re
import unicodedata
from collections.abc import Callable
from typing import Any

from contacts import addresses, choices
from contacts.attributes import Field, Type
from contacts.covers import GREATEST, LEAST
from contacts.problems import Unacceptable
from contacts.sensitive import code_of

#: The most conditions of one contact, or values of one field of several.
MOST_VALUES = 50
#: Nobody living is older: an earlier birth date is a slip.
OLDEST = 130

#: Control characters, and those that turn the direction of text or hide (Unicode TR 36, 3.1).
HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\uffff]"
)
#: What is cut off at both ends; what else Python calls a space is a control character, and said to be one.
BLANKS = " \t\r\n\u00a0\u3000"
_BREAKS = re.compile(r"[ \t]*(?:\r\n|[\r\n\t\v\f])[ \t\r\n]*")
_ISO_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_NUMBER = re.compile(r"[+-]?\d{1,10}", re.ASCII)
_ZIP = re.compile(r"(\d{5})(?:-?(\d{4}))?")
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z0-9]{2,8}){0,3}", re.IGNORECASE)
YES_NO = {
    "yes": True,
    "y": True,
    "true": True,
    "1": True,
    "no": False,
    "n": False,
    "false": False,
    "0": False,
}


def read(field: Field, text: str, *, today: dt.date | None = None) -> Any:
    """Return the value that `text`, not empty, is for a field: str, int, bool, date or list of str.

    Raises Unacceptable. `today` bounds birth dates and visits; None leaves them unbounded, as for criteria.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    reader = _OF_KEY.get(field.key) or _OF_TYPE[field.type]
    value = reader(field, text.strip(BLANKS))
    if today is not None and field.key in _BOUNDS:
        _BOUNDS[field.key](value, today)
    return value


def _text(field: Field, text: str) -> str:
    if not field.is_column:
        # Notes of several lines are usual there; whatever they end up in is one line.
        text = _BREAKS.sub(" ", text)
    if HIDDEN.search(text):
        raise Unacceptable(
            "hidden_characters",
            "It holds control characters, or characters that hide or turn the direction of text.",
        )
    if "=?" in text:
        raise Unacceptable("encoded_word", "It looks like an encoded mail header (=?…?=).")
    if len(text) > field.longest:
        raise Unacceptable("too_long", f"It is longer than {field.longest} characters.")
    return text


def _choice(field: Field, text: str) -> str:
    if not field.choices:
        return _text(field, text)
    text = _text(field, text)
    for candidate in (text, text.upper(), text.lower()):
        if candidate in field.choices:
            return candidate
    if found := field.spellings.get(text.lower()):
        return found
    raise Unacceptable(
        f"not_a_{field.key}", _NOT_A_CHOICE.get(field.key, "It is none of the choices.")
    )


_NOT_A_CHOICE = {
    "sex": "Sex is female, male, other or unknown.",
    "state": "It is not a US state, district, territory or military address.",
    "kind": "A kind is patient, representative, professional or lead.",
}


def _choices(field: Field, text: str) -> list[str]:
    values: dict[str, str] = {}
    for part in text.split(";"):
        if part := " ".join(part.split()):
            values.setdefault(part.casefold(), _text(field, part))
    if len(values) > MOST_VALUES:
        raise Unacceptable("too_many_values", f"There are more than {MOST_VALUES} values in it.")
    return list(values.values())


def _number(field: Field, text: str) -> int:
    if not _NUMBER.fullmatch(text) or not LEAST <= int(text) <= GREATEST:
        raise Unacceptable(
            "not_a_number", f"It is not a whole number between {LEAST} and {GREATEST}."
        )
    return int(text)


def _date(field: Field, text: str) -> dt.date:
    if _ISO_DAY.fullmatch(text) and text.isascii():
        try:
            return dt.date.fromisoformat(text)
        except ValueError:
            raise Unacceptable("impossible_date", "There is no such day.") from None
    raise Unacceptable("not_a_date", "It is not a date written as YYYY-MM-DD.")


def _yes_no(field: Field, text: str) -> bool:
    try:
        return YES_NO[text.lower()]
    except KeyError:
        raise Unacceptable("not_yes_or_no", "It is neither yes nor no.") from None


def _email(field: Field, text: str) -> str:
    return addresses.check(text).sendable


def _zip(field: Field, text: str) -> str:
    found = _ZIP.fullmatch(text)
    if not found or not text.isascii():
        raise Unacceptable(
            "not_a_zip",
            "A ZIP code has five digits, or nine; a spreadsheet may have dropped a leading zero.",
        )
    return f"{found[1]}-{found[2]}" if found[2] else found[1]


def _language(field: Field, text: str) -> str:
    text = choices.LANGUAGE_SPELLINGS.get(text.lower(), text.replace("_", "-"))
    if not _LANGUAGE.fullmatch(text) or not text.isascii():
        raise Unacceptable(
            "not_a_language", "It is not a language code such as en, es or zh-Hant (BCP 47)."
        )
    first, *rest = text.lower().split("-")
    # BCP 47, 2.1.1: scripts are title case, regions upper case.
    return "-".join([first, *({4: str.title, 2: str.upper}.get(len(p), str)(p) for p in rest)])


def _birth(value: dt.date, today: dt.date) -> None:
    if value > today:
        raise Unacceptable("future_date", "Nobody is born in the future.")
    if value.year < today.year - OLDEST:
        raise Unacceptable("impossible_date", f"Nobody is older than {OLDEST} years.")


def _visit(value: dt.date, today: dt.date) -> None:
    # The file may come from a place where it is tomorrow already.
    if value > today + dt.timedelta(days=1):
        raise Unacceptable("future_date", "The last visit lies in the future.")
    if value.year < today.year - OLDEST:
        raise Unacceptable("impossible_date", f"No visit was more than {OLDEST} years ago.")


_OF_TYPE: dict[str, Callable[[Field, str], Any]] = {
    Type.TEXT: _text,
    Type.CHOICE: _choice,
    Type.CHOICES: _choices,
    Type.NUMBER: _number,
    Type.DATE: _date,
    Type.YES_NO: _yes_no,
}
_OF_KEY: dict[str, Callable[[Field, str], Any]] = {
    "email": _email,
    "zip": _zip,
    "language": _language,
}
_BOUNDS = {"date_of_birth": _birth, "last_visit": _visit}


def normal(text: str) -> str:
    """Return the form in which two ways of writing one text value are equal: spaces and case don't count."""
    return " ".join(text.casefold().split())


def normal_condition(text: str) -> str:
    """Return the same for a condition: ICD-10-CM codes are equal with and without their dot."""
    words = normal(text)
    code = code_of(words)
    return code.lower() if code and len(code) == len(words.replace(".", "")) else words
