"""A mail server that receives what the demonstration sends: STARTTLS, and a sealed box of messages.

It is a real SMTP server as far as a sender can tell (RFC 5321, 3207, pipelining), fast enough not to
be what a measurement measures, and it misbehaves on request: one domain is deferred at first, one is
refused, and a second port has no TLS. What arrives holds names and addresses, so it is stored under
AES-GCM with a key that only the demonstration holds, in memory.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from demo.certificates import NAME, certificate
from demo.mailbox import Received, Store, read_all

__all__ = ["Received", "Running", "Store", "certificate", "read_all", "start"]

ROOT = Path(__file__).resolve().parent.parent
MAX_MESSAGE = 26_214_400
MAX_COMMAND = 4_096
KEY_BYTES = 32

_MAIL = re.compile(rb"MAIL FROM:<([^<>\r\n]*)>", re.IGNORECASE)
_RCPT = re.compile(rb"RCPT TO:<([^<>\r\n]+)>", re.IGNORECASE)


@dataclass
class Behaviour:
    """Which recipients are not simply accepted, and what is known of earlier attempts."""

    defer: frozenset[str] = frozenset()
    defer_seconds: float = 5.0
    reject: frozenset[str] = frozenset()
    first_seen: dict[str, float] = field(default_factory=dict)

    def answer(self, recipient: str) -> bytes:
        """Return the reply to RCPT. A deferred domain is a greylist: later, it is accepted."""
        domain = recipient.rpartition("@")[2].lower()
        if domain in self.reject:
            return b"550 5.1.1 no such user here\r\n"
        if domain in self.defer:
            now = time.monotonic()
            first = self.first_seen.setdefault(recipient.lower(), now)
            if now == first or now - first < self.defer_seconds:
                return b"451 4.7.1 greylisted, try again later\r\n"
        return b"250 2.1.5 ok\r\n"


class Conversation(asyncio.Protocol):
    """The server's side of one connection, before TLS or after."""

    def __init__(
        self, store: Store, behaviour: Behaviour, tls: ssl.SSLContext | None, secure: bool = False
    ) -> None:
        self._store = store
        self._behaviour = behaviour
        self._tls = tls
        self._secure = secure
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._upgrade: asyncio.Task[None] | None = None
        self._helo = ""
        self._searched = 0
        self._replies: list[bytes] = []
        self._clear_envelope()

    def _clear_envelope(self) -> None:
        self._sender: str | None = None
        self._recipient: str | None = None
        self._in_data = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._say(b"220 " + NAME.encode() + b" ESMTP\r\n")
        self._flush()

    def encrypted(self, transport: asyncio.Transport) -> None:
        """Go on after the handshake, with what may have come with its last packet."""
        self._transport = transport
        self._work()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._work()

    def _say(self, reply: bytes) -> None:
        self._replies.append(reply)

    def _flush(self) -> None:
        if self._replies and self._transport:
            self._transport.write(b"".join(self._replies))
        self._replies.clear()

    def _work(self) -> None:
        """Handle all whole commands and messages that have arrived; answer them together."""
        while self._transport and not self._transport.is_closing() and self._upgrade is None:
            if not (self._content() if self._in_data else self._command()):
                break
        self._flush()

    def _content(self) -> bool:
        if self._buffer.startswith(b".\r\n"):
            message, rest = b"", 3
        else:
            end = self._buffer.find(b"\r\n.\r\n", self._searched)
            if end < 0:
                self._searched = max(len(self._buffer) - 4, 0)
                if len(self._buffer) > MAX_MESSAGE + 5:
                    self._hang_up(b"552 5.3.4 too large\r\n")
                return False
            message, rest = bytes(self._buffer[: end + 2]), end + 5
        del self._buffer[:rest]
        self._searched = 0
        self._say(self._keep(message))
        self._clear_envelope()
        return True

    def _keep(self, message: bytes) -> bytes:
        ends = message.count(b"\r\n")
        if not ends == message.count(b"\r") == message.count(b"\n"):
            return b"554 5.6.0 a bare CR or LF\r\n"
        transport = self._transport
        agreed = transport.get_extra_info("ssl_object") if transport else None
        if message.startswith(b"."):
            message = message[1:]
        self._store.add(
            message.replace(b"\r\n..", b"\r\n."),
            peer_ip=transport.get_extra_info("peername")[0] if transport else "",
            port=transport.get_extra_info("sockname")[1] if transport else 0,
            helo=self._helo,
            tls_version=agreed.version() if agreed else "",
            tls_cipher=agreed.cipher()[0] if agreed else "",
            envelope_from=self._sender or "",
            envelope_to=self._recipient or "",
        )
        return b"250 2.0.0 kept\r\n"

    def _command(self) -> bool:
        end = self._buffer.find(b"\n")
        if end > MAX_COMMAND or (end < 0 and len(self._buffer) > MAX_COMMAND):
            self._hang_up(b"500 5.5.2 line too long\r\n")
            return False
        if end < 0:
            return False
        line = bytes(self._buffer[:end]).rstrip(b"\r")
        del self._buffer[: end + 1]
        verb = line[:8].upper().partition(b" ")[0].partition(b":")[0]
        match verb:
            case b"EHLO" | b"HELO":
                self._hello(verb, line)
            case b"STARTTLS" if self._tls and not self._secure:
                self._start_tls()
            case b"MAIL" | b"RCPT" | b"DATA" if self._tls and not self._secure:
                self._say(b"530 5.7.0 STARTTLS first\r\n")
            case b"MAIL":
                self._mail(line)
            case b"RCPT":
                self._rcpt(line)
            case b"DATA":
                self._data()
            case b"RSET" | b"NOOP":
                if verb == b"RSET":
                    self._clear_envelope()
                self._say(b"250 2.0.0 ok\r\n")
            case b"QUIT":
                self._hang_up(b"221 2.0.0 bye\r\n")
            case _:
                self._say(b"500 5.5.1 unknown command\r\n")
        return True

    def _hello(self, verb: bytes, line: bytes) -> None:
        self._helo = line[5:].decode("ascii", "replace").strip()
        self._clear_envelope()
        if verb == b"HELO":
            self._say(b"250 " + NAME.encode() + b"\r\n")
            return
        offers = [
            "PIPELINING",
            f"SIZE {MAX_MESSAGE}",
            "8BITMIME",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
        ]
        if self._tls and not self._secure:
            offers.append("STARTTLS")
        lines = [NAME, *offers]
        text = "".join(f"250-{each}\r\n" for each in lines[:-1]) + f"250 {lines[-1]}\r\n"
        self._say(text.encode())

    def _mail(self, line: bytes) -> None:
        match = _MAIL.match(line)
        if self._sender is not None:
            self._say(b"503 5.5.1 sender given already\r\n")
        elif not match:
            self._say(b"501 5.1.7 no address\r\n")
        else:
            self._sender = match[1].decode("utf-8", "replace")
            self._say(b"250 2.1.0 ok\r\n")

    def _rcpt(self, line: bytes) -> None:
        match = _RCPT.match(line)
        if self._sender is None:
            self._say(b"503 5.5.1 sender first\r\n")
        elif self._recipient is not None:
            self._say(b"452 4.5.3 one recipient a message\r\n")
        elif not match:
            self._say(b"501 5.1.3 no address\r\n")
        else:
            recipient = match[1].decode("utf-8", "replace")
            reply = self._behaviour.answer(recipient)
            if reply.startswith(b"2"):
                self._recipient = recipient
            self._say(reply)

    def _data(self) -> None:
        if self._recipient is None:
            self._say(b"554 5.5.1 no valid recipient\r\n")
        else:
            self._in_data = True
            self._say(b"354 go ahead\r\n")

    def _start_tls(self) -> None:
        if self._buffer:  # RFC 3207 4: nothing may be pipelined behind STARTTLS
            self._hang_up(b"554 5.5.1 nothing may follow STARTTLS\r\n")
            return
        self._say(b"220 2.0.0 go ahead\r\n")
        self._flush()
        self._upgrade = asyncio.get_running_loop().create_task(self._handshake())

    async def _handshake(self) -> None:
        # A new object: what it knows, it learnt inside the encrypted connection.
        inside = Conversation(self._store, self._behaviour, self._tls, secure=True)
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(self._transport, inside, self._tls, server_side=True)
        except (OSError, ssl.SSLError):
            return
        if transport is not None:
            inside.encrypted(transport)

    def _hang_up(self, reply: bytes) -> None:
        self._say(reply)
        self._flush()
        if self._transport:
            self._transport.close()


async def serve(options: argparse.Namespace, key: bytes) -> None:
    """Run both ports until SIGTERM, SIGINT, or the end of the parent named in the options."""
    loop = asyncio.get_running_loop()
    store = Store(options.store, key)
    behaviour = Behaviour(
        defer=frozenset(options.defer),
        defer_seconds=options.defer_seconds,
        reject=frozenset(options.reject),
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    names = [NAME, "localhost", options.host]
    context.load_cert_chain(*certificate(options.certificates or options.store, names))
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    servers = [
        await loop.create_server(
            lambda tls=tls: Conversation(store, behaviour, tls), options.host, port, backlog=1024
        )
        for tls, port in ((context, options.port), (None, options.plain_port))
    ]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    facts = {"host": options.host, "port": ports[0], "plain_port": ports[1], "pid": os.getpid()}
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()
    while not stop.is_set() and options.parent in (0, os.getppid()):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), timeout=0.3)
    for server in servers:
        server.close()
    store.close()


def parser() -> argparse.ArgumentParser:
    """Return the command line of `python -m demo.receiver`."""
    made = argparse.ArgumentParser(prog="python -m demo.receiver", description=__doc__)
    made.add_argument("--store", type=Path, required=True, help="where sealed messages are kept")
    made.add_argument("--host", default="127.0.0.1")
    made.add_argument("--port", type=int, default=0, help="with STARTTLS; 0 takes a free one")
    made.add_argument("--plain-port", type=int, default=0, help="without STARTTLS")
    made.add_argument("--certificates", type=Path, help="directory; the store's by default")
    made.add_argument("--defer", action="append", default=[], metavar="DOMAIN")
    made.add_argument("--defer-seconds", type=float, default=5.0)
    made.add_argument("--reject", action="append", default=[], metavar="DOMAIN")
    made.add_argument("--parent", type=int, default=0, help="stop when this process is gone")
    made.add_argument("--key-fd", type=int, default=0, help="descriptor to read the key from (hex)")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Read the key and serve."""
    options = parser().parse_args(arguments)
    with open(options.key_fd, "rb", closefd=options.key_fd != 0) as file:
        line = file.readline(2 * KEY_BYTES + 2).decode("ascii", "replace").strip()
    try:
        key = bytes.fromhex(line)
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        sys.stderr.write("the key has 64 hexadecimal digits\n")
        return 2
    asyncio.run(serve(options, key))
    return 0


@dataclass
class Running:
    """A receiver in a process of its own."""

    host: str
    port: int
    plain_port: int
    pid: int
    process: subprocess.Popen[bytes]

    def stop(self) -> int:
        """End it and return its exit code."""
        self.process.terminate()
        code = self.process.wait(timeout=10)
        if self.process.stdout:
            self.process.stdout.close()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(store: Path, *, key: bytes, **options: str | int | float | Path | list[str]) -> Running:
    """Run a receiver as a subprocess of this one. Options as on the command line: `defer=["x.org"]`.

    Raises:
        RuntimeError: it did not start; its own words are on standard error.
    """
    command = [sys.executable, "-m", "demo.receiver", "--store", str(store)]
    command += ["--parent", str(os.getpid())]
    for name, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            command += [f"--{name.replace('_', '-')}", str(each)]
    process = subprocess.Popen(  # noqa: S603  (our own module, no shell)
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the receiver has no pipes")
    with process.stdin as pipe:
        pipe.write(key.hex().encode() + b"\n")
    line = process.stdout.readline()
    if not line:
        process.stdout.close()
        raise RuntimeError(f"the receiver ended with {process.wait()}")
    return Running(**json.loads(line), process=process)


if __name__ == "__main__":
    raise SystemExit(main())
