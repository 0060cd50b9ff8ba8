"""Envelope senders that name their message and cannot be forged.

A bounce comes back to `b+<token>@<bounce domain>`. The token holds the message's id and a keyed
digest of it, so a bounce is matched to its message without reading the bounce, and a bounce that
somebody makes up matches nothing.
"""

import base64
import binascii
import hashlib
import hmac
import re
from uuid import UUID

# 16 bytes of id and 14 of digest (112 bits) are 30 bytes: exactly 48 base32 characters, no padding,
# hence one spelling per token. Base32 because mail servers may change the case of a local part.
_DIGEST_BYTES = 14
_PREFIX = "b+"
_LABEL = b"hipaamail envelope sender v1\x00"
_TOKEN = re.compile(r"[a-z2-7]{48}\Z", re.ASCII)


def token_for(message_id: UUID, key: bytes) -> str:
    """Make the token of a message: 48 characters of lower-case base32.

    Raises:
        ValueError: the key is shorter than 16 bytes.
    """
    raw = message_id.bytes
    return base64.b32encode(raw + _digest(raw, key)).decode("ascii").lower()


def envelope_sender(message_id: UUID, key: bytes, domain: str) -> str:
    """Make the address that bounces of a message go to; `domain` is an A-label."""
    return f"{_PREFIX}{token_for(message_id, key)}@{domain}"


def read(text: str, key: bytes) -> UUID | None:
    """Return the id of the message that a bounce address, or a bare token, belongs to.

    None for whatever we did not make with this key. The comparison takes constant time.
    """
    local = text.partition("@")[0].lower()
    token = local.removeprefix(_PREFIX)
    # Some letters outside ASCII have an ASCII lower case (the Kelvin sign): one spelling only.
    if not text.isascii() or not _TOKEN.match(token) or ("@" in text and token == local):
        return None
    try:
        raw = base64.b32decode(token.upper())
    except binascii.Error:
        return None
    if not hmac.compare_digest(raw[16:], _digest(raw[:16], key)):
        return None
    return UUID(bytes=raw[:16])


def _digest(raw: bytes, key: bytes) -> bytes:
    if len(key) < 16:
        raise ValueError("the key for envelope senders needs at least 16 bytes")
    return hmac.digest(key, _LABEL + raw, hashlib.sha256)[:_DIGEST_BYTES]
