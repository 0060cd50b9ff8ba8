"""The demo's world: made once, in development only, and its numbers are checked before they are believed."""

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection

from accounts.models import Organization, User
from audit.models import Entry
from campaigns.models import Sender
from consent.models import Authorization, OptOut
from contacts.models import Contact
from delivery.models import SendingIP
from demo import once, people, world


def counts():
    """Return how many rows each table of ours has."""
    return {
        model._meta.label: model._base_manager.count()
        for model in apps.get_models()
        if model._meta.db_table in connection.introspection.table_names()
    }


@pytest.mark.django_db
def test_loading_twice_changes_nothing(monkeypatch):
    monkeypatch.setattr(people, "PATIENTS", 30)
    world.load()
    before = counts()
    assert before["contacts.Contact"] == 30 + 60
    assert before["accounts.User"] == 2 * len(world.STAFF)

    world.load()

    assert counts() == before


@pytest.mark.django_db
def test_the_two_organizations_share_nobody(monkeypatch):
    monkeypatch.setattr(people, "PATIENTS", 5)
    world.load()
    lakeside, northgate = Organization.objects.order_by("slug")

    assert (lakeside.slug, northgate.slug) == ("lakeside", "northgate")
    for model in (Contact, Authorization, OptOut, Sender, SendingIP):
        assert set(model.objects.values_list("organization_id", flat=True)) <= {
            lakeside.pk,
            northgate.pk,
        }
    # The same people by record number and address, and yet no digest in common.
    digests = [
        set(Contact.objects.filter(organization=one).values_list("email_digest", flat=True))
        for one in (lakeside, northgate)
    ]
    assert digests[0] and not {bytes(d) for d in digests[0]} & {bytes(d) for d in digests[1]}


@pytest.mark.django_db
def test_it_is_refused_in_production(settings):
    settings.PRODUCTION = True

    with pytest.raises(world.NotInProduction):
        world.load()
    with pytest.raises(CommandError, match="production"):
        call_command("load_demo")
    with pytest.raises(CommandError, match="production"):
        call_command("demo_once")

    assert not Organization.objects.exists()
    assert not User.objects.exists()
    assert not Entry.objects.exists()


@pytest.fixture
def numbers(tmp_path):
    """Numbers that add up."""
    report = tmp_path / "report.pdf"
    report.write_bytes(b"%PDF")
    return {
        "rows": 100, "rejected": 2, "contacts": 98, "audience": 98,
        "withheld": {"opted_out": 5, "no_tls": 3}, "sent": 80, "tls": 80, "portal": 0, "failed": 6,
        "deferred": 3, "in_doubt": 1, "sending_ips": {"127.0.0.11": 40, "127.0.0.12": 40},
        "dkim_valid": True, "audit_entries": 900, "audit_verified": True,
        "report_pdf": str(report), "seconds": 12.3,
    }  # fmt: skip


def test_right_numbers_add_up(numbers):
    assert once.adds_up(numbers) == []


@pytest.mark.parametrize(
    ("name", "value", "claim"),
    [
        ("audience", 97, "audience ="),
        ("failed", 7, "audience ="),
        ("deferred", 4, "audience ="),
        ("in_doubt", 0, "audience ="),
        ("withheld", {"opted_out": 5}, "audience ="),
        ("tls", 79, "over TLS"),
        ("portal", 1, "over TLS"),
        ("sending_ips", {"127.0.0.11": 79}, "sending addresses"),
        ("dkim_valid", False, "DKIM"),
        ("dkim_valid", None, "DKIM"),
        ("audit_verified", False, "audit log"),
        ("report_pdf", "/nowhere/report.pdf", "report"),
    ],
)
def test_each_wrong_number_is_told(numbers, name, value, claim):
    (wrong,) = once.adds_up(numbers | {name: value})

    assert claim in wrong


def test_a_message_too_many_is_told_wherever_it_counts(numbers):
    assert len(once.adds_up(numbers | {"sent": 81})) == 3
