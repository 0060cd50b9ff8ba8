"""What tests of any app need of the log, and the reason why production needs no exception for them.

Imported by tests/conftest.py, so that its fixtures hold everywhere.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.db.backends.postgresql.operations import DatabaseOperations
from django.db.transaction import atomic

from audit import record


@pytest.fixture(autouse=True, scope="session")
def flush_past_triggers() -> Iterator[None]:
    """Let pytest-django empty append-only tables after a `transaction=True` test.

    Only the test database's superuser may set `session_replication_role`; for that one transaction the
    triggers rest. The tables' triggers themselves know no exception.
    """
    plain = DatabaseOperations.execute_sql_flush

    def flush(self: DatabaseOperations, sql_list: list[str]) -> None:
        with atomic(using=self.connection.alias):
            with self.connection.cursor() as cursor:
                cursor.execute("SET LOCAL session_replication_role = replica")
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
def denials_are_cleaned_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Delete what `denied()` committed over its own connection, once the test is over.

    The transaction that pytest-django opens around a test is not one that the code under test would have, so
    only transactions inside it count.
    """
    written: list[int] = []
    apart = record._write_apart

    def write_apart(entry: Any) -> int:
        written.append(apart(entry))
        return written[-1]

    def in_transaction() -> bool:
        return any(not block._from_testcase for block in connection.atomic_blocks)

    monkeypatch.setattr(record, "_write_apart", write_apart)
    monkeypatch.setattr(record, "_in_transaction", in_transaction)
    yield
    if written:
        own = connection.copy()
        try:
            with own.cursor() as cursor:
                cursor.execute(
                    "SET session_replication_role = replica; DELETE FROM audit_entry WHERE id = ANY(%s)",
                    [written],
                )
        finally:
            own.close()


def _count() -> Iterator[int]:
    number = 0
    while True:
        number += 1
        yield number


_numbers = _count()
