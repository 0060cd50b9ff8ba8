"""Characters that have no business in a mail: controls, direction overrides, halves of characters."""

import re

# Line and page breaks of every kind, and the tabulator: one space instead.
_BREAKS = re.compile("[\t\n\x0b\x0c\r\x85\u2028\u2029]")
# Controls; bidirectional embeddings, overrides and isolates (a name written with U+202E reads backwards);
# deprecated format characters; surrogates, which UTF-8 cannot hold; private use, which the compiler
# keeps for its own marks; byte order mark, annotation marks and noncharacters.
_KILLED = (
    "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"
    "\u202a-\u202e\u2066-\u206f\ud800-\udfff\ue000-\uf8ff\ufdd0-\ufdef\ufeff\ufff9-\uffff"
)
_KILL = re.compile(f"[{_KILLED}]")
_KILL_OR_BREAK = re.compile(f"[{_KILLED}\t\n\x0b\x0c\r\x85\u2028\u2029]")
_OTHER_BREAKS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")


def killed(text: str) -> bool:
    """Does the text hold a character that would be removed?"""
    return _KILL.search(text) is not None


def broken(text: str) -> bool:
    """Does the text hold a character that would be removed, or a line break of any kind?"""
    return _KILL_OR_BREAK.search(text) is not None


def single_line(text: str) -> str:
    """The text on one line: breaks become spaces, killed characters go, ends are trimmed."""
    if text.isascii() and text.isprintable():  # the usual case, ten times as fast
        return text.strip()
    return _KILL.sub("", _BREAKS.sub(" ", text)).strip()


def lines(text: str) -> str:
    """The text with its line breaks as LF, killed characters removed, tabulators as spaces."""
    return _KILL.sub("", _OTHER_BREAKS.sub("\n", text).replace("\t", " "))
