"""Which hosts take the mail of a domain: MX records, or a route from the settings.

RFC 5321 5.1 (order, fallback to addresses), RFC 7505 (null MX). A route (`HIPAAMAIL_ROUTES`) wins
over DNS and is the only way to an address that is not public: a stranger's MX record must not make
us talk to machines inside our own network.
"""

import asyncio
import functools
import ipaddress
import random
import re
import socket
from dataclasses import dataclass

import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver
import idna
from django.conf import settings

from delivery.replies import Reply

SMTP_PORT = 25
MAX_HOSTS = 10  # a domain may list thousands; RFC 5321 asks for at least two to be tried
MAX_ADDRESSES = 8
LOOKUP_SECONDS = 15.0

_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # an IPv4 address in an IPv6 one (RFC 6052)

# Second-level labels under which countries register names: co.uk, com.au, gov.br.
_SHARED = {"ac", "co", "com", "edu", "gob", "gov", "go", "mil", "ne", "net", "or", "org"}
_SAME_OPERATOR = {
    "googlemail.com": "google.com",
    "office365.us": "outlook.com",
    "hotmail.com": "outlook.com",
}


class Unresolvable(Exception):
    """There is no host to send to. `reply` says it as a server would; it quotes no address."""

    reply: Reply

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        self.reply = Reply(code, enhanced, text, local=True)
        super().__init__(text)

    @property
    def temporary(self) -> bool:
        return self.reply.temporary


class NullMX(Unresolvable):
    """The domain says that it takes no mail (RFC 7505 4)."""

    def __init__(self) -> None:
        super().__init__(556, "5.1.10", "the domain accepts no mail (null MX)")


class NoSuchDomain(Unresolvable):
    """The domain does not exist."""

    def __init__(self) -> None:
        super().__init__(550, "5.1.2", "the domain does not exist")


class NoMailServer(Unresolvable):
    """The domain exists, but has neither MX nor address records."""

    def __init__(self) -> None:
        super().__init__(550, "5.4.4", "the domain has no mail server")


class LookupFailed(Unresolvable):
    """DNS gave no answer, or none that can be used now. Try again later."""

    def __init__(self, why: str) -> None:
        super().__init__(451, "4.4.3", why)


class BadDomain(Unresolvable):
    """What stands behind the @ is no name of a public mail domain."""

    def __init__(self, why: str) -> None:
        super().__init__(553, "5.1.2", why)


class BadRoutes(ValueError):
    """HIPAAMAIL_ROUTES cannot be read."""


@dataclass(frozen=True, slots=True)
class Host:
    """A mail exchanger: its name, and the addresses to connect to."""

    name: str
    port: int
    addresses: tuple[str, ...]
    routed: bool = False

    def from_source(self, source_ip: str) -> tuple[str, ...]:
        """Return the addresses that a socket bound to `source_ip` can reach: the same family."""
        if not source_ip:
            return self.addresses
        version = ipaddress.ip_address(source_ip).version
        return tuple(a for a in self.addresses if ipaddress.ip_address(a).version == version)


@dataclass(frozen=True, slots=True)
class Route:
    """A host (name or address) and port of the operator's choice."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Routes:
    """Where mail of some domains goes instead of to their MX."""

    table: dict[str, Route]

    def find(self, domain: str) -> Route | None:
        """Return the route of an A-label: its own, else that of the longest `*.suffix`, else `*`."""
        if route := self.table.get(domain):
            return route
        labels = domain.split(".")
        for start in range(1, len(labels)):
            if route := self.table.get("*." + ".".join(labels[start:])):
                return route
        return self.table.get("*")


def a_label(domain: str) -> str:
    """Return a mail domain in lower-case A-labels (UTS 46, non-transitional).

    Raises:
        BadDomain: not a name under which mail can be delivered: an address literal, one label,
            localhost, a numeric top level, not allowed by IDNA 2008.
    """
    domain = domain.removesuffix(".")
    if domain.startswith("[") or ":" in domain:
        raise BadDomain("mail to an address literal is refused")
    try:
        name = idna.encode(domain, uts46=True, std3_rules=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        raise BadDomain("the domain is not a valid internationalised name") from None
    labels = name.split(".")
    if len(labels) < 2 or len(name) > 253:
        raise BadDomain("the domain needs at least two labels and at most 253 characters")
    if labels[-1].isdigit() or labels[-1].startswith("0x"):
        raise BadDomain("mail to an address literal is refused")
    if labels[-1] == "localhost" or name == "localhost.localdomain":
        raise BadDomain("mail to localhost is refused")
    return name


def parse_routes(raw: str) -> Routes:
    """Read routes such as `*=127.0.0.1:2526,example.org=127.0.0.1:2600,*.example.net=[::1]:25`.

    Raises:
        BadRoutes: with the number of the entry and what is wrong with it.
    """
    table: dict[str, Route] = {}
    for number, entry in enumerate(raw.split(","), start=1):
        if not entry.strip():
            continue
        pattern, equals, target = (part.strip() for part in entry.partition("="))
        where = f"HIPAAMAIL_ROUTES, entry {number}"
        if not equals:
            raise BadRoutes(f"{where}: expected DOMAIN=HOST:PORT")
        try:
            pattern = _pattern(pattern)
        except BadDomain as error:
            raise BadRoutes(f"{where}: {error}") from None
        if pattern in table:
            raise BadRoutes(f"{where}: a second route for the same domain")
        table[pattern] = _target(target, where)
    return Routes(table)


def _pattern(text: str) -> str:
    if text == "*":
        return text
    if text.startswith("*."):
        # A top-level suffix such as *.example is fine in a route.
        suffix = text[2:]
        return "*." + (a_label("x." + suffix)[2:] if suffix else a_label(suffix))
    return a_label(text)


def _target(text: str, where: str) -> Route:
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]+)):(\d{1,5})", text, re.ASCII)
    if not match:
        raise BadRoutes(f"{where}: expected HOST:PORT, with [brackets] around an IPv6 address")
    host, port = match[1] or match[2], int(match[3])
    if match[1]:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise BadRoutes(f"{where}: not an IPv6 address") from None
    if not 0 < port < 65536:
        raise BadRoutes(f"{where}: the port lies between 1 and 65535")
    return Route(host, port)


@functools.lru_cache(maxsize=8)
def _parsed(raw: str) -> Routes:
    return parse_routes(raw)


def route_for(domain: str, routes: Routes | None = None) -> Route | None:
    """Return where the settings send mail for this domain (an A-label), or None: to its MX."""
    if routes is None:
        routes = _parsed(settings.HIPAAMAIL_ROUTES)
    return routes.find(domain)


def operator(mx_host: str) -> str:
    """Name who runs a mail exchanger: the registrable part of its name, roughly.

    Limits and meanings of codes hang on it, so a wrong guess (a country's rare second level) costs
    a coarser limit and nothing else. An IP address is its own operator.
    """
    name = mx_host.rstrip(".").lower()
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    labels = name.split(".")
    take = 3 if len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _SHARED else 2
    suffix = ".".join(labels[-take:])
    return _SAME_OPERATOR.get(suffix, suffix)


def resolve(
    domain: str,
    *,
    routes: Routes | None = None,
    resolver: dns.resolver.Resolver | None = None,
    public_only: bool = True,
) -> list[Host]:
    """Return the hosts to try for a domain, best first; each has at least one address.

    Blocks for at most a few look-ups of 15 s each. Equal preferences are shuffled (RFC 5321 5.1).

    Args:
        domain: as in the address, U-labels allowed.
        routes: in place of settings.HIPAAMAIL_ROUTES.
        resolver: in place of the machine's own.
        public_only: pass over addresses that are not public.

    Raises:
        BadDomain, NullMX, NoSuchDomain, NoMailServer: for good. LookupFailed: for now.
    """
    name = a_label(domain)
    if route := route_for(name, routes):
        return [_routed(route)]
    resolver = resolver or _system_resolver()
    exchangers = _exchangers(name, resolver)
    if exchangers is None:
        addresses, failed = _addresses(name, resolver, public_only)
        if addresses:
            return [Host(name, SMTP_PORT, addresses)]
        if failed:
            raise LookupFailed("the look-up of the domain's addresses failed")
        raise NoMailServer
    hosts = []
    for exchanger in exchangers[:MAX_HOSTS]:
        addresses, _ = _addresses(exchanger, resolver, public_only)
        if addresses:
            hosts.append(Host(exchanger, SMTP_PORT, addresses))
    if not hosts:
        # They have a mail server and we can't find it: a slip of theirs, more often than an end.
        raise LookupFailed("none of the domain's mail servers has a usable address")
    return hosts


async def resolve_async(
    domain: str,
    *,
    routes: Routes | None = None,
    resolver: dns.resolver.Resolver | None = None,
    public_only: bool = True,
) -> list[Host]:
    """The same as `resolve`, in a thread."""
    return await asyncio.to_thread(
        resolve, domain, routes=routes, resolver=resolver, public_only=public_only
    )


def records(name: str, kind: str, *, resolver: dns.resolver.Resolver | None = None) -> list[str]:
    """Return the records of a name as text, the strings of a TXT record joined; empty when there are none.

    Raises LookupFailed when it is not known whether there are any.
    """
    try:
        answer = (resolver or _system_resolver()).resolve(f"{name}.", kind, search=False)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    except dns.exception.DNSException:
        raise LookupFailed("the look-up of a record failed") from None
    if kind == "TXT":
        return [b"".join(record.strings).decode("ascii", "replace") for record in answer]
    return [record.to_text() for record in answer]


@functools.lru_cache(maxsize=1)
def _system_resolver() -> dns.resolver.Resolver:
    resolver = dns.resolver.Resolver()
    resolver.cache = dns.resolver.LRUCache(50_000)
    resolver.lifetime = LOOKUP_SECONDS
    return resolver


def _routed(route: Route) -> Host:
    try:
        return Host(route.host, route.port, (str(ipaddress.ip_address(route.host)),), routed=True)
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(route.host, route.port, type=socket.SOCK_STREAM)
    except OSError:
        raise LookupFailed("the host of the route in HIPAAMAIL_ROUTES is not known") from None
    addresses = tuple(dict.fromkeys(str(info[4][0]) for info in found))
    return Host(route.host, route.port, addresses, routed=True)


def _exchangers(name: str, resolver: dns.resolver.Resolver) -> list[str] | None:
    """Return MX names by preference, None where the domain has no MX records."""
    try:
        answer = resolver.resolve(f"{name}.", "MX", search=False)
    except dns.resolver.NXDOMAIN:
        raise NoSuchDomain from None
    except dns.resolver.NoAnswer:
        return None
    except dns.exception.DNSException:
        raise LookupFailed("the look-up of the domain's mail servers failed") from None
    records = [(record.preference, record.exchange) for record in answer]
    if any(exchange == dns.name.root for _, exchange in records):
        if len(records) == 1:
            raise NullMX
        records = [record for record in records if record[1] != dns.name.root]
    random.shuffle(records)
    records.sort(key=lambda record: record[0])
    names = [_host_name(exchange) for _, exchange in records]
    return list(dict.fromkeys(name for name in names if name))


def _host_name(exchange: dns.name.Name) -> str:
    """Return an exchanger's name if it is one that may be connected to, else the empty string."""
    text = exchange.to_text(omit_final_dot=True).lower()
    if not re.fullmatch(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9])?", text, re.ASCII):
        return ""
    last = text.rpartition(".")[2]
    return "" if last.isdigit() or last == "localhost" else text


def _addresses(
    name: str, resolver: dns.resolver.Resolver, public_only: bool
) -> tuple[tuple[str, ...], bool]:
    """Return a host's addresses, IPv4 first, and whether a look-up failed for now."""
    found: list[str] = []
    failed = False
    for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
        try:
            answer = resolver.resolve(f"{name}.", kind, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            continue
        except dns.exception.DNSException:
            failed = True
            continue
        found += [record.address for record in answer]
    if public_only:
        found = [address for address in found if _public(address)]
    return tuple(found[:MAX_ADDRESSES]), failed


def _public(address: str) -> bool:
    ip = ipaddress.ip_address(address)
    inner = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    if ip in _NAT64:
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.is_global and not ip.is_multicast and (inner is None or inner.is_global)
