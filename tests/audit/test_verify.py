"""Verification: whatever a superuser does to the entries is found, and nothing else is."""

import json

import pytest
from django.core.management import call_command
from django.db import connection

from audit import merkle
from audit.findings import MEANINGS
from audit.models import Entry, Membership
from audit.record import record
from audit.seal import seal
from audit.verify import Verification, verify
from tests.audit.conftest import (
    ORGANIZATION,
    clear,
    count,
    execute,
    found,
    restore,
    seal_all,
    write_entries,
    write_note,
)

pytestmark = pytest.mark.django_db


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
