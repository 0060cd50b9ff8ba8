"""Reading the whole log at one moment, in flat memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction


@contextmanager
def snapshot() -> Iterator[None]:
    """Open a read-only transaction in which nothing moves; inside a transaction, use what is there."""
    if connection.in_atomic_block:
        yield
        return
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


@contextmanager
def streamed(name: str, sql: str, params: Any = None) -> Iterator[Iterator[tuple]]:
    """Yield a statement's rows as they come, over a server-side cursor in binary.

    `name`: the cursor's, unique among those open. psycopg's own cursor, because Django's knows no binary.
    """
    with connection.connection.cursor(name=f"audit_{name}") as cursor:
        cursor.itersize = 2000
        cursor.execute(sql, params, binary=True)
        yield cursor
