"""The demonstration's own mail server: real SMTP outside, a sealed box inside."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag

from delivery import smtp
from demo import receiver

KEY = bytes(range(32))
MAIL = b"From: clinic@x.example\r\nSubject: for Annika Lindqvist\r\n\r\n.dot\r\n..two\r\nend\r\n"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[receiver.Running, Path]]:
    store = tmp_path_factory.mktemp("state") / "received"
    options = {"defer": ["later.example"], "defer_seconds": 0.3, "reject": ["gone.example"]}
    with receiver.start(store, key=KEY, **options) as process:
        yield process, store


@pytest.fixture
def ports(running):
    return running[0]


def mails(running, to: str) -> list[receiver.Received]:
    return [mail for mail in receiver.read_all(running[1], KEY) if mail.envelope_to == to]


def send(ports, *recipients: str, port: int | None = None, source: str = "127.0.0.12"):
    async def story():
        async with smtp.connect(
            ports.host,
            port or ports.port,
            server_name="receiver.example",
            source_ip=source,
            helo="out.clinic.example",
            policy=smtp.TransportPolicy.TLS,
            timeouts=smtp.Timeouts.all(5),
        ) as session:
            return [
                await session.send("b+1@bounce.example", each, MAIL, before_data_end=lambda: None)
                for each in recipients
            ]

    return asyncio.run(story())


def talk(port: int, *lines: bytes) -> list[bytes]:
    """Speak plainly and return what came back, a reply's last line per command."""
    replies = []
    with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
        file = sock.makefile("rb")
        for line in (b"", *lines):
            sock.sendall(line)
            while (reply := file.readline())[3:4] == b"-":
                pass
            replies.append(reply.strip())
    return replies


def test_a_message_is_kept_with_how_it_came(running, ports):
    [outcome] = send(ports, "annika@accept.example")
    assert isinstance(outcome, smtp.Accepted)

    [mail] = mails(running, "annika@accept.example")
    assert mail.message == MAIL
    assert (mail.peer_ip, mail.port) == ("127.0.0.12", ports.port)
    assert (mail.helo, mail.envelope_from) == ("out.clinic.example", "b+1@bounce.example")
    assert mail.tls_version == "TLSv1.3" and mail.tls_cipher.startswith("TLS_")
    assert mail.received_at.tzinfo is not None


def test_a_named_domain_is_refused(running, ports):
    outcomes = send(ports, "a@gone.example", "b@accept.example", "c@GONE.example")
    assert [str(outcome.reply) for outcome in outcomes] == ["550 5.1.1", "250 2.0.0", "550 5.1.1"]
    assert mails(running, "a@gone.example") == []


def test_a_named_domain_is_deferred_until_it_was_tried_again_after_a_while(running, ports):
    [first, at_once] = send(ports, "a@later.example", "a@later.example")
    assert isinstance(first, smtp.Deferred) and str(first.reply) == "451 4.7.1"
    assert isinstance(at_once, smtp.Deferred)
    assert mails(running, "a@later.example") == []

    asyncio.run(asyncio.sleep(0.35))
    [again, another] = send(ports, "a@later.example", "b@later.example")
    assert isinstance(again, smtp.Accepted) and isinstance(another, smtp.Deferred)
    assert len(mails(running, "a@later.example")) == 1


def test_the_second_port_has_no_tls(running, ports):
    with pytest.raises(smtp.NoTLS):
        send(ports, "a@clear.example", port=ports.plain_port)
    assert mails(running, "a@clear.example") == []


def test_what_comes_in_clear_is_kept_as_such(running, ports):
    """So that a leak would show."""
    replies = talk(
        ports.plain_port,
        b"EHLO x.example\r\n",
        b"MAIL FROM:<a@x.example>\r\n",
        b"RCPT TO:<leak@x.example>\r\n",
        b"DATA\r\n",
        b"Subject: x\r\n\r\nhello\r\n.\r\n",
        b"QUIT\r\n",
    )
    assert [reply[:3] for reply in replies] == [
        b"220",
        b"250",
        b"250",
        b"250",
        b"354",
        b"250",
        b"221",
    ]
    [mail] = mails(running, "leak@x.example")
    assert mail.tls_version == "" and mail.message == b"Subject: x\r\n\r\nhello\r\n"


def test_the_first_port_takes_no_mail_in_clear(ports):
    assert talk(ports.port, b"EHLO x\r\n", b"MAIL FROM:<a@x.example>\r\n")[-1][:3] == b"530"


def test_nothing_may_follow_starttls(ports):
    replies = talk(ports.port, b"EHLO x\r\n", b"STARTTLS\r\nMAIL FROM:<a@x.example>\r\n")
    assert replies[-1].startswith(b"554")


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([b"MAIL FROM:<a@x.example>\r\n", b"MAIL FROM:<a@x.example>\r\n"], b"503"),
        ([b"RCPT TO:<a@x.example>\r\n"], b"503"),
        ([b"DATA\r\n"], b"554"),
        ([b"MAIL FROM:a@x.example\r\n"], b"501"),
        ([b"MAIL FROM:<>\r\n", b"RCPT TO:<>\r\n"], b"501"),
        ([b"MAIL FROM:<>\r\n", b"RCPT TO:<a@x.org>\r\n", b"RCPT TO:<b@x.org>\r\n"], b"452"),
        ([b"VRFY a\r\n"], b"500"),
        ([b"STARTTLS\r\n"], b"500"),
        ([b"x" * 5000 + b"\r\n"], b"500"),
        ([b"x" * 5000], b"500"),
        ([b"RSET\r\n"], b"250"),
        ([b"HELO x\r\n"], b"250"),
        (
            [
                b"MAIL FROM:<>\r\n",
                b"RCPT TO:<bare@x.org>\r\n",
                b"DATA\r\n",
                b"a\n.\nMAIL FROM:<>\r\n.\r\n",
            ],
            b"554",
        ),
    ],
)
def test_it_holds_senders_to_the_protocol(running, ports, lines, code):
    assert talk(ports.plain_port, *lines)[-1][:3] == code
    assert mails(running, "bare@x.org") == []


def test_an_empty_message_ends_at_its_dot(ports):
    envelope = (b"MAIL FROM:<>\r\n", b"RCPT TO:<empty@x.org>\r\n", b"DATA\r\n")
    assert talk(ports.plain_port, *envelope, b".\r\n", b"QUIT\r\n")[-2:] == [
        b"250 2.0.0 kept",
        b"221 2.0.0 bye",
    ]


# The sealed box.


def test_nothing_of_a_message_is_on_the_disk_in_clear(running, ports):
    send(ports, "lindqvist@accept.example")
    _, store = running
    assert mails(running, "lindqvist@accept.example")

    content = b"".join(path.read_bytes() for path in store.iterdir())
    for word in (b"Annika", b"lindqvist", b"clinic.example", b"Subject", KEY, KEY.hex().encode()):
        assert word not in content
    assert "lindqvist" not in " ".join(path.name for path in store.iterdir())
    assert store.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in store.iterdir()} == {0o600}


def test_another_key_reads_nothing(running, ports):
    send(ports, "key@accept.example")
    with pytest.raises(InvalidTag):
        list(receiver.read_all(running[1], bytes(32)))


def test_a_changed_moved_or_renamed_message_does_not_open(tmp_path):
    store = receiver.Store(tmp_path, KEY)
    for number in range(3):
        store.add(MAIL, **FACTS, envelope_to=f"{number}@x.example")
    store.close()
    [path] = tmp_path.iterdir()
    whole = path.read_bytes()
    length = 4 + int.from_bytes(whole[:4], "big")
    assert len(list(receiver.read_all(tmp_path, KEY))) == 3

    swapped = whole[length : 2 * length] + whole[:length] + whole[2 * length :]
    flipped = whole[:100] + bytes([whole[100] ^ 1]) + whole[101:]
    for spoilt in (swapped, flipped):
        path.write_bytes(spoilt)
        with pytest.raises(InvalidTag):
            list(receiver.read_all(tmp_path, KEY))
    path.write_bytes(whole)
    path.rename(tmp_path / "1-1.sealed")
    with pytest.raises(InvalidTag):
        list(receiver.read_all(tmp_path, KEY))


def test_a_message_still_being_written_is_left_out(tmp_path):
    store = receiver.Store(tmp_path, KEY)
    for number in range(2):
        store.add(MAIL, **FACTS, envelope_to=f"{number}@x.example")
    store.close()
    [path] = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1])

    assert [mail.envelope_to for mail in receiver.read_all(tmp_path, KEY)] == ["0@x.example"]


def test_a_second_receiver_adds_to_the_same_box(tmp_path):
    for number in range(2):
        store = receiver.Store(tmp_path, KEY)
        store.add(MAIL, **FACTS, envelope_to=f"{number}@x.example")
        store.close()
    mails = list(receiver.read_all(tmp_path, KEY))
    assert [(mail.number, mail.envelope_to) for mail in mails] == [
        (1, "0@x.example"),
        (2, "1@x.example"),
    ]


FACTS = {
    "peer_ip": "127.0.0.1",
    "port": 25,
    "helo": "x.example",
    "tls_version": "",
    "tls_cipher": "",
    "envelope_from": "",
}


# The process.


def test_it_stops_on_sigterm_and_gives_its_ports_back(tmp_path):
    process = receiver.start(tmp_path, key=KEY)
    os.kill(process.pid, signal.SIGTERM)
    assert process.process.wait(timeout=5) == 0
    process.process.stdout.close()
    for port in (process.port, process.plain_port):
        with socket.socket() as sock:
            assert sock.connect_ex(("127.0.0.1", port)) != 0


def test_it_does_not_outlive_its_parent(tmp_path):
    story = (
        "import sys; from pathlib import Path; from demo import receiver;"
        "print(receiver.start(Path(sys.argv[1]), key=bytes(32)).pid)"
    )
    command = [sys.executable, "-c", story, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, check=True, cwd=receiver.ROOT, text=True)
    pid = int(done.stdout)
    for _ in range(60):
        if (
            not Path(f"/proc/{pid}").exists()
            or "Z" in Path(f"/proc/{pid}/stat").read_text().split()
        ):
            break
        asyncio.run(asyncio.sleep(0.05))
    else:
        os.kill(pid, signal.SIGKILL)
        pytest.fail("the receiver lives on without its parent")


@pytest.mark.parametrize("key", [b"", b"abcd\n", b"zz" * 32 + b"\n"])
def test_without_a_proper_key_it_does_not_start(tmp_path, key):
    done = subprocess.run(
        [sys.executable, "-m", "demo.receiver", "--store", str(tmp_path / "received")],
        input=key,
        capture_output=True,
        cwd=receiver.ROOT,
    )
    assert done.returncode == 2 and done.stdout == b""
    assert done.stderr == b"the key has 64 hexadecimal digits\n"
    assert not (tmp_path / "received").exists()


def test_the_key_comes_by_a_descriptor_of_ones_choice(tmp_path):
    reading, writing = os.pipe()
    os.write(writing, KEY.hex().encode() + b"\n")
    os.close(writing)
    command = [sys.executable, "-m", "demo.receiver", "--store", str(tmp_path)]
    process = subprocess.Popen(
        [*command, "--key-fd", str(reading)],
        stdout=subprocess.PIPE,
        pass_fds=[reading],
        cwd=receiver.ROOT,
    )
    os.close(reading)
    facts = json.loads(process.stdout.readline())
    assert sorted(facts) == ["host", "pid", "plain_port", "port"]
    process.terminate()
    assert process.wait(timeout=5) == 0
    process.stdout.close()
