"""Stop against send, and kill -9 against once: with real transactions, threads and processes."""

import base64
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from urllib.parse import quote

import pytest
from django.conf import settings as django_settings
from django.db import connection

from consent import gate, stop
from consent.models import OptOut
from delivery import pipeline, throttle
from delivery.handover import hand_over
from delivery.journal import Journal
from delivery.models import Message
from delivery.verp import read as read_verp
from delivery.wire import CONNECTIONS
from tests.delivery.conftest import send
from tests.factories import make_authorized

pytestmark = pytest.mark.django_db(transaction=True)

PEOPLE = 80


@pytest.fixture
def people(organization, form):
    return [
        make_authorized(organization, form, email=f"p{number}@mail.example")
        for number in range(PEOPLE)
    ]


def test_no_message_is_marked_after_a_stop_was_recorded(people, due, addresses):
    campaign = due()
    question = gate.ask(campaign.organization, "MARKETING")
    chance = random.Random(1)
    stopping = chance.sample(people, PEOPLE // 2)

    def say_stop(some):
        try:
            for contact in some:
                stop.opt_out(contact, "commercial", source="page", by=contact)
                time.sleep(chance.random() / 200)
        finally:
            connection.close()

    threads = [threading.Thread(target=say_stop, args=(stopping[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for address in addresses:
        journal = Journal.open(django_settings.JOURNAL_DIR, address.address)
        while claimed := throttle.claim(address, journal.id, size=5):
            hand_over(question, campaign.pk, claimed)
    for thread in threads:
        thread.join()

    marks = dict(
        Message.objects.filter(handed_over_at__isnull=False).values_list(
            "contact_id", "handed_over_at"
        )
    )
    stops = dict(OptOut.objects.values_list("contact_id", "recorded_at"))
    assert len(stops) == PEOPLE // 2
    assert [contact for contact, at in stops.items() if marks.get(contact, at) > at] == []
    withheld = set(Message.objects.filter(state="withheld").values_list("contact_id", flat=True))
    assert withheld <= set(stops)
    assert 0 < len(withheld) < PEOPLE // 2 + 1


def worker(address):
    """Start a real process that sends what is due on an address of the test database."""
    db = connection.settings_dict
    url = (
        f"postgres://{quote(db['USER'])}:{quote(db['PASSWORD'])}@{quote(db['HOST'], safe='')}:{db['PORT']}"
        f"/{db['NAME']}"
    )
    code = (
        "import uuid, django; django.setup(); from delivery import pipeline; "
        f"pipeline.send_slice(uuid.UUID('{address.pk}'))"
    )
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "hipaamail.settings",
        "DATABASE_URL": url,
        "DATABASE_OWNER_URL": "",
        "BROKER_URL": os.environ.get("BROKER_URL") or "redis://127.0.0.1:1/0",
        "HIPAAMAIL_STATE_DIR": str(django_settings.STATE_DIR),
        "HIPAAMAIL_ROUTES": django_settings.HIPAAMAIL_ROUTES,
        "HIPAAMAIL_MASTER_KEY": base64.b64encode(django_settings.MASTER_KEYS[0]).decode(),
        "HIPAAMAIL_TOKEN_KEY": base64.b64encode(django_settings.TOKEN_KEY).decode(),
        "HIPAAMAIL_AUDIT_KEY": base64.b64encode(django_settings.AUDIT_SIGNING_KEY).decode(),
    }
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, cwd=django_settings.BASE_DIR
    )


def killed_in_mid_campaign(address, inbox, more):
    """Run a worker until `more` messages arrived, then kill -9 it; say whether it was still at work."""
    process, enough = worker(address), len(inbox.received()) + more
    while process.poll() is None and len(inbox.received()) < enough:
        time.sleep(0.005)
    at_work = process.poll() is None
    if at_work:
        process.send_signal(signal.SIGKILL)
    process.wait()
    return at_work


def test_killed_workers_send_nothing_twice_and_lose_nothing(people, due, addresses, inbox):
    campaign = due()
    kills = sum(killed_in_mid_campaign(addresses[0], inbox, more) for more in (3, 9))
    assert kills >= 1

    deadline = time.monotonic() + 30
    while send(addresses) or Message.objects.filter(state__in=Message.OPEN).exists():
        assert time.monotonic() < deadline

    got = Counter(
        read_verp(one.envelope_from, django_settings.TOKEN_KEY) for one in inbox.received()
    )
    by_state = {
        state: set(
            Message.objects.filter(campaign=campaign, state=state).values_list("pk", flat=True)
        )
        for state in ("sent", "in_doubt")
    }
    assert set(got.values()) == {1}
    assert by_state["sent"] <= set(got) <= by_state["sent"] | by_state["in_doubt"]
    assert len(by_state["sent"]) + len(by_state["in_doubt"]) == PEOPLE
    assert len(by_state["in_doubt"]) <= kills * CONNECTIONS


def test_a_database_that_goes_away_in_mid_send_loses_and_doubles_nothing(
    people, due, addresses, inbox, monkeypatch
):
    campaign = due()
    real = pipeline.events.record_attempts
    calls = []

    def broken(*arguments):
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionError("the database went away")
        return real(*arguments)

    monkeypatch.setattr(pipeline.events, "record_attempts", broken)
    with pytest.raises(ConnectionError):
        send([addresses[0]])
    first = len(inbox.received())
    assert first > 0
    while send(addresses):
        pass

    got = Counter(
        read_verp(one.envelope_from, django_settings.TOKEN_KEY) for one in inbox.received()
    )
    assert set(got.values()) == {1}
    assert Message.objects.filter(campaign=campaign, state="sent").count() == PEOPLE == len(got)
