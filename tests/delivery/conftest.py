"""A real receiving server, and a campaign that is due."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from delivery import freeze, pipeline
from delivery.models import Message, SendingIP
from demo import receiver
from demo.mailbox import Received, read_all
from tests import factories


@dataclass
class Inbox:
    """A running receiving server and what it got since the test began."""

    running: receiver.Running
    directory: Path
    key: bytes
    before: int = 0

    def received(self) -> list[Received]:
        """Return what arrived in this test."""
        return list(read_all(self.directory, self.key))[self.before :]

    @property
    def routes(self) -> str:
        """Everything to it, and notls.example to its port without TLS."""
        here = self.running.host
        return f"*={here}:{self.running.port},notls.example={here}:{self.running.plain_port}"


@pytest.fixture(scope="module")
def receiving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inbox]:
    directory, key = tmp_path_factory.mktemp("inbox"), secrets.token_bytes(32)
    running = receiver.start(
        directory, key=key, defer=["slow.example"], reject=["gone.example"], defer_seconds=0
    )
    yield Inbox(running, directory, key)
    running.stop()


@pytest.fixture
def inbox(receiving: Inbox, settings: Any) -> Inbox:
    """Mail goes to a real server on this machine."""
    settings.HIPAAMAIL_ROUTES = receiving.routes
    settings.SMTP_SECONDS = 5
    receiving.before = len(list(read_all(receiving.directory, receiving.key)))
    return receiving


@pytest.fixture
def addresses(organization: Any) -> list[SendingIP]:
    """Two sending addresses."""
    return factories.make_addresses(organization)


@pytest.fixture
def form(organization: Any) -> Any:
    return factories.make_form(organization)


@pytest.fixture
def due(organization: Any, alice: Any, form: Any, addresses: list[SendingIP]) -> Any:
    """Return a function that makes a campaign to everyone there is, approved, due and frozen."""

    def make(**fields: Any) -> Any:
        campaign = factories.make_scheduled(organization, by=alice, **fields)
        assert freeze.launch_due() == 1
        campaign.refresh_from_db()
        return campaign

    return make


def send(addresses: list[SendingIP]) -> int:
    """Do a slice of work on each address."""
    return sum(pipeline.send_slice(address.pk, seconds=20) for address in addresses)


def states(campaign: Any) -> dict[str, str]:
    """Return {address: "state reason"} of a campaign's messages."""
    return {
        message.contact.email: f"{message.state} {message.reason}".strip()
        for message in Message.objects.filter(campaign=campaign).select_related("contact")
    }
