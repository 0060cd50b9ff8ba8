"""After a crash: nothing is sent twice, and what is unclear says so."""

import pytest
from django.conf import settings as django_settings

from audit.models import Entry
from consent.locking import database_time
from delivery import throttle
from delivery.journal import Ending, Journal
from delivery.models import Message
from delivery.recover import recover, resolve_doubt
from tests.delivery.conftest import send
from tests.factories import make_authorized

pytestmark = pytest.mark.django_db


@pytest.fixture
def claimed(organization, form, due, addresses):
    """Three messages claimed on one address, as a process that is about to die leaves them."""
    for _ in range(6):
        make_authorized(organization, form)
    due()
    address = addresses[0]
    journal = Journal.open(django_settings.JOURNAL_DIR, address.address)
    messages = throttle.claim(address, journal.id)
    Message.objects.filter(pk__in=[m.pk for m in messages]).update(
        state="handing_over", handed_over_at=database_time()
    )
    return address, journal, messages


def state(message):
    return Message.objects.get(pk=message.pk).state


def test_the_journal_decides_what_became_of_each_claim(claimed):
    address, journal, (first, second, third) = claimed
    journal.before(first.pk, 1)
    journal.after(first.pk, 1, Ending.SENT, 250)
    journal.before(second.pk, 1)
    journal.leave()

    assert recover(address) == {"sent": 1, "in_doubt": 1, "queued": 1}

    assert (state(first), state(second), state(third)) == ("sent", "in_doubt", "queued")
    assert Message.objects.get(pk=third.pk).attempt == 0
    assert Entry.objects.filter(action="message.recorded").count() == 1


def test_a_living_process_keeps_its_claims(claimed):
    address, journal, messages = claimed

    assert recover(address) == {}

    assert {state(m) for m in messages} == {"handing_over"}
    journal.close()


def test_a_lost_journal_leaves_marked_messages_in_doubt_and_never_sends_them(claimed, inbox):
    address, journal, messages = claimed
    journal.close()
    Message.objects.filter(pk=messages[0].pk).update(state="claimed", handed_over_at=None)

    assert recover(address) == {"in_doubt": 2, "queued": 1}
    assert send([address]) == 1

    assert [one.envelope_to for one in inbox.received()] == [messages[0].contact.email]


def test_recovering_twice_changes_nothing_more(claimed):
    address, journal, _ = claimed
    journal.leave()
    recover(address)

    assert recover(address) == {}


def test_a_person_settles_what_is_in_doubt(claimed, petra, inbox):
    address, journal, (first, second, third) = claimed
    journal.close()
    recover(address)

    assert resolve_doubt(address.organization, [first.pk], arrived=True, by=petra) == 1
    assert resolve_doubt(address.organization, [second.pk], arrived=False, by=petra) == 1
    assert resolve_doubt(address.organization, [first.pk], arrived=False, by=petra) == 0

    assert (state(first), state(second), state(third)) == ("sent", "failed", "in_doubt")
    assert send([address]) == 0
    assert inbox.received() == []
