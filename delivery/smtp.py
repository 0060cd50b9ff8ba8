"""Step 9, send: one message over one encrypted connection, or nothing.

A client of our own (the ADR tells why): the journal's line has to fall between the server's 354 and
the first byte of content, commands are pipelined, and each read is bounded in bytes, lines and time.
The method that sends exists only on a `Session`, and a `Session` exists only after TLS: there is no
code path that sends in clear. RFC 5321, 1870 (SIZE), 2920 (pipelining), 6152 (8BITMIME), 3461
(DSN), 6531 (SMTPUTF8).
"""

import asyncio
import contextlib
import ipaddress
import re
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable

from delivery.connection import (
    Clear,
    Injected,
    Lost,
    Nonsense,
    NoSource,
    NoTLS,
    NotSent,
    Refused,
    Timeouts,
    TLSFacts,
    TLSFailed,
    TransportPolicy,
    Unreachable,
    Wire,
    context_for,
    extensions,
    facts,
    reach,
    unwelcome,
)
from delivery.replies import Accepted, Deferred, InDoubt, Outcome, Rejected, Reply

__all__ = [
    "Accepted",
    "Deferred",
    "InDoubt",
    "Injected",
    "NoSource",
    "NoTLS",
    "Nonsense",
    "NotSent",
    "Outcome",
    "Refused",
    "Rejected",
    "Reply",
    "Session",
    "TLSFacts",
    "TLSFailed",
    "Timeouts",
    "TransportPolicy",
    "Unreachable",
    "connect",
    "open_session",
]

BLOCK = 65_536
LONGEST_LINE = 998  # RFC 5321 4.5.3.1.6, RFC 5322 2.1.1

BeforeDataEnd = Callable[[], Awaitable[None] | None]

_LOCAL_PART = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\x80-\U0010ffff-]+\Z")
_DOMAIN = re.compile(
    r"(?=.{1,253}\Z)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+"
    r"[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\Z"
)
_DOT = re.compile(rb"\n\.")  # half the time of `in` on a message of 30 kB
_LITERAL = re.compile(r"\[(\d{1,3}(\.\d{1,3}){3}|IPv6:[0-9A-Fa-f:.]{2,45})\]\Z", re.ASCII)


class Session:
    """An encrypted connection to one server, over which messages go one at a time."""

    def __init__(self, wire: Wire, tls: TLSFacts, timeouts: Timeouts) -> None:
        if wire.transport is None or wire.transport.get_extra_info("ssl_object") is None:
            raise TLSFailed("the connection is not encrypted")
        self.tls = tls
        self.messages = 0
        self._wire = wire
        self._timeouts = timeouts
        self._offers: dict[str, str] = {}
        self._busy = False

    @property
    def usable(self) -> bool:
        """Whether another message may be sent; the server may have closed in the meantime."""
        return not (self._wire.closed or self._wire.buffer or self._busy)

    async def greet(self, helo: str) -> None:
        """Say EHLO again; what was offered in clear is not believed (RFC 3207 4.2)."""
        hello, lines = await self._wire.command(b"EHLO " + helo.encode(), self._timeouts.ehlo)
        if hello.code != 250:
            raise unwelcome(hello)
        self._offers = extensions(lines)

    async def send(
        self, envelope_from: str, rcpt: str, message: bytes, *, before_data_end: BeforeDataEnd
    ) -> Outcome:
        """Hand one message to the server for one recipient, and say what came of it.

        Args:
            envelope_from: where bounces go; empty for the null sender.
            rcpt: the recipient, its domain in A-labels.
            message: headers and body with CRLF line ends, as signed; not dot-stuffed.
            before_data_end: called once, after the server's 354 and before the first byte of
                content. What it raises comes out of here, and then no byte of content left.

        Returns:
            One of the four outcomes, whatever the server does.

        Raises:
            RuntimeError: another message is on its way over this session.
            CancelledError: after `before_data_end` was called, the message is in doubt then.
        """
        if self._busy:
            raise RuntimeError("a session sends one message at a time")
        mail = self._mail_command(envelope_from, rcpt, message)
        if isinstance(mail, Reply):
            return Rejected(mail)
        times = self._timeouts
        # Ask that a bounce brings back no more than our headers, and that delay is told (RFC 3461).
        notify = b" NOTIFY=FAILURE,DELAY" if "DSN" in self._offers else b""
        steps = [
            (mail, times.mail, 2),
            (b"RCPT TO:<" + rcpt.encode() + b">" + notify, times.rcpt, 2),
            (b"DATA", times.data, 3),
        ]
        if self.messages:
            steps.insert(0, (b"RSET", times.mail, 2))
        self._busy = True
        try:
            return await self._envelope(steps) or await self._content(message, before_data_end)
        except BaseException:
            self.abort()
            raise
        finally:
            self._busy = False
            self.messages += 1

    def _mail_command(self, sender: str, rcpt: str, message: bytes) -> bytes | Reply:
        """Return the MAIL command, or our own refusal of what must not or cannot be sent here."""
        if sender and not _is_address(sender):
            return Reply(501, "5.1.7", "the envelope sender is not an address", local=True)
        if not _is_address(rcpt):
            return Reply(501, "5.1.3", "the recipient is not an address", local=True)
        if not _is_clean(message):
            return Reply(554, "5.6.0", "a bare CR or LF, a NUL or too long a line", local=True)
        command = f"MAIL FROM:<{sender}>"
        if "SIZE" in self._offers:
            limit = self._offers["SIZE"]
            if limit.isdecimal() and 0 < int(limit) < len(message):
                return Reply(552, "5.3.4", "larger than the server takes", local=True)
            command += f" SIZE={len(message)}"
        plain = message.isascii()
        if not plain and "8BITMIME" not in self._offers:
            return Reply(554, "5.6.3", "the server takes no 8-bit content", local=True)
        command += "" if plain else " BODY=8BITMIME"
        head = plain or message.partition(b"\r\n\r\n")[0].isascii()
        if not (head and sender.isascii() and rcpt.isascii()):
            if "SMTPUTF8" not in self._offers:
                return Reply(553, "5.6.7", "the server takes no SMTPUTF8", local=True)
            command += " SMTPUTF8"
        command += " RET=HDRS" if "DSN" in self._offers else ""
        return command.encode()

    async def _envelope(self, steps: list[tuple[bytes, float, int]]) -> Outcome | None:
        """Say everything up to DATA; None once the server waits for content."""
        reused = self.messages > 0
        if self._wire.closed or self._wire.buffer:
            return self._dropped("the connection had ended", again=reused)
        replies: list[Reply] = []
        try:
            await self._say(steps, replies)
            lost = False
        except (Lost, Nonsense):
            lost = True
        refusal = next((reply for reply in replies if reply.code >= 400), None)
        if reused and (refusal is replies[0] if replies else lost):
            # The RSET: this was about the connection, not about this message.
            return self._dropped("the connection had ended", again=True)
        if refusal is None:
            return self._dropped("the connection was lost before the content") if lost else None
        if lost or replies[-1].code == 421 or replies[-1].code // 100 == 3:
            # At 354 it waits for the content of a message that it refused. Leaving is the one
            # answer that cannot be taken for a message.
            self.abort()
        return _outcome(refusal)

    async def _say(self, steps: list[tuple[bytes, float, int]], replies: list[Reply]) -> None:
        """Say the steps, in one go where the server lets us, and collect the replies."""
        at_once = "PIPELINING" in self._offers
        if at_once:
            self._wire.write(b"".join(line + b"\r\n" for line, _, _ in steps))
        for line, seconds, expected in steps:
            if not at_once:
                self._wire.write(line + b"\r\n")
            reply = await self._wire.reply(seconds)
            replies.append(reply)
            refused = reply.code >= 400
            if reply.code == 421 or (refused and not at_once):
                return
            if not refused and reply.code // 100 != expected:
                raise Nonsense("a reply does not fit its command")

    async def _content(self, message: bytes, before_data_end: BeforeDataEnd) -> Outcome:
        """Send the content. Once its last block is written, silence means doubt."""
        wire = self._wire
        if wire.buffer or wire.closed:
            return self._dropped("the server spoke or left before the content")
        whole = memoryview(_stuffed(message))
        last = (len(whole) - 1) // BLOCK * BLOCK
        pending = before_data_end()
        if pending is not None:
            await pending
            if wire.buffer or wire.closed:
                return self._dropped("the server spoke or left before the content")
        try:
            for start in range(0, last, BLOCK):
                wire.write(whole[start : start + BLOCK])
                await wire.drain(self._timeouts.block)
                if wire.buffer:
                    return await self._interrupted()
        except Lost:
            return self._dropped("the connection was lost within the content")
        wire.write(whole[last:])
        try:
            reply = await wire.reply(self._timeouts.end)
        except Lost as lost:
            self.abort()
            return InDoubt(str(lost))
        except Nonsense:
            self.abort()
            return InDoubt("nonsense")
        outcome = _outcome(reply)
        if reply.code == 421 or wire.buffer or isinstance(outcome, InDoubt):
            self.abort()
        return outcome

    async def _interrupted(self) -> Outcome:
        """The server answered before the end of the content: a refusal, or not to be trusted."""
        try:
            outcome = _outcome(await self._wire.reply(self._timeouts.block))
        except Lost:
            return self._dropped("the connection was lost within the content")
        except Nonsense:
            outcome = InDoubt("nonsense")
        self.abort()
        return InDoubt("nonsense") if isinstance(outcome, Accepted) else outcome

    def _dropped(self, why: str, *, again: bool = False) -> Deferred:
        self.abort()
        return Deferred(Reply(421, "4.4.2", why, local=True), again=again)

    def abort(self) -> None:
        """Close without a word."""
        self._wire.abort()

    async def quit(self) -> None:
        """Say goodbye if the connection is in order, and close."""
        if self.usable:
            with contextlib.suppress(Lost, Nonsense):
                await self._wire.command(b"QUIT", self._timeouts.quit)
        self.abort()
        await self._wire.gone()


async def open_session(
    address: str,
    port: int,
    *,
    server_name: str,
    source_ip: str,
    helo: str,
    policy: TransportPolicy,
    timeouts: Timeouts = Timeouts(),  # noqa: B008  (it is frozen)
    ca_file: str | None = None,
) -> Session:
    """Connect, and return once the connection is encrypted as the policy asks.

    Args:
        address, port: where to; an IP address, as only `delivery.mx` looks up names.
        server_name: the mail exchanger's name, for SNI and for its certificate.
        source_ip: the sending address to bind to; empty for any.
        helo: our name, or an address literal.
        ca_file: roots to trust in place of the system's.

    Raises:
        NotSent: as Unreachable, NoSource, Refused, Nonsense, NoTLS, TLSFailed or Injected.
        ValueError: an argument is not of its form.
    """
    ipaddress.ip_address(address)
    if not (_DOMAIN.match(helo) or _LITERAL.match(helo)):
        raise ValueError("the EHLO name is a domain or an address literal")
    name = server_name.rstrip(".")
    if policy is TransportPolicy.VERIFIED and not name:
        raise ValueError("a server without a name cannot be verified")
    context = context_for(policy, ca_file)
    wire = None
    try:
        async with asyncio.timeout(timeouts.setup):
            wire = await reach(address, port, source_ip, timeouts.connect)
            wire = await Clear(wire, timeouts).start_tls(helo, context, name)
            session = Session(wire, facts(wire, policy, address, name, source_ip), timeouts)
            await session.greet(helo)
            return session
    except BaseException as error:
        if wire is not None:
            wire.abort()
            await wire.gone()
        if isinstance(error, Lost | TimeoutError):
            raise Unreachable("the connection was lost or too slow at its beginning") from None
        raise


@contextlib.asynccontextmanager
async def connect(
    address: str,
    port: int,
    *,
    server_name: str,
    source_ip: str,
    helo: str,
    policy: TransportPolicy,
    timeouts: Timeouts = Timeouts(),  # noqa: B008  (it is frozen)
    ca_file: str | None = None,
) -> AsyncIterator[Session]:
    """Do as `open_session`, for a `with` block: say goodbye at its end, or just close on an error."""
    session = await open_session(
        address,
        port,
        server_name=server_name,
        source_ip=source_ip,
        helo=helo,
        policy=policy,
        timeouts=timeouts,
        ca_file=ca_file,
    )
    try:
        yield session
    except BaseException:
        session.abort()
        raise
    finally:
        await session.quit()


def _is_address(address: str) -> bool:
    """Whether an address can be put between angle brackets without ending them (RFC 5321 4.1.2).

    Quoted local parts and address literals are refused. Letters beyond ASCII stand in the local part
    alone (RFC 6531 3.3), composed (NFC), without spaces, controls and marks of direction.
    """
    local, at, domain = address.rpartition("@")
    if not at or not _DOMAIN.match(domain) or not _LOCAL_PART.match(local):
        return False
    if len(local.encode("utf-8", "replace")) > 64 or not all(local.split(".")):
        return False
    if local.isascii():
        return True
    return unicodedata.normalize("NFC", local) == local and not any(
        unicodedata.category(character)[0] in "CZ" for character in local
    )


def _is_clean(message: bytes) -> bool:
    """Whether a message has only whole CRLF line ends, lines of lawful length, and no NUL.

    A bare CR or LF is how a second message is smuggled into the first (RFC 5321 2.3.8).
    """
    lines = message.splitlines()  # of bytes: at CR, LF and CRLF, and nowhere else
    whole = message if message.endswith(b"\r\n") else message + b"\r\n"
    if not lines or b"\0" in message or b"\r\n".join(lines) + b"\r\n" != whole:
        return False
    return len(max(lines, key=len)) <= LONGEST_LINE


def _stuffed(message: bytes) -> bytes:
    """Double each dot that begins a line, and end the data (RFC 5321 4.5.2)."""
    if message.startswith(b"."):
        message = b"." + message
    if _DOT.search(message):
        message = message.replace(b"\r\n.", b"\r\n..")
    return message + (b".\r\n" if message.endswith(b"\r\n") else b"\r\n.\r\n")


def _outcome(reply: Reply) -> Outcome:
    if reply.positive:
        return Accepted(reply)
    if reply.temporary:
        return Deferred(reply)
    return Rejected(reply) if reply.permanent else InDoubt("nonsense")
