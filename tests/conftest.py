"""What holds for every test: nothing leaves this machine, nothing is left behind, and who is who."""

import functools
import hashlib
import itertools
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings as django_settings

from delivery import dkim
from phi import keys
from tests import factories
from tests.audit.plugin import (  # noqa: F401  (fixtures, found by their names)
    audit_heads,
    denials_are_noted,
    flush_past_triggers,
    pytest_runtest_teardown,
)

#: Where mail goes in tests: the discard port of this machine, on which nothing listens.
ROUTES = "*=127.0.0.1:9"


def pytest_configure(config: pytest.Config) -> None:
    """Run on keys of the tests' own, whatever the environment holds, and hash passwords cheaply."""
    for name in ("MASTER_KEYS", "AUDIT_SIGNING_KEY", "TOKEN_KEY"):
        key = hashlib.sha256(f"{name} of the tests".encode()).digest()
        setattr(django_settings, name, [key] if name == "MASTER_KEYS" else key)
    django_settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    # The live server of the browser tests looks for it before any fixture runs.
    django_settings.STATIC_ROOT = django_settings.BASE_DIR / "static"
    # For processes that tests start, too.
    os.environ["HIPAAMAIL_ROUTES"] = ROUTES


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """Tests reach this machine and nothing else; mail is routed to it even where a socket is not Python's."""
    settings.HIPAAMAIL_ROUTES = ROUTES
    for name, place in (("connect", 0), ("connect_ex", 0), ("sendto", -1)):
        call = getattr(socket.socket, name)
        monkeypatch.setattr(socket.socket, name, _guarded(call, lambda args, n=place: args[1:][n]))
    # Or the name alone would leave, as a question to a name server.
    look_up = _guarded(socket.getaddrinfo, lambda args: args[:1])
    monkeypatch.setattr(socket, "getaddrinfo", look_up)


def _guarded(call: Callable[..., Any], address_of: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(*args: Any, **kwargs: Any) -> Any:
        address = address_of(args)
        if isinstance(address, tuple) and address and not _is_here(address[0]):
            raise ConnectionRefusedError(f"A test tried to reach {address[0]}.")
        return call(*args, **kwargs)

    return guarded


def _is_here(host: str | bytes | None) -> bool:
    host = host.decode() if isinstance(host, bytes) else host
    # The test servers may have names of their own.
    servers = {
        urlsplit(django_settings.BROKER_URL).hostname,
        django_settings.DATABASES["default"]["HOST"],
    }
    return host in {None, "", "::", "::1", "0.0.0.0", "localhost"} | servers or host.startswith(
        "127."
    )


@pytest.fixture(autouse=True)
def state_dir(settings: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give each test a state directory of its own: files are not rolled back with the database."""
    settings.STATE_DIR = tmp_path_factory.mktemp("state", numbered=True)
    settings.JOURNAL_DIR = settings.STATE_DIR / "journals"
    return settings.STATE_DIR


@pytest.fixture(autouse=True, scope="session")
def two_signing_keys() -> Iterator[None]:
    """Make two DKIM key pairs and hand them out in turn: each takes as long as ten of most tests."""
    make = functools.lru_cache(lambda number, new_key=dkim.new_key: new_key())
    numbers = itertools.cycle((1, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dkim, "new_key", lambda: make(next(numbers)))
        yield


@pytest.fixture(autouse=True)
def forget_keys() -> Iterator[None]:
    """Drop unwrapped data keys after each test, as their rows are gone."""
    yield
    keys.forget()


@pytest.fixture
def organization(db: None) -> Any:
    """Lakeside: the organization that alice, bob and petra work in."""
    return factories.make_organization(name="Lakeside Health", slug="lakeside")


@pytest.fixture
def other_organization(db: None) -> Any:
    """Hillview: charlie's, which must never see anything of Lakeside's."""
    return factories.make_organization(name="Hillview Clinic", slug="hillview")


@pytest.fixture
def alice(organization: Any) -> Any:
    """A marketer of Lakeside."""
    return factories.make_user("marketer", organization, name="Alice Archer")


@pytest.fixture
def bob(organization: Any) -> Any:
    """An approver of Lakeside."""
    return factories.make_user("approver", organization, name="Bob Brewer")


@pytest.fixture
def petra(organization: Any) -> Any:
    """The privacy officer of Lakeside."""
    return factories.make_user("privacy_officer", organization, name="Petra Porter")


@pytest.fixture
def charlie(other_organization: Any) -> Any:
    """A marketer of Hillview."""
    return factories.make_user("marketer", other_organization, name="Charlie Cooper")
