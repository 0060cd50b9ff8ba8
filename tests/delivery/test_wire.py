"""A set on the wire: one letter's trouble is not another's, and nothing leaves without its mark."""

import asyncio

import pytest

from delivery import wire
from delivery.journal import Journal, JournalBroken
from delivery.models import Message, Receipt
from tests.delivery.conftest import send
from tests.factories import make_authorized

pytestmark = pytest.mark.django_db

PEOPLE = 12


@pytest.fixture
def campaign(organization, form, due):
    for number in range(PEOPLE):
        make_authorized(organization, form, email=f"p{number}@mail.example")
    return due()


def count(campaign, **columns):
    return Message.objects.filter(campaign=campaign, **columns).count()


def test_a_letter_that_breaks_leaves_no_doubt_about_the_others(
    campaign, addresses, inbox, monkeypatch
):
    """Those under way come to their end and are recorded before the error is raised."""
    real = Journal.before
    asked = []

    def before(self, message_id, attempt):
        asked.append(message_id)
        if len(asked) == 2:
            raise JournalBroken("the disk is full")
        return real(self, message_id, attempt)

    monkeypatch.setattr(Journal, "before", before)
    with pytest.raises(JournalBroken):
        send(addresses[:1])

    sent = len(inbox.received())
    assert sent == PEOPLE // 2 - 1
    assert count(campaign, state="sent") == Receipt.objects.count() == sent
    assert Message.objects.get(pk=asked[1]).state == "handing_over"

    monkeypatch.setattr(Journal, "before", real)
    send(addresses)
    assert count(campaign, state="sent") == len(inbox.received()) == PEOPLE
    assert count(campaign, state="in_doubt") == 0


def test_a_full_disk_sends_nothing(campaign, addresses, inbox, monkeypatch):
    monkeypatch.setattr(Journal, "_write", lambda self, line: False)

    with pytest.raises(JournalBroken):
        send(addresses[:1])

    assert inbox.received() == []
    assert count(campaign, state="sent") == 0


def test_a_mark_that_is_refused_leaves_one_letter_out(campaign, addresses, inbox, monkeypatch):
    refused = Message.objects.filter(campaign=campaign, sending_ip=addresses[0]).first()
    monkeypatch.setattr(wire, "MARK_LASTS", -1)

    class Lines(wire.Lines):
        def __init__(self, **options):
            super().__init__(**options | {"renew": lambda pk: pk != refused.pk})

    monkeypatch.setattr("delivery.pipeline.Lines", Lines)
    send(addresses[:1])

    assert len(inbox.received()) == PEOPLE // 2 - 1
    assert refused.contact.email not in {one.envelope_to for one in inbox.received()}
    assert not Receipt.objects.filter(message=refused).exists()


def test_no_more_connections_are_open_at_once_than_allowed(campaign, addresses, inbox, monkeypatch):
    monkeypatch.setattr(wire, "CONNECTIONS", 2)
    now, most = [0], [0]
    real = wire.Lines._deliver

    async def deliver(self, *arguments):
        now[0] += 1
        most[0] = max(most[0], now[0])
        try:
            return await real(self, *arguments)
        finally:
            now[0] -= 1

    monkeypatch.setattr(wire.Lines, "_deliver", deliver)
    send(addresses[:1])

    assert most == [2]
    assert len(inbox.received()) == PEOPLE // 2


def test_a_connection_is_used_again_and_closed_in_the_end(campaign, addresses, inbox, monkeypatch):
    opened = []
    real = wire.smtp.open_session

    async def open_session(*arguments, **options):
        opened.append(await real(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(wire, "CONNECTIONS", 1)
    monkeypatch.setattr(wire.smtp, "open_session", open_session)
    send(addresses[:1])

    assert len(inbox.received()) == PEOPLE // 2
    assert [session.messages for session in opened] == [PEOPLE // 2]
    assert not opened[0].usable


def test_a_domain_that_cannot_be_looked_up_is_asked_once(monkeypatch):
    asked = []

    async def resolve(domain):
        asked.append(domain)
        raise wire.mx.Unresolvable(451, "4.4.3", "nobody answers")

    monkeypatch.setattr(wire.mx, "resolve_async", resolve)
    lines = wire.Lines(
        source_ip="127.0.0.11",
        helo="mail.clinic.example",
        policy="tls",
        journal=None,
        renew=None,
        timeouts=wire.smtp.Timeouts(),
    )

    async def twice():
        return [await lines._resolve("mail.example") for _ in range(2)]

    first, second = asyncio.run(twice())
    assert first is second and first.temporary
    assert asked == ["mail.example"]
