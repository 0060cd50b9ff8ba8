"""CSV files that no spreadsheet program takes for a program: cells that would be formulas are made text."""

import csv
import datetime as dt
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal

#: Signs that begin a formula, with the full-width, small, raised and lowered forms that some programs fold
#: to them (Unicode NFKC).
SIGNS = "=+\\-@\uff1d\ufe66\u207c\u208c\u2a75\u2a76\uff0b\ufe62\u207a\u208a\ufb29\uff0d\ufe63\uff20\ufe6b"
#: What belongs in no cell: control characters, direction marks, halves of surrogate pairs.
_DROPPED = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
#: Where some program begins a cell (at the start, behind what it cuts at or quotes with), then blanks and
#: invisible characters, then a sign.
_DANGEROUS = re.compile(rf"(^|[\t\r\n,;|\"'])([\s\u00ad\u200b-\u200f\u2060\ufeff]*)(?=[{SIGNS}])")
_ADDED = re.compile(rf"'(?=[{SIGNS}])")
#: Rows that are joined to one piece of the file.
ROWS = 500


def write(
    rows: Iterable[Sequence[object]], columns: Sequence[str], *, bom: bool = False
) -> Iterator[bytes]:
    """Yield a CSV file (RFC 4180, UTF-8) piece by piece: a line of `columns`, then one line a row.

    `rows` are sequences in the order of `columns`; texts are neutralised, numbers stay numbers, days and
    times are ISO 8601, None is empty, booleans are yes and no. `bom`: begin with a byte order mark, which
    Excel needs to see UTF-8.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    if bom:
        text.write("\ufeff")
    writer.writerow([neutral(column) for column in columns])
    for number, row in enumerate(rows, start=1):
        if len(row) != len(columns):
            raise ValueError(f"Row {number} has {len(row)} cells; {len(columns)} are needed.")
        writer.writerow([_cell(value) for value in row])
        if number % ROWS == 0:
            yield _taken(text)
    yield _taken(text)


def neutral(text: str) -> str:
    """Return `text` so that no program reads a formula in it: with an apostrophe before each dangerous sign.

    A sign is dangerous at the start of the cell, also behind blanks and invisible characters, and behind a
    separator, a line break or a quotation mark inside it, where a program with other settings would begin a
    cell. An apostrophe also goes before a TAB or line break at the start. Control characters are dropped.
    """
    text = _DANGEROUS.sub(r"\1\2'", _DROPPED.sub("", text))
    return f"'{text}" if _BLANK_START.match(text) else text


def restored(text: str) -> str:
    """Return the cell as it was before `neutral()`, for rows that were set aside and come back mended."""
    if _BLANK_START.match(text):
        text = text[1:]
    return _ADDED.sub("", text)


#: A TAB or line break at the start, apostrophes before it included.
_BLANK_START = re.compile(r"'*[\t\r\n]")


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float | Decimal):
        return str(value)
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return neutral(str(value))


def _taken(text: io.StringIO) -> bytes:
    piece = text.getvalue().encode()
    text.seek(0)
    text.truncate()
    return piece
