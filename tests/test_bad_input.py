"""Bad input of section 3 of the main job: what would write headers, run, reach over, or come at a bad moment.

Each gets a clear word or a named state, and nothing leaves that should not. What one app can show alone is
shown there: files in tests/contacts, templates in tests/builder, servers at the wire in tests/delivery.
"""

import datetime as dt
import functools
import hashlib
import time
from email import message_from_bytes
from email.policy import default as policy
from typing import Any

import pytest
from celery import current_app
from kombu.exceptions import OperationalError as BrokerGone

from audit.models import Entry
from builder import blocks
from builder.compile import Invalid
from builder.models import EmailTemplate
from builder.revise import NotValid, save_template
from builder.revise import freeze as freeze_template
from campaigns import edit, launch
from campaigns.models import Approval, Campaign, Submission
from consent import stop
from consent.authorize import Refused as NotAuthorized
from consent.authorize import authorize, publish
from consent.locking import database_time
from consent.models import Authorization, FormVersion, OptOut
from contacts import segments
from contacts.models import Contact
from contacts.segments import CriteriaError
from delivery import compose, freeze, tasks
from delivery.models import Event, Message, Receipt
from phi import keys
from tests.delivery.conftest import inbox, receiving, send, states  # noqa: F401  (fixtures, by name)
from tests.delivery.faulty import beside
from tests.factories import (
    BY,
    make_addresses,
    make_authorized,
    make_campaign,
    make_contact,
    make_form,
    make_person,
    make_revision,
    make_scheduled,
    make_sender,
    make_user,
)
from tests.smtp_faults import Act

# ruff: noqa: F811  (fixtures of delivery's tests, used by their names)

pytestmark = pytest.mark.django_db

#: Texts that would begin a header, a second message or a script, each with where it ends up as text.
ATTACKS = [
    "Clinic\r\nBcc: eve@evil.example",
    "Clinic\nBcc: eve@evil.example\n\n<script>alert(1)</script>",
    "=?UTF-8?Q?Clinic=0ABcc:_eve@evil.example?=",
    "Clinic\u2028Bcc: eve@evil.example\u0085X: y\x0bZ: z",
    'Clinic" <eve@evil.example>, "',
    "Clinic\u202eelpmaxe.live@eve\u202c",
    "Clinic {{ last_name }} {% load x %}",
]


@pytest.fixture
def form(organization):
    return make_form(organization)


@pytest.fixture
def ann(organization, form):
    return make_authorized(organization, form, first_name="Ann", email="ann@mail.example")


@pytest.fixture
def addresses(organization):
    return make_addresses(organization, "127.0.0.11")


@pytest.fixture
def campaign(ann, organization, alice, addresses):
    """A campaign that has begun."""
    campaign = make_scheduled(organization, by=alice)
    assert freeze.launch_due() == 1
    campaign.refresh_from_db()
    return campaign


def composed(organization, alice, name="Zinnia", **fields):
    """Return the only message of a campaign as a mail program reads it."""
    make_addresses(organization, "127.0.0.11")
    campaign = make_scheduled(organization, by=alice, **fields)
    edit.change(campaign, by=alice, name=name)
    assert freeze.launch_due() == 1
    campaign = Campaign.objects.select_related("organization", "sender__domain").get(pk=campaign.pk)
    head = compose.letterhead(campaign, campaign.latest_submission())
    message = Message.objects.get(campaign=campaign)
    letter = compose.letter(head, message, message.contact)
    assert b"\r\n\r\n" in letter.data and letter.rcpt == "ann@mail.example"
    return message_from_bytes(letter.data, policy=policy)


HEADERS = {
    *("DKIM-Signature", "From", "To", "Subject", "Date", "Message-ID", "MIME-Version"),
    *("Content-Type", "List-Id", "List-Unsubscribe", "List-Unsubscribe-Post", "Feedback-ID"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_name_and_no_address_of_ours_writes_a_header_or_markup(attack, ann, organization, alice):
    organization.name = organization.postal_address = attack
    organization.save()
    sender = make_sender(organization, display_name=attack)

    mail = composed(organization, alice, sender=sender)

    assert sorted(mail.keys()) == sorted(HEADERS)
    assert str(mail["To"]) == "ann@mail.example"
    (shown,) = mail["From"].addresses
    assert shown.addr_spec == f"news@{sender.domain.domain}"
    html = mail.get_body(("html",)).get_content()
    assert "<script" not in html
    # A tag in a name is text: nobody's last name is filled in.
    assert "{% load x %}" in html or "{%" not in attack


def test_a_campaigns_name_is_nowhere_in_the_message(ann, organization, alice):
    name = "Zinnia\r\nBcc: eve@evil.example"

    mail = composed(organization, alice, name=name)

    assert Campaign.objects.filter(name=name).exists()
    assert sorted(mail.keys()) == sorted(HEADERS)
    assert "Zinnia" not in mail.as_string()


def document_with(html):
    document = blocks.empty()
    document["blocks"][1]["html"] = html
    return document


@pytest.mark.parametrize(
    "html",
    [
        "<p>Hi</p><script>alert(1)</script>",
        '<p onclick="alert(1)">Hi</p>',
        '<p><a href="javascript:alert(1)">Hi</a></p>',
        '<p><img src="https://evil.example/x.gif"></p>',
        "<style>@import url(https://evil.example)</style><p>Hi</p>",
        '<form action="https://evil.example"><p>Hi</p></form>',
        "<p>{{ settings.SECRET_KEY }}</p>",
        "<p>{% include 'x' %}</p>",
        "<p>{{ first_name.__class__ }}</p>",
    ],
)
def test_a_template_that_would_run_or_load_is_not_saved_and_one_that_got_in_is_not_sent(
    html, ann, organization, alice
):
    with pytest.raises(NotValid):
        save_template(organization, "Evil", document_with(html), subject="Hi", by=alice)
    assert not EmailTemplate.objects.filter(name="Evil").exists()

    # Written into the table past the door: it is refused again when the campaign is handed in.
    template = make_revision(organization).template
    template.document = document_with(html)
    template.save()
    campaign = make_campaign(organization, by=alice, revision=freeze_template(template, by=alice))
    with pytest.raises(Invalid):
        launch.submit(campaign, by=alice)
    assert not Submission.objects.exists()
    assert Campaign.objects.get(pk=campaign.pk).status == "draft"


def test_an_unknown_merge_tag_is_named(organization, alice):
    problems = blocks.validate(document_with("<p>{{ shoe_size }}</p>"))
    with pytest.raises(NotValid) as error:
        save_template(
            organization, "Evil", document_with("<p>{{ shoe_size }}</p>"), subject="Hi", by=alice
        )

    assert "shoe_size" in str([vars_of(problem) for problem in error.value.problems])
    assert problems == []


def vars_of(problem: Any) -> str:
    return " ".join(str(getattr(problem, name)) for name in problem.__dataclass_fields__)


#: What charlie of another organization could try with a campaign of ours.
VERBS = {
    "submit": lambda c, by: launch.submit(c, by=by),
    "approve": lambda c, by: launch.approve(
        c, by=by, seen_hash=bytes(c.latest_submission().content_hash)
    ),
    "send back": lambda c, by: launch.send_back(c, by=by, comment="No."),
    "schedule": lambda c, by: launch.schedule(c, at=database_time(), by=by),
    "withdraw": lambda c, by: launch.withdraw(c, by=by),
    "pause": lambda c, by: launch.pause(c, by=by),
    "resume": lambda c, by: launch.resume(c, by=by),
    "cancel": lambda c, by: launch.cancel(c, by=by),
    "change": lambda c, by: edit.change(c, by=by, is_tracked=True),
    "duplicate": lambda c, by: edit.duplicate(c, by=by),
}
STATUS = {
    "submit": "draft", "approve": "in_review", "send back": "in_review", "schedule": "approved",
    "withdraw": "approved", "pause": "sending", "resume": "paused", "cancel": "sending",
    "change": "draft", "duplicate": "draft",
}  # fmt: skip


@pytest.mark.parametrize("who", ["a stranger with every role", "a viewer"])
def test_a_campaign_is_moved_by_nobody_of_another_organization_or_role(
    who, ann, organization, other_organization, alice
):
    by = make_user("viewer", organization if who == "a viewer" else other_organization)
    for role in ("marketer", "approver", "administrator", "privacy_officer"):
        other_organization.memberships.create(user=by, role=role)
    campaign = make_campaign(organization, by=alice)
    launch.submit(campaign, by=alice)
    later = campaign.send_at + dt.timedelta(hours=1)

    for verb, move in VERBS.items():
        Campaign.objects.filter(pk=campaign.pk).update(status=STATUS[verb], latest_at=later)
        before = list(Campaign.objects.values())
        with pytest.raises((launch.Refused, edit.NotAllowed)):
            move(Campaign.objects.get(pk=campaign.pk), by)
        assert list(Campaign.objects.values()) == before, verb
        assert (Submission.objects.count(), Approval.objects.count()) == (1, 0), verb


@pytest.mark.parametrize("what", ["segment", "revision", "sender"])
def test_a_campaign_takes_nothing_of_another_organization(
    what, ann, organization, other_organization, alice, charlie
):
    theirs = {
        "segment": lambda: segments.create(other_organization, "All", {"all": []}, by=charlie),
        "revision": lambda: make_revision(other_organization),
        "sender": lambda: make_sender(other_organization),
    }[what]()
    campaign = make_campaign(organization, by=alice)

    with pytest.raises(edit.NotOurs):
        edit.change(campaign, by=alice, **{what: theirs})
    with pytest.raises(edit.NotOurs):
        edit.create(organization, "Another", by=alice, **{what: theirs})

    campaign.refresh_from_db()
    assert getattr(campaign, what) != theirs
    assert not Campaign.objects.filter(name="Another").exists()


def test_criteria_name_no_segment_of_another_organization(
    organization, other_organization, charlie
):
    theirs = segments.create(other_organization, "All", {"all": []}, by=charlie)

    for criteria in ({"segment": str(theirs.pk)}, {"all": [{"segment": str(theirs.pk)}]}):
        with pytest.raises(CriteriaError):
            segments.count(organization, criteria)


def test_a_form_of_another_organization_is_neither_signed_nor_counted(
    organization, other_organization, form
):
    theirs = make_form(other_organization)
    contact = make_person(organization)

    with pytest.raises(NotAuthorized):
        authorize(
            contact, theirs, signed_on=dt.date(2026, 1, 1), source="paper", evidence="x", by=BY
        )
    assert not Authorization.objects.exists()


def test_an_incomplete_form_is_not_published_by_anybody(organization, petra):
    draft = FormVersion.objects.create(
        organization=organization, name="Draft", number=1, purposes=["MARKETING"]
    )

    with pytest.raises(NotAuthorized):
        publish(draft, by=petra)

    draft.refresh_from_db()
    assert draft.published_at is None


def test_a_wrong_master_key_holds_everything_and_sends_nothing(
    campaign, addresses, inbox, settings, alice
):
    right = settings.MASTER_KEYS
    settings.MASTER_KEYS = [hashlib.sha256(b"another key").digest()]
    keys.forget()

    assert send(addresses) == 0

    campaign.refresh_from_db()
    assert (campaign.status, campaign.held_reason) == ("paused", "broken")
    assert Message.objects.get().state == "queued"
    assert inbox.received() == []

    settings.MASTER_KEYS = right
    keys.forget()
    launch.resume(campaign, by=alice)
    assert send(addresses) == 1
    assert states(campaign) == {"ann@mail.example": "sent"}
    assert len(inbox.received()) == 1


def test_a_wrong_master_key_begins_nothing(ann, organization, alice, addresses, settings):
    campaign = make_scheduled(organization, by=alice)
    settings.MASTER_KEYS = [hashlib.sha256(b"another key").digest()]
    keys.forget()

    assert freeze.launch_due() == 0

    campaign.refresh_from_db()
    assert (campaign.status, campaign.held_reason) == ("scheduled", "broken")
    assert not Message.objects.exists()


def test_a_stopped_broker_is_told_soon_and_loses_nothing(campaign, addresses, inbox, monkeypatch):
    nowhere = current_app.connection("redis://127.0.0.1:1/0")
    real = tasks.send_slice.apply_async
    monkeypatch.setattr(
        tasks.send_slice, "apply_async", functools.partial(real, connection=nowhere)
    )
    began = time.monotonic()

    with pytest.raises(BrokerGone):
        tasks.wake()

    assert time.monotonic() - began < 10
    assert states(campaign) == {"ann@mail.example": "queued"}
    assert inbox.received() == []
    # The database is the queue: whoever asks it finds the message.
    assert send(addresses) == 1
    assert states(campaign) == {"ann@mail.example": "sent"}


#: How a receiving server may behave, and the state that a message comes to by that.
SERVERS = {
    "hangs": ({"mail": Act.HANG}, "deferred"),
    "hangs after the content": ({"content": Act.HANG}, "in_doubt"),
    "drops": ({"rcpt": Act.DROP}, "deferred"),
    "drops after the content": ({"content": Act.DROP}, "in_doubt"),
    "resets after the content": ({"content": Act.RESET}, "in_doubt"),
    "refuses TLS": ({"starttls": b"454 4.7.0 not now\r\n"}, "deferred no_tls"),
    "refuses TLS for good": ({"starttls": b"502 5.5.1 what?\r\n"}, "withheld no_tls"),
    "offers no TLS": ({"offers": ("PIPELINING",)}, "withheld no_tls"),
    "breaks the handshake": ({"handshake": b"250 no TLS here\r\n"}, "deferred tls_failed"),
    "talks nonsense": ({"mail": b"\x00\xff\xfe\r\n"}, "deferred"),
    "talks nonsense after the content": ({"content": b"yes?\r\n"}, "in_doubt"),
    "greets with nonsense": ({"greeting": b"HTTP/1.1 200 OK\r\n"}, "deferred"),
    "floods": ({"greeting": b"220-" + b"x" * 200_000 + b"\r\n"}, "deferred"),
    "injects into the handshake": ({"starttls": b"220 go\r\n250 evil\r\n"}, "deferred"),
    "says yes and no": ({"content": b"250 yes\r\n550 no\r\n"}, "sent"),
    "refuses": ({"rcpt": b"550 5.1.1 nobody\r\n"}, "failed hard_recipient"),
    "refuses the content": ({"content": b"554 5.6.0 no\r\n"}, "failed content"),
    "is busy": ({"greeting": b"421 4.3.2 later\r\n"}, "deferred"),
}  # fmt: skip


@pytest.mark.parametrize("how", SERVERS)
def test_whatever_a_server_does_a_message_has_a_state_and_leaves_at_most_once(
    how, campaign, addresses, settings, tmp_path
):
    answers, expected = SERVERS[how]
    settings.SMTP_SECONDS = 1
    with beside(tmp_path, **answers) as seen:
        settings.HIPAAMAIL_ROUTES = f"*=127.0.0.1:{seen.port}"
        send(addresses)
        Message.objects.filter(state="in_doubt").update(due_at=database_time())
        assert send(addresses) == 0

    (found,) = states(campaign).values()
    assert found.startswith(expected), found
    assert len(seen.messages) <= 1
    assert b"Ann" not in seen.clear and b"ann@" not in seen.clear
    receipt = Receipt.objects.get()
    assert receipt.state == found.split()[0]
    kinds = {"sent": ["delivered"], "failed": ["bounced"], "deferred": ["deferred"]}
    expected_events = [] if "no_tls" in found else kinds.get(receipt.state, [])
    assert list(Event.objects.values_list("type", flat=True)) == expected_events


def test_a_certificate_that_does_not_fit_is_enough_for_tls_and_not_for_verified_tls(
    ann, organization, alice, addresses, settings, tmp_path
):
    settings.SMTP_SECONDS = 2
    for transport_policy, expected in (("verified", "deferred tls_failed"), ("tls", "sent")):
        campaign = make_scheduled(organization, by=alice, transport_policy=transport_policy)
        assert freeze.launch_due() == 1
        with beside(tmp_path, certificate="expired") as seen:
            settings.HIPAAMAIL_ROUTES = f"*=127.0.0.1:{seen.port}"
            send(addresses)
        assert states(campaign) == {"ann@mail.example": expected}
        assert len(seen.messages) == (expected == "sent")


@pytest.mark.parametrize(
    "email",
    [
        '"a\r\nRCPT TO:<x>"@mail.example',
        "a@mail.example>,<b@mail.example",
        "a\r\nBcc: b@mail.example",
    ],
)
def test_an_address_that_got_past_the_door_goes_nowhere(
    email, organization, form, alice, addresses, inbox
):
    contact = make_authorized(organization, form, email="ann@mail.example")
    contact.email = email
    contact.save()
    campaign = make_scheduled(organization, by=alice)
    freeze.launch_due()

    send(addresses)

    assert inbox.received() == []
    message = Message.objects.get(campaign=campaign)
    assert message.state in {"withheld", "failed"}


def test_an_opt_out_is_not_made_in_anothers_name(organization, other_organization):
    """A contact id is looked up in the organization that the contact says it is of, and nowhere else."""
    ours = make_contact(organization)
    ours.organization_id = other_organization.pk

    with pytest.raises(Contact.DoesNotExist):
        stop.opt_out(ours, "all", source="page", by=BY)

    assert not OptOut.objects.exists()
    assert not Entry.objects.filter(action="opt_out.recorded").exists()


def test_time_of_the_database_counts_and_not_that_of_this_host(
    campaign, addresses, inbox, monkeypatch
):
    Message.objects.update(due_at=database_time() + dt.timedelta(minutes=5))
    monkeypatch.setattr(time, "time", lambda: 4_000_000_000.0)

    assert send(addresses) == 0

    assert states(campaign) == {"ann@mail.example": "queued"}
