"""Marks that stand for holes while a mail is put together.

A mark is a number between two private-use characters. Those are taken out of everything that authors
and organizations write (`characters`), so a mark can only be ours.
"""

import html
import re

from builder import characters
from builder.tags import Context, Hole

_MARK = re.compile("\ue000([0-9]+)\ue001")
# The MJML engine writes attributes as Rust debug strings ("\u{e000}"), so they go in as references.
_REFERENCES = re.compile("&#57344;([0-9]+)&#57345;")


class Marks:
    """The holes of one mail, numbered in the order in which they were first placed."""

    def __init__(self) -> None:
        self.holes: list[Hole] = []
        self._numbers: dict[Hole, int] = {}

    def place(self, hole: Hole, context: Context) -> str:
        """A mark for the hole in this context."""
        placed = Hole(hole.name, context, hole.fallback, hole.format)
        number = self._numbers.setdefault(placed, len(self.holes))
        if number == len(self.holes):
            self.holes.append(placed)
        return f"\ue000{number}\ue001"

    def content(self, parts: tuple[str | Hole, ...], context: Context = Context.HTML) -> str:
        """Parts as the content of an HTML element."""
        return "".join(
            html.escape(characters.lines(part), quote=False)
            if isinstance(part, str)
            else self.place(part, context)
            for part in parts
        )

    def attribute(self, parts: tuple[str | Hole, ...], context: Context) -> str:
        """Parts as the inside of a quoted attribute of the MJML source."""
        return attribute(self.text(parts, context))

    def text(self, parts: tuple[str | Hole, ...], context: Context = Context.TEXT) -> str:
        """Parts as plain text."""
        return "".join(
            characters.lines(part) if isinstance(part, str) else self.place(part, context)
            for part in parts
        )


def attribute(text: str) -> str:
    """Any text as the inside of a quoted attribute: ASCII, since the engine garbles what it finds unprintable."""
    escaped = html.escape(text).replace("\\", "&#92;").replace("\n", " ")
    return escaped.encode("ascii", "xmlcharrefreplace").decode("ascii")


def restored(markup: str) -> str:
    """The engine's output with every mark written the same way."""
    return _REFERENCES.sub("\ue000\\1\ue001", markup)


def split(marked: str) -> list[str | int]:
    """Text and numbers of marks in turn: [text, number, text, …, text]."""
    parts: list[str | int] = list(_MARK.split(marked))
    parts[1::2] = map(int, parts[1::2])
    return parts


def numbers(marked: str) -> list[int]:
    """The numbers of all marks in a text."""
    return [int(number) for number in _MARK.findall(marked)]
