"""The master key that wraps data keys; the one place that changes when a key service (KMS) holds it."""

import os
import uuid

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings


class CannotUnwrap(Exception):
    """No master key that we hold opens this data key."""


class LocalMasterKey:
    """Wraps data keys with the first of `settings.MASTER_KEYS` (32 bytes each) and unwraps with any of them."""

    def wrap(self, key: bytes, *, organization_id: uuid.UUID, purpose: str) -> bytes:
        """Return `key` sealed for its organization and purpose."""
        nonce = os.urandom(12)
        return nonce + AESGCM(settings.MASTER_KEYS[0]).encrypt(
            nonce, key, _bound(organization_id, purpose)
        )

    def unwrap(self, wrapped: bytes, *, organization_id: uuid.UUID, purpose: str) -> bytes:
        """Return the data key.

        Raises CannotUnwrap when no master key opens it: a wrong key, or a row moved from another organization.
        """
        for master in settings.MASTER_KEYS:
            try:
                return AESGCM(master).decrypt(
                    wrapped[:12], wrapped[12:], _bound(organization_id, purpose)
                )
            except InvalidTag:
                continue
        raise CannotUnwrap("No master key in HIPAAMAIL_MASTER_KEY opens this data key.")


def _bound(organization_id: uuid.UUID, purpose: str) -> bytes:
    return b"data key|" + organization_id.bytes + b"|" + purpose.encode()


master_key = LocalMasterKey()
