"""One person through all eleven steps of docs/how-a-message-travels.md, and each way in which it can end.

The contact comes in as bytes of a CSV file, and a real server takes the message over TLS. No step is skipped and
none is imitated; the first journey calls each step by its own module, the others leave 6 to 10 to the pipeline.
"""

# ruff: noqa: F811  (fixtures of delivery's tests, used by their names)

import asyncio
import datetime as dt
import re
from email import message_from_bytes
from email.policy import default as policy

import dkim
import pytest
from django.conf import settings as django_settings

from audit.models import Entry
from audit.verify import verify
from campaigns import audience, binding, edit, launch
from consent import gate
from consent.locking import database_time
from consent.models import Authorization, OptOut, Suppression
from consent.purposes import PURPOSES
from contacts import erase, importer, segments
from contacts.models import Contact
from delivery import compose, events, freeze, throttle, wire
from delivery.domains import records
from delivery.handover import hand_over
from delivery.journal import Journal
from delivery.models import Event, Message, Receipt
from delivery.smtp import Timeouts
from files import staging
from reports.campaign import results
from tests.delivery.conftest import inbox, receiving, send  # noqa: F401  (fixtures, by name)
from tests.factories import make_addresses, make_form, make_revision, make_sender

pytestmark = pytest.mark.django_db

HEADER = (
    "record_number,email,first_name,last_name,date_of_birth,state,language,conditions,"
    "authorized_on,authorization_expires,opted_out"
)
ONE_CLICK = "List-Unsubscribe=One-Click"


@pytest.fixture
def form(organization):
    organization.treatment_terms = True
    organization.save()
    return make_form(
        organization, information_classes=["contact", "demographic", "treatment", "organization"]
    )


@pytest.fixture
def addresses(organization):
    return make_addresses(organization, "127.0.0.11")


def bring_in(organization, form, by, *, email="ann@mail.example", opted_out=""):
    """1 import: the bytes of a file become a contact, and its paper an authorization."""
    row = f"LH-1,{email},Ann,Archer,1970-02-03,IL,en,diabetes;asthma,2026-01-15,,{opted_out}"
    file = staging.put(
        organization,
        kind="upload",
        name="extract.csv",
        chunks=[f"{HEADER}\r\n{row}\r\n".encode()],
        by=by,
        content_type="text/csv",
        keep=dt.timedelta(hours=1),
    )
    options = {"form_version": str(form.pk), "evidence": "Cabinet 7", "copies_given": True}
    import_ = importer.start(organization, file, source="ehr", options=options, by=by)
    importer.map(import_, by=by)
    importer.check(import_, by=by)
    importer.apply(import_, by=by)
    assert (import_.rows, import_.rejected) == (1, 0)
    return Contact.objects.get(organization=organization, standing="active")


def launched(organization, alice, bob):
    """2 to 5: a segment, a compiled submission, an audience that somebody else approves, and the ledger."""
    criteria = {
        "all": [
            {"field": "state", "op": "is", "value": "IL"},
            {"field": "conditions", "op": "is", "value": "diabetes"},
        ]
    }
    segment = segments.create(organization, "Diabetes in Illinois", criteria, by=alice)
    assert segments.count(organization, criteria) == 1
    campaign = edit.create(
        organization,
        "Spring letter",
        by=alice,
        purpose="MARKETING",
        segment=segment,
        revision=make_revision(organization, "Dear"),
        sender=make_sender(organization),
        send_at=database_time() + dt.timedelta(hours=1),
    )
    submission = launch.submit(campaign, by=alice)
    assert b"Dear" in bytes(submission.pieces)
    assert audience.count(campaign).reachable == 1
    launch.approve(campaign, by=bob, seen_hash=bytes(submission.content_hash))
    launch.schedule(campaign, at=database_time(), by=bob)
    assert freeze.launch_due() == 1
    campaign.refresh_from_db()
    return campaign


def only_message(campaign):
    return Message.objects.get(campaign=campaign)


def stop_address(mail):
    """Return the path in the List-Unsubscribe header, as a mail program finds it."""
    url = re.fullmatch(r"<(.+)>", mail["List-Unsubscribe"])[1]
    assert url.startswith(django_settings.PUBLIC_URL)
    return url.removeprefix(django_settings.PUBLIC_URL)


def asked_again(organization, contact):
    return gate.decide(gate.ask(organization, "MARKETING"), [contact.pk]).get(contact.pk)


def test_sent_step_by_step(organization, alice, bob, form, addresses, inbox):
    ann = bring_in(organization, form, alice)
    assert Authorization.objects.get().contact_id == ann.pk
    campaign = launched(organization, alice, bob)
    message = only_message(campaign)
    assert (message.state, message.contact_id) == ("queued", ann.pk)

    # 6 throttle
    (address,) = addresses
    journal = Journal.open(django_settings.JOURNAL_DIR, address.address)
    (claimed,) = throttle.claim(address, journal.id)
    assert (claimed.pk, claimed.attempt, claimed.journal_id) == (message.pk, 1, journal.id)
    # 8 compose comes before 7, so that nothing slow lies between the mark and the wire
    head = compose.letterhead(campaign, campaign.latest_submission())
    letter = compose.letter(head, claimed, claimed.contact)
    # 7 gate
    question = audience.ask_for(campaign, head.tags, approved=True, sender_ready=True)
    assert gate.campaign_reason(question, today=gate.today(organization)) == ""
    marked = hand_over(question, campaign.pk, [claimed], {claimed.pk: letter.values})
    assert marked == {message.pk}
    # 9 send
    lines = wire.Lines(
        source_ip=address.address,
        helo=address.helo,
        policy=binding.transport_policy(campaign),
        journal=journal,
        renew=lambda pk: False,
        timeouts=Timeouts.all(5),
    )

    async def over_the_wire():
        attempts, error = await lines.send([letter])
        await lines.close()
        assert error is None
        return attempts

    attempts = asyncio.run(over_the_wire())
    # 10 event
    events.record_attempts(campaign, address, lines.policy, attempts)
    journal.close()
    freeze.tidy()

    (got,) = inbox.received()
    mail = message_from_bytes(got.message, policy=policy)
    published = {
        f"{name}.".encode(): types["TXT"].encode()
        for name, types in records(organization).items()
        if "TXT" in types
    }
    assert (got.envelope_to, got.peer_ip) == ("ann@mail.example", "127.0.0.11")
    assert got.tls_version in {"TLSv1.2", "TLSv1.3"}
    assert dkim.verify(got.message, dnsfunc=lambda name, timeout=5: published.get(name))
    assert "Dear Ann" in mail.get_body(("plain",)).get_content()
    assert "diabetes" not in mail.as_string().lower()
    message.refresh_from_db()
    campaign.refresh_from_db()
    assert (message.state, campaign.status) == ("sent", "sent")
    assert Receipt.objects.get().tls_version == got.tls_version
    assert Event.objects.get().type == "delivered"
    # 11 report
    found = results(campaign)
    found.check()
    assert (found.audience, found.sent, found.by_sending_ip) == (1, 1, {"127.0.0.11": 1})
    assert [one for one in verify().findings if one.code.startswith("fact")] == []


def test_withheld(organization, alice, bob, form, addresses, inbox):
    ann = bring_in(organization, form, alice)
    campaign = launched(organization, alice, bob)
    # The person says stop on paper, after the audience was approved and frozen.
    bring_in(organization, form, alice, opted_out="yes")

    assert send(addresses) == 0
    freeze.tidy()

    assert inbox.received() == []
    message = only_message(campaign)
    assert (message.state, message.reason, message.values) == ("withheld", "opted_out", None)
    assert asked_again(organization, ann) == "opted_out"
    assert results(campaign).withheld_by_reason == {"opted_out": 1}
    assert not Receipt.objects.exists() and not Event.objects.exists()


def test_bounced(organization, alice, bob, form, addresses, inbox):
    ann = bring_in(organization, form, alice, email="ann@gone.example")
    campaign = launched(organization, alice, bob)

    assert send(addresses) == 1
    freeze.tidy()

    assert inbox.received() == []
    message = only_message(campaign)
    assert (message.state, message.reason, message.code) == ("failed", "hard_recipient", 550)
    assert Event.objects.get().type == "bounced"
    assert Suppression.objects.get().reason == "hard_bounce"
    assert asked_again(organization, ann) == "suppressed"
    assert results(campaign).failed_by_kind == {"hard_recipient": 1}


def test_unsubscribed(organization, alice, bob, form, addresses, inbox, client):
    ann = bring_in(organization, form, alice)
    campaign = launched(organization, alice, bob)
    send(addresses)
    freeze.tidy()
    path = stop_address(message_from_bytes(inbox.received()[0].message))
    assert asked_again(organization, ann) == ""

    # A scanner looks first, and changes nothing.
    assert client.get(path).status_code == 200
    assert not OptOut.objects.exists()
    answer = client.post(path, ONE_CLICK, content_type="application/x-www-form-urlencoded")

    assert answer.status_code == 200
    fact = OptOut.objects.get()
    assert (fact.contact_id, fact.source) == (ann.pk, "one_click")
    assert fact.scope == PURPOSES["MARKETING"].stop_scope
    assert asked_again(organization, ann) == "opted_out"
    assert results(campaign).unsubscribed == 1
    assert Entry.objects.get(action="opt_out.recorded").actor == f"contact:{ann.pk}"


def test_erased(organization, alice, bob, form, addresses, inbox, client):
    ann = bring_in(organization, form, alice)
    campaign = launched(organization, alice, bob)
    send(addresses)
    freeze.tidy()
    path = stop_address(message_from_bytes(inbox.received()[0].message))
    assert only_message(campaign).values == {"first_name": "Ann"}

    certificate = erase.erase(ann, by=alice)

    message = only_message(campaign)
    assert certificate["rows"] == {"delivery": 1}
    assert (message.state, message.values, message.contact_id) == ("sent", None, ann.pk)
    ann.refresh_from_db()
    assert (ann.standing, ann.email, ann.first_name, ann.attributes) == ("erased", None, None, {})
    assert results(campaign).sent == 1
    # The link in the old mail still answers, and a stop is still heard.
    assert client.get(path).status_code == 200
    answer = client.post(path, ONE_CLICK, content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 200
    assert OptOut.objects.get().contact_id == ann.pk
    assert asked_again(organization, ann) == "erased"


def test_who_was_erased_and_comes_again_with_the_same_address_stays_opted_out(
    organization,
    alice,
    bob,
    form,
    addresses,
    inbox,
    client,
):
    ann = bring_in(organization, form, alice)
    launched(organization, alice, bob)
    send(addresses)
    path = stop_address(message_from_bytes(inbox.received()[0].message))
    client.post(path, ONE_CLICK, content_type="application/x-www-form-urlencoded")
    erase.erase(ann, by=alice)

    again = bring_in(organization, form, alice)

    assert again.pk != ann.pk
    assert asked_again(organization, again) == "opted_out"
