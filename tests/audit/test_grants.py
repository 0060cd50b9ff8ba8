"""The application's role: it reads and adds to history, and cannot rewrite it."""

import pytest
from django.apps import apps
from django.db import ProgrammingError, connection, transaction

from audit.append_only import AppendOnly
from audit.grants import after_migrate, append_only_tables, grant, unguarded
from audit.models import Entry
from tests.audit.conftest import Note, count, write_entries

pytestmark = pytest.mark.django_db

ROLE = "audit_test_role"


@pytest.fixture
def role(db: None) -> str:
    """A role that is made and gone with the test's transaction."""
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {ROLE}")
    return ROLE


def as_role(sql: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL ROLE {ROLE}")
        cursor.execute(sql)
        cursor.execute("SET LOCAL ROLE NONE")


def rights(table: str) -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT right_name FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', "
            "'REFERENCES', 'TRIGGER']) right_name WHERE has_table_privilege(%s, %s, right_name)",
            [ROLE, table],
        )
        return {name for (name,) in cursor.fetchall()}


def test_history_can_be_read_and_added_to_and_no_more(role):
    assert grant(connection, role)

    tables = append_only_tables(connection) - {Note._meta.db_table}
    assert {"audit_entry", "audit_fact", "audit_block", "audit_membership"} <= tables
    for table in tables:
        assert rights(table) == {"SELECT", "INSERT"}, table


def test_other_tables_can_be_written_but_not_truncated(role):
    assert grant(connection, role)

    for model in apps.get_models():
        if not issubclass(model, AppendOnly) and model._meta.managed and not model._meta.proxy:
            table = model._meta.db_table
            if table not in append_only_tables(connection):
                assert rights(table) == {"SELECT", "INSERT", "UPDATE", "DELETE"}, table
    assert rights("django_migrations") == {"SELECT"}


@pytest.mark.parametrize(
    "statement",
    ["UPDATE audit_entry SET count = 9", "DELETE FROM audit_entry", "TRUNCATE audit_entry"],
)
def test_the_role_cannot_rewrite_history_even_where_triggers_rest(role, statement):
    grant(connection, role)
    write_entries(1)
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")

    with pytest.raises(ProgrammingError, match="permission denied"):
        as_role(statement)

    assert Entry.objects.get().count == 0


def test_the_role_can_record(role):
    grant(connection, role)

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL ROLE {ROLE}")
        write_entries(2)
        cursor.execute("SELECT nextval(pg_get_serial_sequence('audit_entry', 'id'))")
        cursor.execute("SET LOCAL ROLE NONE")

    assert Entry.objects.count() == 2


def test_granting_again_changes_nothing_and_takes_back_what_was_added(role):
    grant(connection, role)
    with connection.cursor() as cursor:
        cursor.execute(f"GRANT ALL ON audit_entry TO {ROLE}")
    assert "TRUNCATE" in rights("audit_entry")

    assert grant(connection, role)

    assert rights("audit_entry") == {"SELECT", "INSERT"}


def test_a_role_that_is_not_there_is_passed_over(settings):
    settings.HIPAAMAIL_DB_APP_ROLE = "nobody_of_that_name"

    assert not grant(connection, "nobody_of_that_name")
    after_migrate(using="default")


def test_the_owner_keeps_its_rights():
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        owner = cursor.fetchone()[0]

    assert not grant(connection, owner)
    assert count("SELECT has_table_privilege('audit_entry', 'UPDATE')::int") == 1


def test_migrating_grants(role, settings):
    settings.HIPAAMAIL_DB_APP_ROLE = role

    after_migrate(using="default")

    assert rights("audit_block") == {"SELECT", "INSERT"}


def test_every_append_only_model_has_its_trigger():
    assert unguarded(connection) == []
    models = {m._meta.db_table for m in apps.get_models() if issubclass(m, AppendOnly)}
    assert models <= append_only_tables(connection)
