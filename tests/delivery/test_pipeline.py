"""The whole road, from a due campaign to receipts, against a real server with TLS."""

import datetime as dt
from email import message_from_bytes
from email.policy import default as policy

import dkim
import pytest
from django.conf import settings as django_settings
from django.db import connection

from audit.models import Entry
from campaigns import audience, launch
from campaigns.models import Campaign
from consent import gate, stop
from consent.authorize import revoke
from consent.locking import database_time
from consent.models import Suppression
from contacts import segments
from contacts.terms import index
from delivery import compose, freeze, mx, pipeline, throttle, unsubscribe
from delivery.domains import new_key, records, use_key
from delivery.handover import hand_over
from delivery.journal import Journal
from delivery.models import Destination, Event, Message, Receipt
from delivery.verp import read as read_verp
from phi.digest import address_digest
from phi.keys import Unreadable
from tests.delivery.conftest import send, states
from tests.factories import (
    make_authorized,
    make_form,
    make_person,
    make_revision,
    make_scheduled,
    sign,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann(organization, form):
    return make_authorized(organization, form, first_name="Ann", email="ann@mail.example")


def test_a_campaign_goes_out_over_tls_signed_and_from_both_addresses(
    organization, form, due, addresses, inbox
):
    for number in range(6):
        make_authorized(
            organization, form, first_name=f"P{number}", email=f"p{number}@mail.example"
        )
    campaign = due()

    assert send(addresses) == 6
    freeze.tidy()

    got = inbox.received()
    assert {one.envelope_to for one in got} == {f"p{n}@mail.example" for n in range(6)}
    assert {one.peer_ip for one in got} == {"127.0.0.11", "127.0.0.12"}
    assert all(one.tls_version in {"TLSv1.2", "TLSv1.3"} for one in got)
    keys = {
        f"{name}.".encode(): v["TXT"].encode()
        for name, v in records(organization).items()
        if "TXT" in v
    }
    assert all(
        dkim.verify(one.message, dnsfunc=lambda name, timeout=5: keys.get(name)) for one in got
    )
    assert Campaign.objects.get(pk=campaign.pk).status == "sent"
    assert set(states(campaign).values()) == {"sent"}


def test_a_message_has_one_recipient_and_the_headers_of_its_kind(ann, due, addresses, inbox):
    campaign = due()
    send(addresses)

    message = Message.objects.get(campaign=campaign)
    (one,) = inbox.received()
    mail = message_from_bytes(one.message, policy=policy)
    assert mail["To"] == "ann@mail.example"
    assert mail["List-Unsubscribe"] == f"<{unsubscribe.url(message.pk)}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert not mail.get_all("Cc") and not mail.get_all("Bcc")
    assert read_verp(one.envelope_from, django_settings.TOKEN_KEY) == message.pk
    assert str(message.pk) not in mail["Message-ID"]
    assert "Ann" in mail.get_body(("plain",)).get_content()
    assert "Ann" in mail.get_body(("html",)).get_content()


def test_each_message_keeps_its_receipt_and_its_values(ann, due, addresses, inbox):
    campaign = due()
    send(addresses)

    message, receipt = Message.objects.get(campaign=campaign), Receipt.objects.get()
    assert (receipt.state, receipt.attempt, receipt.code) == ("sent", 1, 250)
    assert receipt.tls_version.startswith("TLSv1.") and len(receipt.certificate) == 64
    assert receipt.verified_by == "none"
    assert receipt.sending_ip in {"127.0.0.11", "127.0.0.12"}
    assert receipt.handed_over_at == message.handed_over_at <= receipt.replied_at
    assert message.values == {"first_name": "Ann"}
    assert Event.objects.get().type == "delivered"
    entry = Entry.objects.get(action="message.recorded")
    assert entry.count == 1 and entry.detail == {"sent": 1}


def test_nobody_gets_a_message_who_stopped_revoked_or_never_agreed(
    organization, form, due, addresses, inbox, petra
):
    people = {
        name: make_authorized(organization, form, email=f"{name}@mail.example")
        for name in ("ann", "stopped", "revoked", "blocked")
    }
    make_person(organization, email="never@mail.example")
    expired = make_person(organization, email="expired@mail.example")
    sign(expired, form, signed_on=dt.date(2024, 1, 1), expires_on=dt.date(2025, 1, 1))
    stop.opt_out(people["stopped"], "commercial", source="page", by=people["stopped"])
    revoke(people["revoked"].authorizations.get(), source="phone", by=petra)
    stop.suppress(organization, people["blocked"].email_digest, "manual", source="staff", by=petra)

    campaign = due()
    send(addresses)

    assert [one.envelope_to for one in inbox.received()] == ["ann@mail.example"]
    assert states(campaign) == {
        "ann@mail.example": "sent",
        "stopped@mail.example": "withheld opted_out",
        "revoked@mail.example": "withheld authorization_revoked",
        "blocked@mail.example": "withheld suppressed",
        "never@mail.example": "withheld no_authorization",
        "expired@mail.example": "withheld authorization_expired",
    }


def test_a_stop_after_freezing_is_heard_at_hand_over(ann, due, addresses, inbox):
    campaign = due()
    stop.opt_out(ann, "commercial", source="page", by=ann)

    send(addresses)

    assert states(campaign) == {"ann@mail.example": "withheld opted_out"}
    assert inbox.received() == []


def test_a_server_without_tls_gets_nothing(organization, form, due, addresses, inbox):
    make_authorized(organization, form, email="ann@notls.example")
    campaign = due()

    send(addresses)

    assert states(campaign) == {"ann@notls.example": "withheld no_tls"}
    assert inbox.received() == []
    assert Destination.objects.get().tls == "absent"
    assert not Event.objects.exists()


def test_a_deferred_message_is_tried_again_later_and_arrives_once(
    organization, form, due, addresses, inbox, settings
):
    settings.RETRY_FIRST_SECONDS = 1
    make_authorized(organization, form, email="ann@slow.example")
    campaign = due()
    assert send(addresses) == 1
    message = Message.objects.get(campaign=campaign)
    assert (message.state, message.reason, message.code) == ("deferred", "soft_mailbox", 451)
    assert message.due_at > database_time()
    assert send(addresses) == 0

    Message.objects.update(due_at=database_time())
    assert send(addresses) == 1

    assert states(campaign) == {"ann@slow.example": "sent"}
    assert len(inbox.received()) == 1
    assert list(Receipt.objects.order_by("attempt").values_list("attempt", "state")) == [
        (1, "deferred"),
        (2, "sent"),
    ]


def test_a_hard_bounce_suppresses_the_address(organization, form, due, addresses, inbox):
    ann = make_authorized(organization, form, email="ann@gone.example")
    campaign = due()

    send(addresses)

    assert states(campaign) == {"ann@gone.example": "failed hard_recipient"}
    assert Suppression.objects.get().reason == "hard_bounce"
    assert gate.decide(gate.ask(organization, "TREATMENT"), [ann.pk]) == {ann.pk: "suppressed"}
    assert Event.objects.get().type == "bounced"


def test_a_message_is_not_tried_after_its_deadline(organization, form, due, addresses, inbox):
    make_authorized(organization, form, email="ben@slow.example")
    campaign = due()
    Campaign.objects.filter(pk=campaign.pk).update(
        latest_at=database_time() + dt.timedelta(minutes=1)
    )

    send(addresses)

    assert states(campaign) == {"ben@slow.example": "failed expired"}


def test_what_still_waits_at_the_deadline_is_held_back(ann, due, addresses, inbox):
    campaign = due()
    Campaign.objects.filter(pk=campaign.pk).update(latest_at=database_time())

    freeze.tidy()

    assert states(campaign) == {"ann@mail.example": "withheld too_late"}
    assert send(addresses) == 0
    assert inbox.received() == []


def test_a_server_that_does_not_answer_defers(ann, due, addresses, settings):
    settings.HIPAAMAIL_ROUTES = "*=127.0.0.1:9"
    settings.SMTP_SECONDS = 2
    campaign = due()

    send(addresses)

    message = Message.objects.get(campaign=campaign)
    assert message.state == "deferred"
    assert message.attempt == 1


def test_a_paused_campaign_hands_nothing_over_and_goes_on_after(ann, due, addresses, inbox, alice):
    campaign = due()
    launch.pause(campaign, by=alice)
    assert send(addresses) == 0
    assert inbox.received() == []

    launch.resume(campaign, by=alice)
    assert send(addresses) == 1
    assert len(inbox.received()) == 1


def test_a_pause_between_claim_and_hand_over_gives_the_claim_back(ann, due, addresses, alice):
    campaign = due()
    journal = Journal.open(django_settings.JOURNAL_DIR, "127.0.0.11")
    claimed = [m for address in addresses for m in throttle.claim(address, journal.id)]
    launch.pause(campaign, by=alice)
    question = gate.ask(campaign.organization, "MARKETING")

    assert hand_over(question, campaign.pk, claimed) == set()

    message = Message.objects.get(campaign=campaign)
    assert (message.state, message.attempt, message.handed_over_at) == ("queued", 0, None)
    journal.close()


def test_a_cancelled_campaign_sends_nothing_more(ann, due, addresses, inbox, alice):
    campaign = due()
    launch.cancel(campaign, by=alice)
    freeze.tidy()

    assert states(campaign) == {"ann@mail.example": "cancelled cancelled"}
    assert send(addresses) == 0
    assert inbox.received() == []


def test_the_kill_switch_holds_what_is_frozen(ann, due, addresses, inbox, organization):
    campaign = due()
    organization.sending_stopped_at = database_time()
    organization.save()

    assert send(addresses) == 0
    assert states(campaign) == {"ann@mail.example": "queued"}
    assert inbox.received() == []


def test_a_change_outside_the_campaign_pauses_it_before_anything_leaves(
    ann, due, addresses, inbox, organization
):
    campaign = due()
    organization.postal_address = "Elsewhere 9"
    organization.save()

    send(addresses)

    campaign.refresh_from_db()
    assert (campaign.status, campaign.held_reason) == ("paused", "campaign_not_approved")
    assert states(campaign) == {"ann@mail.example": "queued"}
    assert inbox.received() == []


def test_an_audience_that_grew_past_the_ceiling_goes_back_to_review(
    ann, organization, form, alice, addresses, inbox
):
    campaign = make_scheduled(organization, by=alice)
    for _ in range(3):
        make_authorized(organization, form)

    assert freeze.launch_due() == 0

    campaign.refresh_from_db()
    assert (campaign.status, campaign.held_reason) == ("draft", "audience_grew")
    assert not Message.objects.exists()
    assert send(addresses) == 0


def test_a_campaign_found_late_waits_for_a_new_time(ann, organization, alice, addresses):
    campaign = make_scheduled(organization, by=alice)
    past = database_time() - dt.timedelta(days=4)
    Campaign.objects.filter(pk=campaign.pk).update(
        send_at=past, latest_at=past + dt.timedelta(days=3)
    )

    assert freeze.launch_due() == 0

    campaign.refresh_from_db()
    assert (campaign.status, campaign.held_reason) == ("approved", "too_late")
    assert not Message.objects.exists()


def test_freezing_twice_adds_nothing(ann, due):
    campaign = due()
    assert not freeze.begin(campaign.pk)
    assert freeze.launch_due() == 0
    pool = freeze.addresses_of(campaign)
    freeze.freeze(campaign, campaign.latest_submission(), audience.ask_for(campaign), pool)

    assert Message.objects.filter(campaign=campaign).count() == 1


def test_people_at_one_address_get_one_message(organization, form, due, addresses, inbox):
    for number in range(3):
        make_authorized(organization, form, email="home@mail.example", record_number=f"R{number}")

    campaign = due()
    send(addresses)

    assert len(inbox.received()) == 1
    reasons = Message.objects.filter(campaign=campaign).values_list("state", "reason")
    assert sorted(reasons) == [
        ("sent", ""),
        ("withheld", "same_address"),
        ("withheld", "same_address"),
    ]


def test_a_missing_value_without_fallback_holds_one_message_and_no_other(
    organization, form, due, addresses, inbox
):
    make_authorized(organization, form, email="ann@mail.example", first_name="Ann")
    make_authorized(organization, form, email="nameless@mail.example", first_name=None)
    revision = make_revision(organization)
    document = dict(revision.template.document)
    document["blocks"] = list(document["blocks"])
    document["blocks"][1] = {**document["blocks"][1], "html": "<p>Dear {{ first_name }}</p>"}
    revision.template.document = document
    revision.template.save()
    from builder.revise import freeze as freeze_template

    author = revision.created_by_id
    frozen = freeze_template(revision.template, by=type("By", (), {"pk": author})())

    campaign = due(revision=frozen)
    send(addresses)

    assert states(campaign) == {
        "ann@mail.example": "sent",
        "nameless@mail.example": "withheld missing_value",
    }
    assert [one.envelope_to for one in inbox.received()] == ["ann@mail.example"]


def test_a_name_with_a_header_in_it_adds_no_header(organization, form, due, addresses, inbox):
    evil = "=?UTF-8?Q?=0A?=Bcc: eve@evil.example"
    make_authorized(organization, form, email="ann@mail.example", first_name=evil)
    revision = make_revision(organization, subject='For {{ first_name | fallback: "you" }}')
    campaign = due(revision=revision)

    send(addresses)

    for one in inbox.received():
        mail = message_from_bytes(one.message, policy=policy)
        assert mail["Bcc"] is None
        assert len(mail.get_all("Subject")) == 1
    assert set(states(campaign).values()) <= {
        "sent",
        "withheld unusable_value",
        "withheld missing_value",
    }


def test_a_value_that_does_not_open_holds_its_message(organization, form, due, addresses, inbox):
    ann = make_authorized(organization, form, email="ann@mail.example")
    ben = make_authorized(organization, form, email="ben@mail.example")
    campaign = due()
    with connection.cursor() as cursor:
        cursor.execute(
            "update contacts_contact set email = (select email from contacts_contact where id = %s) where id = %s",
            [ann.pk, ben.pk],
        )

    send(addresses)

    assert Message.objects.get(contact=ben).reason == "unreadable"
    assert [one.envelope_to for one in inbox.received()] == ["ann@mail.example"]
    with pytest.raises(Unreadable):
        _ = type(ben).objects.get(pk=ben.pk).email
    assert Message.objects.get(campaign=campaign, contact=ann).state == "sent"


def test_a_domain_without_a_signing_key_sends_nothing(ann, due, addresses, inbox):
    campaign = due()
    campaign.sender.domain.dkim_keys.update(retired_at=database_time())

    send(addresses)

    campaign.refresh_from_db()
    assert (campaign.status, campaign.held_reason) == ("paused", "sender_not_ready")
    assert states(campaign) == {"ann@mail.example": "queued"}
    assert inbox.received() == []


def test_a_signing_key_that_does_not_open_holds_its_campaign(ann, due, addresses, inbox):
    campaign = due()
    key = campaign.sender.domain.dkim_keys.get()
    with connection.cursor() as cursor:
        cursor.execute(
            "update delivery_dkimkey set private_pem = set_byte(private_pem, 30, 0) where id = %s",
            [key.pk],
        )
        cursor.execute(
            "update delivery_dkimkey set private_pem = set_byte(private_pem, 31, 1) where id = %s",
            [key.pk],
        )

    send(addresses)

    campaign.refresh_from_db()
    assert (campaign.status, campaign.held_reason) == ("paused", "broken")
    assert states(campaign) == {"ann@mail.example": "queued"}
    assert inbox.received() == []


def test_an_international_address_is_sent_as_it_must_be(organization, form, due, addresses, inbox):
    make_authorized(organization, form, email="ann@xn--mnchen-3ya.example")
    campaign = due()

    send(addresses)

    assert set(states(campaign).values()) == {"sent"}
    assert inbox.received()[0].envelope_to == "ann@xn--mnchen-3ya.example"


def test_a_second_worker_on_an_address_does_nothing(ann, due, addresses):
    due()
    with connection.copy().cursor() as other:
        for address in addresses:
            other.execute("select pg_advisory_lock(hashtextextended(%s, 0))", [address.address])

        assert send(addresses) == 0
        other.connection.close()

    assert set(Message.objects.values_list("state", flat=True)) == {"queued"}


def test_an_old_mark_is_made_again_before_the_bytes(ann, due, addresses, inbox, monkeypatch):
    from delivery import wire

    monkeypatch.setattr(wire, "MARK_LASTS", -1.0)
    asked = []
    monkeypatch.setattr(pipeline._Run, "_renew", lambda self, pk: asked.append(pk) or False)
    campaign = due()

    send(addresses)

    assert asked == [Message.objects.get(campaign=campaign).pk]
    assert inbox.received() == []


def test_a_destination_that_does_not_answer_rests_and_the_others_go_on(
    organization, form, due, addresses, inbox, settings
):
    for number in range(4):
        make_authorized(organization, form, email=f"p{number}@dead.example")
    make_authorized(organization, form, email="ann@mail.example")
    settings.HIPAAMAIL_ROUTES = f"{inbox.routes},dead.example=127.0.0.1:9"
    campaign = due()

    send(addresses)

    dead = Message.objects.filter(campaign=campaign, state="deferred").first()
    place = Destination.objects.get(pk=dead.destination_id)
    assert place.failures >= 3
    assert place.closed_until > database_time()
    assert [one.envelope_to for one in inbox.received()] == ["ann@mail.example"]
    Message.objects.filter(state="deferred").update(due_at=database_time())
    assert send(addresses) == 0


def test_a_destination_that_answers_again_is_open(organization, form, due, addresses, inbox):
    make_authorized(organization, form, email="ann@mail.example")
    due()
    Destination.objects.update(failures=2)

    send(addresses)

    place = Destination.objects.get()
    assert (place.failures, place.closed_until, place.tls) == (0, None, "offered")


def test_a_new_signing_key_signs_only_once_it_is_in_use(ann, due, addresses, inbox):
    campaign = due()
    domain = campaign.sender.domain
    fresh = new_key(domain, by="system:tests")
    send(addresses)
    assert b"s=hm1;" in inbox.received()[0].message

    use_key(fresh, by="system:tests")

    assert compose.letterhead(campaign, campaign.latest_submission()).selector == "hm2"


def test_criteria_that_ask_for_what_is_gone_hold_their_own_campaign_only(
    organization, alice, ann, form, addresses, inbox
):
    conditions = {"all": [{"field": "conditions", "op": "has_no_value"}]}
    organization.treatment_terms = True
    organization.save()
    index([ann])
    segment = segments.create(organization, "Without", conditions, by=alice)
    other = make_form(organization, information_classes=["contact", "demographic", "treatment"])
    sign(ann, other)
    bad = make_scheduled(organization, by=alice, segment=segment)
    good = make_scheduled(organization, by=alice)
    organization.treatment_terms = False
    organization.save()

    assert freeze.launch_due() == 1

    assert Campaign.objects.get(pk=bad.pk).held_reason == "broken"
    assert Campaign.objects.get(pk=good.pk).status == "sending"
    assert send(addresses) == 1


def test_a_bounce_suppresses_the_address_that_bounced(
    organization, form, due, addresses, inbox, monkeypatch
):
    ann = make_authorized(organization, form, email="ann@gone.example")
    due()
    gone, real = bytes(ann.email_digest), pipeline.events.record_attempts

    def moved_meanwhile(*arguments):
        ann.email = "ann@mail.example"
        ann.email_digest = address_digest(organization.pk, ann.email)
        ann.save()
        return real(*arguments)

    monkeypatch.setattr(pipeline.events, "record_attempts", moved_meanwhile)
    send(addresses)

    assert [bytes(row.email_digest) for row in Suppression.objects.all()] == [gone]


def test_an_address_that_this_host_does_not_own_closes_no_destination(
    organization, form, due, addresses, inbox
):
    for number in range(8):
        make_authorized(organization, form, email=f"p{number}@mail.example")
    addresses[0].address = "192.0.2.77"
    addresses[0].save()
    campaign = due()

    send(addresses)

    assert Destination.objects.get().closed_until is None
    assert len(inbox.received()) == 4
    reasons = Message.objects.filter(campaign=campaign, state="deferred").values_list("reason")
    assert set(reasons) == {("no_source",)}


def test_a_backup_host_without_tls_ends_nothing_while_the_first_is_down(
    ann, due, addresses, inbox, monkeypatch
):
    plain = inbox.running.plain_port
    hosts = [
        mx.Host("mx1.mail.example", 9, ("127.0.0.1",), routed=True),
        mx.Host("mx2.mail.example", plain, ("127.0.0.1",), routed=True),
    ]

    async def both(domain):
        return hosts

    monkeypatch.setattr(mx, "resolve_async", both)
    campaign = due()

    send(addresses)

    assert Message.objects.get(campaign=campaign).state == "deferred"
