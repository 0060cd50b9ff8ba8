"""Quoted-printable (RFC 2045, 6.7) whose output can be joined, and is its own relaxed canonical form.

A message is a join of pieces encoded once and values encoded per person, so what holds for the whole
must hold at every seam. Every piece and value begins at the start of a line and ends in a soft break.
Then no line is longer than 76, and none starts with

    .    SMTP would double it (RFC 5321, 4.5.2)
    F    "From " is altered by mailbox files
    -    it could look like a boundary

and, so that DKIM's relaxed form (RFC 6376, 3.4.4) is the body as it stands and its hash is the body
hash: no tabulator, no two spaces together, no space at either end of a line.
"""

import re

SOFT_BREAK = b"=\r\n"
LINE = 76  # RFC 2045, 6.7 (5); the soft break's "=" counts

_ESCAPE = {byte: b"=%02X" % byte for byte in range(256)}
_UNSAFE = re.compile(rb"[^ !-<>-~]")
_SPACES = re.compile(rb"  +")
_HEADS = frozenset(b" .F-")
# What needs no encoding here and no escaping in HTML: most names, places and dates. Linear, as no two
# parts of the pattern can match the same character.
_PLAIN = re.compile(r"[A-EG-Za-z0-9][A-Za-z0-9]*(?:(?:[,.] ?|[ :/-])[A-Za-z0-9]+)*").fullmatch


def piece(text: str, *, last: bool = False) -> bytes:
    """Encode a text whose line breaks (any of CRLF, CR, LF) become hard breaks.

    `last` leaves out the closing soft break: after it, nothing but a CRLF may follow.
    """
    data = text.replace("\r\n", "\n").replace("\r", "\n").encode()
    *hard, tail = data.split(b"\n")
    out = [_line(line, closed=True) + b"\r\n" for line in hard]
    end = _line(tail, closed=last)
    return b"".join(out) + (end if last or not end else end + SOFT_BREAK)


def value(text: str) -> bytes:
    """Encode a short text without line breaks; the same as `piece`, quick for what is plain."""
    if is_plain(text):
        return text.encode("ascii") + SOFT_BREAK
    if not text or "\n" in text or "\r" in text:
        return piece(text)
    return _line(text.encode(), closed=False) + SOFT_BREAK


def is_plain(text: str) -> bool:
    """Is this a short text that is the same in plain text, in HTML, and encoded?"""
    return len(text) < LINE and _PLAIN(text) is not None


def is_joinable(encoded: bytes) -> bool:
    """Could `piece` have made these lines? Checked on what comes back from storage."""
    return _JOINABLE(encoded) is not None


def _line(line: bytes, *, closed: bool) -> bytes:
    """One line, soft breaks inside where it is long; `closed` when a hard break follows."""
    line = _SPACES.sub(_run, _UNSAFE.sub(_escaped, line))
    if closed and line.endswith(b" "):
        line = line[:-1] + b"=20"
    out = []
    start, end = 0, len(line)
    while True:
        head = b""
        if start < end and line[start] in _HEADS:
            head = _ESCAPE[line[start]]
            start += 1
        stop = start + LINE - 1 - len(head)
        if stop >= end:
            out.append(head + line[start:])
            return SOFT_BREAK.join(out)
        # never cut an =XX in two
        if line[stop - 1] == 0x3D:
            stop -= 1
        elif line[stop - 2] == 0x3D:
            stop -= 2
        out.append(head + line[start:stop])
        start = stop


def _escaped(match: re.Match[bytes]) -> bytes:
    return _ESCAPE[match[0][0]]


def _run(match: re.Match[bytes]) -> bytes:
    return b" " + b"=20" * (len(match[0]) - 1)


# Lines of at most 76, each closed by CRLF; no leading dot, F, hyphen or space; no tab, no two spaces, no
# space before CRLF; "=" only before two hexadecimal digits or at the end of the line.
_JOINABLE = re.compile(
    rb"(?:(?![ .F-])(?=[^\r]{0,76}\r\n)(?:[!-<>-~]|=[0-9A-F]{2}| (?![ \r]))*+=?\r\n)*+"
).fullmatch
