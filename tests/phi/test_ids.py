"""Time-ordered ids, in Python and in SQL."""

import time
import uuid

from django.db import connection

from phi.ids import UUID7_SQL, uuid7


def test_an_id_is_version_7_and_carries_the_time():
    before = time.time_ns() // 1_000_000
    value = uuid7()
    after = time.time_ns() // 1_000_000

    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert before <= value.int >> 80 <= after


def test_ids_of_a_later_millisecond_are_greater():
    first = uuid7()
    time.sleep(0.002)

    assert uuid7() > first


def test_ids_do_not_repeat():
    assert len({uuid7() for _ in range(10_000)}) == 10_000


def test_the_database_makes_the_same_kind(db):
    before = time.time_ns() // 1_000_000
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {UUID7_SQL} FROM generate_series(1, 500)")
        made = [row[0] for row in cursor.fetchall()]
    after = time.time_ns() // 1_000_000 + 1

    assert len(set(made)) == 500
    assert {(value.version, value.variant) for value in made} == {(7, uuid.RFC_4122)}
    assert all(before <= value.int >> 80 <= after for value in made)
