"""The application's database role: it reads and adds, and lacks the right to rewrite history.

Two roles (design, decision 19): the owner migrates; the application connects as the role that
HIPAAMAIL_DB_APP_ROLE names. 45 CFR 164.312(c)(1).
"""

from typing import Any

from django.apps import apps
from django.conf import settings
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from audit.append_only import TRIGGER, AppendOnly
from audit.facts import FACTS

_TRIGGERS = """
SELECT c.relname, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE t.tgname LIKE %s AND t.tgenabled IN ('O', 'A') AND pg_table_is_visible(c.oid)
"""


def append_only_tables(connection: BaseDatabaseWrapper) -> set[str]:
    """Return the tables that the database keeps append-only, as its own catalogue tells."""
    return {table for table, name in _triggers(connection) if name == f"{TRIGGER}_append_only"}


def unguarded(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the tables whose rows should be kept by a trigger that is missing or switched off."""
    wanted = {
        (model._meta.db_table, f"{TRIGGER}_append_only")
        for model in apps.get_models()
        if issubclass(model, AppendOnly)
    }
    for facts in FACTS.values():
        if facts.when:
            table = facts.model._meta.db_table
            wanted |= {(table, f"{TRIGGER}_frozen"), (table, f"{TRIGGER}_frozen_truncate")}
    wanted.add(("audit_entry", f"{TRIGGER}_stamp"))
    return sorted({table for table, _ in wanted - _triggers(connection)})


def grant(connection: BaseDatabaseWrapper, role: str) -> bool:
    """Give the role its rights on all tables of the installation; return False if there is no such role.

    SELECT, INSERT, UPDATE and DELETE; on append-only tables SELECT and INSERT; never TRUNCATE, REFERENCES or
    TRIGGER. Rows that are frozen by a column are guarded by their trigger alone. A role that owns the tables
    or is the one that runs this is left as it is: rights cannot bind it. Can be run again at any time.
    """
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        cursor.execute(
            "SELECT rolsuper OR rolname = current_user FROM pg_roles WHERE rolname = %s", [role]
        )
        found = cursor.fetchone()
        if found is None or found[0]:
            return False
        quote = connection.ops.quote_name
        history = append_only_tables(connection)
        tables = set(
            connection.introspection.django_table_names(only_existing=True, include_views=False)
        )
        rights = [
            ("SELECT, INSERT", tables & history),
            ("SELECT, INSERT, UPDATE, DELETE", tables - history),
            ("SELECT", {"django_migrations"}),
        ]
        for granted, on in rights:
            if on:
                names = ", ".join(map(quote, sorted(on)))
                cursor.execute(f"REVOKE ALL ON {names} FROM {quote(role)}")
                cursor.execute(f"GRANT {granted} ON {names} TO {quote(role)}")
        cursor.execute("SELECT quote_ident(current_schema())")
        schema = cursor.fetchone()[0]
        cursor.execute(f"GRANT USAGE ON SCHEMA {schema} TO {quote(role)}")
        cursor.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {quote(role)}")
    return True


def after_migrate(using: str, **kwargs: Any) -> None:
    """Grant once all apps have migrated: the receiver of Django's `post_migrate`."""
    role = settings.HIPAAMAIL_DB_APP_ROLE
    if role and connections[using].vendor == "postgresql":
        grant(connections[using], role)


def _triggers(connection: BaseDatabaseWrapper) -> set[tuple[str, str]]:
    with connection.cursor() as cursor:
        cursor.execute(_TRIGGERS, [TRIGGER + r"\_%"])
        return set(cursor.fetchall())
