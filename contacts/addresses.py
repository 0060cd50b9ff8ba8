"""Mail addresses: which are usable, how two ways of writing one are equal, and what goes onto the wire."""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from email_validator import EmailNotValidError, validate_email

from contacts.problems import Unacceptable

#: RFC 5321, 4.5.3.1: 64 octets before the @, 254 in all (the path of 256 less its angle brackets).
LONGEST_LOCAL, LONGEST = 64, 254
#: Names that no mail server outside this machine or network can have (RFC 6761, 6762, 7686).
LOCAL_NAMES = frozenset({"localhost", "localdomain", "local", "internal", "onion", "arpa"})

#: Dot-atom of RFC 5322, 3.2.3, in ASCII.
_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_RESERVED = re.compile(r"(.*?)(?:\.(test|invalid))?", re.IGNORECASE | re.DOTALL)
#: Whatever could end a header or a command, hide text, or be read as a second address.
_NEVER = re.compile(
    r"[\x00-\x20\x7f-\xa0\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff<>,;:\\]"
)


class BadAddress(Unacceptable):
    """An address that nothing may be sent to; says why, never which."""


@dataclass(frozen=True, slots=True)
class Address:
    """A usable address.

    `local`: before the @, in NFC, its case kept. `domain_ascii`: A-labels, lower case. `sendable`: what RCPT TO
    gets. `normal`: equal for all ways of writing one address (phi.digest.normal_address), for digests only.
    """

    local: str
    domain_ascii: str

    @property
    def sendable(self) -> str:
        return f"{self.local}@{self.domain_ascii}"

    @property
    def normal(self) -> str:
        return f"{unicodedata.normalize('NFC', self.local.casefold())}@{self.domain_ascii}"

    @property
    def needs_smtputf8(self) -> bool:
        """Whether the server must offer SMTPUTF8 (RFC 6531): only for letters before the @."""
        return not self.local.isascii()


def check(address: str) -> Address:
    """Return the address taken apart, or raise BadAddress (RFC 5321, 5322, 6531; no DNS is asked).

    Quoted local parts and IP literals are valid by the RFCs, but no patient has one and both are ways to smuggle
    commands (compliance F1, 4), so they are refused. Domains come back as A-labels (RFC 5890).
    """
    address = address.strip(" ")
    if not address:
        raise BadAddress("address_missing", "There is no address.")
    if len(address) > LONGEST:
        raise BadAddress("address_too_long", f"An address has at most {LONGEST} characters.")
    if _NEVER.search(address) or '"' in address:
        raise BadAddress(
            "address_characters",
            "An address has no spaces, quotes, angle brackets, commas, colons or control characters.",
        )
    if "=?" in address:
        # RFC 2047 encoded words may hide a line break from everything but the reader.
        raise BadAddress("address_encoded_word", "An address is not an encoded word.")
    local, at, domain = address.rpartition("@")
    if not at or not local or not domain or "@" in local:
        raise BadAddress("address_at_sign", "An address has one @, with something on both sides.")
    found = Address(_local_part(local), _domain(domain))
    if len(found.sendable.encode()) > LONGEST:
        raise BadAddress("address_too_long", f"An address has at most {LONGEST} bytes.")
    return found


def _local_part(local: str) -> str:
    if not (local.isascii() and _ATOM.fullmatch(local)):
        try:
            # The package judges the part before the @ alone, so that no message of it quotes a domain.
            local = validate_email(f"{local}@example.org", check_deliverability=False).local_part
        except EmailNotValidError:
            raise BadAddress("address_local_part", "The part before the @ is not valid.") from None
    if len(local.encode()) > LONGEST_LOCAL:
        raise BadAddress(
            "address_too_long", f"The part before the @ has at most {LONGEST_LOCAL} bytes."
        )
    return local


def _domain(domain: str) -> str:
    found = _domain_or_problem(domain)
    if isinstance(found, tuple):
        raise BadAddress(*found)
    return found


@lru_cache(maxsize=50_000)
def _domain_or_problem(domain: str) -> str | tuple[str, str]:
    if domain.startswith("["):
        return "address_ip", "An IP address cannot stand in for a domain."
    domain = domain.removesuffix(".")
    if domain.lower().rpartition(".")[2] in LOCAL_NAMES:
        return "address_local_domain", "The domain means this machine or network, nobody outside."
    # .test and .invalid are for invented people (RFC 6761): that nobody answers there is for DNS to say.
    name, reserved = _RESERVED.fullmatch(domain).groups()
    try:
        name = validate_email(
            f"x@{name}.example" if reserved else f"x@{domain}",
            check_deliverability=False,
        ).ascii_domain.lower()
    except EmailNotValidError:
        return "address_domain", "The part after the @ is not a domain name."
    if reserved:
        name = name.removesuffix("example") + reserved.lower()
    if name.rpartition(".")[2].isdigit():
        return "address_domain", "The part after the @ is not a domain name."
    return name
