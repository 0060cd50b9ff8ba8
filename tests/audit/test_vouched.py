"""Verification of facts: a row that an entry vouches for is still as it was."""

import pytest

from audit.facts import FACTS, Facts
from audit.verify import verify
from tests.audit.conftest import (
    Note,
    execute,
    found,
    write_note,
)

pytestmark = pytest.mark.django_db


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
