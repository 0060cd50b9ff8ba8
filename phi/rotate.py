"""Rotation of data keys: a new key, then every value of an organization sealed again.

Nothing is kept about how far it got: each value tells which key sealed it, so whoever runs it next goes on.
45 CFR 164.312(a)(2)(iv); NIST SP 800-57 part 1, 5.3.4.
"""

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.apps import apps
from django.db import connection, models, transaction
from django.db.models.functions import Now

from phi import keys
from phi.fields import Encrypted, Sealed
from phi.keys import PLATFORM, Unreadable
from phi.models import DataKey

#: Rows that one transaction locks and writes: about 30 ms.
BATCH = 500
#: Seconds to wait for rows that other transactions hold.
PATIENCE = 60.0
#: Seconds after which no process seals with the old key any more: twice what they remember, since a value
#: may be sealed a moment before it is written.
REST = 2 * keys.REMEMBERED_SECONDS

Progress = Callable[[int, int], None]


class Held(Exception):
    """Rows stay locked by other transactions; the rotation can be run again later."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation did."""

    key_id: int
    #: Rows sealed again.
    rows: int
    #: Values found to open, none under an older key.
    verified: int


@dataclass(frozen=True, slots=True)
class _Table:
    model: type[models.Model]
    columns: tuple[Encrypted, ...]
    #: False for rows that belong to no organization.
    scoped: bool


def organizations() -> list[uuid.UUID]:
    """Return every scope that has a data key, PLATFORM included."""
    living = DataKey.objects.filter(purpose=DataKey.Purpose.DATA, destroyed_at__isnull=True)
    return list(living.values_list("organization_id", flat=True).distinct().order_by())


def begin(organization_id: uuid.UUID) -> int | None:
    """Make an organization's next data key and return its id, or None when there is one to finish with.

    Values under an older key mean that an earlier rotation was interrupted (or that a writer was late).
    Raises Unreadable for an organization without keys.
    """
    keys.forget()
    return None if pending(organization_id) else keys.new_data_key(organization_id)


def finish(
    organization_id: uuid.UUID, *, progress: Progress = lambda done, total: None
) -> Rotation:
    """Seal what is under older keys with the newest, and look that every data value opens.

    Evidence stays as it is, and old keys keep opening. `progress` is told (rows done, rows in all). Writers
    go on meanwhile: a row is read and sealed again under a lock. Raises Held, or Unreadable for a value that
    does not open; it can be run again after either, or after a crash.
    """
    keys.forget()
    total = pending(organization_id)
    return Rotation(
        key_id=keys.newest_key_id(organization_id),
        rows=_seal_all(organization_id, lambda done: progress(done, max(done, total))),
        verified=verify(organization_id),
    )


def pending(organization_id: uuid.UUID) -> int:
    """Return how many rows hold a value that is not sealed with the newest data key."""
    count = 0
    for table in _tables(organization_id):
        where, params = _behind(table, organization_id)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {_name(table)} WHERE {where}", params)  # noqa: S608
            count += cursor.fetchone()[0]
    return count


def verify(organization_id: uuid.UUID) -> int:
    """Open every data value of an organization and return how many there are.

    Raises Unreadable for one that does not open, or that an older key than the newest sealed.
    """
    newest, count = keys.newest_key_id(organization_id), 0
    for table in _tables(organization_id):
        names = [column.attname for column in table.columns]
        rows = table.model._base_manager.order_by().values_list("pk", *names)
        if table.scoped:
            rows = rows.filter(organization_id=organization_id)
        for row_id, *values in rows.iterator(chunk_size=BATCH):
            for column, value in zip(table.columns, values, strict=True):
                if value is None:
                    continue
                column.open(value, organization_id, row_id)
                if keys.key_id_of(value) < newest:
                    raise Unreadable(f"{column} of row {row_id}: still under an older key")
                count += 1
    return count


def settle(
    organization_id: uuid.UUID,
    *,
    rest: float = REST,
    waiting: Callable[[str], None] = lambda reason: None,
) -> None:
    """Return when nothing is, or will be, sealed with an older data key than the newest, so that they can go.

    Waits until no process seals with an old key (`rest` seconds after the newest was made) and until every
    transaction that might have is over; then seals what came late and opens every value once more. Raises as
    `finish()` does, and TransactionManagementError inside a transaction, whose own end it would wait for.
    """
    if connection.in_atomic_block:
        raise transaction.TransactionManagementError("settle() waits for transactions to end.")
    while (seconds := rest - _age(organization_id)) > 0:
        waiting("other processes to take up the new key")
        time.sleep(min(seconds, 1.0))
    writing = _writers(organization_id)
    while writing := writing & _writers(organization_id):
        waiting("transactions to end")
        time.sleep(0.2)
    finish(organization_id)


def _seal_all(organization_id: uuid.UUID, done: Callable[[int], None]) -> int:
    sealed, deadline = 0, time.monotonic() + PATIENCE
    while True:
        before = sealed
        for table in _tables(organization_id):
            for rows in _seal_table(table, organization_id):
                sealed += rows
                done(sealed)
        if not pending(organization_id):
            return sealed
        if sealed > before:
            deadline = time.monotonic() + PATIENCE
        elif time.monotonic() > deadline:
            raise Held("Rows are locked by other transactions.")
        time.sleep(0.1)


def _seal_table(table: _Table, organization_id: uuid.UUID) -> Iterator[int]:
    """Seal a table's rows again, batch by batch, and yield how many each had. Locked rows are left out."""
    last: uuid.UUID | None = uuid.UUID(int=0)
    while last is not None:
        count, last = _seal_batch(table, organization_id, last)
        yield count


@transaction.atomic
def _seal_batch(
    table: _Table, organization_id: uuid.UUID, after: uuid.UUID
) -> tuple[int, uuid.UUID | None]:
    pk = _quoted(table.model._meta.pk.column)
    names = [_quoted(column.column) for column in table.columns]
    where, params = _behind(table, organization_id)
    with connection.cursor() as cursor:
        # Nobody is waited for, so no deadlock either. What a lock holder writes meanwhile is not ours to see.
        cursor.execute(
            f"SELECT {pk}, {', '.join(names)} FROM {_name(table)} WHERE {where} AND {pk} > %s "  # noqa: S608
            f"ORDER BY {pk} LIMIT {BATCH} FOR NO KEY UPDATE SKIP LOCKED",
            [*params, after],
        )
        rows = cursor.fetchall()
        sets = ", ".join(f"{name} = %s" for name in names)
        cursor.executemany(
            f"UPDATE {_name(table)} SET {sets} WHERE {pk} = %s",  # noqa: S608
            [
                [*_sealed_again(table, organization_id, row_id, values), row_id]
                for row_id, *values in rows
            ],
        )
    return len(rows), rows[-1][0] if len(rows) == BATCH else None


def _sealed_again(
    table: _Table, organization_id: uuid.UUID, row_id: uuid.UUID, values: list[bytes | None]
) -> Iterator[Sealed | None]:
    for column, value in zip(table.columns, values, strict=True):
        if value is None:
            yield None
        else:
            plain = column.open(value, organization_id, row_id)
            yield column.seal(plain, organization_id, row_id)


def _tables(organization_id: uuid.UUID) -> Iterator[_Table]:
    for model in apps.get_models(include_auto_created=True):
        columns = tuple(
            field
            for field in model._meta.local_concrete_fields
            if isinstance(field, Encrypted) and not field.evidence
        )
        scoped = any(f.attname == "organization_id" for f in model._meta.concrete_fields)
        if columns and not model._meta.proxy and (scoped or organization_id == PLATFORM):
            yield _Table(model, columns, scoped)


def _behind(table: _Table, organization_id: uuid.UUID) -> tuple[str, list[object]]:
    """Return the SQL condition that a row holds a value under an older key than the newest."""
    newest = keys.newest_key_id(organization_id).to_bytes(4, "big")
    # Bytes 2 to 5 of a sealed value are its key's id, most significant byte first.
    older = " OR ".join(
        f"substring({_quoted(column.column)} from 2 for 4) < %s" for column in table.columns
    )
    params: list[object] = [newest] * len(table.columns)
    if not table.scoped:
        return f"({older})", params
    column = _quoted(table.model._meta.get_field("organization_id").column)
    return f"{column} = %s AND ({older})", [organization_id, *params]


def _name(table: _Table) -> str:
    return _quoted(table.model._meta.db_table)


def _quoted(name: str) -> str:
    return connection.ops.quote_name(name)


def _age(organization_id: uuid.UUID) -> float:
    newest = DataKey.objects.annotate(age=Now() - models.F("created_at")).get(
        pk=keys.newest_key_id(organization_id)
    )
    return newest.age.total_seconds()


def _writers(organization_id: uuid.UUID) -> set[str]:
    """Return the running transactions that wrote to one of the tables: they hold its lock until they end."""
    tables = [table.model._meta.db_table for table in _tables(organization_id)]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT l.virtualtransaction FROM pg_locks l JOIN pg_class c ON c.oid = l.relation "
            "WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
            "AND c.relname = ANY(%s) AND l.mode = 'RowExclusiveLock' AND l.pid <> pg_backend_pid()",
            [tables],
        )
        return {row[0] for row in cursor.fetchall()}
