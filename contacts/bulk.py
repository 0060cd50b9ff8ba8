"""Many contacts into the database at once: COPY in its binary form for new ones, one UPDATE for changed ones.

Values come sealed. The binary form is written here because the driver's own takes longer than sealing does.
"""

import datetime as dt
import struct
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.db import connection

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_NULL = b"\xff\xff\xff\xff"
_EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_INT4_OID = 23

_length = struct.Struct(">i").pack
_count = struct.Struct(">h").pack
_array = struct.Struct(">iiiii").pack

#: The sealed columns of a contact, and the digests by which it is found.
SEALED = (
    *("record_number", "record_digest", "email", "email_digest", "domain_digest", "first_name"),
    *("last_name", "date_of_birth", "sex", "state", "zip", "language", "attributes"),
)
#: What an import may change in a contact.
CHANGEABLE = ("kind", *SEALED)


def insert_contacts(
    organization_id: uuid.UUID, source: str, now: dt.datetime, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Insert new active contacts: a mapping of "id", "kind" and of `SEALED` each, what is absent is null."""
    if not rows:
        return
    time = struct.pack(">q", (now - _EPOCH) // dt.timedelta(microseconds=1))
    same = b"".join(map(_field, (organization_id.bytes, b"active", source.encode(), time, time)))
    columns = ("organization_id", "standing", "source", "created_at", "updated_at", "id")
    head = _count(len(columns) + len(CHANGEABLE)) + same + _length(16)
    kinds = {row["kind"]: _field(row["kind"].encode()) for row in rows}
    parts: list[bytes] = []
    put = parts.append
    for row in rows:
        put(head)
        put(row["id"].bytes)
        put(kinds[row["kind"]])
        for name in SEALED:
            value = row.get(name)
            if value is None:
                put(_NULL)
            else:
                put(_length(len(value)))
                put(value)
    _copy(f"contacts_contact ({', '.join((*columns, *CHANGEABLE))})", parts)


def _field(value: bytes) -> bytes:
    return _length(len(value)) + value


def insert_terms(
    organization_id: uuid.UUID, rows: Sequence[tuple[uuid.UUID, Sequence[int]]]
) -> None:
    """Insert the terms of new contacts: (contact id, numbers in ascending order)."""
    organization = _length(16) + organization_id.bytes

    def tuples() -> Iterable[bytes]:
        for contact_id, numbers in rows:
            yield _count(3) + _length(16) + contact_id.bytes
            yield organization
            yield _int4_array(numbers)

    if rows:
        _copy("contacts_termrow (contact_id, organization_id, terms)", tuples())


def _int4_array(numbers: Sequence[int]) -> bytes:
    """Return an int4[] of one dimension with its length before it."""
    count = len(numbers)
    if not count:
        return _length(12) + struct.pack(">iii", 0, 0, _INT4_OID)
    flat = [4] * (2 * count)
    flat[1::2] = numbers
    return (
        _length(20 + 8 * count)
        + _array(1, 0, _INT4_OID, count, 1)
        + struct.pack(f">{2 * count}i", *flat)
    )


def _copy(target: str, tuples: Iterable[bytes]) -> None:
    with (
        # Django wraps what `execute()` raises, not what COPY does.
        connection.wrap_database_errors,
        connection.cursor() as cursor,
        cursor.copy(f"COPY {target} FROM STDIN (FORMAT binary)") as copy,
    ):
        copy.write(b"".join((_HEADER, *tuples, _TRAILER)))


def update_contacts(organization_id: uuid.UUID, rows: Sequence[Mapping[str, Any]]) -> None:
    """Update contacts: a mapping of "id" and all of `CHANGEABLE` each."""
    if not rows:
        return
    names = ("id", *CHANGEABLE)
    arrays = ", ".join(["%s::uuid[]", "%s::text[]", *["%s::bytea[]"] * len(SEALED)])
    changes = ", ".join(f"{name} = new.{name}" for name in CHANGEABLE)
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE contacts_contact c SET {changes}, updated_at = statement_timestamp() "  # noqa: S608
            f"FROM unnest({arrays}) AS new({', '.join(names)}) "
            "WHERE c.id = new.id AND c.organization_id = %s",
            [*([row[name] for row in rows] for name in names), organization_id],
        )
