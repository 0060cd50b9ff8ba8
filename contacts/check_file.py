"""The check of a whole import file before anything changes: what is wrong in which row, and what would come of it."""

from array import array
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Any, ClassVar

from django.db import transaction

from accounts.models import User
from audit.record import record
from contacts.columns import by_function
from contacts.mapping import is_psychotherapy
from contacts.models import Import
from contacts.people import Identity, People, Person
from contacts.problems import Problem, Unacceptable
from contacts.reading import MOST_ROWS, Progress, fields_after, in_chunks, reader_of, rows_of_file
from contacts.rows import Row, RowReader
from contacts.set_aside import SetAside
from contacts.table import GUESSED, Refused
from files.models import StagedFile

#: Problems that are kept with the import to be shown; the file of rejected rows has all.
MOST_SHOWN = 100

Status = Import.Status


class WrongStatus(Unacceptable):
    """An import that is not where this step begins."""


@dataclass(slots=True)
class Checked:
    """What a check found. Counts are of rows: new + updated + unchanged + repeated + rejected = rows.

    `new`: rows that would make a contact. `updated`, `unchanged`: rows of contacts that exist, against what is
    stored now. `repeated`: further rows of people whom this file makes. `rescued`: rejected rows whose opt-out
    counts all the same. `problems`: [row, field key, code, sentence] of the first `MOST_SHOWN`; `by_code`: of all.
    """

    COUNTS: ClassVar[tuple[str, ...]] = (
        *("new", "updated", "unchanged", "repeated", "rejected", "rescued"),
    )

    rows: int = 0
    new: int = 0
    updated: int = 0
    unchanged: int = 0
    repeated: int = 0
    rejected: int = 0
    rescued: int = 0
    columns: Counter[str] = field(default_factory=Counter)
    by_code: Counter[str] = field(default_factory=Counter)
    problems: list[list[Any]] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)

    def plan(self) -> dict[str, Any]:
        """Return what is kept with the import: numbers, keys and codes."""
        return {name: getattr(self, name) for name in ("rows", *self.COUNTS)} | {
            "columns": dict(self.columns),
            "problems": dict(self.by_code),
            "warnings": [warning.code for warning in self.warnings],
        }


def check(import_: Import, *, by: User | str, progress: Progress | None = None) -> Checked:
    """Read the whole file, change nothing but the import itself, and return what applying it would do.

    Rejected rows are staged as a file of their own. Raises Refused when the file as a whole cannot be taken (the
    import is refused then), WrongStatus when it is applied already. `progress` gets bytes.
    """
    if import_.status not in (Status.NEW, Status.CHECKED):
        raise WrongStatus("wrong_status", f"The import is {import_.status}; it cannot be checked.")
    try:
        checked, aside = _scan(import_, by, progress)
    except Refused as error:
        refuse(import_, error, by=by)
        raise
    with transaction.atomic():
        import_.plan, import_.problems = checked.plan(), checked.problems
        import_.rows, import_.rejected = checked.rows, checked.rejected
        import_.move_to(Status.CHECKED, "plan", "problems", "rows", "rejected")
        _replace_rejected(import_, aside.stage(import_.organization, by=by), by)
        record(
            "import.checked",
            organization_id=import_.organization_id,
            by=by,
            target=import_,
            count=checked.rows,
            detail={name: getattr(checked, name) for name in Checked.COUNTS},
        )
    return checked


def refuse(import_: Import, error: Refused, *, by: User | str) -> None:
    """Refuse the file as a whole."""
    with transaction.atomic():
        import_.refusal = error.code
        import_.move_to(Status.REFUSED, "refusal")
        record(
            "import.failed",
            organization_id=import_.organization_id,
            by=by,
            target=import_,
            detail={"reason": error.code},
        )


def _scan(import_: Import, by: User | str, progress: Progress | None) -> tuple[Checked, SetAside]:
    if not {"email", "record_number"} & set(import_.mapping.values()):
        raise Refused(
            "no_identity_column",
            "No column is an email address or a record number. Does the first row name the columns?",
        )
    fields = fields_after(import_)
    reader, people = (
        reader_of(import_, fields),
        People(import_.organization, import_.source, fields),
    )
    checked, aside, seen = Checked(), SetAside(tuple(import_.mapping)), _Seen()
    records = rows_of_file(import_, by=by, progress=progress)
    for chunk in in_chunks(records, reader.read):
        checked.rows += len(chunk)
        if checked.rows > MOST_ROWS:
            raise Refused("too_many_rows", f"The file has more than {MOST_ROWS:,} rows; split it.")
        _foresee(checked, people, [row for _, row in chunk if not row.problems], seen)
        rejected = [(found, row) for found, row in chunk if row.problems]
        _note(checked, [row for _, row in rejected], reader.rescuing)
        aside.add(rejected)
    if not checked.rows:
        raise Refused("no_rows", "The file has no rows below the names of its columns.")
    checked.repeated = seen.repeated()
    checked.new -= checked.repeated
    checked.warnings = _warnings(import_, reader, aside)
    return checked, aside


def _foresee(checked: Checked, people: People, rows: Sequence[Row], seen: "_Seen") -> None:
    who = [people.identity(row) for row in rows]
    known = people.find(who, lock=False)
    for row, identity in zip(rows, who, strict=True):
        checked.columns.update(row.extras.keys())
        contact = known.get(identity)
        if contact is None:
            checked.new += 1
            seen.add(identity)
        elif Person(contact.pk, identity, contact).take(row, identity, people.fields):
            checked.updated += 1
        else:
            checked.unchanged += 1


def _note(checked: Checked, rows: Sequence[Row], rescuing: Set[str]) -> None:
    checked.rejected += len(rows)
    for row in rows:
        named = row.address or row.values.get("record_number")
        checked.rescued += bool(named and rescuing & row.extras.keys())
        for key, problem in row.problems:
            checked.by_code[problem.code] += 1
            if len(checked.problems) < MOST_SHOWN:
                checked.problems.append([row.number, key, problem.code, problem.sentence])


class _Seen:
    """The people whom a file makes, so that the second row of one is told from the first.

    Eight bytes of each digest, in buckets, since a set of them would take ten times the memory.
    """

    def __init__(self) -> None:
        self._buckets = [array("Q") for _ in range(256)]

    def add(self, identity: Identity) -> None:
        blind = identity[1]
        self._buckets[blind[0]].append(int.from_bytes(blind[1:9], "big"))

    def repeated(self) -> int:
        """Return how many of the rows added were not the first of their person."""
        return sum(len(bucket) - len(set(bucket)) for bucket in self._buckets)


def _warnings(import_: Import, reader: RowReader, aside: SetAside) -> list[Problem]:
    found = []
    if import_.encoding == GUESSED:
        found.append(
            Problem(
                "encoding_guessed",
                "The file is not UTF-8; it was read as Windows-1252 (Latin-1), so look at the accents.",
            )
        )
    if any(is_psychotherapy(title) for title in import_.mapping):
        found.append(Problem("psychotherapy_left_out", "Psychotherapy notes were left out."))
    if any(key is None for key in import_.mapping.values()):
        found.append(Problem("column_left_out", "Some columns are left out."))
    if aside.is_cut:
        found.append(
            Problem(
                "rejected_rows_cut",
                "So many rows are rejected that not all of them are in the file of rejected rows.",
            )
        )
    keys = set(reader.extras)
    for check_import in by_function(reader.extras, "check_import"):
        found.extend(check_import(import_.organization, import_, keys))
    return found


def _replace_rejected(import_: Import, new: StagedFile | None, by: User | str) -> None:
    old, import_.rejected_file = import_.rejected_file, new
    import_.save(update_fields=["rejected_file"])
    if old is not None:
        record("file.deleted", organization_id=import_.organization_id, by=by, target=old)
        old.delete()
