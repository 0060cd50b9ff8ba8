"""Sealing: each entry once, in the order of transactions, with the head outside as soon as it is committed."""

import json
import threading
import time
from contextlib import closing
from datetime import UTC, datetime

import pytest
from django.db import connection, connections, transaction
from django.db.transaction import TransactionManagementError

from audit import heads, merkle
from audit import seal as sealing
from audit.models import Block, Entry, Membership
from audit.record import record
from audit.seal import seal
from audit.signing import link, public_key, valid
from audit.tasks import seal as seal_task
from tests.audit.conftest import (
    FOREIGN,
    ORGANIZATION,
    execute,
    restore,
    seal_all,
    write_entries,
)


def on_file() -> list[heads.Head]:
    return list(heads.read(heads.extent()))


# --- blocks


@pytest.mark.django_db
def test_the_first_sealing_begins_the_chain():
    block = seal()

    assert (block.number, block.count, block.total, bytes(block.previous)) == (0, 0, 0, bytes(32))
    assert [head.number for head in on_file()] == [0]
    assert seal() is None
    assert Block.objects.count() == 1


@pytest.mark.django_db
def test_a_block_holds_the_root_of_its_entries_and_is_signed_and_chained():
    genesis = seal()
    ids = restore(write_entries(5))

    block = seal()

    entries = [Entry.objects.get(pk=pk) for pk in ids]
    leaves = [merkle.leaf(entry.canonical()) for entry in entries]
    assert bytes(block.root) == merkle.root(leaves)
    assert (block.number, block.count, block.total) == (1, 5, 5)
    assert (block.first_id, block.last_id) == (ids[0], ids[-1])
    assert bytes(block.previous) == link(genesis.header(), genesis.signature)
    assert bytes(block.public_key) == public_key()
    assert valid(public_key(), bytes(block.signature), block.header())
    members = Membership.objects.order_by("position")
    assert [m.entry_id for m in members] == ids
    assert [bytes(m.leaf) for m in members] == leaves
    assert [m.position for m in members] == list(range(5))


@pytest.mark.django_db
def test_a_block_that_was_read_back_has_the_header_that_was_signed():
    seal()
    restore(write_entries(2))
    made = seal()

    assert Block.objects.get(pk=made.pk).header() == made.header()


@pytest.mark.django_db
def test_entries_are_ordered_by_transaction_then_id():
    seal()
    late, early = restore(write_entries(2), FOREIGN + 1), restore(write_entries(2), FOREIGN)

    seal()

    members = Membership.objects.order_by("position").values_list("entry_id", flat=True)
    assert list(members) == early + late


@pytest.mark.django_db
def test_a_long_backlog_is_sealed_in_several_blocks(monkeypatch):
    monkeypatch.setattr(sealing, "BLOCK_SIZE", 4)
    seal()
    ids = restore(write_entries(10))

    newest = seal()

    assert newest.number == 3
    assert [b.count for b in Block.objects.order_by("number")] == [0, 4, 4, 2]
    assert [b.total for b in Block.objects.order_by("number")] == [0, 4, 8, 10]
    sealed = Membership.objects.order_by("block", "position").values_list("entry_id", flat=True)
    assert list(sealed) == ids
    assert [head.number for head in on_file()] == [0, 1, 2, 3]


@pytest.mark.django_db(transaction=True)
def test_what_a_full_block_leaves_over_comes_into_the_next(monkeypatch):
    """Its watermark is the last entry's transaction, not the snapshot's, which lies beyond the rest."""
    monkeypatch.setattr(sealing, "BLOCK_SIZE", 4)
    seal()
    ids = write_entries(6)
    with transaction.atomic():
        ids += write_entries(5)

    newest = seal_all()

    assert newest.total == 11
    sealed = Membership.objects.order_by("block", "position").values_list("entry_id", flat=True)
    assert list(sealed) == ids


@pytest.mark.django_db
def test_what_is_being_written_is_not_sealed():
    seal()
    write_entries(1)

    assert seal() is None
    assert not Membership.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_open_transaction_holds_back_what_came_after_it():
    seal()
    with closing(connection.copy()) as other, other.cursor() as cursor:
        cursor.execute("BEGIN; SELECT pg_current_xact_id()")
        later = write_entries(1)
        seal()
        assert not Membership.objects.exists()
        cursor.execute("ROLLBACK")

    seal_all()

    assert list(Membership.objects.values_list("entry_id", flat=True)) == later


@pytest.mark.django_db(transaction=True)
def test_sealing_inside_a_transaction_is_refused():
    with pytest.raises(RuntimeError), transaction.atomic():
        seal()

    assert not Block.objects.exists()
    assert not on_file()


@pytest.mark.django_db(transaction=True)
def test_there_is_one_sealer_at_a_time():
    with closing(connection.copy()) as other, other.cursor() as cursor:
        cursor.execute("BEGIN; SELECT pg_advisory_xact_lock(%s)", [sealing.LOCK])

        assert seal() is None
        assert not Block.objects.exists()
        cursor.execute("ROLLBACK")

    assert seal().number == 0


@pytest.mark.django_db(transaction=True)
def test_the_task_seals():
    seal_task.apply(throw=True)

    assert Block.objects.get().number == 0


@pytest.mark.django_db(transaction=True)
def test_whatever_the_order_of_commits_each_entry_is_sealed_once():
    """Writers whose ids become visible out of order, against two sealers."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def write(seed: int) -> None:
        for number in range(12):
            try:
                with transaction.atomic():
                    write_entries(1 + (seed + number) % 3)
                    time.sleep((0, 0.002, 0.02)[(seed + number) % 3])
                    write_entries(1)
                    if number % 5 == seed % 5:
                        raise TransactionManagementError("rolled back on purpose")
            except TransactionManagementError:
                continue

    def seal_on() -> None:
        while not stop.is_set():
            seal()

    def run(work: object, *arguments: int) -> None:
        try:
            work(*arguments)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)
        finally:
            connections.close_all()

    writers = [threading.Thread(target=run, args=(write, seed)) for seed in range(4)]
    sealers = [threading.Thread(target=run, args=(seal_on,)) for _ in range(2)]
    for thread in writers + sealers:
        thread.start()
    for thread in writers:
        thread.join(60)
    stop.set()
    for thread in sealers:
        thread.join(60)
    newest = seal_all()

    assert failures == []
    entries = set(Entry.objects.values_list("pk", flat=True))
    members = list(Membership.objects.values_list("entry_id", flat=True))
    assert len(entries) > 80
    assert set(members) == entries
    assert len(members) == len(entries) == newest.total
    numbers = list(Block.objects.order_by("number").values_list("number", flat=True))
    assert numbers == list(range(len(numbers)))
    assert [head.number for head in on_file()] == numbers


@pytest.mark.django_db
def test_after_a_restore_into_a_younger_cluster_new_entries_are_sealed():
    """There transaction ids begin anew, below the last block's watermark."""
    seal()
    restore(write_entries(1))
    seal()
    execute("UPDATE audit_block SET watermark = '%s' WHERE number = 1" % (FOREIGN * 2))  # noqa: UP031
    ids = restore(write_entries(1), FOREIGN + 5)

    block = seal()

    assert block.number == 2
    assert Membership.objects.get(block=block).entry_id == ids[0]
    assert block.watermark < FOREIGN


# --- heads


@pytest.mark.django_db
def test_the_latest_head_is_the_newest_block(audit_heads):
    seal()
    restore(write_entries(3))
    block = seal()

    held = json.loads((audit_heads / "latest.json").read_text())
    assert held["block"]["number"] == 1
    assert held["block"]["total"] == 3
    assert bytes.fromhex(held["block"]["root"]) == bytes(block.root)
    assert bytes.fromhex(held["signature"]) == bytes(block.signature)
    assert heads.latest().hash == link(block.header(), block.signature)


@pytest.mark.django_db
def test_a_head_that_a_crash_kept_back_is_written_by_the_next_sealing(monkeypatch):
    seal()
    with monkeypatch.context() as patch:
        patch.setattr(heads, "publish", lambda: 1 / 0)
        restore(write_entries(1))
        with pytest.raises(ZeroDivisionError):
            seal()
    assert [head.number for head in on_file()] == [0]

    assert seal() is None

    assert [head.number for head in on_file()] == [0, 1]
    assert heads.latest().number == 1


@pytest.mark.django_db
@pytest.mark.parametrize("torn", [b"{", b'{"block":{"count":0', b"\x00" * 40])
def test_a_line_that_a_crash_cut_short_is_written_again(audit_heads, torn):
    seal()
    (file,) = audit_heads.glob("heads-*.jsonl")
    whole = file.read_bytes()
    file.write_bytes(whole + torn)
    assert [head.number for head in on_file()] == [0]

    restore(write_entries(1))
    seal()

    assert file.read_bytes().startswith(whole + b'{"block":{"count":1,')
    assert [head.number for head in on_file()] == [0, 1]


@pytest.mark.django_db
def test_heads_are_only_ever_appended(audit_heads):
    contents = [b""]
    for _ in range(3):
        restore(write_entries(1))
        seal()
        contents.append(b"".join(path.read_bytes() for path in sorted(audit_heads.glob("heads-*"))))

    for before, after in zip(contents, contents[1:], strict=False):
        assert after.startswith(before)
        assert len(after) > len(before)


@pytest.mark.django_db
def test_a_clock_set_back_over_a_months_end_keeps_the_lines_in_order(audit_heads):
    seal(now=datetime(2026, 3, 1, tzinfo=UTC))
    restore(write_entries(1))
    seal(now=datetime(2026, 2, 28, tzinfo=UTC))

    assert [path.name for path in audit_heads.glob("heads-*")] == ["heads-2026-03.jsonl"]
    assert [head.number for head in on_file()] == [0, 1]


@pytest.mark.django_db
def test_a_head_holds_no_more_than_numbers_times_and_hashes(audit_heads, organization):
    seal()
    record("contact.viewed", organization_id=ORGANIZATION, by="system:test", target=organization)

    held = json.loads((audit_heads / "latest.json").read_text())

    assert set(held) == {"block", "signature"}
    assert set(held["block"]) == {
        "count",
        "first_id",
        "format",
        "last_id",
        "number",
        "previous",
        "public_key",
        "root",
        "sealed_at",
        "total",
        "watermark",
    }
