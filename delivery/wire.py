"""Sending a set of letters over a few connections of one address, and saying of each what became of it."""

import asyncio
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from delivery import mx, smtp
from delivery.compose import Letter
from delivery.handover import MARK_LASTS
from delivery.journal import Ending, Journal
from delivery.replies import Reply

#: Connections of one slice, all destinations together.
CONNECTIONS = 8
#: Hosts of one domain that are tried (RFC 5321, 5.1 asks for at least two).
HOSTS = 4


class MarkRefused(Exception):
    """The mark had grown old, and the gate did not renew it: nothing of the message left."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of one letter. `reason` is empty but for what delivery itself decided, such as no_tls."""

    letter: Letter
    ending: str
    reason: str = ""
    reply: Reply | None = None
    tls: smtp.TLSFacts | None = None
    mx: str = ""


class Lines:
    """Open connections of one sending address, kept between sets for as long as a slice lasts.

    `renew`: called in a thread with a message's id when its mark is older than two seconds; False means that
    the message may not go any more. `journal`: where the wire's truth is written.
    """

    def __init__(
        self,
        *,
        source_ip: str,
        helo: str,
        policy: str,
        journal: Journal,
        renew: Callable[[uuid.UUID], bool],
        timeouts: smtp.Timeouts,
    ) -> None:
        self.source_ip, self.helo, self.policy = source_ip, helo, smtp.TransportPolicy(policy)
        self.journal, self.renew, self.timeouts = journal, renew, timeouts
        self._idle: dict[tuple[str, int, str], list[smtp.Session]] = defaultdict(list)
        self._hosts: dict[str, list[mx.Host] | mx.Unresolvable] = {}

    async def send(self, letters: Sequence[Letter]) -> tuple[list[Attempt], BaseException | None]:
        """Send a freshly marked set, at most CONNECTIONS at a time, and return what became of it.

        Letters whose mark was refused are left out. Of those that failed for a reason of ours the first error
        comes second: the others have come to their end by then, so that nothing about them is in doubt.
        """
        marked_at = time.monotonic()
        gate = asyncio.Semaphore(CONNECTIONS)

        async def one(letter: Letter) -> Attempt | None:
            async with gate:
                try:
                    return await self._deliver(letter, marked_at)
                except MarkRefused:
                    return None

        results = await asyncio.gather(*(one(letter) for letter in letters), return_exceptions=True)
        errors = (result for result in results if isinstance(result, BaseException))
        attempts = [result for result in results if isinstance(result, Attempt)]
        return attempts, next(errors, None)

    async def close(self) -> None:
        """Say goodbye on every idle connection."""
        for sessions in self._idle.values():
            await asyncio.gather(*(session.quit() for session in sessions), return_exceptions=True)
        self._idle.clear()

    async def _deliver(self, letter: Letter, marked_at: float) -> Attempt:
        domain = letter.rcpt.rpartition("@")[2]
        hosts = await self._resolve(domain)
        if isinstance(hosts, mx.Unresolvable):
            return Attempt(letter, "deferred" if hosts.temporary else "failed", reply=hosts.reply)
        failures: list[Attempt] = []
        for host in hosts[:HOSTS]:
            for address in host.from_source(self.source_ip)[:1]:
                try:
                    return await self._over(host, address, letter, marked_at)
                except smtp.NoTLS as error:
                    # Refused for good or absent: the message is held back, never sent in clear (ADR 0010).
                    ending = "deferred" if error.temporary else "withheld"
                    failures.append(Attempt(letter, ending, "no_tls", error.reply, mx=host.name))
                except smtp.TLSFailed as error:
                    failures.append(
                        Attempt(letter, "deferred", "tls_failed", error.reply, mx=host.name)
                    )
                except smtp.NoSource as error:
                    failures.append(
                        Attempt(letter, "deferred", "no_source", error.reply, mx=host.name)
                    )
                except smtp.NotSent as error:
                    ending = "deferred" if error.temporary else "failed"
                    failures.append(Attempt(letter, ending, reply=error.reply, mx=host.name))
        # Over only when every host says so for good: one that is down now may take it later.
        later = [one for one in failures if one.ending == "deferred"]
        return next(iter(later or failures), Attempt(letter, "deferred", "unreachable"))

    async def _over(self, host: mx.Host, address: str, letter: Letter, marked_at: float) -> Attempt:
        """Send over an idle connection, or a new one when those had ended meanwhile."""
        journalled = False

        async def before() -> None:
            nonlocal journalled
            if time.monotonic() - marked_at > MARK_LASTS and not await asyncio.to_thread(
                self.renew, letter.message_id
            ):
                raise MarkRefused
            self.journal.before(letter.message_id, letter.attempt)
            journalled = True

        # Every idle connection may have ended meanwhile; a new one has not.
        for _ in range(CONNECTIONS + 1):
            session = await self._session(host, address)
            try:
                outcome = await session.send(
                    letter.envelope_from, letter.rcpt, letter.data, before_data_end=before
                )
            finally:
                self._put_back(host, address, session)
            if not (isinstance(outcome, smtp.Deferred) and outcome.again):
                break
        ending = _ENDINGS[type(outcome)]
        if journalled:
            code = outcome.reply.code if outcome.reply else 0
            self.journal.after(
                letter.message_id, letter.attempt, ending, code, proof_of(session.tls)
            )
        return Attempt(letter, str(ending), reply=outcome.reply, tls=session.tls, mx=host.name)

    async def _session(self, host: mx.Host, address: str) -> smtp.Session:
        idle = self._idle[address, host.port, host.name]
        while idle:
            session = idle.pop()
            if session.usable:
                return session
        return await smtp.open_session(
            address,
            host.port,
            server_name=host.name,
            source_ip=self.source_ip,
            helo=self.helo,
            policy=self.policy,
            timeouts=self.timeouts,
        )

    def _put_back(self, host: mx.Host, address: str, session: smtp.Session) -> None:
        if session.usable:
            self._idle[address, host.port, host.name].append(session)
        else:
            session.abort()

    async def _resolve(self, domain: str) -> list[mx.Host] | mx.Unresolvable:
        if domain not in self._hosts:
            try:
                self._hosts[domain] = await mx.resolve_async(domain)
            except mx.Unresolvable as error:
                self._hosts[domain] = error
        return self._hosts[domain]


def proof_of(tls: smtp.TLSFacts) -> str:
    """Return the evidence of a connection as the journal keeps it."""
    return f"{tls.version}/{tls.cipher}/{tls.peer_certificate_sha256}/{tls.verified_by}"


_ENDINGS = {
    smtp.Accepted: Ending.SENT,
    smtp.Rejected: Ending.FAILED,
    smtp.Deferred: Ending.DEFERRED,
    smtp.InDoubt: Ending.IN_DOUBT,
}
