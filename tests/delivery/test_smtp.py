"""One message over TLS or nothing, whatever the server does."""

import ast
import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path

import pytest
from aiosmtpd.smtp import SMTP
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery import connection, smtp
from delivery.replies import Kind, classify
from tests.smtp_faults import MX, OFFERS, Act, Certificates, Drip, Seen, server

SECRET = b"Subject: for nobody else\r\n\r\nWHAT ONLY THE RECIPIENT MAY READ\r\n"
#: For servers that answer: they may take their time on a busy machine.
PATIENT = smtp.Timeouts.all(4.0)
#: For servers that don't.
QUICK = smtp.Timeouts.all(0.15)
#: A server that does nothing costs one phase; what is left over is for a busy machine.
BOUND = 4.0


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def tls(certificates: Certificates):
    return certificates.server()


class Hook:
    """Stands for the journal: counts, and sees what the server had by then."""

    def __init__(self, seen: Seen | None = None) -> None:
        self.called = 0
        self.content_then: list[int] = []
        self._seen = seen

    def __call__(self) -> None:
        self.called += 1
        if self._seen:
            self.content_then.append(len(self._seen.content))


def dial(seen: Seen, policy: smtp.TransportPolicy = smtp.TransportPolicy.TLS, **options):
    arguments = {
        "server_name": MX,
        "source_ip": "127.0.0.11",
        "helo": "out.clinic.example",
        "policy": policy,
        "timeouts": PATIENT,
        **options,
    }
    return smtp.connect("127.0.0.1", seen.port, **arguments)


async def send(session: smtp.Session, message: bytes = SECRET, hook: Callable = lambda: None):
    return await session.send(
        "b+x@bounce.clinic.example", "pat@receiver.example", message, before_data_end=hook
    )


def never_ends(answer) -> bool:
    """Whether a step's answer keeps us waiting."""
    if isinstance(answer, list):
        return any(never_ends(each) for each in answer)
    return answer is Act.HANG or isinstance(answer, Drip)


def limits(script: dict) -> smtp.Timeouts:
    return QUICK if any(never_ends(answer) for answer in script.values()) else PATIENT


def run(story: Callable[..., Coroutine], *arguments, **options):
    started = time.monotonic()
    try:
        return asyncio.run(story(*arguments, **options))
    finally:
        assert time.monotonic() - started < BOUND


async def one_message(context, message: bytes = SECRET, messages: int = 1, dialled=None, **script):
    """Send `messages` messages over one session; return outcomes, what the server saw, the hook."""
    async with server(context, **script) as seen:
        hook = Hook(seen)
        async with dial(seen, **{"timeouts": limits(script), **(dialled or {})}) as session:
            outcomes = [await send(session, message, hook) for _ in range(messages)]
            facts = session.tls
            usable = session.usable
        await seen.quiet()
    return outcomes, seen, hook, facts, usable


# The way it should go.


def test_a_message_arrives_encrypted_from_the_sending_address(tls, certificates):
    [outcome], seen, hook, facts, usable = run(one_message, certificates.server())

    assert outcome.reply.code == 250 and outcome.reply.enhanced == "2.0.0"
    assert isinstance(outcome, smtp.Accepted)
    assert seen.messages == [SECRET + b".\r\n"]
    assert seen.clear == b"EHLO out.clinic.example\r\nSTARTTLS\r\n"
    assert hook.called == 1 and hook.content_then == [0]
    assert facts.version == "TLSv1.3" and facts.cipher.startswith("TLS_AES")
    assert facts.peer_certificate_sha256 == certificates.last_sha256
    assert (facts.verified_by, facts.peer_ip, facts.source_ip) == (
        "none",
        "127.0.0.1",
        "127.0.0.11",
    )
    assert usable


def test_the_envelope_goes_in_one_piece_only_where_pipelining_is_offered(tls):
    """A server that answers nothing to MAIL sees what we said without waiting for it."""
    _, offered, *_ = run(one_message, tls, mail=Act.HANG)
    _, absent, *_ = run(one_message, tls, mail=Act.HANG, offers_again=("SIZE",))

    mail = b"MAIL FROM:<b+x@bounce.clinic.example> SIZE=%d" % len(SECRET)
    assert offered.commands[-1] == absent.commands[-1] == mail
    assert offered.unanswered == b"RCPT TO:<pat@receiver.example>\r\nDATA\r\n"
    assert absent.unanswered == b""


def test_without_pipelining_a_message_arrives_too(tls):
    outcomes, seen, *_ = run(one_message, tls, messages=2, offers_again=())
    assert [type(outcome) for outcome in outcomes] == [smtp.Accepted] * 2
    assert len(seen.messages) == 2


def test_several_messages_share_a_session_with_a_reset_between_them(tls):
    outcomes, seen, hook, _, _ = run(one_message, tls, messages=3)

    assert [type(outcome) for outcome in outcomes] == [smtp.Accepted] * 3
    assert seen.connections == 1 and len(seen.messages) == 3 and hook.called == 3
    assert seen.commands.count(b"RSET") == 2
    assert seen.commands[-1] == b"QUIT"


def test_a_large_message_arrives_whole(tls):
    message = b"Subject: x\r\n\r\n" + (b"." + b"x" * 900 + b"\r\n") * 500
    [outcome], seen, hook, _, _ = run(one_message, tls, message=message)

    assert isinstance(outcome, smtp.Accepted)
    assert seen.messages == [message.replace(b"\r\n.", b"\r\n..") + b".\r\n"]
    assert hook.content_then == [0]


def test_a_third_partys_server_understands_us(certificates):
    got = []

    class Handler:
        async def handle_DATA(self, server, session, envelope):  # noqa: N802
            got.append((session.ssl is not None, envelope.mail_from, envelope.content))
            return "250 2.0.0 thank you"

    message = b"Subject: dots\r\n\r\n.one\r\n..two\r\n.\r\nend\r\n"
    context = certificates.server()

    async def story():
        listening = await asyncio.get_running_loop().create_server(
            lambda: SMTP(
                Handler(), tls_context=context, require_starttls=True, hostname="a.example"
            ),
            "127.0.0.1",
            0,
        )
        seen = Seen(port=listening.sockets[0].getsockname()[1])
        async with listening, dial(seen) as session:
            return [await send(session, message) for _ in range(2)]

    outcomes = run(story)
    assert [type(outcome) for outcome in outcomes] == [smtp.Accepted] * 2
    assert got == [(True, "b+x@bounce.clinic.example", message)] * 2


def test_verified_means_a_trusted_certificate_for_the_servers_name(certificates):
    policy = smtp.TransportPolicy.VERIFIED
    dialled = {"policy": policy, "ca_file": certificates.ca_file}
    _, seen, _, facts, _ = run(one_message, certificates.server(), dialled=dialled)

    assert facts.verified_by == "pkix" and len(seen.messages) == 1


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("expired", "certificate-expired"),
        ("wrong-name", "certificate-host-mismatch"),
        ("self-signed", "certificate-not-trusted"),
    ],
)
def test_a_bad_certificate_fails_where_verified_is_asked_and_only_there(certificates, kind, reason):
    async def story(policy):
        async with server(certificates.server(kind)) as seen:
            try:
                async with dial(seen, policy, ca_file=certificates.ca_file) as session:
                    return seen, await send(session)
            except smtp.TLSFailed as error:
                return seen, error

    seen, error = run(story, smtp.TransportPolicy.VERIFIED)
    assert isinstance(error, smtp.TLSFailed) and error.reason == reason and error.temporary
    assert seen.commands == [b"EHLO out.clinic.example", b"STARTTLS"] and not seen.content
    _, outcome = run(story, smtp.TransportPolicy.TLS)
    assert isinstance(outcome, smtp.Accepted)


# TLS or nothing.


def test_nothing_but_a_session_can_send_and_a_session_needs_tls():
    """By construction: MAIL, RCPT and DATA are written in one class, which refuses a clear wire."""
    tree = ast.parse(inspect.getsource(connection))
    text = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    spoken = [value for value in text if isinstance(value, bytes) and value[:4].isalpha()]
    assert sorted(set(spoken)) == [b"EHLO ", b"STARTTLS"]

    async def story():
        async with server() as seen:
            wire = await connection.reach("127.0.0.1", seen.port, "", 1.0)
            with pytest.raises(smtp.TLSFailed):
                smtp.Session(wire, None, QUICK)
            with pytest.raises(smtp.TLSFailed):
                connection.facts(wire, smtp.TransportPolicy.TLS, "127.0.0.1", MX, "")
            wire.abort()
            await wire.gone()
            return seen

    assert run(story).clear == b""


FLOOD = b"220-" + b"x" * 60 + b"\r\n"

BEFORE_TLS = {
    "no STARTTLS": ({"offers": OFFERS}, smtp.NoTLS),
    "no EHLO": ({"ehlo": b"502 5.5.1 what?\r\n"}, smtp.NoTLS),
    "STARTTLS refused for now": ({"starttls": b"454 4.7.0 no TLS today\r\n"}, smtp.NoTLS),
    "STARTTLS refused": ({"starttls": b"502 5.5.1 never\r\n"}, smtp.NoTLS),
    "STARTTLS answered strangely": ({"starttls": b"250 ok\r\n"}, smtp.Nonsense),
    "injection": (
        {"starttls": b"220 go\r\n250 injected\r\n", "handshake": Act.HANG},
        smtp.Injected,
    ),
    "injection of half a line": (
        {"starttls": b"220 go\r\n25", "handshake": Act.HANG},
        smtp.Injected,
    ),
    "clear bytes in place of a handshake": ({"handshake": b"250 hello\r\n"}, smtp.TLSFailed),
    "no handshake": ({"handshake": Act.HANG}, smtp.TLSFailed),
    "drop in place of a handshake": ({"handshake": Act.DROP}, smtp.TLSFailed),
    "reset in place of a handshake": ({"handshake": Act.RESET}, smtp.TLSFailed),
    "unwelcome": ({"greeting": b"554 5.7.1 go away\r\n"}, smtp.Refused),
    "busy": ({"greeting": b"421 4.3.2 later\r\n"}, smtp.Refused),
    "unwelcome at EHLO": ({"ehlo": b"550 5.7.1 your name is bad\r\n"}, smtp.Refused),
    "leaves at STARTTLS": ({"starttls": b"421 4.3.2 bye\r\n"}, smtp.Refused),
    "not SMTP": ({"greeting": b"HTTP/1.1 400 Bad Request\r\n\r\n"}, smtp.Nonsense),
    "nonsense bytes": ({"greeting": bytes(range(256)) * 4 + b"\n"}, smtp.Nonsense),
    "greets with 250": ({"greeting": b"250 hello\r\n"}, smtp.Nonsense),
    "two codes in one reply": ({"ehlo": b"250-a\r\n251 STARTTLS\r\n"}, smtp.Nonsense),
    "banner of 100 kB": ({"greeting": b"220 " + b"x" * 120_000}, smtp.Nonsense),
    "banner of many lines": ({"greeting": FLOOD * 2_000}, smtp.Nonsense),
    "EHLO of 1000 lines": ({"ehlo": b"250-X\r\n" * 999 + b"250 STARTTLS\r\n"}, smtp.Nonsense),
    "speaks out of turn": ({"greeting": b"220 hi\r\n250 hi\r\n"}, smtp.Nonsense),
    "hangs at once": ({"greeting": Act.HANG}, smtp.Unreachable),
    "hangs at EHLO": ({"ehlo": Act.HANG}, smtp.Unreachable),
    "hangs at STARTTLS": ({"starttls": Act.HANG}, smtp.Unreachable),
    "drops at once": ({"greeting": Act.DROP}, smtp.Unreachable),
    "drops at EHLO": ({"ehlo": Act.DROP}, smtp.Unreachable),
    "drips its banner": ({"greeting": Drip(b"220 " + b"x" * 500, 0.05)}, smtp.Unreachable),
    "drips whole lines": ({"greeting": [Drip(b"220-\r\n", 0.04)] * 50}, smtp.Unreachable),
    "resets at STARTTLS": ({"starttls": Act.RESET}, smtp.Unreachable),
}


@pytest.mark.parametrize("name", BEFORE_TLS)
def test_before_tls_every_fault_has_a_name_and_nothing_is_said_in_clear(tls, name):
    script, expected = BEFORE_TLS[name]

    async def story():
        async with server(tls, **script) as seen:
            with pytest.raises(smtp.NotSent) as caught:
                async with dial(seen, timeouts=limits(script)):
                    pass
            await seen.quiet()
        return seen, caught.value

    seen, error = run(story)

    assert type(error) is expected
    assert not seen.messages and not seen.content
    said = bytes(seen.clear).partition(b"STARTTLS\r\n")
    assert said[0] in (b"", b"EHLO out.clinic.example\r\n")
    # After STARTTLS there may be a ClientHello, which is no text of ours.
    assert b"\x16\x03".startswith(said[2][:2])
    classify(error.reply)
    assert error.reply.text not in str(error) or error.reply.local


def test_only_an_absent_or_refused_starttls_is_no_tls_for_good(tls):
    async def story(**script):
        async with server(tls, **script) as seen:
            with pytest.raises(smtp.NoTLS) as caught:
                async with dial(seen):
                    pass
        return caught.value

    absent = run(story, offers=OFFERS)
    busy = run(story, starttls=b"454 4.7.0 no TLS today\r\n")
    assert (absent.offered, absent.temporary) == (False, False)
    assert (busy.offered, busy.temporary) == (True, True)
    assert classify(absent.reply).kind is Kind.TLS_POLICY
    assert classify(busy.reply).kind is not Kind.HARD_RECIPIENT


WEAK = {
    "ChaCha20": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "CBC": "ECDHE-ECDSA-AES256-SHA384",
    "CBC and SHA-1": "ECDHE-ECDSA-AES128-SHA",
    "no encryption": "ECDHE-ECDSA-NULL-SHA:@SECLEVEL=0",
    "anonymous": "AECDH-AES128-SHA:@SECLEVEL=0",
}


@pytest.mark.parametrize("weak", ["TLS 1.0", *WEAK])
def test_weak_encryption_is_no_encryption(certificates, weak):
    context = certificates.old() if weak == "TLS 1.0" else certificates.only(WEAK[weak])

    async def story():
        async with server(context) as seen:
            with pytest.raises(smtp.TLSFailed) as caught:
                async with dial(seen):
                    pass
        return seen, caught.value

    seen, error = run(story)
    assert error.temporary and classify(error.reply).kind is Kind.TLS_POLICY
    assert seen.commands == [b"EHLO out.clinic.example", b"STARTTLS"] and not seen.content


@pytest.mark.parametrize(
    ("version", "cipher"),
    [
        ("TLSv1.3", "TLS_CHACHA20_POLY1305_SHA256"),  # OpenSSL offers it unasked
        ("TLSv1.1", "ECDHE-RSA-AES128-GCM-SHA256"),
        ("TLSv1.2", "AES128-GCM-SHA256"),
        (None, "TLS_AES_256_GCM_SHA384"),
    ],
)
def test_what_was_agreed_on_is_looked_at_once_more(version, cipher):
    class Agreed:
        def version(self):
            return version

        def cipher(self):
            return cipher, version, 256

    class Transport:
        def get_extra_info(self, _name):
            return Agreed()

    class Wire:
        transport = Transport()

    with pytest.raises(smtp.TLSFailed):
        connection.facts(Wire(), smtp.TransportPolicy.TLS, "127.0.0.1", MX, "")


def test_what_was_offered_in_clear_is_forgotten(tls):
    """A stranger adds SMTPUTF8 and 8BITMIME to the clear EHLO; the server itself has neither."""
    message = "Subject: x\r\n\r\nGrüße\r\n".encode()
    [outcome], seen, hook, _, _ = run(
        one_message, tls, message=message, offers_again=("PIPELINING",)
    )

    assert isinstance(outcome, smtp.Rejected) and outcome.reply.enhanced == "5.6.3"
    assert hook.called == 0 and not seen.content


# After TLS: the four outcomes.

REFUSALS = {
    "mail": (b"550 5.7.1 no\r\n", smtp.Rejected),
    "rcpt": (b"550 5.1.1 no such user\r\n", smtp.Rejected),
    "data": (b"554 5.6.0 no\r\n", smtp.Rejected),
}


@pytest.mark.parametrize("offers", [OFFERS, ("8BITMIME",)], ids=["pipelined", "step by step"])
@pytest.mark.parametrize("step", REFUSALS)
@pytest.mark.parametrize("digit", [b"4", b"5"])
def test_a_refusal_of_the_envelope_sends_nothing_and_the_next_message_goes(
    tls, step, digit, offers
):
    answers = iter([digit + REFUSALS[step][0][1:]])
    good = {"mail": b"250 ok\r\n", "rcpt": b"250 ok\r\n", "data": b"354 go\r\n"}

    async def story():
        async with server(tls, offers_again=offers, **{step: answer}) as seen:
            hook = Hook(seen)
            async with dial(seen) as session:
                first = await send(session, hook=hook)
                then = hook.called
                if step == "data" or (offers is OFFERS and step != "data"):
                    pass
                second = await send(session, hook=hook) if session.usable else None
            return first, then, second, seen

    def answer(_line):
        return next(answers, good[step])

    # With pipelining, this server says 354 to DATA whatever it thought of RCPT: we have to leave.
    first, then, second, seen = run(story)
    assert isinstance(first, smtp.Rejected if digit == b"5" else smtp.Deferred)
    assert first.reply.code // 100 == int(digit) and not first.reply.local
    assert then == 0
    if second is None:
        assert offers is OFFERS and step != "data" and seen.messages == []
    else:
        assert isinstance(second, smtp.Accepted) and len(seen.messages) == 1


def test_a_refused_recipient_leaves_a_proper_server_ready_for_the_next(tls):
    answers = iter([b"550 5.1.1 no such user\r\n", b"250 ok\r\n"])
    data = iter([b"554 5.5.1 no valid recipients\r\n", b"354 go\r\n"])

    async def story():
        script = {"rcpt": lambda _line: next(answers), "data": lambda _line: next(data)}
        async with server(tls, **script) as seen, dial(seen) as session:
            outcomes = [await send(session), await send(session)]
            return outcomes, session.usable, seen

    [first, second], usable, seen = run(story)
    assert isinstance(first, smtp.Rejected) and first.reply.enhanced == "5.1.1"
    assert isinstance(second, smtp.Accepted) and usable
    assert seen.connections == 1 and len(seen.messages) == 1


CONTENT = {
    "accepted": (b"250 2.0.0 ok\r\n", smtp.Accepted),
    "accepted, then closed": ([b"250 2.0.0 ok\r\n", Act.LEAVE], smtp.Accepted),
    "accepted, then reset": ([b"250 2.0.0 ok\r\n", Act.RESET], smtp.Accepted),
    "deferred": (b"451 4.3.0 later\r\n", smtp.Deferred),
    "leaving": (b"421 4.3.2 shutting down\r\n", smtp.Deferred),
    "full": (b"552 5.2.2 mailbox full\r\n", smtp.Rejected),
    "rejected in several lines": (b"550-5.7.1 spam\r\n550 5.7.1 spam\r\n", smtp.Rejected),
    "dropped after the dot": (Act.DROP, smtp.InDoubt),
    "reset after the dot": (Act.RESET, smtp.InDoubt),
    "silent after the dot": (Act.HANG, smtp.InDoubt),
    "dripping after the dot": (Drip(b"250 " + b"k" * 90, 0.05), smtp.InDoubt),
    "half a line": ([b"250 2.0", Act.LEAVE], smtp.InDoubt),
    "half a reply": ([b"250-2.0.0 ok\r\n", Act.LEAVE], smtp.InDoubt),
    "nonsense after the dot": (b"\x00\xff\r\n", smtp.InDoubt),
    "354 after the dot": (b"354 more\r\n", smtp.InDoubt),
    "two codes": (b"250-ok\r\n550 no\r\n", smtp.InDoubt),
    "endless": (b"250-" + b"x" * 200_000, smtp.InDoubt),
}


@pytest.mark.parametrize("name", CONTENT)
def test_after_the_dot_only_a_clear_answer_is_an_outcome(tls, name):
    answer, expected = CONTENT[name]
    [outcome], seen, hook, _, usable = run(one_message, tls, content=answer)

    assert type(outcome) is expected
    assert hook.called == 1 and seen.messages == [SECRET + b".\r\n"]
    if expected is smtp.InDoubt:
        assert outcome.reply is None and outcome.why in {"closed", "timeout", "nonsense"}
        assert not usable
    else:
        assert not outcome.reply.local
        assert usable or name not in {"accepted", "deferred", "full"}
        assert not usable or name != "leaving"


def test_an_answer_followed_by_another_ends_the_session(tls):
    [outcome], _, _, _, usable = run(one_message, tls, content=b"250 ok\r\n550 no\r\n")
    assert isinstance(outcome, smtp.Accepted) and not usable


BEFORE_CONTENT = {
    "hangs at MAIL": {"mail": Act.HANG},
    "hangs at RCPT": {"rcpt": Act.HANG},
    "hangs at DATA": {"data": Act.HANG},
    "drops at MAIL": {"mail": Act.DROP},
    "drops at RCPT": {"rcpt": Act.DROP},
    "drops at DATA": {"data": Act.DROP},
    "resets at DATA": {"data": Act.RESET},
    "354 to MAIL": {"mail": b"354 go\r\n"},
    "354 to RCPT": {"rcpt": b"354 go\r\n"},
    "250 to DATA": {"data": b"250 kept already\r\n"},
    "two answers to DATA": {"data": b"354 go\r\n250 kept already\r\n"},
    "nonsense at RCPT": {"rcpt": b"\xff\xfe\r\n"},
    "drips at MAIL": {"mail": Drip(b"250 " + b"k" * 90, 0.05)},
}


@pytest.mark.parametrize("name", BEFORE_CONTENT)
def test_a_fault_before_the_content_defers_and_no_content_left(tls, name):
    [outcome], seen, hook, _, usable = run(one_message, tls, **BEFORE_CONTENT[name])

    assert isinstance(outcome, smtp.Deferred) and outcome.reply.local and not outcome.again
    assert classify(outcome.reply).kind is Kind.SOFT_NETWORK
    assert hook.called == 0 and not seen.content and not seen.messages
    assert not usable


def test_leaving_in_the_middle_of_the_envelope_is_the_servers_own_deferral(tls):
    [outcome], seen, hook, _, usable = run(one_message, tls, rcpt=b"421 4.7.0 too busy\r\n")
    assert isinstance(outcome, smtp.Deferred) and outcome.reply.enhanced == "4.7.0"
    assert hook.called == 0 and not seen.content and not usable and not outcome.again


BIG = b"Subject: x\r\n\r\n" + (b"x" * 900 + b"\r\n") * 9_000


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([b"552 5.3.4 too much\r\n", Act.HANG], smtp.Rejected),
        ([b"250 2.0.0 kept\r\n", Act.HANG], smtp.InDoubt),
        (Act.DROP, smtp.Deferred),
        (Act.RESET, smtp.Deferred),
    ],
)
def test_an_end_within_the_content_is_certain_unless_the_server_says_it_kept_it(
    tls, answer, expected
):
    [outcome], seen, hook, _, usable = run(
        one_message,
        tls,
        message=BIG,
        content=answer,
        read_content=50_000,
        offers_again=("PIPELINING",),
    )
    assert type(outcome) is expected
    assert hook.called == 1 and seen.messages == [] and not usable


def test_a_server_that_stops_reading_is_not_waited_for(tls):
    async def stall(*_):
        await asyncio.sleep(60)

    async def story():
        async with server(tls, offers_again=("PIPELINING",)) as seen:
            seen_content = seen.content
            async with dial(seen, timeouts=replace(PATIENT, block=0.2)) as session:
                session._wire.transport.set_write_buffer_limits(high=1024)
                from tests import smtp_faults

                original = smtp_faults._Peer._read_content
                smtp_faults._Peer._read_content = stall
                try:
                    return await send(session, BIG), bytes(seen_content)
                finally:
                    smtp_faults._Peer._read_content = original

    outcome, content = run(story)
    assert isinstance(outcome, smtp.Deferred) and outcome.reply.local
    assert b"\r\n.\r\n" not in content


# A session that is used again.


@pytest.mark.parametrize(
    "rset", [Act.DROP, Act.HANG, b"421 4.4.2 idle too long\r\n", b"500 what?\r\n", b"\xff\r\n"]
)
def test_a_used_connection_that_ended_meanwhile_costs_the_next_message_nothing(tls, rset):
    [first, second], seen, hook, _, usable = run(one_message, tls, messages=2, rset=rset)

    assert isinstance(first, smtp.Accepted)
    assert isinstance(second, smtp.Deferred) and second.again and not usable
    assert hook.called == 1 and len(seen.messages) == 1


def test_a_session_closed_by_the_server_is_seen_as_not_usable(tls):
    async def story():
        leaving = [b"250 ok\r\n", b"421 4.4.2 idle\r\n", Act.LEAVE]
        async with server(tls, content=leaving) as seen, dial(seen) as session:
            await send(session)
            await asyncio.sleep(0.05)
            return session.usable, await send(session), seen

    usable, outcome, seen = run(story)
    assert not usable and isinstance(outcome, smtp.Deferred) and outcome.again
    assert len(seen.messages) == 1


def test_what_a_server_says_between_two_messages_is_no_answer_to_the_second(tls):
    async def story():
        late = [b"250 ok\r\n", 0.02, b"250 ok again\r\n", Act.HANG]
        async with server(tls, content=late) as seen, dial(seen) as session:
            await send(session)
            await asyncio.sleep(0.08)
            return session.usable, await send(session), bytes(seen.unanswered)

    usable, outcome, said = run(story)
    assert not usable and isinstance(outcome, smtp.Deferred) and outcome.again
    assert said == b""


def test_a_session_sends_one_message_at_a_time(tls):
    async def story():
        async with server(tls) as seen, dial(seen) as session:
            first = asyncio.ensure_future(send(session))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError):
                await send(session)
            return await first

    assert isinstance(run(story), smtp.Accepted)


# The line of the journal.


def test_if_the_journal_cannot_be_written_no_byte_of_content_leaves(tls):
    class DiskFull(Exception):
        pass

    def full():
        raise DiskFull

    async def full_later():
        await asyncio.sleep(0)
        raise DiskFull

    async def story(hook):
        async with server(tls) as seen:
            async with dial(seen) as session:
                with pytest.raises(DiskFull):
                    await send(session, hook=hook)
                usable = session.usable
            await seen.quiet()
        return seen, usable

    for hook in (full, full_later):
        seen, usable = run(story, hook)
        assert seen.commands[-1] == b"DATA" and not seen.content and not seen.messages
        assert not usable


def test_an_asynchronous_journal_is_waited_for(tls):
    async def story():
        async with server(tls) as seen, dial(seen) as session:

            async def mark_again():
                await asyncio.sleep(0.05)
                assert not seen.content and seen.commands[-1] == b"DATA"

            return await send(session, hook=mark_again), seen

    outcome, seen = run(story)
    assert isinstance(outcome, smtp.Accepted) and len(seen.messages) == 1


def test_a_server_that_leaves_while_the_journal_is_written_gets_nothing(tls):
    async def story():
        leaving = [b"354 go\r\n", Act.LEAVE]
        async with server(tls, data=leaving) as seen, dial(seen) as session:
            return await send(session, hook=lambda: asyncio.sleep(0.1)), seen

    outcome, seen = run(story)
    assert isinstance(outcome, smtp.Deferred) and not seen.content


def test_an_answer_before_the_content_is_not_taken_for_one_to_it(tls):
    """The journal takes its time; meanwhile the server says that it has kept what it has not got."""

    async def story():
        early = [b"354 go\r\n", 0.03, b"250 2.0.0 kept already\r\n", Act.HANG]
        async with server(tls, data=early) as seen, dial(seen) as session:
            outcome = await send(session, hook=lambda: asyncio.sleep(0.15))
            session.abort()
            await seen.quiet()
            return outcome, seen

    outcome, seen = run(story)
    assert isinstance(outcome, smtp.Deferred) and outcome.reply.local
    assert not seen.content and not seen.unanswered


def test_a_cancelled_message_closes_the_connection(tls):
    async def story():
        async with server(tls, content=Act.HANG) as seen, dial(seen) as session:
            sending = asyncio.ensure_future(send(session))
            while not seen.messages:
                await asyncio.sleep(0.01)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            return session.usable

    assert run(story) is False


# What never reaches the socket.

ADDRESSES = [
    '"a\r\nRCPT TO:<x>"@d.example',
    "a\r\nRCPT TO:<x@d.example",
    "a@d.example>\r\nDATA\r\n",
    "a@d.example>,<b@d.example",
    "a b@d.example",
    "a\x00@d.example",
    "a\x7f@d.example",
    "a\u2028b@d.example",
    "a\u0085b@d.example",
    "a\u202eb@d.example",
    "a\u00a0b@d.example",
    "e\u0301@d.example",  # not composed (NFC)
    "\ud800@d.example",
    '"quoted"@d.example',
    "a\\b@d.example",
    "<a@d.example",
    "a@[127.0.0.1]",
    "a@127.0.0.1",
    "a@localhost",
    "a@d",
    "a@dömain.example",
    "a@d..example",
    "a@-d.example",
    "a@d.example\n",
    "a\n@d.example",
    "a..b@d.example",
    ".a@d.example",
    "a@b@d.example",
    "@d.example",
    "a@",
    "",
    "x" * 65 + "@d.example",
    "ü" * 33 + "@d.example",
    "a@" + "d" * 64 + ".example",
    "a@" + "d.example." * 30 + "example",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_that_could_end_its_brackets_is_refused_here(tls, address):
    async def story():
        async with server(tls) as seen:
            hook = Hook(seen)
            async with dial(seen) as session:
                said = len(seen.commands)
                as_rcpt = await session.send("b@c.example", address, SECRET, before_data_end=hook)
                as_sender = None
                if address:
                    as_sender = await session.send(
                        address, "a@d.example", SECRET, before_data_end=hook
                    )
                await asyncio.sleep(0.01)
                return as_rcpt, as_sender, hook, seen.commands[said:], session.usable

    as_rcpt, as_sender, hook, said, usable = run(story)
    assert isinstance(as_rcpt, smtp.Rejected) and as_rcpt.reply.enhanced == "5.1.3"
    assert as_rcpt.reply.local and as_rcpt.reply.text.isascii()
    if address:
        assert isinstance(as_sender, smtp.Rejected) and as_sender.reply.enhanced == "5.1.7"
    assert said == [] and hook.called == 0 and usable


MESSAGES = {
    "bare LF": b"Subject: x\r\n\r\na\n.\nMAIL FROM:<x@y.example>\r\n",
    "bare CR": b"Subject: x\r\n\r\na\r.\rMAIL FROM:<x@y.example>\r\n",
    "bare CR at the end": b"Subject: x\r\n\r\na\r",
    "LF CR": b"Subject: x\r\n\r\na\n\rb\r\n",
    "CR CR LF": b"Subject: x\r\n\r\na\r\r\nb\r\n",
    "CR LF LF": b"Subject: x\r\n\r\na\r\n\nb\r\n",
    "NUL": b"Subject: x\r\n\r\na\x00b\r\n",
    "999 characters": b"Subject: x\r\n\r\n" + b"x" * 999 + b"\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_that_could_hide_another_is_refused_here(tls, name):
    [outcome], seen, hook, _, usable = run(one_message, tls, message=MESSAGES[name])

    assert isinstance(outcome, smtp.Rejected) and outcome.reply.enhanced == "5.6.0"
    assert classify(outcome.reply).kind is Kind.CONTENT
    assert not any(command.startswith(b"MAIL") for command in seen.commands)
    assert hook.called == 0 and not seen.content and usable


@given(st.lists(st.sampled_from([b"\r\n", b".", b"a", b"\r\n.", b"..", b" "]), max_size=12))
@settings(max_examples=200, deadline=None)
def test_stuffing_is_undone_by_unstuffing_and_ends_once(pieces):
    message = b"a: b\r\n" + b"".join(pieces)
    stuffed = smtp._stuffed(message)

    assert stuffed.endswith(b"\r\n.\r\n") and stuffed.find(b"\r\n.\r\n") == len(stuffed) - 5
    lines = stuffed[:-3].split(b"\r\n")
    undone = b"\r\n".join(line.removeprefix(b".") for line in lines)
    assert undone == (message if message.endswith(b"\r\n") else message + b"\r\n")


@given(
    st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"a", b"\x0b", b"\x85", b"\x1c"]), min_size=1)
)
@settings(max_examples=300, deadline=None)
def test_clean_means_that_every_cr_and_lf_is_half_of_a_crlf(pieces):
    message = b"".join(pieces)
    rest = message.replace(b"\r\n", b"")
    assert smtp._is_clean(message) == (b"\r" not in rest and b"\n" not in rest)


def test_a_line_of_998_characters_is_lawful(tls):
    message = b"Subject: x\r\n\r\n" + b"x" * 998 + b"\r\n"
    [outcome], seen, *_ = run(one_message, tls, message=message)
    assert isinstance(outcome, smtp.Accepted) and seen.messages == [message + b".\r\n"]


def test_a_message_larger_than_the_server_takes_is_not_begun(tls):
    [outcome], seen, hook, _, usable = run(
        one_message, tls, offers_again=("PIPELINING", "SIZE 50"), message=SECRET
    )
    assert isinstance(outcome, smtp.Rejected) and outcome.reply.enhanced == "5.3.4"
    assert hook.called == 0 and usable and b"DATA" not in seen.commands


def test_smtputf8_is_asked_for_only_where_needed_and_offered(tls):
    async def story(rcpt, **script):
        async with server(tls, **script) as seen:
            hook = Hook(seen)
            async with dial(seen) as session:
                outcome = await session.send("b@c.example", rcpt, SECRET, before_data_end=hook)
                return outcome, [c for c in seen.commands if c.startswith(b"MAIL")], hook.called

    plain, [command], _ = run(story, "a@xn--dmain-jua.example")
    assert isinstance(plain, smtp.Accepted) and b"SMTPUTF8" not in command
    wide, [command], _ = run(story, "jürgen@d.example")
    assert isinstance(wide, smtp.Accepted) and command.endswith(b" SMTPUTF8")
    refused, commands, called = run(
        story, "jürgen@d.example", offers_again=("PIPELINING", "8BITMIME")
    )
    assert isinstance(refused, smtp.Rejected) and refused.reply.enhanced == "5.6.7"
    assert commands == [] and called == 0
    assert classify(refused.reply).suppress_after == 0


def test_8bit_content_is_declared_where_offered(tls):
    message = "Subject: x\r\n\r\nGrüße\r\n".encode()
    [outcome], seen, *_ = run(one_message, tls, message=message)
    assert isinstance(outcome, smtp.Accepted) and b"BODY=8BITMIME" in seen.commands[3]


def test_a_bounce_is_asked_to_leave_the_body_out_where_that_is_offered(tls):
    [outcome], seen, *_ = run(one_message, tls, offers_again=(*OFFERS, "DSN"))
    assert isinstance(outcome, smtp.Accepted)
    assert seen.commands[3].endswith(b" RET=HDRS")
    assert seen.commands[4] == b"RCPT TO:<pat@receiver.example> NOTIFY=FAILURE,DELAY"
    _, seen, *_ = run(one_message, tls)
    assert not any(b"RET=" in command or b"NOTIFY=" in command for command in seen.commands)


# Our own end.


def test_an_address_of_another_machine_cannot_be_sent_from(tls):
    async def story():
        async with server(tls) as seen:
            with pytest.raises(smtp.NoSource):
                async with dial(seen, source_ip="203.0.113.9"):
                    pass
            return seen

    assert run(story).connections == 0


def test_nobody_listening_is_unreachable():
    async def story():
        with pytest.raises(smtp.Unreachable) as caught:
            async with dial(Seen(port=9)):
                pass
        assert caught.value.temporary

    run(story)


@pytest.mark.parametrize(
    "helo", ["", "a b", "x\r\nMAIL", "[127.0.0.1]\r\n", "localhost", "x" * 300]
)
def test_a_name_that_is_none_is_not_said(helo):
    async def story():
        async with server() as seen:
            with pytest.raises(ValueError, match="EHLO"):
                async with dial(seen, helo=helo):
                    pass
            return seen

    assert run(story).connections == 0


def test_names_are_not_looked_up_here():
    async def story():
        with pytest.raises(ValueError, match="localhost"):
            await smtp.open_session(
                "localhost", 25, server_name=MX, source_ip="", helo="a.example", policy="tls"
            )

    run(story)


def test_the_whole_of_connecting_has_a_limit(tls):
    timeouts = smtp.Timeouts(setup=0.2)
    script = {"ehlo": Drip(b"250 " + b"x" * 90 + b"\r\n", 0.05)}

    async def story():
        async with server(tls, **script) as seen:
            with pytest.raises(smtp.Unreachable):
                async with dial(seen, timeouts=timeouts):
                    pass

    run(story)


def test_replies_in_exceptions_do_not_show_their_text(tls):
    async def story():
        async with server(tls, greeting=b"554 5.7.1 pat@receiver.example is unwell\r\n") as seen:
            with pytest.raises(smtp.Refused) as caught:
                async with dial(seen):
                    pass
        return caught.value

    error = run(story)
    assert "pat" in error.reply.text
    assert "pat" not in f"{error} {error!r} {error.reply} {error.reply!r}"


def test_no_key_log_is_kept_whatever_the_environment_says(monkeypatch, tmp_path: Path):
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    connection.context_for.cache_clear()
    assert connection.context_for(smtp.TransportPolicy.TLS, None).keylog_filename is None
