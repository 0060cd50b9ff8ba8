"""DKIM signatures: rsa-sha256 over relaxed/relaxed (RFC 6376, RFC 8301).

`cryptography` signs in a quarter of a millisecond where a pure Python signer needs seven. The tests
verify every signature with dkimpy. There is no `l=` (RFC 6376 8.2), and each header that a reader
acts on is oversigned: it is listed once more than it occurs, so adding another one breaks the
signature (RFC 6376 5.4.2, 8.15).
"""

import base64
import binascii
import functools
import hashlib
import re
import time
from collections.abc import Sequence

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

KEY_BITS = 2048
MIN_KEY_BITS = 2048

# Signed whether present or not: nobody can add what we left out.
OVERSIGNED = (
    b"from",
    b"to",
    b"cc",
    b"subject",
    b"date",
    b"message-id",
    b"reply-to",
    b"sender",
    b"mime-version",
    b"content-type",
    b"content-transfer-encoding",
    b"list-unsubscribe",
    b"list-unsubscribe-post",
)
# Signed where present.
SIGNED = (
    b"list-id",
    b"feedback-id",
    b"in-reply-to",
    b"references",
    b"auto-submitted",
    b"precedence",
)

# At most once in a message (RFC 5322 3.6, RFC 2045 3, RFC 2369 3.5, RFC 8058 3.1).
_SINGLE = {*OVERSIGNED, b"list-id", b"feedback-id", b"in-reply-to", b"references"}

_NAME = re.compile(rb"[!-9;-~]+\Z")  # RFC 5322 2.2: printable ASCII without the colon
_BAD_VALUE = re.compile(rb"\r(?!\n)|(?<!\r)\n|\r\n(?![ \t])|\x00")
_SPACES = re.compile(rb"[ \t]+")
_TRAILING = re.compile(rb"[ \t]+(?=\r\n)")
_DOMAIN = re.compile(r"(?=.{1,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}\Z")
_SELECTOR = re.compile(r"(?=.{1,128}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9-]+)*\Z")


class BadHeaders(ValueError):
    """The headers are not those of one well-formed message. Names the header, never its value."""


def new_key() -> tuple[bytes, str]:
    """Make a key pair: the private key as PEM (PKCS 8, to be kept encrypted) and the DNS record."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem, dns_value(pem)


def load_key(pem: bytes) -> rsa.RSAPrivateKey:
    """Read a private key. Keep the result: reading costs as much as several signatures.

    Raises:
        ValueError: not an RSA key of 2048 bits or more.
    """
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < MIN_KEY_BITS:
        raise ValueError(f"a DKIM key is an RSA key of at least {MIN_KEY_BITS} bits")
    return key


def dns_value(private_pem: bytes) -> str:
    """Return the TXT record that publishes a key, to stand at `<selector>._domainkey.<domain>`."""
    public = load_key(private_pem).public_key()
    der = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return f"v=DKIM1; h=sha256; k=rsa; p={base64.b64encode(der).decode('ascii')}"


def relaxed_body_sha256(body: bytes) -> bytes:
    """Return the SHA-256 of a body in its relaxed canonical form (RFC 6376 3.4.4).

    Compose does not need it: the bodies it writes are their own canonical form.
    """
    if not body.endswith(b"\r\n"):
        body += b"\r\n"
    body = _SPACES.sub(b" ", _TRAILING.sub(b"", body))
    body = body.rstrip(b"\r\n") + b"\r\n"
    return hashlib.sha256(b"" if body == b"\r\n" else body).digest()


def sign(
    headers: Sequence[tuple[bytes, bytes]],
    *,
    body: bytes | None = None,
    body_sha256: bytes | None = None,
    domain: str,
    selector: str,
    key: rsa.RSAPrivateKey,
    at: int | None = None,
) -> bytes:
    """Sign a message and return its DKIM-Signature header, folded, with its CRLF.

    Args:
        headers: (name, value) in the order of the message; a value has no final CRLF, but may be
            folded.
        body: the body, or in its place
        body_sha256: 32 bytes, the digest of a body that is its own relaxed canonical form.
        domain, selector: where the key is published; the domain of the From address (alignment).
        at: the time of signing in seconds since 1970; now by default.

    Raises:
        BadHeaders: no From, a header twice that may stand once, or a name or value that would
            start a header of its own.
        ValueError: no body or two, or domain or selector are not names.
    """
    if (body is None) == (body_sha256 is None):
        raise ValueError("give the body or its SHA-256")
    digest = relaxed_body_sha256(body) if body is not None else body_sha256
    if digest is None or len(digest) != 32:
        raise ValueError("a SHA-256 has 32 bytes")
    if not _DOMAIN.match(domain) or not _SELECTOR.match(selector):
        raise ValueError("domain and selector are lower-case A-labels")
    names, canonical = _canonical(headers)
    start = (
        f"v=1; a=rsa-sha256; c=relaxed/relaxed; d={domain};\r\n"
        f"\ts={selector}; t={int(time.time()) if at is None else at};\r\n"
        f"\th={_folded(tuple(names))};\r\n"
        f"\tbh={_base64(digest)};\r\n"
        "\tb="
    ).encode("ascii")
    canonical.append(b"dkim-signature:" + _SPACES.sub(b" ", start.replace(b"\r\n", b"")))
    signature = key.sign(b"\r\n".join(canonical), padding.PKCS1v15(), hashes.SHA256())
    text = _base64(signature)
    lines = "\r\n\t".join(text[i : i + 72] for i in range(0, len(text), 72))
    return b"DKIM-Signature: " + start + lines.encode("ascii") + b"\r\n"


def _canonical(headers: Sequence[tuple[bytes, bytes]]) -> tuple[list[str], list[bytes]]:
    """Return the names for `h=` and the relaxed headers in the same order (RFC 6376 3.4.2, 5.4.2)."""
    by_name: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        lower = _lower(name)
        if _BAD_VALUE.search(value):
            raise BadHeaders(f"the value of {lower.decode('ascii')} would start another header")
        relaxed = _SPACES.sub(b" ", value.replace(b"\r\n", b"")).strip(b" ")
        by_name.setdefault(lower, []).append(lower + b":" + relaxed)
    for name in _SINGLE:
        if len(by_name.get(name, ())) > 1:
            raise BadHeaders(f"{name.decode('ascii')} occurs more than once")
    if b"from" not in by_name:
        raise BadHeaders("there is no from")
    other_content = tuple(n for n in by_name if n.startswith(b"content-") and n not in OVERSIGNED)
    names: list[str] = []
    lines: list[bytes] = []
    for name in (*OVERSIGNED, *SIGNED, *other_content):
        present = by_name.get(name, [])
        lines += reversed(present)  # where a name repeats, the last one is signed first
        # An oversigned name is listed once more and adds nothing to what is hashed.
        names += [name.decode("ascii")] * (len(present) + (name in OVERSIGNED))
    return names, lines


@functools.lru_cache(maxsize=256)
def _lower(name: bytes) -> bytes:
    if not _NAME.match(name):
        raise BadHeaders("a header name has characters that it may not have")
    return name.lower()


@functools.lru_cache(maxsize=64)
def _folded(names: tuple[str, ...]) -> str:
    """Join names by colons, folded so that no line passes 78 characters."""
    lines, line = [], ""
    for name in names:
        if line and len(line) + len(name) > 70:
            lines.append(line)
            line = ""
        line += name + ":"
    lines.append(line)
    return "\r\n\t ".join(lines).removesuffix(":")


def _base64(raw: bytes) -> str:
    return binascii.b2a_base64(raw, newline=False).decode("ascii")
