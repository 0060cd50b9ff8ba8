"""Blind digests: what lets a value be found without being stored (HMAC-SHA256 under the organization's key)."""

import hmac
import unicodedata
import uuid

import idna

from phi.keys import digest_key


def digest(organization_id: uuid.UUID, kind: str, value: str) -> bytes:
    """Return 32 bytes that are equal for equal values of one kind in one organization, and tell nothing else.

    `kind` keeps an address and a record number of the same text apart, e.g. "address", "domain", "term:state".
    """
    return hmac.digest(digest_key(organization_id), f"{kind}\0{value}".encode(), "sha256")


def normal_domain(domain: str) -> str:
    """Return a domain as lower-case A-labels (RFC 5890); raises ValueError when it is none."""
    try:
        return idna.encode(domain.rstrip("."), uts46=True, std3_rules=True).decode().lower()
    except (idna.IDNAError, UnicodeError):
        raise ValueError("not a domain name") from None


def normal_address(address: str) -> str:
    """Return the form in which two ways of writing one address are equal: for digests, never for sending.

    RFC 5321 lets a receiver tell local parts apart by case; none does in practice, and "stop" must reach
    every way of writing an address. Raises ValueError when there is no local part or no domain.
    """
    local, at, domain = unicodedata.normalize("NFC", address.strip()).rpartition("@")
    if not at or not local:
        raise ValueError("not an address")
    return f"{unicodedata.normalize('NFC', local.casefold())}@{normal_domain(domain)}"


def address_digest(organization_id: uuid.UUID, address: str) -> bytes:
    """Return the digest under which suppressions and opt-outs of an address are found."""
    return digest(organization_id, "address", normal_address(address))
