"""What tests of any app need of the log, and the reason why production needs no exception for them.

Imported by tests/conftest.py, so that its fixtures hold everywhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.db.backends.postgresql.operations import DatabaseOperations
from django.db.transaction import atomic

from audit import record
from audit.append_only import TRIGGER


@contextmanager
def triggers_resting(connection: Any) -> Iterator[None]:
    """Switch the triggers of append-only tables off and on again."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE tgname LIKE %s",
            [f"{TRIGGER}%"],
        )
        tables = [row[0] for row in cursor.fetchall()]
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        yield
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


@pytest.fixture(autouse=True, scope="session")
def flush_past_triggers() -> Iterator[None]:
    """Let pytest-django empty append-only tables after a `transaction=True` test.

    The tests run as the owner of the tables, who may let their triggers rest for that one transaction; the
    application's role may not. The triggers themselves know no exception.
    """
    plain = DatabaseOperations.execute_sql_flush

    def flush(self: DatabaseOperations, sql_list: list[str]) -> None:
        with atomic(using=self.connection.alias), triggers_resting(self.connection):
            plain(self, sql_list)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatabaseOperations, "execute_sql_flush", flush)
        yield


@pytest.fixture(autouse=True)
def audit_heads(settings: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give each test a directory of its own for heads: its database is rolled back, a file is not."""
    settings.AUDIT_HEADS = tmp_path_factory.getbasetemp() / f"heads-{next(_numbers)}"
    return settings.AUDIT_HEADS


@pytest.fixture(autouse=True)
def denials_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Note what `denied()` commits over its own connection, for `pytest_runtest_teardown`.

    The transaction that pytest-django opens around a test is not one that the code under test would have, so
    only transactions inside it count.
    """
    apart = record._write_apart

    def write_apart(entry: Any) -> int:
        _denials.append(apart(entry))
        return _denials[-1]

    def in_transaction() -> bool:
        return any(not block._from_testcase for block in connection.atomic_blocks)

    monkeypatch.setattr(record, "_write_apart", write_apart)
    monkeypatch.setattr(record, "_in_transaction", in_transaction)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    """Delete the denials of a test once its transaction, which would be waited for, is over."""
    yield
    if _denials:
        with psycopg.connect(**_parameters()) as own, triggers_resting(own):
            own.execute("DELETE FROM audit_entry WHERE id = ANY(%s)", [_denials])
        _denials.clear()


def _parameters() -> dict[str, Any]:
    plain = connection.get_connection_params()
    return {
        name: plain[name]
        for name in ("dbname", "user", "password", "host", "port")
        if name in plain
    }


_denials: list[int] = []


def _count() -> Iterator[int]:
    number = 0
    while True:
        number += 1
        yield number


_numbers = _count()
