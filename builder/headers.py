"""Header values: RFC 2047 encoded-words where a text is not plain ASCII, folded lines, display names."""

import re
from base64 import b64encode

from builder import characters

LINE = 76  # RFC 2047, 2: a line with an encoded-word; also well under the 78 of RFC 5322, 2.1.1
WORD = 75
MAX_WORD = 900  # a line is at most 998 (RFC 5322, 2.1.1); a word longer than this is encoded, so that it folds

_RUNS = re.compile(" {2,}")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
# Bare in a Q word wherever it stands, a phrase included (RFC 2047, 5 (3)).
_BARE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
_Q = {" ": "_"} | {c: c for c in _BARE}


def encode(text: str, *, name: str) -> bytes:
    """The value of an unstructured header, ASCII; long values hold CRLF SP folds, and no CRLF at the end.

    `name` is the header's own, for the length of the first line. Controls are removed, line breaks and
    runs of spaces become one space, so the value's relaxed canonical form (RFC 6376, 3.4.2) is the value
    without its CRLFs. A text that looks like an encoded-word is encoded, so that it decodes to itself.
    """
    text = _RUNS.sub(" ", characters.single_line(text))
    if text.isascii() and "=?" not in text:
        if len(name) + 2 + len(text) <= LINE:
            return text.encode("ascii")
        words = text.split(" ")
        if max(map(len, words)) <= MAX_WORD:
            return _folded(words, LINE - len(name) - 2).encode("ascii")
    return _encoded(text, len(name) + 2)


def phrase(text: str, *, name: str) -> bytes:
    """A display name (RFC 5322, 3.2.5), as it stands before `<address>`: atoms, a quoted string, or encoded-words."""
    text = _RUNS.sub(" ", characters.single_line(text))
    if text.isascii() and "=?" not in text and len(name) + 2 + len(text) <= LINE - 2:
        if _ATOMS.fullmatch(text):
            return text.encode("ascii")
        return b'"' + re.sub(r'(["\\])', r"\\\1", text).encode("ascii") + b'"'
    return _encoded(text, len(name) + 2)


def _folded(words: list[str], room: int) -> str:
    lines = [words[0]]
    for word in words[1:]:
        if len(lines[-1]) + 1 + len(word) <= room:
            lines[-1] += " " + word
        else:
            lines.append(word)
            room = LINE - 1
    return "\r\n ".join(lines)


def _encoded(text: str, used: int) -> bytes:
    """Encoded-words of at most 75 characters on lines of at most 76; no character is cut in two (RFC 2047, 5)."""
    quoted = [_Q.get(c) or "".join(f"={byte:02X}" for byte in c.encode()) for c in text]
    if sum(map(len, quoted)) <= len(text.encode()) * 4 / 3:
        chunks = _chunks(quoted, [len(q) for q in quoted], WORD - 12, LINE - used - 12)
        words = [f"=?utf-8?q?{chunk}?=" for chunk in chunks]
    else:
        room = (WORD - 12) // 4 * 3
        chunks = _chunks(
            list(text), [len(c.encode()) for c in text], room, (LINE - used - 12) // 4 * 3
        )
        words = [f"=?utf-8?b?{b64encode(chunk.encode()).decode()}?=" for chunk in chunks]
    return "\r\n ".join(words).encode("ascii")


def _chunks(pieces: list[str], sizes: list[int], room: int, first_room: int) -> list[str]:
    chunks, size, space = [""], 0, first_room
    for piece, length in zip(pieces, sizes, strict=True):
        if size + length > space:
            chunks.append("")
            size, space = 0, room
        chunks[-1] += piece
        size += length
    return [chunk for chunk in chunks if chunk]
