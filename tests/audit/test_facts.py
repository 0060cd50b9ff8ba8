"""Facts: rows hashed as the database stores them."""

import datetime as dt
import uuid
from decimal import Decimal
from hashlib import sha256

import pytest
from django.db import connection, transaction

from audit.facts import FACTS, Facts
from audit.models import Entry, Fact
from audit.record import record
from tests.audit.conftest import ORGANIZATION, Note, execute, write_note

pytestmark = pytest.mark.django_db

CHANGED = {
    "organization_id": uuid.UUID(int=5),
    "text": "signed ",
    "words": "",
    "sealed": b"\x00\xfe",
    "at": dt.datetime(2026, 1, 2, 3, 4, 5, 7, dt.UTC),
    "on": dt.date(2026, 1, 3),
    "data": {"b": 1, "a": [False]},
    "number": 8,
    "amount": Decimal("0.01"),
    "flag": False,
}


def vouch(facts: object) -> Entry:
    return record(
        "authorization.recorded", organization_id=ORGANIZATION, by="system:test", facts=facts
    )


def test_each_column_of_a_row_changes_its_hash(notes):
    assert {"id", *CHANGED} == {field.attname for field in Note._meta.concrete_fields}
    note = write_note()

    hashes = {note.fact_hash()}
    for column, value in CHANGED.items():
        kept = getattr(note, column)
        field = Note._meta.get_field(column)
        stored = field.get_db_prep_save(value, connection)
        execute(f'UPDATE audit_tests_note SET "{column}" = %s', [stored])
        hashes.add(note.fact_hash())
        execute(
            f'UPDATE audit_tests_note SET "{column}" = %s',
            [field.get_db_prep_save(kept, connection)],
        )
    hashes.add(note.fact_hash())

    assert len(hashes) == len(CHANGED) + 1


def test_two_rows_of_the_same_content_differ(notes):
    assert write_note().fact_hash() != write_note().fact_hash()


def test_a_text_cannot_pose_as_another_column(notes):
    """Texts come with their length, so `;` and `=` in them say nothing."""
    hashes = set()
    for text, words in (("x", "y"), ("x;words=1:y", None), ("x;words=y", None)):
        write_note(id=uuid.UUID(int=1), text=text, words=words)
        hashes.add(Note(pk=uuid.UUID(int=1)).fact_hash())
        execute("DELETE FROM audit_tests_note")

    assert len(hashes) == 3


def test_a_hash_does_not_hang_on_the_session(notes):
    note = write_note()
    plain = note.fact_hash()

    with connection.cursor() as cursor:
        cursor.execute(
            "SET LOCAL TimeZone = 'Asia/Tokyo'; SET LOCAL DateStyle = 'German'; "
            "SET LOCAL bytea_output = 'escape'; SET LOCAL IntervalStyle = 'sql_standard'"
        )

    assert note.fact_hash() == plain


def test_a_column_added_later_leaves_old_hashes_true(notes, monkeypatch):
    note = write_note()
    plain = note.fact_hash()
    columns = tuple(f.attname for f in Note._meta.concrete_fields if f.attname != "flag")

    monkeypatch.setitem(FACTS, "audit_tests.Note", Facts(Note, columns=columns))

    # `flag` is null in this row, so a table without the column gives the same hash.
    assert note.fact_hash() == plain


def test_only_the_named_columns_count(notes, monkeypatch):
    monkeypatch.setitem(FACTS, "audit_tests.Note", Facts(Note, columns=("text",)))
    note = write_note()
    plain = note.fact_hash()

    execute("UPDATE audit_tests_note SET number = 99")
    assert note.fact_hash() == plain
    execute("UPDATE audit_tests_note SET text = 'other'")
    assert note.fact_hash() != plain


def test_a_column_that_is_not_there_is_refused(notes, monkeypatch):
    monkeypatch.setitem(FACTS, "audit_tests.Note", Facts(Note, columns=("txet",)))

    with pytest.raises(LookupError):
        write_note().fact_hash()


def test_a_model_that_nobody_declared_is_refused(note_table):
    assert "audit_tests.Note" not in FACTS
    note = write_note()

    with pytest.raises(LookupError):
        note.fact_hash()
    with pytest.raises(LookupError), transaction.atomic():
        vouch([note])

    assert not Entry.objects.exists()


def test_a_row_that_is_gone_has_no_hash(notes):
    with pytest.raises(LookupError):
        Note().fact_hash()


@pytest.mark.parametrize(
    "given",
    [
        lambda rows: rows,
        lambda rows: reversed(rows),
        lambda rows: rows + rows,
        lambda rows: Note.objects.all(),
        lambda rows: Note.objects.order_by("-text"),
        lambda rows: [Note.objects.filter(text__in=["0", "1", "2"])],
    ],
)
def test_an_entry_holds_the_hash_of_its_rows_however_they_are_given(notes, given):
    rows = [write_note(text=str(number)) for number in range(3)]

    entry = vouch(given(rows))

    kept = {fact.row_id: bytes(fact.sha256) for fact in Fact.objects.filter(entry=entry)}
    assert kept == {row.pk: row.fact_hash() for row in rows}
    joined = b"".join(pk.bytes + kept[pk] for pk in sorted(kept))
    held = {"audit_tests.Note": {"count": 3, "sha256": sha256(joined).hexdigest()}}
    assert Entry.objects.get(pk=entry.pk).facts == held


def test_an_empty_queryset_vouches_for_nothing(notes):
    assert vouch(Note.objects.none()).facts == {}
    assert vouch(Note.objects.filter(text="nobody")).facts == {}
    assert vouch([]).facts == {}


def test_one_row_can_stand_behind_two_entries(notes):
    note = write_note()

    vouch([note])
    vouch([note])

    assert Fact.objects.filter(row_id=note.pk).count() == 2


def test_a_model_given_twice_is_refused(notes):
    note = write_note()

    with pytest.raises(ValueError), transaction.atomic():
        vouch([note, Note.objects.all()])


def test_a_draft_cannot_be_vouched_for(notes, monkeypatch):
    monkeypatch.setitem(FACTS, "audit_tests.Note", Facts(Note, when="at"))
    published, draft = write_note(), write_note(at=None)

    with pytest.raises(LookupError), transaction.atomic():
        vouch([published, draft])

    assert vouch([published]).facts["audit_tests.Note"]["count"] == 1
    assert not Fact.objects.filter(row_id=draft.pk).exists()
