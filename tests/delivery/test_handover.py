"""The mark before the wire: what may still stop a message that was claimed, and what a claim may not hide."""

import datetime as dt
import threading

import pytest
from django.conf import settings as django_settings
from django.db import OperationalError, connection, transaction

from accounts import organizations
from accounts.models import Organization
from campaigns.models import Campaign
from consent import gate, stop
from consent.authorize import revoke
from consent.locking import database_time
from contacts import erase
from delivery import handover, pipeline, throttle, wire
from delivery.journal import Journal
from delivery.models import Message
from phi.digest import address_digest
from tests.delivery.conftest import send, states
from tests.factories import BY, make_authorized, make_revision

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann(organization, form):
    return make_authorized(organization, form, first_name="Ann", email="ann@mail.example")


@pytest.fixture
def ben(organization, form):
    return make_authorized(organization, form, first_name="Ben", email="ben@mail.example")


@pytest.fixture
def journal():
    journal = Journal.open(django_settings.JOURNAL_DIR, "127.0.0.11")
    yield journal
    journal.close()


def claim(addresses, journal):
    return [message for address in addresses for message in throttle.claim(address, journal.id)]


def move(contact, email):
    """Give a contact another address, as staff or an import does."""
    contact.email = email
    contact.email_digest = address_digest(contact.organization_id, email)
    contact.save()


def test_a_person_erased_after_freezing_is_withheld_and_holds_up_nobody(
    ann, ben, due, addresses, inbox
):
    campaign = due()
    erase.erase(ann, by=BY)

    send(addresses)

    assert [one.envelope_to for one in inbox.received()] == ["ben@mail.example"]
    assert Message.objects.get(campaign=campaign, contact=ann).reason == "erased"


def test_a_person_without_an_address_any_more_is_withheld_and_holds_up_nobody(
    ann, ben, due, addresses, inbox
):
    campaign = due()
    ann.email = ann.email_digest = ann.domain_digest = None
    ann.save()

    send(addresses)

    assert [one.envelope_to for one in inbox.received()] == ["ben@mail.example"]
    assert Message.objects.get(campaign=campaign, contact=ann).reason == "no_address"


def test_what_the_gate_says_of_a_person_goes_before_what_the_message_lacks(
    organization, form, due, addresses, inbox
):
    contact = make_authorized(organization, form, first_name=None)
    revision = make_revision(organization, subject="For {{ first_name }}")
    campaign = due(revision=revision)
    stop.opt_out(contact, "all", source="page", by=contact)

    send(addresses)

    assert set(states(campaign).values()) == {"withheld opted_out"}
    assert inbox.received() == []


def test_a_message_never_goes_to_the_address_that_a_person_had_before(
    ann, due, addresses, inbox, monkeypatch
):
    campaign = due()
    real = pipeline.hand_over

    def after_moving(*arguments):
        monkeypatch.setattr(pipeline, "hand_over", real)
        move(ann, "ann@new.example")
        return real(*arguments)

    monkeypatch.setattr(pipeline, "hand_over", after_moving)
    send(addresses)

    assert [one.envelope_to for one in inbox.received()] == ["ann@new.example"]
    message = Message.objects.get(campaign=campaign)
    assert (message.state, message.attempt) == ("sent", 1)


@pytest.mark.django_db(transaction=True)
def test_an_old_mark_is_not_made_again_for_an_address_that_changed(
    ann, due, addresses, inbox, monkeypatch
):
    campaign = due()
    real = pipeline._Run._renew

    def after_moving(self, message_id):
        monkeypatch.setattr(wire, "MARK_LASTS", 60)
        move(ann, "ann@new.example")
        return real(self, message_id)

    monkeypatch.setattr(wire, "MARK_LASTS", -1)
    monkeypatch.setattr(pipeline._Run, "_renew", after_moving)
    send(addresses)

    assert [one.envelope_to for one in inbox.received()] == ["ann@new.example"]
    assert states(campaign) == {"ann@new.example": "sent"}


def test_nothing_is_claimed_after_the_latest_time_even_if_nobody_tidied(
    ann, due, addresses, journal
):
    campaign = due()
    Campaign.objects.filter(pk=campaign.pk).update(latest_at=database_time())

    assert claim(addresses, journal) == []

    assert states(campaign) == {"ann@mail.example": "queued"}


def test_a_claim_is_given_back_when_the_latest_time_comes_before_the_mark(
    ann, due, addresses, journal
):
    campaign = due()
    claimed = claim(addresses, journal)
    Campaign.objects.filter(pk=campaign.pk).update(latest_at=database_time())

    marked = handover.hand_over(gate.ask(campaign.organization, "MARKETING"), campaign.pk, claimed)

    assert marked == set()
    message = Message.objects.get(campaign=campaign)
    assert (message.state, message.attempt, message.handed_over_at) == ("queued", 0, None)


@pytest.mark.parametrize(
    "stopped",
    [{"sending_stopped_at": dt.datetime(2026, 11, 1, tzinfo=dt.UTC)}, {"is_active": False}],
    ids=["the kill switch", "an organization put out of use"],
)
def test_a_stop_of_the_whole_organization_is_heard_between_claim_and_mark(
    stopped, ann, due, addresses, journal
):
    campaign = due()
    claimed = claim(addresses, journal)
    question = gate.ask(campaign.organization, "MARKETING")
    Organization.objects.filter(pk=campaign.organization_id).update(**stopped)

    assert handover.hand_over(question, campaign.pk, claimed) == set()

    assert states(campaign) == {"ann@mail.example": "queued"}


def test_the_kill_switch_is_heard_when_an_old_mark_is_made_again(ann, due, addresses, journal):
    campaign = due()
    claimed = claim(addresses, journal)
    question = gate.ask(campaign.organization, "MARKETING")
    assert handover.hand_over(question, campaign.pk, claimed) == {claimed[0].pk}

    organizations.stop_sending(campaign.organization, by=BY)

    assert handover.hand_over(question, campaign.pk, claimed) == set()
    assert states(campaign) == {"ann@mail.example": "queued"}


def test_a_message_tried_before_is_deferred_again_when_its_claim_is_given_back(
    ann, due, addresses, journal
):
    campaign = due()
    Message.objects.filter(campaign=campaign).update(state="deferred", attempt=1)

    handover.give_back(message.pk for message in claim(addresses, journal))

    message = Message.objects.get(campaign=campaign)
    assert (message.state, message.attempt, message.journal_id) == ("deferred", 1, None)


def test_a_revocation_after_the_mark_is_heard_when_the_mark_is_made_again(
    ann, due, addresses, journal, petra
):
    campaign = due()
    claimed = claim(addresses, journal)
    question = gate.ask(campaign.organization, "MARKETING")
    assert handover.hand_over(question, campaign.pk, claimed) == {claimed[0].pk}
    revoke(ann.authorizations.get(), source="phone", by=petra)

    assert handover.hand_over(question, campaign.pk, claimed) == set()

    assert states(campaign) == {"ann@mail.example": "withheld authorization_revoked"}


def test_a_failing_gate_leaves_claims_as_they_were(ann, due, addresses, journal, monkeypatch):
    campaign = due()
    claimed = claim(addresses, journal)

    def broken(*arguments):
        raise OperationalError("the check did not come to an end")

    monkeypatch.setattr(gate, "decide", broken)
    with pytest.raises(OperationalError):
        handover.hand_over(gate.ask(campaign.organization, "MARKETING"), campaign.pk, claimed)

    assert states(campaign) == {"ann@mail.example": "claimed"}


def test_a_campaign_of_another_organization_marks_nothing(
    ann, due, addresses, journal, other_organization
):
    campaign = due()
    claimed = claim(addresses, journal)

    marked = handover.hand_over(
        gate.ask(other_organization, "TRANSACTIONAL_OPS"), campaign.pk, claimed
    )

    assert marked == set()
    assert states(campaign) == {"ann@mail.example": "queued"}


@pytest.mark.django_db(transaction=True)
def test_a_stop_waits_for_a_mark_in_the_making_at_the_same_address(organization, form):
    """One of a household says stop, which holds for the other too: no mark of the other's may follow it."""
    ann, ben = (
        make_authorized(organization, form, email="home@mail.example", record_number=number)
        for number in ("R1", "R2")
    )
    question = gate.ask(organization, "MARKETING")
    errors = []

    def say_stop():
        try:
            with transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute("set local lock_timeout = '150ms'")
                stop.opt_out(ann, "commercial", source="page", by=ann)
        except OperationalError as error:
            errors.append(error)
        finally:
            connection.close()

    with transaction.atomic():
        assert gate.decide_locked(question, [ben.pk]) == {ben.pk: ""}
        thread = threading.Thread(target=say_stop)
        thread.start()
        thread.join()

    assert len(errors) == 1
    assert not ann.opt_outs.exists()
