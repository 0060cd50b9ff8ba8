"""Commands of delivery: a domain's records, its keys."""

import json
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from accounts.models import SendingDomain
from delivery import domains, mx
from delivery.models import DkimKey
from tests.factories import make_addresses

pytestmark = pytest.mark.django_db


def run(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def domain(organization):
    make_addresses(organization, "192.0.2.11")
    return domains.add_domain(organization, "clinic.example", by="system:tests")


@pytest.fixture
def published(organization, domain, monkeypatch):
    """DNS that holds what we ask for; a test changes it."""
    zone = {
        (name, kind): value
        for name, kinds in domains.records(organization).items()
        for kind, value in kinds.items()
    }
    monkeypatch.setattr(
        mx, "records", lambda name, kind: [zone[name, kind]] if (name, kind) in zone else []
    )
    return zone


def test_a_domain_is_verified_when_its_records_are_there(domain, published):
    assert "Verified." in run("check_domain", "clinic.example")

    domain.refresh_from_db()
    assert domain.verified_at is not None


@pytest.mark.parametrize(
    "name", ["hm1._domainkey.clinic.example", "bounce.clinic.example", "_dmarc.clinic.example"]
)
def test_a_domain_is_not_verified_while_a_needed_record_is_missing(domain, published, name):
    del published[name, "TXT"]

    with pytest.raises(CommandError, match="missing"):
        run("check_domain", "clinic.example")

    assert SendingDomain.objects.get().verified_at is None


def test_a_key_with_one_letter_changed_is_not_the_key(domain, published):
    name = ("hm1._domainkey.clinic.example", "TXT")
    published[name] = published[name].swapcase()

    with pytest.raises(CommandError, match="dkim"):
        run("check_domain", "clinic.example")

    assert SendingDomain.objects.get().verified_at is None


def test_a_look_up_that_fails_verifies_nothing(domain, monkeypatch):
    def fails(name, kind):
        raise mx.LookupFailed("the look-up of a record failed")

    monkeypatch.setattr(mx, "records", fails)

    with pytest.raises(CommandError, match="Try again"):
        run("check_domain", "clinic.example")

    assert SendingDomain.objects.get().verified_at is None


def test_the_next_key_is_made_published_and_then_used(domain):
    record = json.loads(run("dkim_key", "clinic.example"))

    key = DkimKey.objects.get(selector="hm2")
    assert record == {"hm2._domainkey.clinic.example": {"TXT": key.public_txt}}
    assert key.used_from is None

    run("dkim_key", "clinic.example", "--use", "hm2")
    assert DkimKey.objects.get(selector="hm2").used_from is not None


@pytest.mark.parametrize(
    "arguments",
    [
        ("check_domain", "other.example"),
        ("dkim_key", "other.example"),
        ("dkim_key", "clinic.example", "--use", "hm9"),
        ("dns_records", "nobody"),
        ("stop_sending", "nobody"),
    ],
)
def test_what_does_not_exist_is_said(domain, arguments):
    with pytest.raises(CommandError):
        run(*arguments)

    assert DkimKey.objects.count() == 1


def test_the_kill_switch_by_command(domain, organization):
    run("stop_sending", organization.slug)
    organization.refresh_from_db()
    assert organization.sending_stopped_at is not None

    run("stop_sending", organization.slug, "--allow")
    organization.refresh_from_db()
    assert organization.sending_stopped_at is None
