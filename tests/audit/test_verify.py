"""Verification: whatever a superuser does to the log, its facts or its heads is found, and nothing else is."""

import datetime as dt
import json
import shutil
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.core.management import call_command
from django.db import connection

from audit import merkle, signing
from audit.facts import FACTS, Facts
from audit.findings import MEANINGS
from audit.models import Block, Entry, Membership
from audit.record import record
from audit.seal import seal
from audit.verify import Verification, verify
from tests.audit.conftest import (
    ORGANIZATION,
    Log,
    Note,
    clear,
    count,
    execute,
    restore,
    seal_all,
    write_entries,
    write_note,
)

pytestmark = pytest.mark.django_db


def found() -> dict[str, int]:
    outcome = verify()
    assert outcome.ok == (not outcome.counts)
    assert set(outcome.counts) == {finding.code for finding in outcome.findings}
    return outcome.counts


def forge_signatures(key: Ed25519PrivateKey, first: int) -> None:
    """Chain and sign anew all blocks from a number on, as an intruder with a key would."""
    public = key.public_key().public_bytes_raw()
    previous = None
    for block in Block.objects.filter(number__gte=first).order_by("number"):
        if previous is not None:
            block.previous = previous
        block.public_key = public
        block.signature = key.sign(block.header())
        previous = signing.link(block.header(), block.signature)
        execute(
            "UPDATE audit_block SET previous = %s, public_key = %s, signature = %s WHERE number = %s",
            [block.previous, block.public_key, block.signature, block.number],
        )


def test_an_untouched_log_is_whole(log):
    outcome = verify()

    assert outcome.findings == []
    assert (outcome.entries, outcome.blocks, outcome.facts, outcome.unsealed) == (16, 4, 4, 0)
    assert len(outcome.head) == 64


def test_an_empty_log_is_whole():
    clear()

    outcome = verify()

    assert outcome.ok
    assert (outcome.entries, outcome.blocks) == (0, 0)


def test_new_entries_are_counted_as_unsealed_and_are_no_finding(log):
    write_entries(2)

    outcome = verify()

    assert outcome.ok
    assert (outcome.entries, outcome.unsealed) == (18, 2)


@pytest.mark.django_db(transaction=True)
def test_a_log_in_use_is_whole(notes):
    clear()
    for _ in range(3):
        record(
            "authorization.recorded",
            organization_id=ORGANIZATION,
            by="system:test",
            facts=[write_note()],
        )
        write_entries(3)
        seal()
    seal_all()
    write_entries(1)

    outcome = verify()

    assert outcome.findings == []
    assert outcome.facts == 3


def test_verifying_changes_nothing(log):
    before = [
        count(f"SELECT count(*) FROM audit_{t}") for t in ("entry", "block", "membership", "fact")
    ]
    files = {path: path.read_bytes() for path in log.heads.glob("heads-*")}

    verify()

    after = [
        count(f"SELECT count(*) FROM audit_{t}") for t in ("entry", "block", "membership", "fact")
    ]
    assert after == before
    assert {path: path.read_bytes() for path in log.heads.glob("heads-*")} == files


# --- entries


@pytest.mark.parametrize(
    "change",
    [
        "action = 'contact.erased'",
        "organization_id = gen_random_uuid()",
        "actor = 'system:nobody'",
        "at = at + interval '1 microsecond'",
        "xid = '1'",
        "target_label = 'contacts.Contact'",
        "target_id = gen_random_uuid()",
        "count = 7",
        "count = null",
        "fields = '[]'",
        "detail = '{}'",
        "detail = detail || '{\"n\": 1}'",
        "facts = '{\"audit_tests.Note\": {}}'",
    ],
)
def test_an_altered_entry_is_found(log, change):
    victim = log.entries[2]
    execute(f"UPDATE audit_entry SET {change} WHERE id = %s", [victim])

    outcome = verify()

    assert outcome.counts["entry.altered"] == 1
    assert {f.where for f in outcome.findings if f.code == "entry.altered"} == {
        f"entry {victim}, block 1"
    }
    assert not any(code.startswith(("block", "log", "head")) for code in outcome.counts)


def test_an_altered_id_is_found(log):
    execute("UPDATE audit_entry SET id = 10000000 WHERE id = %s", [log.entries[0]])

    assert found() == {"entry.deleted": 1}


def test_an_entry_altered_together_with_its_leaf_is_found(log):
    victim = Entry.objects.get(pk=log.entries[2])
    victim.count = 99
    execute("UPDATE audit_entry SET count = 99 WHERE id = %s", [victim.pk])
    execute(
        "UPDATE audit_membership SET leaf = %s WHERE entry_id = %s",
        [merkle.leaf(victim.canonical()), victim.pk],
    )

    assert found() == {"block.altered": 1}


def test_a_deleted_entry_is_found(log):
    execute("DELETE FROM audit_entry WHERE id = %s", [log.entries[-2]])

    assert found() == {"entry.deleted": 1}


def test_an_entry_deleted_with_its_membership_is_found(log):
    for table, column in (("entry", "id"), ("membership", "entry_id")):
        execute(f"DELETE FROM audit_{table} WHERE {column} = %s", [log.entries[-1]])

    assert found() == {"block.altered": 1}


def test_an_entry_put_into_a_sealed_block_is_found(log):
    (new,) = write_entries(1)
    execute(
        "INSERT INTO audit_membership (entry_id, block_id, position, leaf) "
        "SELECT %s, block_id, position + 1, leaf FROM audit_membership "
        "WHERE block_id = 1 ORDER BY position DESC LIMIT 1",
        [new],
    )

    assert found() == {"block.altered": 1, "entry.altered": 1}


def test_an_entry_put_in_behind_the_seals_is_found(log):
    (new,) = write_entries(1)
    execute("UPDATE audit_entry SET xid = '3', at = '2020-01-01' WHERE id = %s", [new])

    assert found() == {"entry.inserted": 1}


def test_a_backdated_entry_is_found_once_it_is_sealed(log):
    (new,) = restore(write_entries(1))
    execute("UPDATE audit_entry SET at = at - interval '2 hours' WHERE id = %s", [new])
    assert seal().count == 1

    assert found() == {"entry.backdated": 1}


def test_two_entries_that_changed_places_are_found(log):
    one, other = log.entries[0], log.entries[1]
    execute("UPDATE audit_membership SET position = -1 WHERE entry_id = %s", [one])
    execute("UPDATE audit_membership SET position = 0 WHERE entry_id = %s", [other])
    execute("UPDATE audit_membership SET position = 1 WHERE entry_id = %s", [one])

    assert found() == {"block.altered": 1}


def test_entries_that_exchanged_their_ids_are_found(log):
    one, other = log.entries[0], log.entries[1]
    for old, new in ((one, -1), (other, one), (-1, other)):
        execute("UPDATE audit_entry SET id = %s WHERE id = %s", [new, old])

    assert found() == {"entry.altered": 2}


@pytest.mark.parametrize(
    ("age", "codes"), [("59 seconds", {}), ("61 seconds", {"entry.unsealed": 1})]
)
def test_an_entry_that_could_be_sealed_and_is_not_is_found_after_a_minute(log, age, codes):
    (new,) = restore(write_entries(1))
    execute(
        "UPDATE audit_entry SET at = clock_timestamp() - %s::interval WHERE id = %s", [age, new]
    )

    assert found() == codes


@pytest.mark.parametrize(
    ("age", "codes"), [("50 minutes", {}), ("61 minutes", {"entry.unsealed": 1})]
)
def test_an_entry_behind_an_open_transaction_is_found_after_an_hour(log, age, codes):
    (new,) = write_entries(1)
    execute(
        "UPDATE audit_entry SET at = clock_timestamp() - %s::interval WHERE id = %s", [age, new]
    )

    assert found() == codes


# --- cut off the end


def cut(
    blocks: int, *, with_blocks: bool = True, with_members: bool = True, with_entries: bool = True
) -> None:
    """Remove the last blocks and what they hold."""
    first = Block.objects.count() - blocks
    if with_entries:
        execute(
            "DELETE FROM audit_fact f USING audit_membership m "
            "WHERE m.entry_id = f.entry_id AND m.block_id >= %s",
            [first],
        )
        execute(
            "DELETE FROM audit_entry e USING audit_membership m WHERE m.entry_id = e.id AND m.block_id >= %s",
            [first],
        )
    if with_members:
        execute("DELETE FROM audit_membership WHERE block_id >= %s", [first])
    if with_blocks:
        execute("DELETE FROM audit_block WHERE number >= %s", [first])


def test_a_log_cut_off_at_the_end_is_found(log):
    cut(1)

    outcome = verify()

    assert outcome.counts == {"log.truncated": 1}
    assert outcome.findings[0].where == "blocks 3 to 3, 3 entries"


def test_a_log_removed_altogether_is_found(log):
    execute("TRUNCATE audit_entry, audit_fact, audit_block, audit_membership, audit_tests_note")

    outcome = verify()

    assert outcome.counts == {"log.truncated": 1}
    assert outcome.findings[0].where == "blocks 0 to 3, 16 entries"


def test_a_log_cut_off_and_grown_again_is_found(log):
    cut(1)
    restore(write_entries(3))
    seal()

    codes = found()

    assert codes == {"block.replaced": 1}


def test_a_backup_put_back_is_found_however_much_is_written_after(log):
    cut(2, with_entries=True)
    execute("DELETE FROM audit_tests_note")
    for _ in range(4):
        restore(write_entries(1))
        seal()

    codes = found()

    assert codes["block.replaced"] == 2


def test_blocks_removed_without_their_members_are_found(log):
    cut(1, with_entries=False, with_members=False)

    assert found() == {"block.missing": 1, "log.truncated": 1}


def test_entries_cut_off_without_their_blocks_are_found(log):
    cut(1, with_blocks=False, with_members=False)

    assert found() == {"entry.deleted": 3}


def test_truncation_shows_by_the_latest_head_alone(log):
    cut(1)
    for path in log.heads.glob("heads-*"):
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:-1]))

    assert found() == {"log.truncated": 1}


def test_a_block_taken_from_the_middle_is_found(log):
    cut_number = 2
    execute("DELETE FROM audit_block WHERE number = %s", [cut_number])

    assert found() == {"block.missing": 2}


# --- blocks and signatures


@pytest.mark.parametrize(
    "change",
    [
        "root = sha256('x')",
        "count = count + 1",
        "total = total + 1",
        "first_id = first_id + 1",
        "last_id = last_id + 1",
        "watermark = '4'",
        "sealed_at = sealed_at + interval '1 second'",
        "previous = sha256('x')",
        "signature = sha512('x')",
    ],
)
@pytest.mark.parametrize("number", [1, 3])
def test_an_altered_block_is_found(log, change, number):
    execute(f"UPDATE audit_block SET {change} WHERE number = %s", [number])

    codes = found()

    assert codes["block.unsigned"] == 1
    # Also where the head stands that was written when the block was sealed.
    assert codes["block.replaced"] == 1


def test_an_altered_block_is_found_without_heads_too(log):
    shutil.rmtree(log.heads)
    execute("UPDATE audit_block SET sealed_at = sealed_at + interval '1 second' WHERE number = 1")

    codes = found()

    assert codes["block.unsigned"] == 1
    assert codes["block.unlinked"] == 1


@pytest.mark.parametrize("first", [0, 1, 3])
def test_blocks_signed_again_with_another_key_are_found(log, first):
    forge_signatures(Ed25519PrivateKey.generate(), first)

    codes = found()

    assert codes == {"block.untrusted": 4 - first, "block.replaced": 4 - first}


def test_blocks_signed_with_another_key_under_our_keys_name_are_found(log):
    key = Ed25519PrivateKey.generate()
    forge_signatures(key, 3)
    execute("UPDATE audit_block SET public_key = %s WHERE number = 3", [signing.public_key()])

    assert found() == {"block.unsigned": 1, "block.replaced": 1}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("root = sha256('x')", "block.altered"),
        ("count = count + 1, total = total + 1", "block.altered"),
        ("first_id = first_id + 1", "block.altered"),
        ("last_id = last_id - 1", "block.altered"),
        ("total = total + 1", "block.unlinked"),
        ("previous = sha256('x')", "block.unlinked"),
    ],
)
def test_a_block_that_contradicts_the_log_is_found_though_our_own_key_signed_it(
    log, settings, change, code
):
    execute(f"UPDATE audit_block SET {change} WHERE number = 3")
    forge_signatures(Ed25519PrivateKey.from_private_bytes(settings.AUDIT_SIGNING_KEY), 3)

    assert found() == {code: 1, "block.replaced": 1}


def test_a_bad_signature_before_a_change_of_keys_is_found(log, settings):
    """The new key's signature does not vouch for the former key's."""
    execute("UPDATE audit_block SET signature = sha512('x') WHERE number = 3")
    settings.AUDIT_TRUSTED_KEYS = [signing.public_key()]
    settings.AUDIT_SIGNING_KEY = bytes(range(1, 33))
    restore(write_entries(1))
    seal()

    assert found() == {"block.unsigned": 1, "block.replaced": 1}


def test_a_key_that_was_replaced_stays_trusted_where_it_is_listed(log, settings):
    former = signing.public_key()
    settings.AUDIT_SIGNING_KEY = bytes(range(1, 33))
    restore(write_entries(2))
    seal()
    assert bytes(Block.objects.last().public_key) != former

    assert found() == {"block.untrusted": 4}
    settings.AUDIT_TRUSTED_KEYS = [former]
    assert found() == {}


def test_a_machine_without_the_signing_key_can_verify(log, settings):
    public = signing.public_key()
    settings.AUDIT_SIGNING_KEY = b""
    settings.AUDIT_TRUSTED_KEYS = [public]

    assert found() == {}


# --- heads


def edit_head(log: Log, number: int, change: Callable[[dict], None]) -> None:
    for path in log.heads.glob("heads-*"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            if line["block"]["number"] == number:
                change(line)
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_an_altered_head_is_found(log):
    edit_head(log, 2, lambda head: head["block"].update(total=99))

    assert found() == {"head.altered": 1}


def test_a_head_invented_for_a_block_that_never_was_is_found(log):
    edit_head(log, 3, lambda head: head["block"].update(number=9))

    assert "head.altered" in found()


def test_heads_that_changed_places_are_found(log):
    (path,) = log.heads.glob("heads-*")
    first, second, *others = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([second, first, *others]))

    assert found() == {"head.altered": 1}


def test_heads_that_are_gone_are_found(log):
    shutil.rmtree(log.heads)
    execute("UPDATE audit_block SET sealed_at = sealed_at")

    assert found() == {}, "a block sealed this minute may lack its head"
    seal(now=dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5))
    restore(write_entries(1))
    seal(now=dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5))
    shutil.rmtree(log.heads)
    assert found() == {"head.missing": 1}


def test_heads_put_back_to_an_older_state_are_found_when_the_log_has_gone_on(log, tmp_path):
    shutil.copytree(log.heads, tmp_path / "older")
    restore(write_entries(1))
    seal(now=dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5))
    shutil.rmtree(log.heads)
    shutil.copytree(tmp_path / "older", log.heads)

    assert found() == {"head.behind": 1}


def test_a_head_older_than_the_database_is_fine_for_a_moment(log, tmp_path):
    shutil.copytree(log.heads, tmp_path / "older")
    restore(write_entries(1))
    seal()
    shutil.rmtree(log.heads)
    shutil.copytree(tmp_path / "older", log.heads)

    assert found() == {}


def test_a_head_that_cannot_be_read_is_found(log):
    (log.heads / "latest.json").write_text("{}")
    (path,) = log.heads.glob("heads-*")
    path.write_bytes(b"rubbish\n" + path.read_bytes())

    assert found() == {"head.unreadable": 2}


# --- facts


@pytest.mark.parametrize(
    "change",
    [
        "text = 'forged'",
        "sealed = 'x'",
        "at = at + interval '1 microsecond'",
        "number = null",
        'data = \'{"b": 1, "a": [false]}\'',
        "organization_id = gen_random_uuid()",
        "flag = true",
    ],
)
def test_an_altered_fact_is_found(log, change):
    execute(f"UPDATE audit_tests_note SET {change} WHERE id = %s", [log.notes[1]])

    outcome = verify()

    assert outcome.counts == {"fact.altered": 1}
    assert str(log.notes[1]) in outcome.findings[0].where


def test_a_deleted_fact_is_found(log):
    execute("DELETE FROM audit_tests_note WHERE id = %s", [log.notes[3]])

    assert found() == {"fact.deleted": 1}


def test_facts_that_exchanged_their_ids_are_found(log):
    one, other, spare = log.notes[0], log.notes[1], "00000000-0000-0000-0000-000000000001"
    for old, new in ((one, spare), (other, one), (spare, other)):
        execute("UPDATE audit_tests_note SET id = %s WHERE id = %s", [new, old])

    assert found() == {"fact.altered": 2}


def test_a_fact_that_no_entry_vouches_for_is_found(log):
    note = write_note()

    outcome = verify()

    assert outcome.counts == {"fact.uncovered": 1}
    assert outcome.findings[0].where == f"audit_tests.Note {note.pk}"


def test_a_fact_whose_hash_was_replaced_with_it_is_found(log):
    execute("UPDATE audit_tests_note SET text = 'forged' WHERE id = %s", [log.notes[0]])
    execute(
        "UPDATE audit_fact SET sha256 = %s WHERE row_id = %s",
        [Note(pk=log.notes[0]).fact_hash(), log.notes[0]],
    )

    assert found() == {"fact.relisted": 1}


@pytest.mark.parametrize("gone", [slice(0, 1), slice(0, 3), slice(3, 4)])
def test_facts_deleted_with_their_hashes_are_found(log, gone):
    for table, column in (("audit_tests_note", "id"), ("audit_fact", "row_id")):
        execute(f"DELETE FROM {table} WHERE {column} = ANY(%s)", [log.notes[gone]])

    assert found() == {"fact.relisted": 1}


def test_a_hash_added_to_an_entry_is_found(log):
    note = write_note()
    execute(
        "INSERT INTO audit_fact (entry_id, label, row_id, sha256) VALUES (%s, 'audit_tests.Note', %s, %s)",
        [log.entries[0], note.pk, note.fact_hash()],
    )

    assert found() == {"fact.relisted": 1}


def test_a_model_that_is_no_longer_declared_is_found(log, monkeypatch):
    monkeypatch.delitem(FACTS, "audit_tests.Note")

    assert found() == {"fact.undeclared": 1}


def test_drafts_need_no_entry(log, monkeypatch):
    monkeypatch.setitem(FACTS, "audit_tests.Note", Facts(Note, when="on"))
    write_note(on=None)
    assert "fact.uncovered" not in found()

    write_note()
    assert found()["fact.uncovered"] == 1


def test_rows_of_a_table_that_is_vouched_for_in_part_need_no_entry(log, monkeypatch):
    monkeypatch.setitem(FACTS, "audit_tests.Note", Facts(Note, every_row=False))
    write_note()

    assert found() == {}


# --- guards


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE audit_entry DISABLE TRIGGER history_append_only",
        "ALTER TABLE audit_entry DISABLE TRIGGER ALL",
        "DROP TRIGGER history_append_only ON audit_entry",
        "DROP TRIGGER history_stamp ON audit_entry",
    ],
)
def test_a_trigger_that_is_off_is_found(log, sql):
    execute(sql)

    outcome = verify()

    assert outcome.counts == {"guard.missing": 1}
    assert outcome.findings[0].where == "audit_entry"


# --- the report and the command


def test_many_findings_are_counted_and_a_hundred_listed(log, monkeypatch):
    for _ in range(130):
        write_note()

    outcome = verify()

    assert outcome.counts == {"fact.uncovered": 130}
    assert len(outcome.findings) == 101
    assert outcome.findings[-1].where.endswith("30 more")


def test_every_finding_has_a_sentence():
    for code, sentence in MEANINGS.items():
        assert code.count(".") == 1
        assert sentence.endswith(".")


@pytest.mark.django_db(transaction=True)
def test_the_command_says_that_the_log_is_whole_and_records_that_it_looked(capsys, notes):
    clear()
    restore(write_entries(2))

    call_command("verify_audit", "--json")

    held = json.loads(capsys.readouterr().out)
    assert held["ok"] is True
    assert held["findings"] == []
    looked = Entry.objects.get(action="log.verified")
    assert looked.actor == "system:verify_audit"
    assert looked.detail["ok"] is True
    assert looked.count == 2


def test_the_command_leaves_with_one_and_names_what_it_found(log, capsys):
    execute("UPDATE audit_entry SET count = 77 WHERE id = %s", [log.entries[0]])

    with pytest.raises(SystemExit) as left:
        call_command("verify_audit", "--read-only")

    assert left.value.code == 1
    said = capsys.readouterr().out
    assert f"entry {log.entries[0]}, block 1" in said
    assert "NOT AS IT WAS WRITTEN" in said
    assert not Entry.objects.filter(action="log.verified").exists()


def test_a_finding_is_recorded_in_the_log_itself(log, capsys):
    execute("DELETE FROM audit_entry WHERE id = %s", [log.entries[0]])

    with pytest.raises(SystemExit):
        call_command("verify_audit")

    looked = Entry.objects.get(action="log.verified")
    assert looked.detail["ok"] is False
    assert looked.detail["entry.deleted"] == 1


def test_progress_is_told_up_to_the_end(log):
    told: list[tuple[int, int]] = []

    outcome: Verification = verify(lambda done, total: told.append((done, total)))

    assert told[-1] == (20, 20)
    assert outcome.ok
    assert Membership.objects.count() + outcome.facts == 20
    assert connection.in_atomic_block
