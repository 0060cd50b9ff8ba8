"""The log's signature: Ed25519 (RFC 8032) under a key that the database never holds."""

from functools import lru_cache
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


def sign(data: bytes) -> tuple[bytes, bytes]:
    """Return the public key (32 bytes) and the signature (64 bytes) under the installation's key.

    Raises ImproperlyConfigured when AUDIT_SIGNING_KEY is neither 32 raw bytes nor an Ed25519 key in PEM.
    """
    private = _private(settings.AUDIT_SIGNING_KEY)
    return private.public_key().public_bytes_raw(), private.sign(data)


def public_key() -> bytes:
    """Return the public key of the installation's signing key, 32 bytes."""
    return _private(settings.AUDIT_SIGNING_KEY).public_key().public_bytes_raw()


def trusted_keys() -> frozenset[bytes]:
    """Return the public keys whose blocks count: today's, and those in AUDIT_TRUSTED_KEYS (former ones).

    A machine that only verifies has no signing key and names all of them there.
    """
    keys = set(getattr(settings, "AUDIT_TRUSTED_KEYS", ()))
    if settings.AUDIT_SIGNING_KEY:
        keys.add(public_key())
    return frozenset(keys)


def valid(key: bytes, signature: bytes, data: bytes) -> bool:
    """Say whether the signature over the data was made with this public key's private half."""
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def link(header: bytes, signature: bytes) -> bytes:
    """Return the hash by which the next block points at a block: SHA-256 of its header and signature.

    With the signature inside, one valid signature vouches for all signatures before it.
    """
    return sha256(header + bytes(signature)).digest()


@lru_cache(maxsize=4)
def _private(key: bytes) -> Ed25519PrivateKey:
    try:
        if len(key) == 32:
            return Ed25519PrivateKey.from_private_bytes(key)
        loaded = load_pem_private_key(key, password=None)
    except (TypeError, ValueError):
        loaded = None
    if not isinstance(loaded, Ed25519PrivateKey):
        raise ImproperlyConfigured("AUDIT_SIGNING_KEY is not an Ed25519 private key.")
    return loaded
