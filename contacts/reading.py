"""An import's file, opened again for each pass: its records, and the rows that they make."""

import datetime as dt
from collections.abc import Callable, Iterator, Mapping

from accounts.models import User
from contacts.attributes import Field, fields_of
from contacts.mapping import new_fields
from contacts.models import Import
from contacts.rows import Row, RowReader
from contacts.table import Record, Refused, Shape, records
from files import staging

#: Rows that are looked up, and then written, together: one transaction of about a tenth of a second.
CHUNK = 1_000
MOST_ROWS = 20_000_000

#: Called with (how far, of how much).
Progress = Callable[[int, int], None]


def pieces(import_: Import, *, by: User | str, progress: Progress | None = None) -> Iterator[bytes]:
    """Yield the file's bytes; raises Refused when it is gone. `progress` gets bytes."""
    if import_.file is None:
        raise Refused("file_gone", "The uploaded file was deleted; upload it again.")
    try:
        found = staging.read(import_.file, by=by)
    except staging.Expired:
        raise Refused("file_gone", "The uploaded file has expired; upload it again.") from None
    done = 0
    for piece in found:
        yield piece
        done += len(piece)
        if progress:
            progress(done, import_.file.size)


def rows_of_file(
    import_: Import, *, by: User | str, progress: Progress | None = None
) -> Iterator[Record]:
    """Yield the records below the header that are not blank."""
    shape = Shape(import_.encoding, import_.separator, tuple(import_.mapping))
    for record in records(pieces(import_, by=by, progress=progress), shape):
        if not record.is_blank:
            yield record


def reader_of(import_: Import, fields: Mapping[str, Field]) -> RowReader:
    """Return the reader of the import's rows.

    "Today" is the day on which the file came in, so that a later pass judges as the first did.
    """
    return RowReader(import_.mapping, import_.mapping, fields, day_of(import_))


def day_of(import_: Import) -> dt.date:
    """Return the day on which the file came in, where the organization is."""
    return import_.created_at.astimezone(import_.organization.zone).date()


def fields_after(import_: Import) -> dict[str, Field]:
    """Return the organization's fields as they are, or will be once the import is applied."""
    return new_fields(import_.new_fields) | fields_of(import_.organization)


def in_chunks(
    records: Iterator[Record], read: Callable[[Record], Row]
) -> Iterator[list[tuple[Record, Row]]]:
    """Yield records with the rows that they make, `CHUNK` at a time."""
    chunk: list[tuple[Record, Row]] = []
    for record in records:
        chunk.append((record, read(record)))
        if len(chunk) >= CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
