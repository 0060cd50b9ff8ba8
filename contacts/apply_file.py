"""Applying a checked import: chunk by chunk, each in one transaction that also says how far it came."""

import itertools
from collections.abc import Sequence

from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import F
from django.db.models.functions import Now
from psycopg.errors import DeadlockDetected

from accounts.models import User
from audit.record import record
from contacts.attributes import fields_of
from contacts.check_file import WrongStatus
from contacts.columns import by_function
from contacts.indexer import Indexer
from contacts.models import Contact, CustomField, Import
from contacts.people import Gathering, People
from contacts.reading import Progress, in_chunks, reader_of, rows_of_file
from contacts.rows import Row, RowReader
from contacts.table import Record
from phi.digest import digest

#: How often a chunk is tried when somebody else made one of its contacts, or a lock went round in a circle.
ATTEMPTS = 3

Status = Import.Status


class Overtaken(Exception):
    """Another process applies the same import; this one leaves it to that."""


def apply(import_: Import, *, by: User | str, progress: Progress | None = None) -> Import:
    """Write the file's contacts and what goes with them, and return the import.

    Goes on where an earlier call ended, however it ended; on a finished import it does nothing. Raises
    WrongStatus when the import is not checked, Overtaken, Refused when the file is gone, and whatever the database
    raises; then all chunks before stay, and the next call goes on behind them. `progress` gets rows.
    """
    if import_.status == Status.DONE:
        return import_
    if import_.status not in (Status.CHECKED, Status.APPLYING):
        raise WrongStatus("not_checked", "The import is not checked yet.")
    _begin(import_, by)
    run = _Run(import_, by)
    records = itertools.islice(rows_of_file(import_, by=by), import_.next_row, None)
    for chunk in in_chunks(records, run.reader.read):
        run.write(chunk)
        if progress:
            progress(import_.next_row, import_.plan["rows"])
    _finish(import_, by, run.reader)
    return import_


def _begin(import_: Import, by: User | str) -> None:
    with transaction.atomic():
        if import_.status == Status.APPLYING:
            record(
                "import.resumed",
                organization_id=import_.organization_id,
                by=by,
                target=import_,
                detail={"next_row": import_.next_row},
            )
            return
        import_.rows = import_.rejected = 0
        import_.move_to(Status.APPLYING, "rows", "rejected")
        for key, made in import_.new_fields.items():
            field, is_new = CustomField.objects.get_or_create(
                organization=import_.organization, key=key, defaults=made
            )
            if is_new:
                record(
                    "field.created",
                    organization_id=import_.organization_id,
                    by=by,
                    target=field,
                    detail={"data_class": field.data_class, "type": field.type},
                )


class _Run:
    """One call of `apply()`: what it reads rows with, and what it keeps at hand from chunk to chunk."""

    def __init__(self, import_: Import, by: User | str) -> None:
        fields = fields_of(import_.organization)
        self.import_ = import_
        self.by = by
        self.reader = reader_of(import_, fields)
        self.people = People(import_.organization, import_.source, fields)
        self.indexer = Indexer(import_.organization, fields)

    def write(self, chunk: Sequence[tuple[Record, Row]]) -> None:
        """Write one chunk and move `next_row` behind it, both or neither."""
        rows = [row for _, row in chunk if not row.problems]
        # Terms are learnt before the transaction, so that imports side by side don't wait for each other's.
        self.indexer.trim()
        self.indexer.learn([row.values for row in rows])
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with transaction.atomic():
                    done = self._write(len(chunk), rows)
            except (IntegrityError, OperationalError) as error:
                # Numbers learnt within the transaction went with it.
                self.indexer.forget()
                if attempt == ATTEMPTS or not _may_pass(error):
                    raise
                self.indexer.learn([row.values for row in rows])
            else:
                self._count(len(chunk), done)
                return

    def _write(self, size: int, rows: Sequence[Row]) -> Gathering:
        import_ = self.import_
        self._hold()
        done = self.people.gather(rows, lock=True)
        self.people.write(done.people, self.indexer)
        for function, keys in by_function(self.reader.extras, "apply").items():
            said = [
                (person.pk, extras)
                for person, row in zip(done.people, rows, strict=True)
                if (extras := {k: v for k, v in row.extras.items() if k in keys})
            ]
            if said:
                function(import_.organization, import_, said, by=self.by)
        Import.objects.filter(pk=import_.pk).update(
            next_row=F("next_row") + size,
            rows=F("rows") + size,
            rejected=F("rejected") + size - len(rows),
            created=F("created") + done.created,
            updated=F("updated") + done.updated,
            unchanged=F("unchanged") + done.unchanged,
        )
        record(
            "contact.imported",
            organization_id=import_.organization_id,
            by=self.by,
            target=import_,
            count=len(rows),
            detail={"from_row": import_.next_row, **_counts(done), "rejected": size - len(rows)},
        )
        return done

    def _hold(self) -> None:
        """Take the import, and the organization's turn: two imports at once could each make the same person."""
        now = Import.objects.select_for_update().filter(pk=self.import_.pk)
        status, next_row = now.values_list("status", "next_row").get()
        if status != Status.APPLYING or next_row != self.import_.next_row:
            raise Overtaken(f"import {self.import_.pk} at row {next_row}")
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended('contacts of ' || %s, 0))",
                [str(self.import_.organization_id)],
            )

    def _count(self, size: int, done: Gathering) -> None:
        self.import_.next_row += size
        for name, number in _counts(done).items():
            setattr(self.import_, name, getattr(self.import_, name) + number)


def _counts(done: Gathering) -> dict[str, int]:
    return {"created": done.created, "updated": done.updated, "unchanged": done.unchanged}


def _may_pass(error: Exception) -> bool:
    """Say whether trying again can help: a contact that somebody made meanwhile is found the next time."""
    return isinstance(error, IntegrityError) or isinstance(error.__cause__, DeadlockDetected)


def _finish(import_: Import, by: User | str, reader: RowReader) -> None:
    if import_.plan.get("rescued"):
        # Last, when everybody in the file is there, whatever row they are in.
        _rescue(import_, by, reader)
    with transaction.atomic():
        import_.finished_at = Now()
        import_.move_to(Status.DONE, "finished_at")
        import_.refresh_from_db()
        record(
            "import.applied",
            organization_id=import_.organization_id,
            by=by,
            target=import_,
            count=import_.rows,
            detail={
                name: getattr(import_, name)
                for name in ("created", "updated", "unchanged", "rejected")
            },
        )


def _rescue(import_: Import, by: User | str, reader: RowReader) -> None:
    """Hand on what counts of rows that were set aside: an opt-out is not lost to a wrong birth date."""
    functions = by_function(reader.extras, "apply_rejected")
    rescuing = set().union(*functions.values())
    for chunk in in_chunks(rows_of_file(import_, by=by), reader.read):
        rejected = [row for _, row in chunk if row.problems and row.extras.keys() & rescuing]
        for function, keys in functions.items():
            said = [
                (row.values["email"], extras)
                for row in rejected
                if row.address and (extras := {k: v for k, v in row.extras.items() if k in keys})
            ]
            if said:
                with transaction.atomic():
                    function(import_.organization, import_, said, by=by)
        _rescue_by_record(import_, by, reader, rescuing, rejected)


def _rescue_by_record(
    import_: Import, by: User | str, reader: RowReader, rescuing: set[str], rejected: list[Row]
) -> None:
    """Hand on the same of rows without a usable address whose record number tells whose they are."""
    organization = import_.organization
    numbered = [
        (digest(organization.pk, "record", number), row.extras)
        for row in rejected
        if not row.address and (number := row.values.get("record_number"))
    ]
    if not numbered:
        return
    known = {
        bytes(found): pk
        for pk, found in Contact.objects.filter(
            organization=organization,
            source=import_.source,
            record_digest__in=[blind for blind, _ in numbered],
        ).values_list("pk", "record_digest")
    }
    for function, keys in by_function(reader.extras, "apply").items():
        said = [
            (known[blind], chosen)
            for blind, extras in numbered
            if blind in known
            and (chosen := {k: v for k, v in extras.items() if k in keys & rescuing})
        ]
        if said:
            with transaction.atomic():
                function(organization, import_, said, by=by)
