"""Freezing: one organization's trouble is its own, and a campaign begins only as it was approved."""

import datetime as dt
from contextlib import contextmanager

import pytest
from django.db import DatabaseError, OperationalError, connection, transaction

from accounts.models import Organization, SendingDomain
from audit.models import Entry
from campaigns import binding, launch
from campaigns.models import Campaign, Sender, Submission
from consent.locking import database_time
from contacts import segments
from contacts.models import Segment
from delivery import freeze
from delivery.models import DkimKey, IPPool, Message, SendingIP, Stream
from tests.delivery.conftest import send, states
from tests.factories import (
    make_addresses,
    make_authorized,
    make_campaign,
    make_form,
    make_organization,
    make_revision,
    make_scheduled,
    make_sender,
    make_user,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann(organization, form):
    return make_authorized(organization, form, email="ann@mail.example")


def ready(organization):
    """Return a campaign of an organization that is due."""
    make_authorized(organization, make_form(organization))
    make_addresses(organization)
    return make_scheduled(organization, by=make_user("marketer", organization))


def began(campaign):
    campaign.refresh_from_db()
    return campaign.status == "sending"


def raw(statement, *params):
    with connection.cursor() as cursor:
        cursor.execute("set constraints all immediate")
        cursor.execute(statement, params)


def test_a_campaign_that_raises_holds_up_no_other_organizations(monkeypatch):
    broken, sound = ready(make_organization()), ready(make_organization())
    real = freeze.freeze

    def raises(campaign, *arguments):
        if campaign.pk == broken.pk:
            raise DatabaseError("Key (email)=(ann@mail.example) is not there")
        return real(campaign, *arguments)

    monkeypatch.setattr(freeze, "freeze", raises)
    assert freeze.launch_due() == 1

    assert began(sound) and not began(broken)
    assert (broken.status, broken.held_reason) == ("scheduled", "broken")
    assert not Message.objects.filter(campaign=broken).exists()


def test_what_raised_is_logged_without_what_it_said(monkeypatch, caplog):
    campaign = ready(make_organization())

    def raises(*arguments):
        raise DatabaseError("Key (email)=(ann@mail.example) is not there")

    monkeypatch.setattr(freeze, "freeze", raises)
    freeze.launch_due()

    assert str(campaign.pk) in caplog.text
    assert "DatabaseError" in caplog.text
    assert "ann@" not in "".join(r.getMessage() for r in caplog.records)


def test_a_database_that_is_gone_is_no_campaigns_fault(monkeypatch):
    campaign = ready(make_organization())

    def raises(*arguments):
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(freeze, "freeze", raises)
    with pytest.raises(OperationalError):
        freeze.launch_due()

    campaign.refresh_from_db()
    assert (campaign.status, campaign.held_reason) == ("scheduled", "")


def test_an_organization_without_a_stream_holds_its_own_campaign():
    campaign, other = ready(make_organization()), ready(make_organization())
    SendingIP.objects.filter(organization=campaign.organization).delete()
    IPPool.objects.filter(organization=campaign.organization).delete()
    Stream.objects.filter(organization=campaign.organization).delete()

    assert freeze.launch_due() == 1

    assert began(other) and not began(campaign)
    assert campaign.held_reason == "stream_paused"


def test_an_address_that_does_not_open_holds_one_message_and_not_the_campaign(
    organization, form, ann, alice, addresses, inbox
):
    ben = make_authorized(organization, form, email="ben@other.example")
    campaign = make_scheduled(organization, by=alice)
    raw(
        "update contacts_contact set email = (select email from contacts_contact where id = %s) where id = %s",
        ann.pk,
        ben.pk,
    )

    assert freeze.launch_due() == 1
    send(addresses)

    found = {
        m.contact_id: f"{m.state} {m.reason}" for m in Message.objects.filter(campaign=campaign)
    }
    assert found == {ann.pk: "sent ", ben.pk: "withheld unreadable"}
    assert [one.envelope_to for one in inbox.received()] == ["ann@mail.example"]


def test_nobody_sends_from_another_organizations_domain(ann, organization, alice, addresses):
    stranger = make_sender(make_organization())
    campaign = make_scheduled(organization, by=alice)
    sender = Sender.objects.create(
        organization=organization, domain=stranger.domain, local_part="ceo", display_name="CEO"
    )
    Campaign.objects.filter(pk=campaign.pk).update(sender=sender)
    campaign.refresh_from_db()

    assert not freeze.sender_ready(campaign)
    assert freeze.launch_due() == 0
    assert not Message.objects.exists()


@pytest.mark.parametrize(
    "columns",
    [
        {"reply_to": "care@clinic.example\r\nBcc: eve@evil.example"},
        {"reply_to": "care@clinic.example, eve@evil.example"},
        {"local_part": "news\r\nBcc: eve"},
        {"local_part": "news@evil.example> <x"},
    ],
    ids=lambda columns: next(iter(columns)),
)
def test_a_sender_that_would_write_headers_of_its_own_is_not_ready(
    columns, ann, organization, alice, addresses, inbox
):
    sender = make_sender(organization, **columns)
    campaign = make_scheduled(organization, by=alice, sender=sender)

    assert freeze.launch_due() == 0

    campaign.refresh_from_db()
    assert campaign.held_reason == "sender_not_ready"
    assert send(addresses) == 0
    assert inbox.received() == []


#: What may be missing when the time comes, and what the campaign then says.
NOT_YET = {
    "an unverified domain": (lambda: SendingDomain.objects.update(verified_at=None), "sender_not_ready"),
    "a retired key": (lambda: DkimKey.objects.update(retired_at=database_time()), "sender_not_ready"),
    "a key that is not in use": (lambda: DkimKey.objects.update(used_from=None), "sender_not_ready"),
    "a paused stream": (lambda: Stream.objects.update(is_open=False), "stream_paused"),
    "closed addresses": (lambda: SendingIP.objects.update(is_open=False), "no_sending_address"),
    "an organization out of use": (lambda: Organization.objects.update(is_active=False), "organization_stopped"),
    "the kill switch": (lambda: Organization.objects.update(sending_stopped_at=database_time()), "organization_stopped"),
    "an agreement that ended": (lambda: Organization.objects.update(agreement_ends_on=dt.date(2026, 1, 1)), "agreement_ended"),
}  # fmt: skip


def test_a_campaign_that_may_not_begin_waits_and_says_why(ann, organization, alice, addresses):
    campaign = make_scheduled(organization, by=alice)

    for what, (change, reason) in NOT_YET.items():
        with undone():
            change()
            assert freeze.launch_due() == 0, what
            campaign.refresh_from_db()
            assert (campaign.status, campaign.held_reason) == ("scheduled", reason), what
            assert not Message.objects.exists()
            assert not Entry.objects.filter(action="audience.frozen").exists()


@contextmanager
def undone():
    """Take back what is done to the database inside."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


#: What somebody with SQL could change after the approval; the hash must notice each.
TAMPERING = {
    "the revision": lambda c: Campaign.objects.filter(pk=c.pk).update(
        revision=make_revision(c.organization, "Buy")
    ),
    "the purpose": lambda c: Campaign.objects.filter(pk=c.pk).update(purpose="OWN_PRODUCT"),
    "who pays": lambda c: Campaign.objects.filter(pk=c.pk).update(payer="Acme"),
    "the amount": lambda c: Campaign.objects.filter(pk=c.pk).update(remuneration_cents=1),
    "tracking": lambda c: Campaign.objects.filter(pk=c.pk).update(is_tracked=True),
    "the segment": lambda c: Campaign.objects.filter(pk=c.pk).update(segment=None),
    "the criteria": lambda c: Segment.objects.bulk_update(
        [Segment(pk=c.segment_id, organization=c.organization, criteria={"all": []})], ["criteria"]
    ),
    "the sender's name": lambda c: Sender.objects.update(display_name="Your bank"),
    "the sender's address": lambda c: Sender.objects.update(local_part="ceo"),
    "where answers go": lambda c: Sender.objects.update(reply_to="eve@evil.example"),
    "the organization's name": lambda c: Organization.objects.update(name="Your bank"),
    "the organization's address": lambda c: Organization.objects.update(postal_address="Elsewhere"),
    "the transport policy": lambda c: Organization.objects.update(transport_policy="verified"),
    "the bytes": lambda c: rewritten("pieces = pieces || 'x'"),
    "the hash": lambda c: rewritten("content_hash = sha256('x')"),
    "what is bound": lambda c: rewritten("bound = bound || 'x'"),
}  # fmt: skip


def rewritten(assignment):
    raw("alter table campaigns_submission disable trigger user")
    raw(f"update campaigns_submission set {assignment}")
    raw("alter table campaigns_submission enable trigger user")


def illinois(organization, form, alice):
    """Return a segment in which not everybody is."""
    make_authorized(organization, form, state="IL")
    make_authorized(organization, form, state="WI")
    criteria = {"all": [{"field": "state", "op": "is", "value": "IL"}]}
    return segments.create(organization, "Illinois", criteria, by=alice)


def test_what_changed_behind_an_approval_is_never_sent(organization, form, alice, addresses, inbox):
    campaign = make_scheduled(organization, by=alice, segment=illinois(organization, form, alice))

    for what, change in TAMPERING.items():
        with undone():
            change(Campaign.objects.get(pk=campaign.pk))
            freeze.launch_due()
            send(addresses)
            assert not began(campaign), what
            assert campaign.held_reason in {"campaign_not_approved", "broken"}, what
            assert not Message.objects.exists()
    assert inbox.received() == []
    assert freeze.launch_due() == 1


def test_what_changes_while_a_campaign_is_sending_pauses_it(
    organization, form, alice, addresses, inbox, due
):
    campaign = due(segment=illinois(organization, form, alice))

    for what, change in TAMPERING.items():
        with undone():
            change(Campaign.objects.get(pk=campaign.pk))
            send(addresses)
            campaign.refresh_from_db()
            assert campaign.status == "paused", what
            assert campaign.held_reason in {"campaign_not_approved", "purpose_refused", "broken"}
            assert set(states(campaign).values()) == {"queued"}
    assert inbox.received() == []
    campaign.refresh_from_db()
    assert send(addresses) == 1


def test_an_approval_of_other_bytes_counts_for_nothing(ann, organization, alice, addresses):
    """Who rewrites the bytes, their hash and the campaign to fit still lacks an approval of that hash."""
    campaign = make_scheduled(organization, by=alice)
    other = make_campaign(organization, by=alice, revision=make_revision(organization, "Buy"))
    theirs = launch.submit(other, by=alice)
    Campaign.objects.filter(pk=campaign.pk).update(revision=other.revision, sender=other.sender)
    raw("alter table campaigns_submission disable trigger user")
    raw(
        "update campaigns_submission set pieces = %s, content_hash = %s where campaign_id = %s",
        bytes(theirs.pieces),
        bytes(theirs.content_hash),
        campaign.pk,
    )
    campaign = Campaign.objects.get(pk=campaign.pk)
    assert binding.still_binds(campaign, campaign.latest_submission())

    assert freeze.launch_due() == 0

    campaign.refresh_from_db()
    assert (campaign.status, campaign.held_reason) == ("draft", "campaign_not_approved")
    assert not Message.objects.exists()


def test_an_expired_approval_begins_nothing(ann, organization, alice, addresses):
    campaign = make_scheduled(organization, by=alice)
    raw("alter table campaigns_approval disable trigger user")
    raw("update campaigns_approval set expires_at = now() - interval '1 second'")

    assert freeze.launch_due() == 0

    campaign.refresh_from_db()
    assert (campaign.status, campaign.held_reason) == ("draft", "campaign_not_approved")


def test_the_bytes_that_were_approved_are_those_that_are_kept(ann, organization, alice, addresses):
    make_scheduled(organization, by=alice)
    before = bytes(Submission.objects.get().pieces)

    freeze.launch_due()

    assert bytes(Message.objects.get().submission.pieces) == before
