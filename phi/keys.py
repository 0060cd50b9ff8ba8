"""Sealing and opening values with an organization's data keys; whatever does not open raises."""

import os
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.db import connection, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from phi.master import CannotUnwrap, master_key
from phi.models import DataKey

#: The scope of what belongs to no organization: second factors, staff names.
PLATFORM = uuid.UUID(int=0)

#: First byte of every sealed value: AES-256-GCM, then 4 bytes of key id, 12 of nonce, text, 16 of tag.
FORMAT = 1
_HEAD = 17


class Unreadable(Exception):
    """A sealed value does not open: wrong key, row, column or tenant, a flipped byte, or planted plaintext."""


@dataclass(frozen=True, slots=True)
class _Key:
    id: int
    organization_id: uuid.UUID
    purpose: str
    #: What every value sealed with it begins with.
    head: bytes
    cipher: AESGCM | None
    #: Of digest keys only.
    secret: bytes = field(repr=False)


#: Seconds for which a process may go on with keys that it has unwrapped: so long after a rotation may
#: somebody still seal with the old key, and so long after their destruction may somebody still read.
REMEMBERED_SECONDS = 30

_by_id: dict[int, _Key] = {}
_newest: dict[tuple[uuid.UUID, str], _Key] = {}
#: Keys made by a transaction that is not committed, with what marks that transaction.
_uncommitted: dict[int, Callable[[], None]] = {}
_forget_at = 0.0


def create_keys(organization_id: uuid.UUID) -> None:
    """Make an organization's data, evidence and digest keys, once; later calls change nothing."""
    with transaction.atomic():
        _one_at_a_time(organization_id)
        have = set(
            DataKey.objects.filter(organization_id=organization_id).values_list(
                "purpose", flat=True
            )
        )
        for purpose in DataKey.Purpose.values:
            if purpose not in have:
                _make(organization_id, purpose)


def new_data_key(organization_id: uuid.UUID) -> int:
    """Make the next data key, which seals from now on, and return its id; older ones keep opening.

    Raises Unreadable for an organization whose keys are destroyed, or that never had any.
    """
    with transaction.atomic():
        _one_at_a_time(organization_id)
        _read_newest(organization_id, DataKey.Purpose.DATA)
        key_id = _make(organization_id, DataKey.Purpose.DATA)
    forget()
    return key_id


def destroy_keys(organization_id: uuid.UUID) -> int:
    """Destroy all keys of an organization and return how many: nothing it sealed can be read again.

    Other processes forget them within REMEMBERED_SECONDS.
    """
    return _destroy(DataKey.objects.filter(organization_id=organization_id))


def destroy_old_data_keys(organization_id: uuid.UUID) -> int:
    """Destroy an organization's data keys but the newest, and return how many.

    What is still sealed with one of them cannot be read again, so phi/rotate.py looks first.
    """
    newest = _read_newest(organization_id, DataKey.Purpose.DATA)
    return _destroy(
        DataKey.objects.filter(
            organization_id=organization_id, purpose=DataKey.Purpose.DATA, pk__lt=newest
        )
    )


def rewrap_keys() -> int:
    """Wrap every data key with the newest master key, so that older ones can be taken away; return how many.

    Raises Unreadable for a key that no master key opens. Nothing is changed then.
    """
    with transaction.atomic():
        rows = DataKey.objects.select_for_update().filter(wrapped__isnull=False)
        for row in rows:
            scope = {"organization_id": row.organization_id, "purpose": row.purpose}
            try:
                row.wrapped = master_key.wrap(
                    master_key.unwrap(bytes(row.wrapped), **scope), **scope
                )
            except CannotUnwrap as error:
                raise Unreadable(f"data key {row.pk}: {error}") from None
            row.save(update_fields=["wrapped"])
        return len(rows)


def forget() -> None:
    """Drop unwrapped keys from this process's memory, so that the next use reads the database."""
    _by_id.clear()
    _newest.clear()


def seal_bytes(
    organization_id: uuid.UUID, plain: bytes, aad: bytes, *, purpose: str = DataKey.Purpose.DATA
) -> bytes:
    """Return `plain` sealed with the organization's newest key of that purpose, bound to `aad`.

    Raises Unreadable when the organization has no such key: what nobody could open is not written.
    """
    key = _newest_key(organization_id, purpose)
    if key.cipher is None:
        raise TypeError("digest keys seal nothing")
    nonce = os.urandom(12)
    return key.head + nonce + key.cipher.encrypt(nonce, plain, aad)


def open_bytes(organization_id: uuid.UUID, sealed: bytes, aad: bytes) -> bytes:
    """Return what was sealed for this organization and this `aad`; raises Unreadable for anything else."""
    if len(sealed) < _HEAD + 16 or sealed[0] != FORMAT:
        raise Unreadable("not a sealed value")
    key = _key(key_id_of(sealed))
    if key.organization_id != organization_id or key.cipher is None:
        raise Unreadable("sealed with a key of another scope, or a destroyed one")
    try:
        return key.cipher.decrypt(sealed[5:_HEAD], sealed[_HEAD:], aad)
    except InvalidTag:
        raise Unreadable("altered, or moved from another row or column") from None


def digest_key(organization_id: uuid.UUID) -> bytes:
    """Return the organization's key for blind digests; raises Unreadable when it has none."""
    return _newest_key(organization_id, DataKey.Purpose.DIGEST).secret


def key_id_of(sealed: bytes) -> int:
    """Return the id of the data key that sealed a value."""
    return int.from_bytes(sealed[1:5], "big")


def newest_key_id(organization_id: uuid.UUID, purpose: str = DataKey.Purpose.DATA) -> int:
    """Return the id of the key that seals now; raises Unreadable when there is none."""
    return _newest_key(organization_id, purpose).id


def _make(organization_id: uuid.UUID, purpose: str) -> int:
    wrapped = master_key.wrap(
        secrets.token_bytes(32), organization_id=organization_id, purpose=purpose
    )
    key_id = DataKey.objects.create(
        organization_id=organization_id, purpose=purpose, wrapped=wrapped
    ).pk

    def committed() -> None:
        _uncommitted.pop(key_id, None)

    _uncommitted[key_id] = committed
    transaction.on_commit(committed)
    return key_id


def _stands(key_id: int) -> bool:
    """Say whether a remembered key is in the database, or in the transaction that is running here.

    Django drops the callbacks of a transaction that is rolled back, savepoints included. Without this a
    process would go on sealing with a key that no longer exists, and nothing could ever open it.
    """
    if not _uncommitted:
        return True
    committed = _uncommitted.get(key_id)
    return committed is None or any(entry[1] is committed for entry in connection.run_on_commit)


def _destroy(chosen: QuerySet[DataKey]) -> int:
    gone = chosen.filter(destroyed_at__isnull=True).update(wrapped=None, destroyed_at=Now())
    forget()
    return gone


def _one_at_a_time(organization_id: uuid.UUID) -> None:
    # Two digest keys made at once would give one value two digests.
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"keys {organization_id}"]
        )


def _newest_key(organization_id: uuid.UUID, purpose: str) -> _Key:
    _forget_in_time()
    key = _newest.get((organization_id, purpose))
    if key is None or not _stands(key.id):
        key = _key(_read_newest(organization_id, purpose))
        _newest[organization_id, purpose] = key
    return key


def _forget_in_time() -> None:
    global _forget_at
    if time.monotonic() > _forget_at:
        forget()
        _forget_at = time.monotonic() + REMEMBERED_SECONDS


def _read_newest(organization_id: uuid.UUID, purpose: str) -> int:
    key_id = (
        DataKey.objects.filter(
            organization_id=organization_id, purpose=purpose, destroyed_at__isnull=True
        )
        .order_by("-id")
        .values_list("id", flat=True)
        .first()
    )
    if key_id is None:
        raise Unreadable(f"organization {organization_id} has no {purpose} key")
    return key_id


def _key(key_id: int) -> _Key:
    _forget_in_time()
    key = _by_id.get(key_id)
    if key is not None and _stands(key_id):
        return key
    row = DataKey.objects.filter(pk=key_id).first()
    if row is None or row.wrapped is None:
        raise Unreadable(f"data key {key_id} does not exist, or was destroyed")
    try:
        secret = master_key.unwrap(
            bytes(row.wrapped), organization_id=row.organization_id, purpose=row.purpose
        )
    except CannotUnwrap as error:
        raise Unreadable(f"data key {key_id}: {error}") from None
    digests = row.purpose == DataKey.Purpose.DIGEST
    key = _by_id[key_id] = _Key(
        id=key_id,
        organization_id=row.organization_id,
        purpose=row.purpose,
        head=bytes((FORMAT,)) + key_id.to_bytes(4, "big"),
        cipher=None if digests else AESGCM(secret),
        secret=secret if digests else b"",
    )
    return key
