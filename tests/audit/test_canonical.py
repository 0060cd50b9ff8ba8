"""The bytes that are hashed: one for each content, and the same from Python as from the database."""

import datetime as dt
import json
import uuid

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.canonical import block_line, entry_line, jsonb_text, moment
from audit.models import LINE_COLUMNS, Block, Entry
from audit.record import record
from tests.audit.conftest import ORGANIZATION

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | text
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=4),
    max_leaves=8,
)
columns = st.tuples(
    st.integers(1, 2**63 - 1),
    st.integers(0, 2**64 - 1).map(str),
    st.datetimes(timezones=st.just(dt.UTC)).map(moment),
    text,
    st.uuids().map(str),
    text,
    text,
    st.none() | st.uuids().map(str),
    st.none() | st.integers(0, 2**40),
    st.lists(text, max_size=3).map(jsonb_text),
    st.dictionaries(text, scalars, max_size=3).map(jsonb_text),
    st.dictionaries(text, scalars, max_size=2).map(jsonb_text),
)


def parsed(line: bytes) -> tuple:
    held = json.loads(line)
    assert held.pop("format") == "hipaamail.entry.1"
    return (
        held["id"],
        str(held["xid"]),
        held["at"],
        held["action"],
        held["organization"],
        held["actor"],
        held["target"],
        held["target_id"],
        held["count"],
        jsonb_text(held["fields"]),
        jsonb_text(held["detail"]),
        jsonb_text(held["facts"]),
    )


@given(columns)
def test_a_line_gives_back_its_columns_so_no_two_entries_share_one(values):
    line = entry_line(*values)

    assert parsed(line) == values
    assert b"\n" not in line


@given(columns, columns)
def test_two_lines_are_equal_only_for_equal_columns(one, other):
    assert (entry_line(*one) == entry_line(*other)) == (one == other)


@pytest.mark.django_db
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(documents)
def test_a_json_text_is_what_postgresql_prints(db, document):
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::jsonb::text", [json.dumps(document)])
        printed = cursor.fetchone()[0]

    assert jsonb_text(document) == printed


def test_not_a_number_has_no_text():
    with pytest.raises(ValueError):
        jsonb_text({"n": float("nan")})


@pytest.mark.django_db
def test_the_line_of_an_instance_is_the_line_of_its_row():
    entry = record(
        "import.applied",
        organization_id=ORGANIZATION,
        by="system:test",
        count=3,
        fields=["zip", "email"],
        detail={"zz": None, "a": True, "import": uuid.uuid4(), "since": dt.date(2026, 1, 2)},
    )

    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {LINE_COLUMNS} FROM audit_entry e WHERE id = %s", [entry.pk])
        row = cursor.fetchone()

    assert entry.canonical() == entry_line(*row)
    assert Entry.objects.get(pk=entry.pk).canonical() == entry_line(*row)


def test_every_column_of_an_entry_changes_its_line():
    entry = Entry(
        pk=1,
        xid=2,
        at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        action="contact.viewed",
        organization_id=ORGANIZATION,
        actor="system:test",
    )
    others = {
        "id": 9,
        "xid": 9,
        "at": dt.datetime(2026, 1, 1, 0, 0, 0, 1, dt.UTC),
        "action": "contact.erased",
        "organization_id": uuid.UUID(int=9),
        "actor": "system:other",
        "target_label": "audit.Entry",
        "target_id": uuid.UUID(int=9),
        "count": 0,
        "fields": ["email"],
        "detail": {"n": 1},
        "facts": {"a.B": {}},
    }
    assert set(others) == {field.attname for field in Entry._meta.concrete_fields}

    lines = {entry.canonical()}
    for name, value in others.items():
        kept = getattr(entry, name)
        setattr(entry, name, value)
        lines.add(entry.canonical())
        setattr(entry, name, kept)

    assert len(lines) == len(others) + 1


def test_every_column_of_a_block_but_its_signature_changes_its_header():
    plain = {
        "number": 1,
        "previous": bytes(32),
        "root": bytes(32),
        "count": 1,
        "total": 1,
        "first_id": 1,
        "last_id": 1,
        "watermark": 1,
        "sealed_at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        "public_key": bytes(32),
    }
    assert {*plain, "signature"} == {field.attname for field in Block._meta.concrete_fields}

    headers = {block_line(**plain)}
    for name, value in plain.items():
        if isinstance(value, bytes):
            changed = b"\x01" * 32
        elif isinstance(value, int):
            changed = value + 1
        else:
            changed = value + dt.timedelta(microseconds=1)
        headers.add(block_line(**{**plain, name: changed}))

    assert len(headers) == len(plain) + 1


def test_a_time_is_written_in_utc_with_microseconds():
    east = dt.timezone(dt.timedelta(hours=2))

    assert moment(dt.datetime(2026, 1, 1, 1, tzinfo=east)) == "2025-12-31T23:00:00.000000Z"
