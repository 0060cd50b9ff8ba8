"""Writing entries: what is kept, what is refused, and what survives a rollback."""

import datetime as dt
import uuid
from types import SimpleNamespace

import pytest
from django.db import connection, transaction

from audit.actions import UnknownAction
from audit.models import Entry, Fact
from audit.record import denied, record
from tests.audit.conftest import ORGANIZATION, Note, write_note

pytestmark = pytest.mark.django_db


def record_detail(**detail: object) -> Entry:
    return record("contact.viewed", organization_id=ORGANIZATION, by="system:test", detail=detail)


def test_an_entry_keeps_who_what_where_and_when(alice, organization):
    before = dt.datetime.now(dt.UTC)
    campaign = uuid.uuid4()

    record(
        "contact.changed",
        organization_id=organization.pk,
        by=alice,
        target=organization,
        count=2,
        fields=["email", "last_visit"],
        detail={"campaign": campaign, "reason": "opted_out"},
    )

    entry = Entry.objects.get(action="contact.changed")
    assert entry.actor == f"user:{alice.pk}"
    assert entry.organization_id == organization.pk
    assert (entry.target_label, entry.target_id) == ("accounts.Organization", organization.pk)
    assert entry.count == 2
    assert entry.fields == ["email", "last_visit"]
    assert entry.detail == {"campaign": str(campaign), "reason": "opted_out"}
    assert entry.facts == {}
    assert before - dt.timedelta(seconds=5) < entry.at < before + dt.timedelta(minutes=1)


def test_an_entry_goes_with_the_callers_transaction():
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        record_detail(reason="asked")
        raise ZeroDivisionError

    assert not Entry.objects.exists()


def test_an_action_that_nobody_declared_is_refused():
    with pytest.raises(UnknownAction):
        record("contact.hugged", organization_id=ORGANIZATION, by="system:test")

    assert not Entry.objects.exists()


# --- no person's value


@pytest.mark.parametrize(
    "value",
    [
        "Zebulon Canary",
        "zebulon canary",
        "zebulon@example.org",
        "Zebulon",
        "4 Canary Street",
        "x" * 65,
        "",
        "naïve",
        "two\nlines",
        "1931-05-07",
        dt.date(1931, 5, 7),
        dt.datetime(1931, 5, 7, tzinfo=dt.UTC),
        3.5,
        b"bytes",
        {"nested": "x"},
        ["zebulon canary"],
        [["nested"]],
        ["1931-05-07"],
        object(),
        list(range(1001)),
    ],
)
def test_a_value_that_could_be_a_persons_is_refused_and_not_repeated(value):
    with pytest.raises(ValueError) as error:
        record_detail(note=value)

    assert "note" in str(error.value)
    assert "anary" not in str(error.value)
    assert "1931" not in str(error.value)
    assert not Entry.objects.exists()


@pytest.mark.parametrize(
    "key",
    ["email", "first_name", "birth_date", "contact.email", "zip", "Upper", "a b", "", "x" * 65],
)
def test_a_key_that_would_hold_a_persons_value_is_refused(key):
    with pytest.raises(ValueError):
        record_detail(**{key: 1})

    assert not Entry.objects.exists()


@pytest.mark.parametrize("name", ["zebulon canary", "zebulon@example.org", "Zebulon", "", 7, None])
def test_fields_are_names(name):
    with pytest.raises(ValueError):
        record("contact.viewed", organization_id=ORGANIZATION, by="system:test", fields=[name])

    assert not Entry.objects.exists()


def test_ids_numbers_words_and_named_dates_are_kept():
    some = uuid.uuid4()
    at = dt.datetime(2026, 1, 2, 3, tzinfo=dt.timezone(dt.timedelta(hours=1)))

    entry = record_detail(
        id=some,
        ids=[some, some],
        n=10**12,
        yes=True,
        none=None,
        word="opted_out",
        ip="127.0.0.11",
        digest="a" * 64,
        effective_on=dt.date(2026, 1, 2),
        since="2026-01-02",
        sent_at=at,
    )

    assert Entry.objects.get(pk=entry.pk).detail == {
        "id": str(some),
        "ids": [str(some), str(some)],
        "n": 10**12,
        "yes": True,
        "none": None,
        "word": "opted_out",
        "ip": "127.0.0.11",
        "digest": "a" * 64,
        "effective_on": "2026-01-02",
        "since": "2026-01-02",
        "sent_at": "2026-01-02T02:00:00.000000Z",
    }


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"by": None}, TypeError),
        ({"by": SimpleNamespace(pk=None)}, TypeError),
        ({"by": SimpleNamespace(pk=7)}, TypeError),
        ({"by": "Zebulon Canary"}, ValueError),
        ({"by": "system:"}, ValueError),
        ({"organization_id": None}, TypeError),
        ({"organization_id": str(ORGANIZATION)}, TypeError),
        ({"count": -1}, TypeError),
        ({"count": True}, TypeError),
        ({"count": 1.5}, TypeError),
        ({"target": Entry(pk=5)}, TypeError),
    ],
)
def test_an_argument_of_another_kind_is_refused(arguments, error):
    plain = {"organization_id": ORGANIZATION, "by": "system:test"}

    with pytest.raises(error):
        record("contact.viewed", **{**plain, **arguments})

    assert not Entry.objects.exists()


# --- facts


@pytest.mark.django_db(transaction=True)
def test_facts_that_cannot_be_kept_leave_nothing(notes):
    stored = write_note()

    with pytest.raises(LookupError):
        record(
            "authorization.recorded",
            organization_id=ORGANIZATION,
            by="system:test",
            facts=[stored, Note(text="never saved")],
        )

    assert not Entry.objects.exists()
    assert not Fact.objects.exists()


# --- denials


def refuse(**arguments: object) -> None:
    """A verb that refuses, as verbs do: in a transaction that is rolled back."""
    with transaction.atomic():
        write_note(text="half done")
        denied(
            "access.denied",
            organization_id=ORGANIZATION,
            by="system:test",
            **{"reason": "own_work", **arguments},
        )
        raise PermissionError


def test_a_denial_survives_the_rollback_that_follows_it(notes):
    with pytest.raises(PermissionError):
        refuse()

    assert not Note.objects.exists()
    assert Entry.objects.get().detail == {"reason": "own_work"}
    assert Entry.objects.get().actor == "system:test"


@pytest.mark.django_db(transaction=True)
def test_a_denial_survives_without_a_tests_transaction_around_it(notes, alice):
    with pytest.raises(PermissionError):
        refuse(target=alice)

    entry = Entry.objects.get(action="access.denied")
    assert (entry.target_label, entry.target_id) == ("accounts.User", alice.pk)
    assert not Note.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_denial_outside_a_transaction_is_written_at_once():
    denied("access.denied", organization_id=ORGANIZATION, by="system:test", reason="not_a_member")

    assert Entry.objects.get().detail == {"reason": "not_a_member"}


def test_a_denial_is_seen_by_others_before_the_caller_ends(notes):
    with transaction.atomic():
        denied("access.denied", organization_id=ORGANIZATION, by="system:test", reason="own_work")
        other = connection.copy()
        try:
            with other.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM audit_entry WHERE action = 'access.denied'")
                assert cursor.fetchone() == (1,)
        finally:
            other.close()


@pytest.mark.parametrize("reason", ["Zebulon Canary", "zebulon@example.org"])
def test_a_denials_reason_is_a_word(notes, reason):
    with pytest.raises(ValueError):
        refuse(reason=reason)

    assert not Entry.objects.exists()
