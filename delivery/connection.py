"""One connection to a mail server: bounded reading, and the way from clear to encrypted.

Nothing here can send a message. What is said in clear is EHLO and STARTTLS; the mail transaction is
in `delivery.smtp`, on an object that exists only once the connection is encrypted. RFC 3207,
SP 800-52r2.
"""

import asyncio
import contextlib
import enum
import errno
import functools
import hashlib
import ipaddress
import re
import ssl
from dataclasses import dataclass, replace
from typing import Self

from delivery.failures import (
    Injected,
    Lost,
    Nonsense,
    NoSource,
    NoTLS,
    NotSent,
    Refused,
    TLSFailed,
    Unreachable,
)
from delivery.replies import Reply

LINE_KEPT = 4_096
REPLY_LINES = 100
REPLY_BYTES = 100_000

# SP 800-52r2 3.3.1.1: ephemeral keys and AES-GCM. Level 2 refuses RSA and DH under 2048 bits and
# SHA-1 signatures. OpenSSL offers ChaCha20 in TLS 1.3 whatever is set here, so what was agreed on
# is looked at once more.
CIPHERS = "ECDHE+AESGCM:DHE+AESGCM:!aNULL:!aDSS:@SECLEVEL=2"
GOOD_VERSIONS = {"TLSv1.2", "TLSv1.3"}
_GOOD_CIPHER = re.compile(
    r"TLS_AES_(128|256)_GCM_SHA\d{3}\Z|ECDHE-(RSA|ECDSA)-AES\d{3}-GCM-SHA\d{3}\Z|"
    r"DHE-RSA-AES\d{3}-GCM-SHA\d{3}\Z"
)

_REPLY = re.compile(rb"([2-5][0-5][0-9])(?:([ -])(.*))?\Z", re.DOTALL)
_SERVER_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\Z")

# X509_V_ERR_* of OpenSSL → result types of RFC 8460 4.3.
_EXPIRED = {9, 10}
_WRONG_NAME = {62, 64}


class TransportPolicy(enum.StrEnum):
    """How much is asked of the encryption; none of them is less than TLS 1.2."""

    TLS = "tls"  # encrypted; the peer may be anybody
    VERIFIED = "verified"  # and holds a certificate for its name that we trust (RFC 6125)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for each phase, whole replies included: RFC 5321 4.5.3.2 by default."""

    connect: float = 30.0
    greeting: float = 300.0
    ehlo: float = 300.0
    starttls: float = 120.0
    handshake: float = 60.0
    mail: float = 300.0
    rcpt: float = 300.0
    data: float = 120.0
    block: float = 180.0
    end: float = 600.0
    quit: float = 5.0
    setup: float = 600.0  # everything before a message may be sent

    @classmethod
    def all(cls, seconds: float) -> Self:
        """Return the same limit for every phase, and for connecting as its six phases may take."""
        return replace(cls(*[seconds] * len(cls.__slots__)), setup=6 * seconds)


@dataclass(frozen=True, slots=True)
class TLSFacts:
    """What can be told of a connection's encryption afterwards (the receipt)."""

    version: str
    cipher: str
    peer_certificate_sha256: str  # 64 hex digits; of the DER form
    verified_by: str  # "none" or "pkix"
    peer_ip: str
    server_name: str
    source_ip: str


class Wire(asyncio.Protocol):
    """The bytes of one connection. Replies are read within bounds of size, lines and time."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.closed = False
        self.transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Future[None] | None = None
        self._full = False
        self._held = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if len(self.buffer) > REPLY_BYTES and self.transport and not self._held:
            self._held = True
            self.transport.pause_reading()
        self._tell()

    def eof_received(self) -> None:
        self.closed = True
        self._tell()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._tell()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        self._tell()

    def _tell(self) -> None:
        if self._news and not self._news.done():
            self._news.set_result(None)

    async def _wait(self, deadline: float) -> None:
        """Wait until something happens. A bare timer: `asyncio.timeout` costs three times as much."""
        self._news = self._loop.create_future()
        timer = self._loop.call_at(deadline, self._late)
        try:
            await self._news
        finally:
            timer.cancel()
            self._news = None

    def _late(self) -> None:
        if self._news and not self._news.done():
            self._news.set_exception(Lost("timeout"))

    def write(self, data: bytes | memoryview) -> None:
        """Send. On a closed connection nothing happens; the next read tells."""
        if self.transport and not self.closed:
            self.transport.write(data)

    async def drain(self, seconds: float) -> None:
        """Wait until the socket takes more bytes."""
        deadline = self._loop.time() + seconds
        while self._full and not self.closed:
            await self._wait(deadline)
        if self.closed:
            raise Lost("closed")

    async def lines(self, seconds: float) -> tuple[int, list[bytes]]:
        """Read one reply: its code, and what follows the code on each line.

        `seconds` is for the whole reply, however slowly its bytes come.

        Raises:
            Lost: no whole reply came. Nonsense: what came is none, or is too large.
        """
        deadline = self._loop.time() + seconds
        code, found, size = b"", [], 0
        while True:
            end = self.buffer.find(b"\n")
            if size + (end if end >= 0 else len(self.buffer)) > REPLY_BYTES:
                raise Nonsense("a reply is too long")
            if end < 0:
                if self.closed:
                    raise Lost("closed")
                await self._wait(deadline)
                continue
            match = _REPLY.match(self.buffer[: min(end, LINE_KEPT)].rstrip(b"\r"))
            del self.buffer[: end + 1]
            size += end + 1
            self._let_in()
            if not match or (found and match[1] != code) or len(found) == REPLY_LINES:
                raise Nonsense("a reply is not one of SMTP")
            code = match[1]
            found.append(bytes(match[3] or b""))
            if match[2] != b"-":
                return int(code), found

    def _let_in(self) -> None:
        if self._held and len(self.buffer) <= REPLY_BYTES and self.transport:
            self._held = False
            self.transport.resume_reading()

    async def reply(self, seconds: float) -> Reply:
        """Read one reply; see `lines`."""
        return Reply.of_lines(*await self.lines(seconds))

    async def command(self, line: bytes, seconds: float) -> tuple[Reply, list[bytes]]:
        """Send a line and read its reply."""
        if self.buffer:
            raise Nonsense("the server spoke out of turn")
        self.write(line + b"\r\n")
        code, lines = await self.lines(seconds)
        return Reply.of_lines(code, lines), lines

    def abort(self) -> None:
        """Close without a word."""
        self.closed = True
        if self.transport:
            self.transport.abort()

    async def gone(self) -> None:
        """Give an aborted connection the turns of the loop in which it closes its socket."""
        for _ in range(3):
            await asyncio.sleep(0)


def extensions(lines: list[bytes]) -> dict[str, str]:
    """Read what a reply to EHLO offers: {"SIZE": "35882577", "STARTTLS": "", …}."""
    offers = {}
    for line in lines[1:]:
        word, _, rest = line.decode("ascii", "replace").strip().partition(" ")
        offers[word.upper()] = rest.strip()
    return offers


def unwelcome(reply: Reply) -> NotSent:
    """Make the exception for a greeting or reply to EHLO that lets nothing follow."""
    if reply.temporary or reply.permanent:
        return Refused("the server refused to talk", reply)
    return Nonsense("the server's reply does not fit")


async def reach(address: str, port: int, source_ip: str, seconds: float) -> Wire:
    """Open a connection in clear, from the sending address.

    Raises:
        Unreachable, NoSource.
    """
    loop = asyncio.get_running_loop()
    source = (source_ip, 0) if source_ip else None
    if source and ipaddress.ip_address(source_ip).version != ipaddress.ip_address(address).version:
        raise Unreachable("the sending address is of another IP version")
    try:
        async with asyncio.timeout(seconds):
            _, wire = await loop.create_connection(Wire, address, port, local_addr=source)
    except TimeoutError:
        raise Unreachable("the connection took too long") from None
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise NoSource("the sending address is not on this machine") from None
        raise Unreachable("no connection") from None
    return wire


class Clear:
    """A connection before TLS. It can say EHLO and STARTTLS, and nothing else."""

    def __init__(self, wire: Wire, timeouts: Timeouts) -> None:
        self._wire = wire
        self._timeouts = timeouts

    async def start_tls(self, helo: str, context: ssl.SSLContext, name: str) -> Wire:
        """Return the encrypted connection: a new object, that knows nothing of what was said before.

        Raises:
            Lost, Refused, Nonsense, NoTLS, TLSFailed, Injected.
        """
        greeting = await self._wire.reply(self._timeouts.greeting)
        if greeting.code != 220:
            raise unwelcome(greeting)
        hello, lines = await self._wire.command(b"EHLO " + helo.encode(), self._timeouts.ehlo)
        if hello.code in (500, 502):
            raise NoTLS("the server knows no EHLO")
        if hello.code != 250:
            raise unwelcome(hello)
        if "STARTTLS" not in extensions(lines):
            raise NoTLS("the server offers no STARTTLS")
        ready, _ = await self._wire.command(b"STARTTLS", self._timeouts.starttls)
        if ready.code == 421:
            raise Refused("the server left when asked for TLS", ready)
        if ready.temporary or ready.permanent:
            raise NoTLS("the server refused STARTTLS", ready, offered=True)
        if ready.code != 220:
            raise Nonsense("the server's reply does not fit")
        # Whatever was read already was sent in clear. Taken for an answer inside the encrypted
        # connection, it would let a stranger speak for the server (RFC 3207 6, CVE-2011-0411).
        if self._wire.buffer:
            raise Injected("clear bytes behind the go-ahead for TLS")
        return await self._handshake(context, name)

    async def _handshake(self, context: ssl.SSLContext, name: str) -> Wire:
        secure = Wire()
        loop = asyncio.get_running_loop()
        server_name = name if _SERVER_NAME.match(name) or _is_ip(name) else None
        try:
            async with asyncio.timeout(self._timeouts.handshake):
                transport = await loop.start_tls(
                    self._wire.transport, secure, context, server_hostname=server_name
                )
        except ssl.SSLError as error:
            raise _tls_failure(error) from None
        except TimeoutError:
            raise TLSFailed("the TLS handshake took too long") from None
        except OSError:
            raise TLSFailed("the connection was lost in the TLS handshake") from None
        if transport is None:
            raise TLSFailed("the connection was lost in the TLS handshake")
        secure.connection_made(transport)
        return secure


def facts(wire: Wire, policy: TransportPolicy, peer_ip: str, name: str, source_ip: str) -> TLSFacts:
    """Read from an encrypted connection what its receipt will say.

    Raises:
        TLSFailed: it is not encrypted as SP 800-52r2 asks.
    """
    agreed = wire.transport.get_extra_info("ssl_object") if wire.transport else None
    if agreed is None or agreed.version() not in GOOD_VERSIONS:
        raise TLSFailed("the connection is not encrypted by TLS 1.2 or better")
    cipher = agreed.cipher()[0]
    if not _GOOD_CIPHER.match(cipher):
        raise TLSFailed("the server insists on a cipher that is not approved")
    certificate = agreed.getpeercert(binary_form=True) or b""
    return TLSFacts(
        version=agreed.version(),
        cipher=cipher,
        peer_certificate_sha256=hashlib.sha256(certificate).hexdigest(),
        verified_by="pkix" if policy is TransportPolicy.VERIFIED else "none",
        peer_ip=peer_ip,
        server_name=name,
        source_ip=source_ip,
    )


@functools.lru_cache(maxsize=8)
def context_for(policy: TransportPolicy, ca_file: str | None) -> ssl.SSLContext:
    """Return the TLS settings of a policy. Kept for the life of the process, trusted roots too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if policy is TransportPolicy.VERIFIED:
        if ca_file:
            context.load_verify_locations(ca_file)
        else:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _is_ip(name: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(name))
    return False


def _tls_failure(error: ssl.SSLError) -> TLSFailed:
    if not isinstance(error, ssl.SSLCertVerificationError):
        return TLSFailed(f"the TLS handshake failed ({error.reason})")
    if error.verify_code in _EXPIRED:
        return TLSFailed("the server's certificate is not valid now", "certificate-expired")
    if error.verify_code in _WRONG_NAME:
        return TLSFailed("the certificate has another name", "certificate-host-mismatch")
    return TLSFailed("the server's certificate is not trusted", "certificate-not-trusted")
