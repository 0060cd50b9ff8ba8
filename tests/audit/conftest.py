"""A log to tamper with: committed and sealed once a module, so that each test's tampering is rolled back."""

import datetime as dt
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, models
from django.test import override_settings

from audit.append_only import AppendOnly, append_only
from audit.facts import FACTS, Facts
from audit.models import Block, Entry, Membership
from audit.record import record
from audit.seal import seal
from audit.verify import verify
from phi.ids import uuid7

ORGANIZATION = uuid.UUID(int=0xA1)
OTHER = uuid.UUID(int=0xB2)
#: A transaction id that this cluster has not reached.
FOREIGN = 10**15


class Note(AppendOnly):
    """A fact of no app: columns of every kind that facts have."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization_id = models.UUIDField(default=ORGANIZATION)
    text = models.TextField(default="")
    words = models.TextField(null=True)  # noqa: DJ001
    sealed = models.BinaryField(null=True)
    at = models.DateTimeField(null=True)
    on = models.DateField(null=True)
    data = models.JSONField(null=True)
    number = models.IntegerField(null=True)
    amount = models.DecimalField(max_digits=10, decimal_places=2, null=True)
    flag = models.BooleanField(null=True)

    class Meta:
        app_label = "audit_tests"

    def __str__(self) -> str:
        return f"note {self.pk}"


@dataclass
class Log:
    """A sealed log: block 0 is empty, then three blocks."""

    heads: Path
    entries: list[int]
    notes: list[uuid.UUID]


def execute(sql: str, params: Any = None) -> None:
    """Run SQL as an intruder who is superuser: no trigger fires."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        try:
            cursor.execute(sql, params)
        finally:
            cursor.execute("SET session_replication_role = DEFAULT")


def count(sql: str, params: Any = None) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchone()[0]


def seal_all(patience: float = 60) -> Block:
    """Seal until nothing is left, however long other databases of the cluster hold back xmin."""
    until = time.monotonic() + patience
    while True:
        seal()
        waiting = Entry.objects.filter(sealed__isnull=True)
        if not waiting.exists():
            return Block.objects.order_by("-number")[0]
        if time.monotonic() > until:
            oldest = min(waiting.values_list("xid", flat=True))
            assert count("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint") <= oldest
            pytest.skip("Another transaction of this cluster has been open for a minute.")
        time.sleep(0.05)


def restore(ids: list[int], xid: int = FOREIGN) -> list[int]:
    """Give entries the transaction ids that a dump of another cluster brings: these can be sealed at once."""
    execute("UPDATE audit_entry SET xid = %s::text::xid8 WHERE id = ANY(%s)", [xid, ids])
    return ids


def write_entries(number: int, organization_id: uuid.UUID = ORGANIZATION) -> list[int]:
    return [
        record(
            "contact.viewed",
            organization_id=organization_id,
            by="system:test",
            count=place,
            fields=["email"],
            detail={"reason": "asked"},
        ).pk
        for place in range(number)
    ]


def write_note(**columns: Any) -> Note:
    return Note.objects.create(
        **{
            "text": "signed",
            "sealed": b"\x00\xff",
            "at": dt.datetime(2026, 1, 2, 3, 4, 5, 6, dt.UTC),
            "on": dt.date(2026, 1, 2),
            "data": {"b": 1, "a": [None]},
            "number": 7,
            **columns,
        }
    )


def found() -> dict[str, int]:
    """Verify, and return what was found: code → how often."""
    outcome = verify()
    assert outcome.ok == (not outcome.counts)
    assert set(outcome.counts) == {finding.code for finding in outcome.findings}
    return outcome.counts


def clear() -> None:
    """Empty the log."""
    execute("TRUNCATE audit_entry, audit_fact, audit_block, audit_membership, audit_tests_note")


@pytest.fixture(scope="session")
def note_table(django_db_setup: None, django_db_blocker: Any) -> None:
    """The table of Note, for the session."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS audit_tests_note")
        with connection.schema_editor() as editor:
            editor.create_model(Note)
        cursor.execute(append_only("audit_tests_note").sql)


@pytest.fixture
def notes(
    note_table: None, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[None]:
    """Let entries vouch for notes; after a test that commits, delete them, as Django does not know the table."""
    monkeypatch.setitem(FACTS, "audit_tests.Note", Facts(Note))
    commits = request.node.get_closest_marker("django_db").kwargs.get("transaction")
    if commits:
        request.getfixturevalue("transactional_db")
    yield
    if commits:
        execute("DELETE FROM audit_tests_note")


@pytest.fixture(scope="module")
def committed(
    note_table: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Log]:
    """Three blocks of entries, some of which vouch for notes."""
    directory = tmp_path_factory.mktemp("heads")
    with (
        django_db_blocker.unblock(),
        pytest.MonkeyPatch.context() as patch,
        override_settings(AUDIT_HEADS=directory),
    ):
        patch.setitem(FACTS, "audit_tests.Note", Facts(Note))
        clear()
        seal()
        first = restore(write_entries(5))
        seal()
        written = [write_note(text=f"note {number}") for number in range(4)]
        vouching = record(
            "authorization.recorded",
            organization_id=ORGANIZATION,
            by="system:test",
            count=3,
            facts=written[:3],
        )
        last_note = record(
            "authorization.revoked",
            organization_id=OTHER,
            by="system:test",
            target=written[3],
            facts=[written[3]],
        )
        second = restore([vouching.pk, last_note.pk, *write_entries(6, OTHER)])
        seal()
        third = restore(write_entries(3))
        seal()
        entries = [*first, *second, *third]
        assert Membership.objects.count() == len(entries) == 16
        connection.close()
    yield Log(directory, entries, [note.pk for note in written])
    with django_db_blocker.unblock():
        clear()
        connection.close()


@pytest.fixture
def log(committed: Log, notes: None, db: None, audit_heads: Path) -> Log:
    """The committed log, with a copy of its heads: what the test does to either is undone."""
    shutil.copytree(committed.heads, audit_heads)
    return Log(audit_heads, committed.entries, committed.notes)
