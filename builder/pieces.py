"""A mail already encoded and cut at its holes: what is stored, approved, hashed and sent.

Encoding happens once, when a campaign is submitted. To write to one person the holes are filled and the
pieces joined; nothing is parsed or laid out again, so what leaves is what was approved. The body is
multipart/alternative with a text and an HTML part, both quoted-printable (see `quoted` for why any join
of pieces and values is well-formed and has its hash as DKIM body hash). A piece that depends on the
reader would be a third kind of entry in `Pieces.body`, beside bytes and Hole.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property

from builder import characters, headers, marks, quoted
from builder.tags import DATE_FORMATS, RESERVED, Context, Hole, escaped, plain, written

VERSION = 1
# "=_" cannot occur in quoted-printable (RFC 2045, 6.7, rule 5 of 2046, 5.1.1), so no text can end the part.
BOUNDARY = "=_alternative"
MAX_STORED = 20_000_000  # bytes

_BOUNDARY = re.compile(r"=_[A-Za-z0-9_]{1,40}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8})*")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_IN_TEXT = frozenset({Context.TEXT, Context.URL, Context.TEXT_LINK})
_IN_HTML = frozenset(
    {Context.HTML, Context.PREHEADER, Context.ATTRIBUTE, Context.URL, Context.LINK}
)
_AS_IS = frozenset({Context.TEXT, Context.HTML, Context.PREHEADER, Context.ATTRIBUTE})

Values = Mapping[str, str | date | None]


class NotPieces(ValueError):
    """Stored bytes that `Pieces.to_bytes` cannot have made."""


@dataclass(frozen=True)
class Pieces:
    """One compiled mail: the subject, and the whole MIME body, as fixed parts and holes in turn."""

    language: str
    subject: tuple[str | Hole, ...]
    body: tuple[bytes | Hole, ...]
    boundary: str = BOUNDARY

    @cached_property
    def holes(self) -> tuple[str, ...]:
        """The names used, sorted; `unsubscribe_url` among them."""
        return tuple(sorted({hole.name for hole in self._all()}))

    @property
    def tags(self) -> tuple[str, ...]:
        """The merge tags that are filled for each person; the way to stop is not one of them."""
        return tuple(name for name in self.holes if name not in RESERVED)

    @cached_property
    def required(self) -> tuple[str, ...]:
        """The names that each person must have a value for: somewhere they stand without a fallback."""
        return tuple(sorted({hole.name for hole in self._all() if hole.fallback is None}))

    @property
    def content_type(self) -> bytes:
        """The value of the message's Content-Type."""
        return b'multipart/alternative; boundary="%s"' % self.boundary.encode("ascii")

    def to_bytes(self) -> bytes:
        """The stored form: the same pieces give the same bytes, for ever."""
        stored = {
            "version": VERSION,
            "language": self.language,
            "boundary": self.boundary,
            "subject": [_stored(part) for part in self.subject],
            "body": [
                _stored(part if isinstance(part, Hole) else part.decode("ascii"))
                for part in self.body
            ],
        }
        return json.dumps(stored, sort_keys=True, separators=(",", ":")).encode("ascii")

    @classmethod
    def from_bytes(cls, stored: bytes) -> "Pieces":
        """Read the stored form back. Raises NotPieces for anything that `to_bytes` cannot have made."""
        try:
            read = json.loads(stored) if len(stored) <= MAX_STORED else None
            pieces = _read(read)
            same = pieces.to_bytes() == stored
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise NotPieces("these bytes are not the pieces of a mail") from error
        if not same:
            raise NotPieces("these bytes are not in the form in which pieces are stored")
        return pieces

    def digest(self) -> bytes:
        """SHA-256 of the stored form, 32 bytes."""
        return hashlib.sha256(self.to_bytes()).digest()

    def _all(self) -> tuple[Hole, ...]:
        return tuple(part for part in (*self.subject, *self.body) if isinstance(part, Hole))

    @cached_property
    def _plan(self) -> tuple[tuple[Hole, tuple[tuple[Hole, tuple[int, ...]], ...]], ...]:
        """The body's holes grouped by the text that they share, each with where it stands."""
        plan: dict[tuple[str, str | None, str | None], dict[Hole, list[int]]] = {}
        for i, part in enumerate(self.body):
            if isinstance(part, Hole):
                same = plan.setdefault((part.name, part.fallback, part.format), {})
                same.setdefault(part, []).append(i)
        return tuple(
            (next(iter(same)), tuple((hole, tuple(places)) for hole, places in same.items()))
            for same in plan.values()
        )


@dataclass(frozen=True, slots=True)
class Filled:
    """One person's mail, without the headers that delivery adds.

    `subject` and `content_type` are header values, ASCII, no CRLF at the end; `subject` may hold CRLF SP
    folds. `body` ends in one CRLF, needs no dot-stuffing, and its SHA-256 is the DKIM body hash.
    """

    subject: bytes
    body: bytes
    content_type: bytes


def fill(pieces: Pieces, values: Values) -> Filled:
    """Write one person's mail. Raises MissingValue or UnusableValue: that message is withheld."""
    parts = list(pieces.body)
    for first, same in pieces._plan:
        value = values.get(first.name)
        if type(value) is str and quoted.is_plain(value):  # most values; a third of the time
            text, as_is = value, value.encode("ascii") + quoted.SOFT_BREAK
        else:
            text, as_is = plain(first, value, pieces.language), b""
        for hole, places in same:
            encoded = as_is if as_is and hole.context in _AS_IS else _encoded(hole, text)
            for place in places:
                parts[place] = encoded
    return Filled(fill_subject(pieces, values), b"".join(parts), pieces.content_type)


def fill_subject(pieces: Pieces, values: Values) -> bytes:
    """The subject of one person's mail, as a header value."""
    text = "".join(
        part if isinstance(part, str) else written(part, values.get(part.name), pieces.language)
        for part in pieces.subject
    )
    return headers.encode(text, name="Subject")


def missing(pieces: Pieces, values: Values) -> tuple[str, ...]:
    """The names for which this person would need a value and has none."""
    return tuple(name for name in pieces.required if _is_blank(values.get(name)))


def build(
    *, language: str, subject: tuple[str | Hole, ...], text: str, html: str, holes: list[Hole]
) -> Pieces:
    """Encode both parts and cut them at their marks (mark n stands for `holes[n]`)."""
    opening, middle, closing = _frame(BOUNDARY)
    body = [opening, *_cut(text, holes), middle, *_cut(html, holes), closing]
    return Pieces(language=language, subject=subject, body=tuple(_merged(body)))


def _encoded(hole: Hole, text: str) -> bytes:
    return quoted.value(escaped(hole, text))


def _is_blank(value: str | date | None) -> bool:
    return value is None or isinstance(value, str) and not characters.single_line(value)


# --- layout and storage -----------------------------------------------------------------------------


def _frame(boundary: str) -> tuple[bytes, bytes, bytes]:
    """What stands before the text part, between the parts and after them."""
    line = b"--" + boundary.encode("ascii")

    def part(kind: bytes) -> bytes:
        return (
            line
            + b"\r\nContent-Type: text/%s; charset=utf-8\r\n" % kind
            + b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
        )

    return part(b"plain"), b"\r\n" + part(b"html"), b"\r\n" + line + b"--\r\n"


def _cut(marked: str, holes: list[Hole]) -> list[bytes | Hole]:
    parts = marks.split(marked)
    return [
        holes[part] if isinstance(part, int) else quoted.piece(part, last=i == len(parts) - 1)
        for i, part in enumerate(parts)
    ]


def _merged(body: list[bytes | Hole]) -> list[bytes | Hole]:
    """Neighbouring bytes as one, nothing empty."""
    out: list[bytes | Hole] = []
    for part in body:
        if isinstance(part, bytes) and out and isinstance(out[-1], bytes):
            out[-1] += part
        elif part:
            out.append(part)
    return out


def _stored(part: str | Hole) -> str | dict[str, str | None]:
    if isinstance(part, str):
        return part
    return {
        "hole": part.name,
        "context": part.context.value,
        "fallback": part.fallback,
        "format": part.format,
    }


def _read(stored: dict) -> Pieces:
    """Raises whatever is raised first when the stored form has another shape."""
    _must(set(stored) == {"version", "language", "boundary", "subject", "body"})
    _must(type(stored["version"]) is int and stored["version"] == VERSION)
    _must(_LANGUAGE.fullmatch(stored["language"]) and _BOUNDARY.fullmatch(stored["boundary"]))
    subject = tuple(_part(part) for part in stored["subject"])
    body = tuple(_part(part) for part in stored["body"])
    _must(all(part.context is Context.HEADER for part in subject if isinstance(part, Hole)))
    pieces = Pieces(
        language=stored["language"],
        boundary=stored["boundary"],
        subject=subject,
        body=tuple(part if isinstance(part, Hole) else part.encode("ascii") for part in body),
    )
    _must(_is_well_formed(pieces))
    return pieces


def _part(part: str | dict) -> str | Hole:
    if isinstance(part, str):
        return part
    _must(set(part) == {"hole", "context", "fallback", "format"})
    _must(_NAME.fullmatch(part["hole"]))
    fallback = part["fallback"]
    _must(fallback is None or fallback and characters.single_line(fallback) == fallback)
    _must(part["format"] is None or part["format"] in DATE_FORMATS)
    return Hole(part["hole"], Context(part["context"]), fallback, part["format"])


def _is_well_formed(pieces: Pieces) -> bool:
    """Is the frame whole, and would every line between hold whatever fills the holes?"""
    opening, middle, closing = _frame(pieces.boundary)
    fixed = [part for part in pieces.body if isinstance(part, bytes)]
    if not (fixed and pieces.body[0] is fixed[0] and pieces.body[-1] is fixed[-1]):
        return False
    whole = b"".join(fixed)
    if not (
        all(part.endswith(b"\r\n") for part in fixed)
        and fixed[0].startswith(opening)
        and fixed[-1].endswith(closing)
        and sum(part.count(middle) for part in fixed) == whole.count(middle) == 1
    ):
        return False
    seam = next(
        i for i, part in enumerate(pieces.body) if isinstance(part, bytes) and middle in part
    )
    if not (
        _IN_TEXT.issuperset(_contexts(pieces.body[:seam]))
        and _IN_HTML.issuperset(_contexts(pieces.body[seam:]))
    ):
        return False
    text, html = whole[len(opening) : -len(closing)].split(middle)
    return quoted.is_joinable(text + b"\r\n") and quoted.is_joinable(html + b"\r\n")


def _contexts(parts: tuple[bytes | Hole, ...]) -> set[Context]:
    return {part.context for part in parts if isinstance(part, Hole)}


def _must(condition: object) -> None:
    if not condition:
        raise ValueError
