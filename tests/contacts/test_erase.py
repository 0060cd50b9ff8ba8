"""Erasure leaves nothing of a person, keeps what must outlive them, and says so in a certificate."""

import datetime as dt
import json

import pytest
from django.db import connection

from audit.models import Entry
from consent.models import OptOut, Suppression
from consent.stop import opt_out, suppress
from contacts import erase as erasure
from contacts.erase import AlreadyErased, erase
from contacts.models import Contact, Tally, TermRow
from phi.digest import address_digest
from tests import factories

pytestmark = pytest.mark.django_db


@pytest.fixture
def jane(searchable):
    return factories.make_person(
        searchable,
        email="jane@canary.example",
        record_number="4711",
        first_name="Canaria",
        last_name="Canarius",
        date_of_birth=dt.date(1971, 3, 4),
        sex="female",
        state="CA",
        zip="90210",
        language="es",
        attributes={"conditions": ["asthma"], "plan": "gold"},
    )


def test_nothing_of_the_person_is_left(searchable, jane, petra):
    certificate = erase(jane, by=petra)

    gone = Contact.objects.get(pk=jane.pk)
    assert gone.standing == Contact.Standing.ERASED
    assert gone.erased_at is not None
    for name in (
        *("record_number", "record_digest", "email", "email_digest", "domain_digest", "sex", "zip"),
        *("first_name", "last_name", "date_of_birth", "state", "language"),
    ):
        assert getattr(gone, name) is None, name
        assert name in certificate["fields"]
    assert gone.attributes == {}
    assert gone.source == ""
    assert TermRow.objects.count() == 0
    assert Tally.objects.get().contacts == 0
    # The caller's own copy forgets too.
    assert (jane.email, jane.standing) == (None, "erased")


def test_the_certificate_names_nobody(searchable, jane, petra, settings):
    settings.BACKUP_DAYS = 30

    certificate = erase(jane, by=petra)

    assert certificate["contact"] == str(jane.pk)
    assert certificate["by"] == f"user:{petra.pk}"
    assert certificate["also"] == []
    erased_on = dt.datetime.fromisoformat(certificate["erased_at"]).date()
    assert certificate["backups_expire_on"] == (erased_on + dt.timedelta(days=30)).isoformat()
    assert "anari" not in json.dumps(certificate)
    entry = Entry.objects.get(action="contact.erased")
    assert (entry.target_id, entry.count) == (jane.pk, 1)
    assert "anari" not in str(Entry.objects.filter(pk=entry.pk).values())


def test_backups_never_outlive_35_days(searchable, jane, petra, settings):
    settings.BACKUP_DAYS = 90

    certificate = erase(jane, by=petra)

    erased_on = dt.datetime.fromisoformat(certificate["erased_at"]).date()
    assert certificate["backups_expire_on"] == (erased_on + dt.timedelta(days=35)).isoformat()


def test_a_stop_outlives_the_person(searchable, jane, petra):
    blind = address_digest(searchable.pk, "jane@canary.example")
    opt_out(jane, "all", source="phone", by=petra)
    suppress(searchable, blind, "complaint", source="bounce", by=petra)

    erase(jane, by=petra)

    assert [bytes(o.email_digest) for o in OptOut.objects.all()] == [blind]
    assert [bytes(s.email_digest) for s in Suppression.objects.all()] == [blind]


def test_those_merged_into_the_person_go_with_them(searchable, jane, petra):
    first = factories.make_contact(
        searchable, email="j@canary.example", standing="merged", merged_into=jane
    )
    second = factories.make_contact(
        searchable, email="k@canary.example", standing="merged", merged_into=first
    )
    bystander = factories.make_person(searchable, email="bob@x.example")

    certificate = erase(jane, by=petra)

    assert certificate["also"] == sorted([str(first.pk), str(second.pk)])
    assert set(Contact.objects.filter(standing="erased").values_list("pk", flat=True)) == {
        *(jane.pk, first.pk, second.pk),
    }
    assert not Contact.objects.filter(standing="erased", email__isnull=False).exists()
    assert Contact.objects.get(pk=bystander.pk).email == "bob@x.example"
    assert TermRow.objects.filter(contact=bystander).exists()
    assert Entry.objects.get(action="contact.erased").count == 3


def test_every_app_that_kept_something_empties_it_in_the_same_transaction(
    searchable, jane, petra, monkeypatch
):
    seen = []

    def eraser(contact, *, by):
        assert connection.in_atomic_block
        # What it needs to find its rows is still there.
        seen.append((contact.pk, contact.email, by))
        return 3

    monkeypatch.setattr(erasure, "ERASERS", {"elsewhere": eraser})

    certificate = erase(jane, by=petra)

    assert seen == [(jane.pk, "jane@canary.example", petra)]
    assert certificate["rows"] == {"elsewhere": 3}
    assert Entry.objects.get(action="contact.erased").detail == {"elsewhere_rows": 3}


def test_nothing_is_erased_when_an_app_cannot(searchable, jane, petra, monkeypatch):
    def eraser(contact, *, by):
        raise RuntimeError

    monkeypatch.setattr(erasure, "ERASERS", {"elsewhere": eraser})

    with pytest.raises(RuntimeError):
        erase(jane, by=petra)

    assert Contact.objects.get(pk=jane.pk).email == "jane@canary.example"
    assert TermRow.objects.count() == 1
    assert Entry.objects.filter(action="contact.erased").count() == 0


def test_what_is_erased_cannot_be_erased_again(searchable, jane, petra):
    erase(jane, by=petra)
    before = Contact.objects.get(pk=jane.pk).erased_at

    with pytest.raises(AlreadyErased):
        erase(jane, by=petra)
    assert Contact.objects.get(pk=jane.pk).erased_at == before
    assert Entry.objects.filter(action="contact.erased").count() == 1


def test_the_address_is_free_for_somebody_else(searchable, jane, petra):
    erase(jane, by=petra)

    factories.make_person(searchable, email="jane@canary.example", record_number="4711")
    assert Contact.objects.filter(standing="active").count() == 1
