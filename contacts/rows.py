"""One row of an import file, read and judged: what it says of a person, and what is wrong with it."""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from contacts import addresses
from contacts.addresses import Address
from contacts.attributes import Field
from contacts.columns import COLUMNS, Column, Values, by_function
from contacts.problems import Problem, Unacceptable
from contacts.table import LONGEST_CELL, Record
from contacts.values import BLANKS, read

#: Cells of one column whose reading is remembered.
REMEMBERED = 20_000

NO_IDENTITY = Problem("no_identity", "It has neither an address nor a record number.")
CELL_TOO_LONG = Problem("cell_too_long", f"A cell has more than {LONGEST_CELL} characters.")


@dataclass(slots=True)
class Row:
    """What one row says.

    `values`: {field key: value} for a contact. `extras`: {key: parsed} for columns of higher apps. `problems`:
    [(field key or "", Problem)]; with any, the row is set aside as a whole, never half imported.
    """

    number: int
    values: Values = field(default_factory=dict)
    extras: Values = field(default_factory=dict)
    address: Address | None = None
    problems: list[tuple[str, Problem]] = field(default_factory=list)


class RowReader:
    """Reads the rows of one file by its mapping.

    A contact without an address is taken only with a record number, which says who it is; a wrong cell in any
    mapped column sets the row aside. `today` bounds birth dates, and is the same for check and apply.
    """

    def __init__(
        self,
        header: Iterable[str],
        mapping: Mapping[str, str | None],
        fields: Mapping[str, Field],
        today: dt.date,
    ) -> None:
        self.extras: dict[str, Column] = {}
        self._columns: list[tuple[int, str, Callable[[str], Any], dict[str, Any], bool]] = []
        self._email: int | None = None
        for number, title in enumerate(header):
            key = mapping.get(title)
            if key == "email":
                self._email = number
            elif key in COLUMNS:
                self.extras[key] = COLUMNS[key]
                self._columns.append((number, key, COLUMNS[key].check, {}, True))
            elif key is not None:
                self._columns.append((number, key, _reader(fields[key], today), {}, False))
        self._checks = by_function(self.extras, "check_row")
        #: The columns whose values count even in a row that is set aside.
        self.rescuing = frozenset(k for k, c in self.extras.items() if c.apply_rejected)

    def read(self, record: Record) -> Row:
        """Return what a record says; never raises for what stands in it."""
        row = Row(record.number)
        if record.problem is not None:
            row.problems.append(("", record.problem))
            return row
        cells = record.cells
        if self._email is not None and (cell := cells[self._email].strip(BLANKS)):
            self._read_address(row, cell)
        for number, key, check, remembered, is_extra in self._columns:
            cell = cells[number]
            if not cell or not (cell := cell.strip(BLANKS)):
                continue
            try:
                value = remembered[cell]
            except KeyError:
                if len(remembered) >= REMEMBERED:
                    remembered.clear()
                value = remembered[cell] = (
                    CELL_TOO_LONG if len(cell) > LONGEST_CELL else check(cell)
                )
            if value.__class__ is Problem:
                row.problems.append((key, value))
            elif is_extra:
                row.extras[key] = value
            elif value != []:
                row.values[key] = value
        self._check_whole(row)
        return row

    def _read_address(self, row: Row, cell: str) -> None:
        try:
            row.address = addresses.check(cell)
        except Unacceptable as error:
            row.problems.append(("email", error.problem))
        else:
            row.values["email"] = row.address.sendable

    def _check_whole(self, row: Row) -> None:
        if not row.problems and row.address is None and "record_number" not in row.values:
            row.problems.append(("", NO_IDENTITY))
        if row.extras:
            for check, keys in self._checks.items():
                said = {key: value for key, value in row.extras.items() if key in keys}
                if said and (problem := check(said)):
                    row.problems.append((min(said), problem))


def _reader(field: Field, today: dt.date) -> Callable[[str], Any]:
    def check(cell: str) -> Any:
        try:
            return read(field, cell, today=today)
        except Unacceptable as error:
            return error.problem

    return check
