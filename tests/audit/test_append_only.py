"""Rows that are written once: refused by the model, and by the database whoever asks."""

import pytest
from django.db import IntegrityError, connection, transaction
from django.db.migrations import RunSQL

from audit.append_only import AppendOnlyError, append_only, frozen_when
from audit.models import Block, Entry, Fact, Membership
from tests.audit.conftest import Note, count, write_entries, write_note

pytestmark = pytest.mark.django_db

TABLES = ["audit_entry", "audit_fact", "audit_block", "audit_membership"]


def refused(sql: str, params: list | None = None) -> str:
    """Run SQL that must be refused; return what the database says."""
    with (
        pytest.raises(IntegrityError) as error,
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(sql, params)
    assert error.value.__cause__.sqlstate == "23001"
    return str(error.value)


def run(operation: RunSQL, *, backwards: bool = False) -> None:
    with connection.cursor() as cursor:
        cursor.execute(operation.reverse_sql if backwards else operation.sql)


# --- the model


def test_a_saved_row_cannot_be_saved_again(notes):
    note = write_note()

    for again in (note, Note.objects.get(pk=note.pk)):
        again.text = "changed"
        with pytest.raises(AppendOnlyError):
            again.save()
        with pytest.raises(AppendOnlyError):
            again.save(update_fields=["text"])

    assert Note.objects.get().text == "signed"


def test_a_row_with_the_id_of_another_does_not_replace_it(notes):
    note = write_note()

    with pytest.raises(IntegrityError), transaction.atomic():
        Note(pk=note.pk, text="changed").save()

    assert Note.objects.get().text == "signed"


def test_a_row_cannot_be_deleted(notes):
    note = write_note()

    with pytest.raises(AppendOnlyError):
        note.delete()

    assert Note.objects.count() == 1


@pytest.mark.parametrize(
    "attempt",
    [
        lambda rows, note: rows.update(text="changed"),
        lambda rows, note: rows.delete(),
        lambda rows, note: rows.bulk_update([note], ["text"]),
        lambda rows, note: rows.update_or_create(pk=note.pk, defaults={"text": "changed"}),
        lambda rows, note: rows._raw_delete("default"),
        lambda rows, note: rows._update([]),
        lambda rows, note: rows.bulk_create(
            [note], update_conflicts=True, update_fields=["text"], unique_fields=["id"]
        ),
    ],
)
def test_a_queryset_neither_changes_nor_deletes(notes, attempt):
    note = write_note()
    note.text = "changed"

    for rows in (Note.objects, Note.objects.filter(pk=note.pk)):
        with pytest.raises((AppendOnlyError, AttributeError)):
            attempt(rows, note)

    assert [row.text for row in Note.objects.all()] == ["signed"]


def test_the_logs_own_models_are_append_only():
    before = Entry.objects.count()
    entry = Entry.objects.get(pk=write_entries(1)[0])

    for model in (Entry, Fact, Block, Membership):
        with pytest.raises(AppendOnlyError):
            model.objects.all().delete()
    with pytest.raises(AppendOnlyError):
        entry.save()

    assert Entry.objects.count() == before + 1


# --- the database


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "statement",
    [
        'UPDATE "{0}" SET {1} = {1}',
        'UPDATE "{0}" SET {1} = {1} WHERE false',
        'DELETE FROM "{0}"',
        'DELETE FROM "{0}" WHERE false',
        'TRUNCATE "{0}"',
        'TRUNCATE "{0}" RESTART IDENTITY CASCADE',
        'MERGE INTO "{0}" t USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE',
        'WITH gone AS (DELETE FROM "{0}" RETURNING 1) SELECT * FROM gone',
    ],
)
def test_sql_by_hand_is_refused(log, table, statement):
    column = {"audit_block": "number", "audit_membership": "entry_id"}.get(table, "id")
    before = count(f'SELECT count(*) FROM "{table}"')
    assert before > 0

    assert table in refused(statement.format(table, column))

    assert count(f'SELECT count(*) FROM "{table}"') == before


def test_an_upsert_by_hand_is_refused(log):
    refused(
        "INSERT INTO audit_entry SELECT * FROM audit_entry ON CONFLICT (id) DO UPDATE SET count = 9"
    )

    assert not Entry.objects.filter(count=9).exists()


def test_the_refusal_shows_no_value(notes):
    write_note(text="Mrs Canary")

    said = refused("UPDATE audit_tests_note SET text = 'Mr Canary'")

    assert "Canary" not in said
    assert "audit_tests_note" in said


def test_an_insert_cannot_choose_its_time_or_transaction():
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO audit_entry (xid, at, action, organization_id, actor, target_label, fields, detail, facts) "
            "VALUES ('5', '1999-01-01', 'contact.viewed', gen_random_uuid(), 'system:test', '', '[]', '{}', '{}') "
            "RETURNING xid = pg_current_xact_id(), clock_timestamp() - at < interval '1 minute'"
        )
        assert cursor.fetchone() == (True, True)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("action", "John Canary"),
        ("actor", "john.canary@example.org"),
        ("target_label", "John Canary"),
    ],
)
def test_the_database_refuses_an_entry_of_another_shape(column, value):
    row = {"action": "contact.viewed", "actor": "system:test", "target_label": "", column: value}
    before = Entry.objects.count()

    with (
        pytest.raises(IntegrityError),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(
            "INSERT INTO audit_entry (action, organization_id, actor, target_label, fields, detail, facts) "
            "VALUES (%(action)s, gen_random_uuid(), %(actor)s, %(target_label)s, '[]', '{}', '{}')",
            row,
        )

    assert Entry.objects.count() == before


# --- the operations


@pytest.fixture
def drafts() -> str:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE audit_drafts (id int, words text, published_at timestamptz)")
        cursor.execute("INSERT INTO audit_drafts VALUES (1, 'draft', null), (2, 'out', now())")
    return "audit_drafts"


def test_a_frozen_row_stays_while_drafts_can_change(drafts):
    run(frozen_when(drafts, "published_at"))

    with connection.cursor() as cursor:
        cursor.execute("UPDATE audit_drafts SET words = 'better' WHERE id = 1")
        cursor.execute("UPDATE audit_drafts SET words = 'best', published_at = now() WHERE id = 1")
    for statement in (
        "UPDATE audit_drafts SET words = 'late' WHERE id = 1",
        "UPDATE audit_drafts SET published_at = null WHERE id = 2",
        "DELETE FROM audit_drafts WHERE id = 2",
        "TRUNCATE audit_drafts",
    ):
        refused(statement)

    assert count("SELECT count(*) FROM audit_drafts WHERE words IN ('best', 'out')") == 2


def test_a_draft_can_be_deleted_but_the_table_not_emptied(drafts):
    run(frozen_when(drafts, "published_at"))

    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM audit_drafts WHERE id = 1")
    refused("DELETE FROM audit_drafts")

    assert count("SELECT count(*) FROM audit_drafts") == 1


@pytest.mark.parametrize("make", [append_only, lambda table: frozen_when(table, "published_at")])
def test_the_operations_are_reversible(drafts, make):
    operation = make(drafts)
    run(operation)
    refused("DELETE FROM audit_drafts WHERE id = 2")

    run(operation, backwards=True)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM audit_drafts WHERE id = 2")

    assert count("SELECT count(*) FROM audit_drafts") == 1


@pytest.mark.parametrize("name", ['x"; DROP TABLE y; --', "Upper", "", "1st", "a" * 64])
def test_an_operation_takes_plain_names_only(name):
    with pytest.raises(ValueError):
        append_only(name)
    with pytest.raises(ValueError):
        frozen_when("audit_drafts", name)
