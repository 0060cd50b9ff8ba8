"""A mail server that behaves as told: each step's answer can be bytes, silence, a drop, a drip or a flood."""

import asyncio
import contextlib
import dataclasses
import socket
import ssl
import struct
import warnings
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

MX = "mx.receiver.example"
NOW = datetime.now(UTC)
DAY = timedelta(days=1)


class Act(Enum):
    """What a server can do in place of answering."""

    HANG = "say nothing"
    DROP = "close"
    RESET = "close with a reset"
    LEAVE = "close after this step's answer was sent"


@dataclass(frozen=True)
class Drip:
    """An answer that comes one byte per interval."""

    text: bytes
    seconds: float


# A float is a pause in seconds, within a list.
Answer = bytes | float | Act | Drip | list["Answer"] | Callable[[bytes], "Answer"]

OFFERS = ("PIPELINING", "SIZE 1000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")


@dataclass
class Script:
    """The answers by step. The defaults are those of an honest server."""

    greeting: Answer = b"220 receiver.example ESMTP\r\n"
    ehlo: Answer = b""  # made of `offers` where empty
    offers: tuple[str, ...] = (*OFFERS, "STARTTLS")
    starttls: Answer = b"220 2.0.0 go ahead\r\n"
    handshake: Answer = b""  # in place of a handshake where not empty
    ehlo_again: Answer = b""
    offers_again: tuple[str, ...] = OFFERS
    rset: Answer = b"250 2.0.0 ok\r\n"
    mail: Answer = b"250 2.1.0 ok\r\n"
    rcpt: Answer = b"250 2.1.5 ok\r\n"
    data: Answer = b"354 go ahead\r\n"
    content: Answer = b"250 2.0.0 kept\r\n"
    quit: Answer = b"221 2.0.0 bye\r\n"
    read_content: int = -1  # answer `content` after so many bytes of it; -1: at its end


@dataclass
class Seen:
    """What the server saw, over all connections."""

    port: int = 0
    connections: int = 0
    clear: bytearray = field(default_factory=bytearray)
    commands: list[bytes] = field(default_factory=list)
    content: bytearray = field(default_factory=bytearray)
    unanswered: bytearray = field(default_factory=bytearray)
    messages: list[bytes] = field(default_factory=list)
    open: int = 0

    async def quiet(self) -> None:
        """Wait until every connection has ended, so that all that was sent has been seen."""
        async with asyncio.timeout(2.0):
            while self.open:
                await asyncio.sleep(0.001)


class _Ended(Exception):
    pass


class _Peer:
    def __init__(
        self,
        script: Script,
        context: ssl.SSLContext | None,
        seen: Seen,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.script, self.context, self.seen = script, context, seen
        self.reader, self.writer = reader, writer
        self.encrypted = False
        self.last = b""

    async def answer(self, what: Answer, line: bytes = b"") -> None:
        if callable(what):
            what = what(line)
        match what:
            case Act.HANG:
                # Whatever still comes is seen, and nothing is answered.
                while chunk := await self.reader.read(65536):
                    self._see(chunk)
                    self.seen.unanswered += chunk
                raise _Ended
            case Act.DROP | Act.LEAVE:
                raise _Ended
            case Act.RESET:
                sock = self.writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.writer.transport.abort()
                raise _Ended
            case Drip(text, seconds):
                for byte in text:
                    if self.reader.at_eof() or self.writer.is_closing():
                        raise _Ended
                    self.writer.write(bytes([byte]))
                    await asyncio.sleep(seconds)
            case float():
                await asyncio.sleep(what)
            case list():
                for each in what:
                    await self.answer(each, line)
            case bytes():
                self.last = what
                self.writer.write(what)
                await self.writer.drain()

    def _see(self, data: bytes) -> None:
        if not self.encrypted:
            self.seen.clear += data

    async def line(self) -> bytes:
        line = await self.reader.readline()
        if not line:
            raise _Ended
        self._see(line)
        self.seen.commands.append(line.strip())
        return line

    def _offers(self, given: Answer, offers: tuple[str, ...]) -> Answer:
        lines = ["receiver.example", *offers]
        text = "".join(f"250-{each}\r\n" for each in lines[:-1]) + f"250 {lines[-1]}\r\n"
        return given or text.encode()

    async def run(self) -> None:
        script = self.script
        await self.answer(script.greeting)
        while True:
            line = await self.line()
            match line[:4].upper():
                case b"EHLO" if self.encrypted:
                    await self.answer(self._offers(script.ehlo_again, script.offers_again), line)
                case b"EHLO":
                    await self.answer(self._offers(script.ehlo, script.offers), line)
                case b"STAR":
                    await self.answer(script.starttls, line)
                    if script.handshake:
                        self._see(await self.reader.read(1))  # the ClientHello
                        await self.answer(script.handshake)
                        continue
                    await self.writer.start_tls(self.context)
                    self.encrypted = True
                case b"MAIL":
                    await self.answer(script.mail, line)
                case b"RCPT":
                    await self.answer(script.rcpt, line)
                case b"RSET":
                    await self.answer(script.rset, line)
                case b"DATA":
                    await self.answer(script.data, line)
                    if self.last.startswith(b"354"):
                        await self._read_content()
                case b"QUIT":
                    await self.answer(script.quit, line)
                    raise _Ended

    async def _read_content(self) -> None:
        got = b""
        while not got.endswith(b"\r\n.\r\n"):
            if 0 <= self.script.read_content <= len(got):
                break
            chunk = await self.reader.read(65536)
            if not chunk:
                self.seen.content += got
                raise _Ended
            self._see(chunk)
            got += chunk
        self.seen.content += got
        if got.endswith(b"\r\n.\r\n"):
            self.seen.messages.append(got)
        await self.answer(self.script.content, got)


@contextlib.asynccontextmanager
async def server(context: ssl.SSLContext | None = None, **answers: object) -> AsyncIterator[Seen]:
    """Run a server with this script (`mail=b"550 no"`, `content=Act.DROP`) and yield what it sees."""
    script = dataclasses.replace(Script(), **answers)
    seen = Seen()
    tasks = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        seen.open += 1
        tasks.add(asyncio.current_task())
        peer = _Peer(script, context, seen, reader, writer)
        with contextlib.suppress(_Ended, OSError, asyncio.CancelledError):
            await peer.run()
        seen.open -= 1
        peer.writer.transport.abort()

    listening = await asyncio.start_server(connected, "127.0.0.1", 0)
    seen.port = listening.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.001)  # aborted sockets close on the loop's next turns


class Certificates:
    """A root of our own, and the certificates, good and bad, that tests need."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._root = self._make("root", self._key, issuer=None)
        self.ca_file = str(directory / "root.pem")

    def server(self, kind: str = "good") -> ssl.SSLContext:
        """Return TLS settings with a certificate: good, expired, wrong-name or self-signed."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = "other.example" if kind == "wrong-name" else MX
        shift = -10 * DAY if kind == "expired" else DAY * 0
        issuer = None if kind == "self-signed" else self._root
        made = self._make(kind, key, issuer=issuer, name=name, shift=shift)
        self.last_sha256 = made.fingerprint(hashes.SHA256()).hex()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.directory / f"{kind}.pem", self.directory / f"{kind}.key")
        return context

    def old(self) -> ssl.SSLContext:
        """Return settings that speak TLS 1.0 and nothing newer."""
        context = self.server()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1
        return context

    def only(self, ciphers: str) -> ssl.SSLContext:
        """Return settings of TLS 1.2 with these ciphers alone."""
        context = self.server()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(ciphers)
        return context

    def _make(
        self,
        file: str,
        key: ec.EllipticCurvePrivateKey,
        *,
        issuer: x509.Certificate | None,
        name: str = "root.example",
        shift: timedelta = DAY * 0,
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{file} {name}")])
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - DAY + shift)
            .not_valid_after(NOW + DAY + shift)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(
                x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True
            )
            .sign(self._key if issuer else key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        (self.directory / f"{file}.pem").write_bytes(made.public_bytes(pem))
        private = key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (self.directory / f"{file}.key").write_bytes(private)
        return made
