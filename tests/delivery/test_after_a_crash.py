"""Claims that dead processes left: whoever looks, whatever the campaign, whosever the address."""

import os

import pytest
from django.conf import settings as django_settings

from audit.models import Entry
from campaigns import launch
from consent.locking import database_time
from delivery import freeze, journal, recover, tasks, throttle
from delivery.journal import Ending, Journal
from delivery.models import Message, Receipt, SendingIP
from delivery.recover import resolve_doubt
from tests.delivery.conftest import send
from tests.factories import make_addresses, make_authorized, make_form, make_scheduled, make_user

pytestmark = pytest.mark.django_db

ADDRESS = "127.0.0.11"


@pytest.fixture
def left(organization, form, due, addresses):
    """Three marked messages and the journal of the process that is about to die."""
    for _ in range(6):
        make_authorized(organization, form)
    due()
    return left_on(addresses[0])


def left_on(address):
    own = Journal.open(django_settings.JOURNAL_DIR, address.address)
    messages = throttle.claim(address, own.id)
    Message.objects.filter(pk__in=[m.pk for m in messages]).update(
        state="handing_over", handed_over_at=database_time()
    )
    return own, messages


def states(messages):
    found = dict(Message.objects.values_list("pk", "state"))
    return [found[message.pk] for message in messages]


def test_a_journal_that_somebody_else_looks_at_just_now_is_left_for_the_next_time(
    left, addresses, monkeypatch
):
    """Each address's process looks through the same directory: a journal in another's hands is not a lost one."""
    own, messages = left
    own.leave()
    real = journal.orphans

    def while_another_looks(directory):
        descriptor = journal._lock(own.path)
        try:
            yield from real(directory)
        finally:
            os.close(descriptor)

    monkeypatch.setattr(journal, "orphans", while_another_looks)
    assert recover.recover(addresses[0]) == {}
    assert states(messages) == ["handing_over"] * 3

    monkeypatch.setattr(journal, "orphans", real)
    assert recover.recover(addresses[0]) == {"queued": 3}


def test_looking_after_one_address_touches_no_journal_of_another(left, addresses):
    own, messages = left
    own.leave()

    assert recover.recover(addresses[1]) == {}

    assert own.path.exists()
    assert states(messages) == ["handing_over"] * 3


def test_an_unreadable_journal_leaves_doubt_and_sends_nothing_again(left, addresses, inbox):
    own, messages = left
    own.before(messages[0].pk, 1)
    own.leave()
    content = own.path.read_bytes()
    own.path.write_bytes(content.replace(b"journal 1", b"journal 9"))
    Message.objects.filter(pk=messages[2].pk).update(state="claimed", handed_over_at=None)

    assert recover.recover(addresses[0]) == {"in_doubt": 2, "queued": 1}

    assert send([addresses[0]]) == 1
    assert [one.envelope_to for one in inbox.received()] == [messages[2].contact.email]


def test_an_older_line_says_nothing_of_a_later_attempt(left, addresses):
    """What was given back and claimed again keeps its attempt, but never its journal."""
    own, (message, *_) = left
    own.before(message.pk, 1)
    own.after(message.pk, 1, Ending.DEFERRED, 451)
    own.leave()
    Message.objects.filter(pk=message.pk).update(attempt=2)

    recover.recover(addresses[0])

    assert Message.objects.get(pk=message.pk).state == "deferred"
    assert Message.objects.get(pk=message.pk).attempt == 1
    assert not Receipt.objects.filter(message=message).exists()


def test_a_claim_given_back_is_never_claimed_under_an_old_journal(left, addresses):
    own, messages = left
    own.leave()
    recover.recover(addresses[0])
    again = Journal.open(django_settings.JOURNAL_DIR, ADDRESS)

    claimed = throttle.claim(addresses[0], again.id)

    assert {message.pk for message in claimed} == {message.pk for message in messages}
    assert {(m.attempt, m.journal_id) for m in claimed} == {(1, again.id)}
    assert again.id != own.id and not own.path.exists()
    again.close()


@pytest.fixture
def neighbours(other_organization, charlie):
    """Another organization on the same address, with a campaign of its own."""
    form = make_form(other_organization)
    for _ in range(2):
        make_authorized(other_organization, form)
    addresses = make_addresses(other_organization)
    make_scheduled(other_organization, by=charlie)
    assert freeze.launch_due() == 1
    return addresses


def test_two_organizations_on_one_address_are_told_apart(left, addresses, neighbours, inbox):
    own, messages = left
    own.before(messages[0].pk, 1)
    own.leave()
    other, theirs = left_on(neighbours[0])
    other.before(theirs[0].pk, 1)
    other.leave()

    assert recover.recover(neighbours[0]) == {"in_doubt": 2, "queued": 2}

    entries = Entry.objects.filter(action="message.recorded")
    assert {entry.organization_id: entry.count for entry in entries} == {
        messages[0].organization_id: 1,
        theirs[0].organization_id: 1,
    }
    assert {r.message_id: r.organization_id for r in Receipt.objects.all()} == {
        messages[0].pk: messages[0].organization_id,
        theirs[0].pk: theirs[0].organization_id,
    }


def test_a_slice_of_one_organization_sends_nothing_of_another_on_the_same_address(
    left, addresses, neighbours, inbox
):
    left[0].leave()

    assert send([neighbours[0]]) == 1

    ours = Message.objects.filter(organization=addresses[0].organization)
    assert set(ours.values_list("state", flat=True)) == {"queued"}


@pytest.mark.parametrize("end", [launch.pause, launch.cancel], ids=["paused", "cancelled"])
def test_what_a_crash_left_is_settled_in_a_campaign_that_does_not_send_any_more(
    left, addresses, alice, monkeypatch, end
):
    own, messages = left
    own.before(messages[0].pk, 1)
    own.leave()
    end(messages[0].campaign, by=alice)
    woken = []
    monkeypatch.setattr(
        tasks.send_slice, "apply_async", lambda ids, **options: woken.append((ids, options))
    )

    tasks.wake()
    assert [ids for ids, _ in woken] == [[str(addresses[0].pk)]]

    assert send([SendingIP.objects.get(pk=ids[0]) for ids, _ in woken]) == 0
    freeze.tidy()
    after = "queued" if end is launch.pause else "cancelled"
    assert states(messages) == ["in_doubt", after, after]
    woken.clear()
    tasks.wake()
    assert woken == []


def test_a_closed_address_is_woken_to_settle_its_claims_and_sends_nothing(
    left, addresses, monkeypatch, inbox
):
    own, messages = left
    own.leave()
    SendingIP.objects.filter(pk=addresses[0].pk).update(is_open=False)
    woken = []
    monkeypatch.setattr(tasks.send_slice, "apply_async", lambda ids, **_: woken.append(ids))

    tasks.wake()

    assert [str(addresses[0].pk)] in woken
    assert send([addresses[0]]) == 0
    assert states(messages) == ["queued"] * 3
    assert inbox.received() == []


def test_doubt_is_resolved_in_the_organization_of_who_resolves_it(
    left, addresses, other_organization, petra
):
    own, messages = left
    own.close()
    recover.recover(addresses[0])
    stranger = make_user("privacy_officer", other_organization)

    ids = [message.pk for message in messages]
    assert resolve_doubt(other_organization, ids, arrived=False, by=stranger) == 0
    assert states(messages) == ["in_doubt"] * 3
    assert not Entry.objects.filter(action="message.resolved").exists()

    assert resolve_doubt(addresses[0].organization, ids, arrived=True, by=petra) == 3
    assert states(messages) == ["sent"] * 3
    assert Entry.objects.get(action="message.resolved").count == 3
