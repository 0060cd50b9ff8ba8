"""Reads a CSV file of unknown make: its encoding, separator and header, then its rows, whatever is wrong with some."""

import codecs
import csv
import io
import re
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from contacts.problems import Problem, Unacceptable
from contacts.values import HIDDEN

MOST_COLUMNS = 200
LONGEST_HEADER = 120
#: Characters of one line of text; a longer one is set aside without being held in memory.
LONGEST_LINE = 256 * 1024
#: Characters of one cell; the csv module itself stops at 131,072.
LONGEST_CELL = 10_000
#: How much of a line that could not be read is kept with the rejected rows.
KEPT = 1_000

#: How often a quotation mark may swallow the lines behind it: each costs reading up to a cell's limit twice.
MOST_TORN = 1_000

SEPARATORS = ",;\t"
_WORDS = re.compile(r"[^\W_]+")
#: What is no UTF-8 is read as this, if it can be.
GUESSED = "cp1252"
_MARKS = (
    # UTF-32 first: its little-endian mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, ""),
    (codecs.BOM_UTF32_BE, ""),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Refused(Unacceptable):
    """The file as a whole cannot be imported."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How a file is to be read. `guessed`: the encoding is a fallback, so accents may come out wrong."""

    encoding: str
    separator: str
    header: tuple[str, ...]
    guessed: bool = False


@dataclass(slots=True)
class Record:
    """One row of the table: `number` counts the header as 1, as spreadsheet programs do, and blank rows too.

    `problem`: why it cannot be read at all; `cells` then holds the beginning of its last line.
    """

    number: int
    cells: list[str]
    problem: Problem | None = None

    @property
    def is_blank(self) -> bool:
        return self.problem is None and not any(cell.strip() for cell in self.cells)


# --- the shape


def shape(pieces: Iterable[bytes]) -> Shape:
    """Return how the file is to be read, after looking at all of its bytes; raises Refused.

    UTF-8 with and without a mark, UTF-16 with one; what is no UTF-8 is read as Windows-1252 if it can be.
    """
    iterator = iter(pieces)
    head = b""
    for piece in iterator:
        head += piece
        if len(head) >= LONGEST_LINE:
            break
    if not head.strip(b"\xef\xbb\xbf\xff\xfe \t\r\n\0"):
        raise Refused("empty_file", "The file is empty.")
    encoding, guessed = _encoding(head, iterator)
    separator, header = _header(head, encoding)
    return Shape(encoding, separator, header, guessed)


def _encoding(head: bytes, rest: Iterator[bytes]) -> tuple[str, bool]:
    named = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if named == "":
        raise Refused("encoding", "The file is written in UTF-32; save it as UTF-8.")
    if named is None and b"\0" in head[:4]:
        raise Refused(
            "encoding", "The file is UTF-16 without its mark, or no text; save it as UTF-8."
        )
    decoders = {
        name: codecs.getincrementaldecoder(name)()
        for name in ([named] if named else ["utf-8", GUESSED])
    }
    _attempt(decoders, head)
    for piece in rest:
        _attempt(decoders, piece)
    _attempt(decoders, b"", final=True)
    if not decoders:
        raise Refused("encoding", "The file is not text in one encoding; save it as UTF-8.")
    encoding = next(iter(decoders))
    return encoding, encoding == GUESSED


def _attempt(
    decoders: dict[str, codecs.IncrementalDecoder], piece: bytes, *, final: bool = False
) -> None:
    """Drop the decoders that cannot make text of the piece."""
    for name in list(decoders):
        try:
            decoders[name].decode(piece, final)
        except UnicodeDecodeError:
            del decoders[name]


def _header(head: bytes, encoding: str) -> tuple[str, tuple[str, ...]]:
    best: tuple[str, list[str]] = (SEPARATORS[0], [])
    for separator in SEPARATORS:
        first = next(_rows(iter([head]), encoding, separator), None)
        cells = first.cells if first and not first.problem else []
        if len(cells) > len(best[1]):
            best = separator, cells
    separator, cells = best
    names = [unicodedata.normalize("NFC", cell).strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    _check_header(names)
    return separator, tuple(names)


def _check_header(names: list[str]) -> None:
    if not names:
        raise Refused("bad_header", "The first row, which names the columns, cannot be read.")
    if len(names) > MOST_COLUMNS:
        raise Refused("too_many_columns", f"The file has more than {MOST_COLUMNS} columns.")
    for number, name in enumerate(names, start=1):
        if not name:
            raise Refused("empty_header", f"Column {number} has no name in the first row.")
        if len(name) > LONGEST_HEADER or HIDDEN.search(name):
            raise Refused(
                "bad_header",
                f"The name of column {number} is too long or holds control characters.",
            )
    seen: dict[str, int] = {}
    for number, name in enumerate(names, start=1):
        earlier = seen.setdefault(plain(name) or name.casefold(), number)
        if earlier != number:
            raise Refused(
                "duplicate_headers", f"Columns {earlier} and {number} have the same name."
            )


def plain(name: str) -> str:
    """Return the form in which two ways of writing a column's name are equal: "E-Mail", "e mail" and "e_mail"."""
    return "_".join(_WORDS.findall(name.casefold()))


# --- the rows


def records(pieces: Iterable[bytes], shape: Shape) -> Iterator[Record]:
    """Yield the rows below the header, one `Record` each, with as many cells as the header has.

    No more than a line of `LONGEST_LINE` is held. A row that cannot be read, or has cells too many or too few,
    comes with its problem; the rows behind it are read all the same.
    """
    rows = _rows(iter(pieces), shape.encoding, shape.separator)
    next(rows)
    width = len(shape.header)
    for record in rows:
        cells = record.cells
        if record.problem is None and len(cells) != width and not record.is_blank:
            if len(cells) > width and not any(cells[width:]):
                record.cells = cells[:width]
            else:
                record.problem = Problem(
                    "ragged_row", f"It has {len(cells)} cells where the first row has {width}."
                )
        yield record


def _rows(pieces: Iterator[bytes], encoding: str, separator: str) -> Iterator[Record]:
    """Yield all rows from the first that is not blank, which is the header."""
    lines = _Lines(pieces, encoding)
    reader = csv.reader(lines, delimiter=separator, strict=True)
    number, torn, started = 0, 0, False
    while True:
        number += 1
        lines.taken.clear()
        try:
            record = Record(number, next(reader))
        except StopIteration:
            return
        except (csv.Error, _TooLong):
            first = lines.taken[0]
            problem = _LINE_TOO_LONG if len(first) > LONGEST_LINE else _UNREADABLE
            record = Record(number, [first[:KEPT]], problem)
            # An open quotation mark swallows what follows: only its own line is set aside, the others are read anew.
            torn += lines.put_back()
            if torn > MOST_TORN:
                raise Refused("quotation_marks", _TORN) from None
        if started or not record.is_blank:
            started = True
            yield record


_LINE_TOO_LONG = Problem("line_too_long", f"The line is longer than {LONGEST_LINE} characters.")
_UNREADABLE = Problem(
    "unreadable_row", "A quotation mark is missing or one too many, or a cell is far too long."
)
_TORN = "Too many quotation marks are opened and never closed; the file has another make, or is damaged."


class _TooLong(Exception):
    """The next line is longer than is read."""


class _Lines:
    """An iterator over the lines of a file in pieces, with any of the three line ends; raises _TooLong and goes on.

    A class, since a generator would be finished by the exception.
    """

    def __init__(self, pieces: Iterator[bytes], encoding: str) -> None:
        #: The lines given out since it was last cleared.
        self.taken: list[str] = []
        self._pieces = pieces
        self._decoder: codecs.IncrementalDecoder | None = codecs.getincrementaldecoder(encoding)()
        self._ready: deque[str] = deque()
        self._held = ""
        self._skipping = False

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        while not self._ready:
            if self._decoder is None:
                raise StopIteration
            self._read()
        line = self._ready.popleft()
        self.taken.append(line)
        if len(line) > LONGEST_LINE:
            raise _TooLong
        return line

    def put_back(self) -> bool:
        """Give out again all lines taken but the first; return whether there were any."""
        self._ready.extendleft(reversed(self.taken[1:]))
        return len(self.taken) > 1

    def _read(self) -> None:
        piece = next(self._pieces, None)
        assert self._decoder is not None  # noqa: S101
        text = self._held + self._decoder.decode(piece or b"", piece is None)
        lines = list(io.StringIO(text, newline=""))
        self._held = ""
        if piece is None:
            self._decoder = None
        elif lines and not lines[-1].endswith("\n"):
            # It may go on in the next piece, even behind a CR.
            self._held = lines.pop()
        if self._skipping and (lines or self._decoder is None):
            # The rest of a line that was given up already.
            self._skipping = False
            lines = lines[1:]
        if len(self._held) > LONGEST_LINE:
            if not self._skipping:
                lines.append(self._held)
                self._skipping = True
            self._held = ""
        self._ready.extend(lines)
