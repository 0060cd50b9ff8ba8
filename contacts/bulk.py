"""Many contacts into the database at once: COPY in its binary form for new ones, one UPDATE for changed ones.

Values come sealed. The binary form is written here because the driver's own takes longer than sealing does.
"""

import datetime as dt
import struct
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
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

#: Column of contacts_contact → its binary form, and its type in an UPDATE.
_UUID: tuple[Callable[[Any], bytes], str] = (lambda value: value.bytes, "uuid")
_TEXT: tuple[Callable[[Any], bytes], str] = (lambda value: value.encode(), "text")
# Digests and sealed values come as bytes, or as the memory that the driver read them into.
_BYTES: tuple[Callable[[Any], bytes], str] = (bytes, "bytea")
_TIME: tuple[Callable[[Any], bytes], str] = (
    lambda value: struct.pack(">q", (value - _EPOCH) // dt.timedelta(microseconds=1)),
    "timestamptz",
)
COLUMNS: dict[str, tuple[Callable[[Any], bytes], str]] = {
    "id": _UUID,
    "organization_id": _UUID,
    "kind": _TEXT,
    "standing": _TEXT,
    "source": _TEXT,
    "created_at": _TIME,
    "updated_at": _TIME,
    "record_number": _BYTES,
    "record_digest": _BYTES,
    "email": _BYTES,
    "email_digest": _BYTES,
    "domain_digest": _BYTES,
    "first_name": _BYTES,
    "last_name": _BYTES,
    "date_of_birth": _BYTES,
    "sex": _BYTES,
    "state": _BYTES,
    "zip": _BYTES,
    "language": _BYTES,
    "attributes": _BYTES,
}
#: What an import may change in a contact.
CHANGEABLE = ("kind", *(name for name, form in COLUMNS.items() if form is _BYTES))


def insert_contacts(rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert new contacts: a mapping of `COLUMNS` each, what is absent is null."""
    if not rows:
        return
    forms = [(name, None if form is bytes else form) for name, (form, _) in COLUMNS.items()]
    width = _count(len(forms))
    parts: list[bytes] = []
    put = parts.append
    for row in rows:
        put(width)
        for name, form in forms:
            value = row.get(name)
            if value is None:
                put(_NULL)
            else:
                if form is not None:
                    value = form(value)
                put(_length(len(value)))
                put(value)
    _copy(f"contacts_contact ({', '.join(COLUMNS)})", parts)


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
    arrays = ", ".join(f"%s::{COLUMNS[name][1]}[]" for name in names)
    changes = ", ".join(f"{name} = new.{name}" for name in CHANGEABLE)
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE contacts_contact c SET {changes}, updated_at = statement_timestamp() "  # noqa: S608
            f"FROM unnest({arrays}) AS new({', '.join(names)}) "
            "WHERE c.id = new.id AND c.organization_id = %s",
            [*([row[name] for row in rows] for name in names), organization_id],
        )
