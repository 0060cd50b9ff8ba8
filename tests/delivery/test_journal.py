"""The journal tells after a crash what left, and never more than it knows."""

import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery import journal
from delivery.journal import Ending, Journal, JournalBroken, Resolution

IP = "127.0.0.11"
ROOT = Path(__file__).resolve().parents[2]
A, B, C = (uuid.UUID(int=number) for number in (10, 11, 12))


def crash(mine: Journal) -> Path:
    """Let go of the lock as the kernel does for a process that dies."""
    os.close(mine._descriptor)
    mine._descriptor = -1
    return mine.path


def only_orphan(directory: Path) -> journal.Orphan:
    [orphan] = list(journal.orphans(directory))
    return orphan


def test_a_message_without_a_line_is_queued_again(tmp_path):
    mine = Journal.open(tmp_path, IP)
    crash(mine)

    orphan = only_orphan(tmp_path)
    assert (orphan.id, orphan.ip, orphan.readable) == (mine.id, IP, True)
    assert orphan.state_of(A, 1) == Resolution(A, 1, "queued")
    assert orphan.resolutions() == []


@pytest.mark.parametrize("ending", Ending)
def test_a_message_with_both_lines_has_its_outcome(tmp_path, ending):
    mine = Journal.open(tmp_path, IP)
    mine.before(A, 3)
    mine.after(A, 3, ending, 250)
    crash(mine)

    assert only_orphan(tmp_path).state_of(A, 3) == Resolution(A, 3, ending.value, 250)


def test_a_message_that_left_without_an_answer_is_in_doubt(tmp_path):
    mine = Journal.open(tmp_path, IP)
    mine.before(A, 1)
    mine.before(B, 1)
    mine.after(B, 1, Ending.SENT, 250)
    crash(mine)

    orphan = only_orphan(tmp_path)
    assert orphan.state_of(A, 1).state == "in_doubt"
    assert orphan.state_of(B, 1).state == "sent"
    assert orphan.state_of(A, 2).state == "queued"  # another attempt is another matter


def test_a_second_host_within_one_attempt_is_judged_by_its_last_lines(tmp_path):
    mine = Journal.open(tmp_path, IP)
    mine.before(A, 1)
    mine.after(A, 1, Ending.DEFERRED, 451)
    mine.before(A, 1)
    crash(mine)

    assert only_orphan(tmp_path).state_of(A, 1).state == "in_doubt"


def test_the_journal_of_a_living_process_is_left_alone(tmp_path):
    mine = Journal.open(tmp_path, IP)
    mine.before(A, 1)

    assert list(journal.orphans(tmp_path)) == []
    assert journal.present(tmp_path) == {mine.id}
    mine.after(A, 1, Ending.SENT, 250)  # and is still of use
    crash(mine)
    assert only_orphan(tmp_path).state_of(A, 1).state == "sent"
    assert journal.present(tmp_path) == {mine.id}


def test_one_resolver_at_a_time(tmp_path):
    crash(Journal.open(tmp_path, IP))

    looking = journal.orphans(tmp_path)
    orphan = next(looking)
    assert list(journal.orphans(tmp_path)) == []
    orphan.retire()
    assert list(looking) == [] and list(tmp_path.iterdir()) == []


def test_an_orphan_that_was_not_retired_is_found_again(tmp_path):
    mine = Journal.open(tmp_path, IP)
    mine.before(A, 1)
    crash(mine)

    for _ in range(2):
        assert only_orphan(tmp_path).state_of(A, 1).state == "in_doubt"


def test_an_ordered_end_leaves_nothing(tmp_path):
    mine = Journal.open(tmp_path, IP)
    mine.before(A, 1)
    mine.after(A, 1, Ending.SENT, 250)
    mine.close()
    mine.close()

    assert list(tmp_path.iterdir()) == []
    with pytest.raises(JournalBroken):
        mine.before(B, 1)


def test_a_process_that_gives_up_leaves_its_journal_to_be_read(tmp_path):
    mine = Journal.open(tmp_path, IP)
    mine.before(A, 1)
    mine.leave()
    mine.leave()

    with pytest.raises(JournalBroken):
        mine.before(B, 1)
    mine.after(A, 1, Ending.SENT, 250)  # too late to be noted; the message stays in doubt
    orphan = only_orphan(tmp_path)
    assert orphan.state_of(A, 1).state == "in_doubt" and orphan.state_of(B, 1).state == "queued"


def test_reset_forgets_lines_and_keeps_the_lock(tmp_path):
    mine = Journal.open(tmp_path, IP)
    size = mine.path.stat().st_size
    mine.before(A, 1)
    mine.after(A, 1, Ending.SENT, 250)
    mine.reset()
    assert mine.path.stat().st_size == size
    assert list(journal.orphans(tmp_path)) == []
    mine.before(B, 1)
    crash(mine)

    orphan = only_orphan(tmp_path)
    assert orphan.state_of(A, 1).state == "queued" and orphan.state_of(B, 1).state == "in_doubt"


def test_after_a_restart_of_the_machine_nothing_is_believed(tmp_path, monkeypatch):
    mine = Journal.open(tmp_path, IP)
    mine.before(A, 1)
    mine.after(A, 1, Ending.SENT, 250)
    crash(mine)
    boot = tmp_path / "boot_id"
    boot.write_text(f"{uuid.uuid4()}\n")
    monkeypatch.setattr(journal, "_BOOT_ID", boot)

    orphan = only_orphan(tmp_path)
    assert not orphan.readable and orphan.resolutions() == []
    for message_id in (A, B):
        assert orphan.state_of(message_id, 1).state == "in_doubt"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[:20],
        lambda content: b"\0" * len(content),
        lambda content: content.replace(b"sent", b"fail"),
        lambda content: content.replace(b" 1 ", b" 2 ", 1),
        lambda content: content.replace(b"\nb ", b"\nx ", 1),
        lambda content: content.replace(b"\ne ", b"\n\ne ", 1),
        lambda content: b"\n".join(content.split(b"\n")[:1] + content.split(b"\n")[2:]),
        lambda content: content + b"torn\n" + content.split(b"\n")[1] + b"\n",
    ],
)
def test_a_journal_that_makes_no_sense_puts_all_in_doubt(tmp_path, spoil):
    mine = Journal.open(tmp_path, IP)
    mine.before(A, 1)
    mine.after(A, 1, Ending.SENT, 250)
    mine.before(B, 1)
    path = crash(mine)
    path.write_bytes(spoil(path.read_bytes()))

    orphan = only_orphan(tmp_path)
    assert orphan.id == mine.id and not orphan.readable
    for message_id in (A, B, C):
        assert orphan.state_of(message_id, 1).state == "in_doubt"


def test_lines_hold_ids_and_numbers_only(tmp_path):
    mine = Journal.open(tmp_path / "journals", IP)
    mine.before(A, 1)
    mine.after(A, 1, Ending.FAILED, 550)

    words = set(mine.path.read_text().split())
    assert words <= {
        *("hipaamail", "journal", "1", "b", "e", "failed", "550", A.hex, mine.id.hex),
        *(word for word in words if len(word) in (8, 36)),
    }
    assert mine.path.stat().st_mode & 0o777 == 0o600
    assert mine.path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("ip", ["", "../x", "a/b", "127.0.0.1\n", "mail.example", "fe80::1%eth0"])
def test_a_journal_is_named_for_an_address_and_nothing_else(tmp_path, ip):
    with pytest.raises(ValueError, match="address"):
        Journal.open(tmp_path / "journals", ip)
    assert list(tmp_path.iterdir()) == []


def test_ipv6_addresses_have_journals_too(tmp_path):
    crash(Journal.open(tmp_path, "2001:db8::25"))
    assert only_orphan(tmp_path).ip == "2001:db8::25"


# A disk that is full, a process that forked.


def test_on_a_full_disk_nothing_may_be_sent(tmp_path, monkeypatch):
    mine = Journal.open(tmp_path, IP)
    mine.before(A, 1)
    monkeypatch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))

    with pytest.raises(JournalBroken):
        mine.before(B, 1)
    mine.after(A, 1, Ending.SENT, 250)  # the outcome must reach the database, so this is silent
    assert mine.broken
    monkeypatch.undo()
    with pytest.raises(JournalBroken):
        mine.before(B, 1)
    crash(mine)
    orphan = only_orphan(tmp_path)
    assert orphan.state_of(A, 1).state == "in_doubt"
    assert orphan.state_of(B, 1).state == "queued"


@pytest.mark.parametrize("written", [0, 1, 2, 20, 34, 44, 45])
def test_a_line_written_in_part_is_none(tmp_path, monkeypatch, written):
    mine = Journal.open(tmp_path, IP)
    whole = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, line: whole(descriptor, line[:written]))

    with pytest.raises(JournalBroken):
        mine.before(A, 1)
    monkeypatch.undo()
    crash(mine)
    # All but its line end could have been followed by sending, as far as a reader can tell.
    expected = "in_doubt" if written == 45 else "queued"
    assert only_orphan(tmp_path).state_of(A, 1).state == expected


def test_a_forked_child_may_not_send_under_its_parents_journal(tmp_path, monkeypatch):
    mine = Journal.open(tmp_path, IP)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(JournalBroken):
        mine.before(A, 1)


def test_leftovers_of_an_opening_that_died_are_swept_once_old(tmp_path):
    young, old = tmp_path / "a.new", tmp_path / "b.new"
    for path in (young, old):
        path.write_bytes(b"")
    os.utime(old, (time.time() - 3600,) * 2)
    (tmp_path / "notes.txt").write_text("not ours")

    assert list(journal.orphans(tmp_path)) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.new", "notes.txt"]


# A kill at every byte.

steps = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(["before", "sent", "deferred", "failed", "in_doubt"]),
    ),
    max_size=8,
)


@given(steps)
@settings(max_examples=40, deadline=None)
def test_killed_at_any_byte_the_journal_claims_neither_too_much_nor_too_little(
    tmp_path_factory, plan
):
    """Compare what is read after a kill with what the process can have done by then.

    The process goes on to the socket only when `write` has returned, so after the last byte of a
    first line its content may have left, and before that it has not.
    """
    directory = tmp_path_factory.mktemp("journal")
    mine = Journal.open(directory, IP)
    header = mine.path.stat().st_size
    open_now: set[uuid.UUID] = set()
    truth: dict[uuid.UUID, str] = {}
    # (length of the file, what is true once it has that length)
    history = [(header, {})]
    for number, what in plan:
        message_id = uuid.UUID(int=number)
        if what == "before":
            mine.before(message_id, 1)
            open_now.add(message_id)
            truth[message_id] = "in_doubt"
        elif message_id in open_now:
            mine.after(message_id, 1, Ending(what), 250)
            open_now.discard(message_id)
            truth[message_id] = what
        else:
            continue
        history.append((mine.path.stat().st_size, dict(truth)))
    path = crash(mine)
    content = path.read_bytes()
    assert {r.message_id: r.state for r in only_orphan(directory).resolutions()} == truth

    for length in range(len(content) + 1):
        lines = journal._lines(content[:length], mine.id)
        if length < header:
            assert lines is None  # unreadable: all in doubt
            continue
        # A line counts as soon as all but its line end is there.
        done = [state for size, state in history if size - 1 <= length or size == header][-1]
        assert {key[0]: line.state for key, line in lines.items()} == done


SENDER = """
import sys, uuid
from pathlib import Path
from delivery.journal import Ending, Journal

mine = Journal.open(Path(sys.argv[1]), "127.0.0.11")
print(mine.id, flush=True)
for number in range(1 << 40):
    message_id = uuid.UUID(int=number)
    mine.before(message_id, 1)
    # What the receiving server saw, told by a way that survives us.
    sys.stdout.write(f"got {number}\\n")
    sys.stdout.flush()
    mine.after(message_id, 1, Ending.SENT, 250)
    sys.stdout.write(f"answered {number}\\n")
    sys.stdout.flush()
"""


@pytest.mark.parametrize("milliseconds", [0, 3, 20])
def test_kill_minus_nine(tmp_path, milliseconds):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SENDER), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    journal_id = uuid.UUID(process.stdout.readline().strip())
    process.stdout.readline()
    assert list(journal.orphans(tmp_path)) == []
    assert journal.present(tmp_path) == {journal_id}
    time.sleep(milliseconds / 1000)
    process.send_signal(signal.SIGKILL)
    told = ["got 0", *process.stdout.read().split("\n")]
    process.stdout.close()
    process.wait()

    got = {int(line[4:]) for line in told if line.startswith("got ") and line[4:]}
    answered = {int(line[9:]) for line in told if line.startswith("answered ") and line[9:]}
    orphan = only_orphan(tmp_path)
    assert orphan.id == journal_id and orphan.readable
    states = {r.message_id.int: r.state for r in orphan.resolutions()}
    # Whatever the server got is known, or in doubt; never queued again.
    assert got - set(states) == set()
    assert {n for n in answered if states[n] != "sent"} == set()
    in_doubt = [n for n, state in states.items() if state == "in_doubt"]
    assert len(in_doubt) <= 1 and in_doubt in ([], [max(states)])
    orphan.retire()
