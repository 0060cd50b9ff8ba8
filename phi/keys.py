"""Sealing and opening values with an organization's data keys; whatever does not open raises."""

import os
import secrets
import uuid
from dataclasses import dataclass
from threading import Lock

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.db import transaction
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
    organization_id: uuid.UUID
    purpose: str
    cipher: AESGCM | None
    secret: bytes


_by_id: dict[int, _Key] = {}
_newest: dict[tuple[uuid.UUID, str], int] = {}
_lock = Lock()


def create_keys(organization_id: uuid.UUID) -> None:
    """Make an organization's data, evidence and digest keys, once; later calls change nothing."""
    with transaction.atomic():
        have = set(
            DataKey.objects.filter(organization_id=organization_id).values_list(
                "purpose", flat=True
            )
        )
        for purpose in DataKey.Purpose.values:
            if purpose not in have:
                _make(organization_id, purpose)


def new_data_key(organization_id: uuid.UUID) -> int:
    """Make the next data key, which seals from now on, and return its id; older ones keep opening."""
    key_id = _make(organization_id, DataKey.Purpose.DATA)
    forget()
    return key_id


def destroy_keys(organization_id: uuid.UUID) -> int:
    """Destroy all keys of an organization and return how many: nothing it sealed can be read again."""
    gone = DataKey.objects.filter(
        organization_id=organization_id, destroyed_at__isnull=True
    ).update(wrapped=None, destroyed_at=Now())
    forget()
    return gone


def forget() -> None:
    """Drop unwrapped keys from this process's memory, so that the next use reads the database."""
    with _lock:
        _by_id.clear()
        _newest.clear()


def seal_bytes(
    organization_id: uuid.UUID, plain: bytes, aad: bytes, *, purpose: str = DataKey.Purpose.DATA
) -> bytes:
    """Return `plain` sealed with the organization's newest key of that purpose, bound to `aad`.

    Raises Unreadable when the organization has no such key: what nobody could open is not written.
    """
    key_id = _newest_id(organization_id, purpose)
    nonce = os.urandom(12)
    head = bytes((FORMAT,)) + key_id.to_bytes(4, "big") + nonce
    return head + _by_id[key_id].cipher.encrypt(nonce, plain, aad)


def open_bytes(organization_id: uuid.UUID, sealed: bytes, aad: bytes) -> bytes:
    """Return what was sealed for this organization and this `aad`; raises Unreadable for anything else."""
    if len(sealed) < _HEAD + 16 or sealed[0] != FORMAT:
        raise Unreadable("not a sealed value")
    key = _key(int.from_bytes(sealed[1:5], "big"))
    if key.organization_id != organization_id or key.cipher is None:
        raise Unreadable("sealed with a key of another scope, or a destroyed one")
    try:
        return key.cipher.decrypt(sealed[5:_HEAD], sealed[_HEAD:], aad)
    except InvalidTag:
        raise Unreadable("altered, or moved from another row or column") from None


def digest_key(organization_id: uuid.UUID) -> bytes:
    """Return the organization's key for blind digests; raises Unreadable when it has none."""
    return _by_id[_newest_id(organization_id, DataKey.Purpose.DIGEST)].secret


def key_id_of(sealed: bytes) -> int:
    """Return the id of the data key that sealed a value."""
    return int.from_bytes(sealed[1:5], "big")


def newest_key_id(organization_id: uuid.UUID) -> int:
    """Return the id of the data key that seals now."""
    return _newest_id(organization_id, DataKey.Purpose.DATA)


def _make(organization_id: uuid.UUID, purpose: str) -> int:
    wrapped = master_key.wrap(
        secrets.token_bytes(32), organization_id=organization_id, purpose=purpose
    )
    return DataKey.objects.create(
        organization_id=organization_id, purpose=purpose, wrapped=wrapped
    ).pk


def _newest_id(organization_id: uuid.UUID, purpose: str) -> int:
    try:
        key_id = _newest[organization_id, str(purpose)]
    except KeyError:
        row = (
            DataKey.objects.filter(
                organization_id=organization_id, purpose=purpose, destroyed_at__isnull=True
            )
            .order_by("-id")
            .first()
        )
        if row is None:
            raise Unreadable(f"organization {organization_id} has no {purpose} key") from None
        key_id = row.pk
    # Loaded again when another thread dropped it in between.
    _key(key_id)
    _newest[organization_id, str(purpose)] = key_id
    return key_id


def _key(key_id: int) -> _Key:
    key = _by_id.get(key_id)
    if key is not None:
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
    cipher = None if row.purpose == DataKey.Purpose.DIGEST else AESGCM(secret)
    key = _by_id[key_id] = _Key(row.organization_id, row.purpose, cipher, secret)
    return key
