"""Rows that an import cannot take, with the reasons, as a file of their own: encrypted, and gone after a while."""

import datetime as dt
import zlib
from collections.abc import Iterator, Sequence

from accounts.models import Organization, User
from contacts.rows import Row
from contacts.table import KEPT, Record
from files import sheet, staging
from files.models import StagedFile

#: How long the file is kept: somebody mends the rows and imports them again.
KEEP = dt.timedelta(days=7)
#: Compressed bytes that are held while a file is checked; what comes after is counted, but not kept.
MOST_HELD = 32 * 1024 * 1024


class SetAside:
    """Gathers rejected rows while a file is read, compressed, so that memory stays flat."""

    def __init__(self, header: Sequence[str]) -> None:
        self.header = tuple(header)
        self.is_cut = False
        self._columns = ["row", "problem", *self.header]
        self._packer = zlib.compressobj()
        self._held: list[bytes] = []
        self._size = 0

    def add(self, rejected: Sequence[tuple[Record, Row]]) -> None:
        """Take rejected rows; cells are cut, formulas are made text."""
        if not rejected or self.is_cut:
            return
        lines = b"".join(sheet.write((self._line(*one) for one in rejected), self._columns))
        # A header's cells hold no line breaks, so the first line is the header.
        lines = lines if not self._held else lines.partition(b"\r\n")[2]
        packed = self._packer.compress(lines) + self._packer.flush(zlib.Z_SYNC_FLUSH)
        self._held.append(packed)
        self._size += len(packed)
        self.is_cut = self._size > MOST_HELD

    def _line(self, record: Record, row: Row) -> list[str]:
        width = len(self.header)
        cells = [cell[:KEPT] for cell in record.cells[:width]]
        reasons = "; ".join(
            f"{key}: {p.sentence}" if key else p.sentence for key, p in row.problems
        )
        return [str(record.number), reasons, *cells, *[""] * (width - len(cells))]

    def stage(self, organization: Organization, *, by: User | str) -> StagedFile | None:
        """Stage the file and return it, or None when every row was taken."""
        if not self._held:
            return None
        return staging.put(
            organization,
            kind="rejected",
            name="rejected rows.csv",
            chunks=self._unpacked(),
            by=by,
            content_type="text/csv; charset=utf-8",
            keep=KEEP,
        )

    def _unpacked(self) -> Iterator[bytes]:
        unpacker = zlib.decompressobj()
        for packed in self._held:
            yield unpacker.decompress(packed)
