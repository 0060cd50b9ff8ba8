"""What the ledger forgets, and when; the rows stay."""

import datetime as dt

import pytest
from django.conf import settings as django_settings
from django.db import connection

from audit.models import Entry
from consent.locking import database_time
from contacts import erase
from delivery import events, freeze, retention, tasks
from delivery.models import Message
from phi.keys import PLATFORM
from tests.delivery.conftest import send
from tests.factories import BY, make_authorized

pytestmark = pytest.mark.django_db

KEPT = dt.timedelta(days=90)


@pytest.fixture
def sent(organization, form, due, addresses, inbox):
    """Two sent messages with what was filled in."""
    for name in ("Ann", "Ben"):
        make_authorized(organization, form, first_name=name, email=f"{name}@mail.example")
    campaign = due()
    send(addresses)
    freeze.tidy()
    return list(Message.objects.filter(campaign=campaign).order_by("pk"))


def values():
    return sorted(str(message.values) for message in Message.objects.all())


def test_merge_values_are_kept_for_ninety_days_and_then_emptied(sent):
    assert values() == ["{'first_name': 'Ann'}", "{'first_name': 'Ben'}"]
    last = max(message.finished_at for message in sent)

    assert retention.empty_values(last + KEPT - dt.timedelta(days=1)) == 0
    assert values() == ["{'first_name': 'Ann'}", "{'first_name': 'Ben'}"]

    assert retention.empty_values(last + KEPT + dt.timedelta(seconds=1)) == 2
    assert values() == ["None", "None"]
    assert set(Message.objects.values_list("state", flat=True)) == {"sent"}


def test_emptying_is_on_record_once(sent):
    later = database_time() + KEPT + dt.timedelta(days=1)
    retention.empty_values(later)
    assert retention.empty_values(later) == 0

    entry = Entry.objects.get(action="message.emptied")
    assert (entry.organization_id, entry.count) == (PLATFORM, 2)


def test_how_long_they_are_kept_is_a_setting(sent, settings):
    settings.VALUES_KEPT_DAYS = 0

    tasks.empty_values()

    assert values() == ["None", "None"]
    assert django_settings.VALUES_KEPT_DAYS == 0


def test_what_is_still_on_its_way_is_not_emptied(sent):
    Message.objects.filter(pk=sent[0].pk).update(state="deferred", finished_at=None)

    assert retention.empty_values(database_time() + KEPT + dt.timedelta(days=1)) == 1

    assert Message.objects.get(pk=sent[0].pk).values is not None


def test_erasing_a_person_empties_their_messages_and_nobody_elses(sent):
    ann, ben = sent
    certificate = erase.erase(ann.contact, by=BY)

    ann.refresh_from_db()
    assert certificate["rows"]["delivery"] == 1
    assert (ann.state, ann.values) == ("sent", None)
    assert Message.objects.get(pk=ben.pk).values is not None


def test_an_emptied_value_is_gone_from_the_table(sent):
    with connection.cursor() as cursor:
        erase.erase(sent[0].contact, by=BY)
        cursor.execute('select count(*) from delivery_message where "values" is not null')
        assert cursor.fetchone() == (1,)


def test_a_person_erased_while_their_message_is_on_the_wire_leaves_no_values_behind(
    organization, form, due, addresses, inbox, monkeypatch
):
    ann = make_authorized(organization, form, first_name="Ann", email="ann@mail.example")
    campaign = due()
    real = events.record_attempts

    def after_erasing(*arguments):
        erase.erase(ann, by=BY)
        return real(*arguments)

    monkeypatch.setattr(events, "record_attempts", after_erasing)
    send(addresses)

    message = Message.objects.get(campaign=campaign)
    assert len(inbox.received()) == 1
    assert (message.state, message.values) == ("sent", None)
