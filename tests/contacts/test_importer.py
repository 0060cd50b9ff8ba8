"""From a file to contacts: nothing before apply, nothing twice, nothing lost, whatever happens."""

import datetime as dt
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.models import Entry
from contacts import apply_file, importer, reading, tasks
from contacts.addresses import check
from contacts.columns import COLUMNS, Column, Problem
from contacts.importer import Overtaken, Refused, WrongStatus
from contacts.models import Contact, CustomField, Import, Tally, Term, TermRow
from contacts.people import People
from contacts.rows import Row
from files import staging
from files.models import StagedFile
from phi.digest import address_digest, digest
from tests import factories
from tests.contacts.conftest import ids, stage

pytestmark = pytest.mark.django_db

HEADER = (
    "email,first_name,last_name,date_of_birth,sex,state,zip,language,conditions,last_visit,"
    "authorized_on,authorization_expires,opted_out"
)


def csv(*rows, header=HEADER):
    return "\n".join([header, *rows]) + "\n"


def people(organization):
    """Everybody, opened, by record number and address."""
    found = Contact.objects.filter(organization=organization)
    return sorted(found, key=lambda p: (p.record_number or "", p.email or "", p.source))


def counts(import_):
    names = ("rows", "created", "updated", "unchanged", "rejected")
    return tuple(getattr(import_, name) for name in names)


ANN = "ann@x.example,Ann,Archer,1970-02-03,F,California,90210,es,E11.9;asthma,2026-01-05,,,"


def test_a_row_becomes_a_contact_with_everything_sealed(searchable, bring_in):
    import_, checked = bring_in(searchable, csv(ANN))

    (ann,) = people(searchable)
    assert (ann.email, ann.first_name, ann.last_name) == ("ann@x.example", "Ann", "Archer")
    assert (ann.date_of_birth, ann.sex, ann.state) == (dt.date(1970, 2, 3), "female", "CA")
    assert (ann.zip, ann.language, ann.kind, ann.standing) == ("90210", "es", "patient", "active")
    assert ann.attributes == {"conditions": ["E11.9", "asthma"], "last_visit": "2026-01-05"}
    assert bytes(ann.email_digest) == address_digest(searchable.pk, "ann@x.example")
    assert bytes(ann.domain_digest) == digest(searchable.pk, "domain", "x.example")
    assert ann.record_digest is None
    assert abs(ann.created_at - timezone.now()) < dt.timedelta(minutes=1)
    assert ids(searchable, {"field": "conditions", "op": "is", "value": "asthma"}) == {ann.pk}
    assert Tally.objects.get(organization=searchable).contacts == 1
    assert (checked.new, counts(import_)) == (1, (1, 1, 0, 0, 0))
    assert import_.status == Import.Status.DONE
    assert import_.finished_at is not None
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(c::text, '') FROM contacts_contact c")
        row = cursor.fetchone()[0]
    for text in ("ann@x", "Ann", "Archer", "asthma", "90210"):
        assert text.encode().hex() not in row
        assert text not in row


def test_an_imported_contact_equals_one_saved_by_hand(searchable, bring_in):
    bring_in(searchable, csv(ANN))
    (imported,) = people(searchable)
    from contacts import terms

    row = TermRow.objects.get(contact=imported).terms
    terms.index([Contact.objects.get(pk=imported.pk)])

    assert TermRow.objects.get(contact=imported).terms == row
    imported.first_name = "Anna"
    imported.save()
    assert people(searchable)[0].first_name == "Anna"
    assert people(searchable)[0].attributes["conditions"] == ["E11.9", "asthma"]


def test_a_check_changes_nothing_but_the_import(searchable, bring_in):
    CustomField.objects.create(organization=searchable, key="plan", label="Plan", type="text")
    before = Term.objects.count()

    import_, checked = bring_in(
        searchable, csv(ANN + ",gold,7", header=HEADER + ",plan,visits"), apply=False
    )

    assert import_.status == Import.Status.CHECKED
    assert (checked.rows, checked.new) == (1, 1)
    assert Contact.objects.count() == TermRow.objects.count() == 0
    assert Term.objects.count() == before
    assert list(CustomField.objects.values_list("key", flat=True)) == ["plan"]
    assert Entry.objects.filter(action="import.checked").get().count == 1
    assert Entry.objects.filter(action__in=["contact.imported", "field.created"]).count() == 0


def test_an_unknown_column_becomes_a_field_when_the_import_is_applied(searchable, bring_in):
    bring_in(searchable, csv(ANN + ",7,x", header=HEADER + ",Visits a year,HIV status"))

    made = {f.key: (f.label, f.type, f.data_class) for f in CustomField.objects.all()}
    assert made == {
        "visits_a_year": ("Visits a year", "number", "treatment"),
        "hiv_status": ("HIV status", "text", "sensitive"),
    }
    (ann,) = people(searchable)
    assert ann.attributes["visits_a_year"] == 7
    assert ids(searchable, {"field": "visits_a_year", "op": "at_least", "value": 7}) == {ann.pk}
    assert Entry.objects.filter(action="field.created").count() == 2


# --- who is a person


@pytest.mark.parametrize(
    "second",
    ["ANN@X.example", " ann@x.EXAMPLE. ", "ann@x.example"],
)
def test_two_rows_with_one_address_are_one_person_and_the_later_wins(
    organization, bring_in, second
):
    import_, checked = bring_in(
        organization,
        csv("ann@x.example,Ann,Old,,,CA,,,,,,,", f"{second},,New,,,NY,10001,,,,,,"),
    )

    (ann,) = people(organization)
    # An empty cell changes nothing.
    assert (ann.first_name, ann.last_name, ann.state, ann.zip) == ("Ann", "New", "NY", "10001")
    assert bytes(ann.email_digest) == address_digest(organization.pk, "ann@x.example")
    assert (checked.new, checked.repeated) == (1, 1)
    assert counts(import_) == (2, 1, 1, 0, 0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ann@müller.example", "ann@XN--MLLER-KVA.example"),
        ("jürgen@x.example", "Ju\u0308rgen@x.example"),
    ],
)
def test_addresses_beyond_ascii_are_one_however_they_are_written(
    organization, bring_in, one, other
):
    bring_in(organization, csv(f"{one},A,,,,,,,,,,,", f"{other},B,,,,,,,,,,,"))

    (person,) = people(organization)
    assert person.first_name == "B"
    assert person.email.isascii() == ("müller" in one)


def test_a_record_number_says_who_somebody_is_and_an_address_may_be_shared(organization, bring_in):
    header = "record_number,email,first_name"
    bring_in(
        organization,
        csv("1,home@x.example,Ann", "2,HOME@x.example,Ben", header=header),
        source="ehr",
    )
    bring_in(organization, csv("2,ben@x.example,", "1,,Anna", header=header), source="ehr")

    assert [(p.record_number, p.email, p.first_name) for p in people(organization)] == [
        ("1", "home@x.example", "Anna"),
        ("2", "ben@x.example", "Ben"),
    ]
    moved = people(organization)[1]
    assert bytes(moved.email_digest) == address_digest(organization.pk, "ben@x.example")


def test_the_same_number_from_another_source_is_another_person(organization, bring_in):
    for source in ("ehr", "billing"):
        bring_in(organization, csv("1,a@x.example", header="record_number,email"), source=source)

    assert [p.source for p in people(organization)] == ["billing", "ehr"]


def test_a_row_without_a_number_does_not_touch_who_has_one(organization, bring_in):
    bring_in(organization, csv("1,a@x.example,Ann", header="mrn,email,first_name"), source="ehr")
    bring_in(organization, csv("a@x.example,Bea", header="email,first_name"))

    assert [(p.record_number, p.first_name) for p in people(organization)] == [
        (None, "Bea"),
        ("1", "Ann"),
    ]


def test_without_an_address_a_record_number_is_needed(organization, bring_in):
    import_, _ = bring_in(
        organization, csv("7,,Ann", ",,Ben", header="record_number,email,first_name")
    )

    (ann,) = people(organization)
    assert (ann.email, ann.email_digest, ann.first_name) == (None, None, "Ann")
    assert [p[2] for p in import_.problems] == ["no_identity"]


def test_another_organizations_person_is_another(organization, other_organization, bring_in, alice):
    bring_in(organization, csv("a@x.example,Ann", header="email,first_name"))
    bring_in(other_organization, csv("a@x.example,Cat", header="email,first_name"))

    assert [p.first_name for p in people(organization)] == ["Ann"]
    assert [p.first_name for p in people(other_organization)] == ["Cat"]
    file = stage(other_organization, csv(ANN), by=alice)
    with pytest.raises(Refused):
        importer.start(organization, file, by=alice)
    assert Import.objects.filter(organization=organization).count() == 1


def test_the_dead_are_not_made_anew_and_the_merged_are_found(organization, bring_in):
    dead = factories.make_contact(organization, email="dead@x.example", standing="deceased")
    kept = factories.make_person(organization, email="new@x.example", record_number="1")
    merged = factories.make_contact(
        organization, email="old@x.example", standing="merged", merged_into=kept
    )
    Contact.objects.filter(pk=merged.pk).update(record_digest=None)
    factories.make_contact(
        organization, email=None, record_number="2", standing="merged", merged_into=kept
    )

    import_, checked = bring_in(
        organization,
        csv(
            ",dead@x.example,Dee",
            ",old@x.example,Kim",
            "2,other@x.example,",
            "1,,Kit",
            header="record_number,email,first_name",
        ),
        source="ehr",
    )

    assert Contact.objects.count() == 4
    dead.refresh_from_db()
    assert (dead.first_name, dead.standing) == ("Dee", "deceased")
    assert not TermRow.objects.filter(contact=dead).exists()
    kept.refresh_from_db()
    # What a row was found by does not become the survivor's own.
    assert (kept.record_number, kept.first_name) == ("1", "Kit")
    assert kept.email == "other@x.example"
    assert counts(import_) == (4, 0, 4, 0, 0)
    assert checked.updated == 4


def test_what_a_row_was_found_by_does_not_become_the_survivors_own(organization, bring_in):
    kept = factories.make_person(organization, email="new@x.example", record_number="1")
    factories.make_contact(organization, email="old@x.example", standing="merged", merged_into=kept)

    bring_in(organization, csv("OLD@x.example,Kim", header="email,first_name"))

    kept.refresh_from_db()
    assert (kept.email, kept.first_name, kept.record_number) == ("new@x.example", "Kim", "1")
    assert bytes(kept.email_digest) == address_digest(organization.pk, "new@x.example")


def test_an_erased_person_comes_back_as_somebody_new(organization, bring_in, petra):
    from contacts.erase import erase

    bring_in(organization, csv("1,a@x.example", header="record_number,email"), source="ehr")
    (old,) = people(organization)
    erase(old, by=petra)
    bring_in(organization, csv("1,a@x.example", header="record_number,email"), source="ehr")

    assert [p.standing for p in people(organization)] == ["erased", "active"]


# --- again


def test_importing_a_file_again_changes_nothing(searchable, bring_in):
    content = csv(ANN, "bob@x.example,Bob,,,,,,,,,,,", ",,,", "bad,,,,,,,,,,,,")
    bring_in(searchable, content)
    before = [(p.pk, p.updated_at) for p in people(searchable)]

    import_, checked = bring_in(searchable, content)

    assert [(p.pk, p.updated_at) for p in people(searchable)] == before
    # A row of empty cells is no row.
    assert (checked.new, checked.updated, checked.unchanged, checked.rejected) == (0, 0, 2, 1)
    assert counts(import_) == (3, 0, 0, 2, 1)


def test_a_later_file_changes_what_it_says_and_nothing_else(searchable, bring_in):
    bring_in(searchable, csv(ANN + ",x", header=HEADER + ",ward"))
    import_, checked = bring_in(
        searchable, csv("ann@x.example,,Baker,,,,,,gout,,,,", "eve@x.example,Eve,,,,,,,,,,,")
    )

    ann, eve = people(searchable)
    assert (ann.first_name, ann.last_name, eve.first_name) == ("Ann", "Baker", "Eve")
    assert ann.attributes == {"conditions": ["gout"], "last_visit": "2026-01-05", "ward": "x"}
    assert ids(searchable, {"field": "conditions", "op": "is", "value": "gout"}) == {ann.pk}
    assert ids(searchable, {"field": "conditions", "op": "is", "value": "asthma"}) == set()
    assert ids(searchable, {"field": "state", "op": "is", "value": "CA"}) == {ann.pk}
    assert (checked.new, checked.updated, counts(import_)) == (1, 1, (2, 1, 1, 0, 0))


def test_a_cell_of_separators_alone_is_an_empty_one(searchable, bring_in):
    bring_in(searchable, csv("a@x.example,,,,,,,,gout,,,,"))
    import_, _ = bring_in(searchable, csv("a@x.example,,,,,,,, ; ,,,,"))

    assert people(searchable)[0].attributes == {"conditions": ["gout"]}
    assert counts(import_) == (1, 0, 0, 1, 0)


def test_applying_a_finished_import_does_nothing(organization, bring_in, alice):
    import_, _ = bring_in(organization, csv(ANN))
    entries = Entry.objects.count()

    assert importer.apply(import_, by=alice).created == 1
    assert Contact.objects.count() == 1
    assert Entry.objects.count() == entries


# --- what is wrong with a row


BAD_ROWS = {
    "impossible_date": "a@x.example,A,,1970-02-30,,,,,,,,,",
    "future_date": "a@x.example,A,,2199-01-01,,,,,,,,,",
    "not_a_date": "a@x.example,A,,3/2/1970,,,,,,,,,",
    "address_at_sign": "nobody,A,,,,,,,,,,,",
    "address_local_domain": "a@localhost,A,,,,,,,,,,,",
    "address_ip": "a@[127.0.0.1],A,,,,,,,,,,,",
    "address_characters": '"a@d>,<b@d",A,,,,,,,,,,,',
    "no_identity": ",A,,,,,,,,,,,",
    "hidden_characters": "a@x.example,\u202eA,,,,,,,,,,,",
    "encoded_word": "a@x.example,=?UTF-8?Q?=0A?=,,,,,,,,,,,",
    "not_a_state": "a@x.example,A,,,,Atlantis,,,,,,,",
    "not_a_sex": "a@x.example,A,,,9,,,,,,,,",
    "not_a_zip": "a@x.example,A,,,,,1234,,,,,,",
    "cell_too_long": f"a@x.example,{'A' * 10_001},,,,,,,,,,,",
    "too_long": f"a@x.example,{'A' * 121},,,,,,,,,,,",
    "line_too_long": f"a@x.example,{'A' * 1_000_000},,,,,,,,,,,",
    "ragged_row": "a@x.example,A",
    "unreadable_row": 'a@x.example,"A"B,,,,,,,,,,,',
    "not_a_day": "a@x.example,A,,,,,,,,,2026-13-01,,",
    "ends_before_it_begins": "a@x.example,A,,,,,,,,,2026-02-01,2026-01-01,",
    "not_yes_or_empty": "a@x.example,A,,,,,,,,,,,perhaps",
}


@pytest.mark.parametrize("code", BAD_ROWS)
def test_a_bad_row_is_set_aside_whole_with_its_reason(organization, bring_in, alice, code):
    import_, checked = bring_in(
        organization, csv("b@x.example,B,,,,,,,,,,,", BAD_ROWS[code], "c@x.example,C,,,,,,,,,,,")
    )

    assert [p.first_name for p in people(organization)] == ["B", "C"]
    assert counts(import_) == (3, 2, 0, 0, 1)
    (row, key, found, sentence) = import_.problems[0]
    assert (row, found) == (3, code)
    assert checked.by_code == {code: 1}
    assert key == "" or key in HEADER
    for cell in BAD_ROWS[code].split(","):
        assert len(cell) < 3 or cell not in sentence
    text = staging.read_all(import_.rejected_file, by=alice).decode()
    assert sentence in text
    assert text.startswith('"row","problem","email"')
    assert text.count("\r\n") == 2


def test_what_is_set_aside_is_encrypted_and_neutralised(organization, bring_in, alice):
    import_, _ = bring_in(
        organization,
        csv("=cmd|' /C calc'!A0,+Ann,-x,,,@state,,,,,,,", "=1+1@x.example,=2+2,L,,,,,,,,,,"),
    )

    text = staging.read_all(import_.rejected_file, by=alice).decode()
    for formula in ("'=cmd", "'+Ann", "'-x", "'@state"):
        assert f'"{formula}' in text
    assert import_.rejected_file.expires_at > timezone.now() + dt.timedelta(days=6)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM files_chunk WHERE data::text LIKE %s", [f"%{b'Ann'.hex()}%"]
        )
        assert cursor.fetchone()[0] == 0
    # A cell that looks like a formula is a text like any other.
    (person,) = people(organization)
    assert (person.email, person.first_name) == ("=1+1@x.example", "=2+2")


def test_long_cells_are_cut_where_rows_are_set_aside(organization, bring_in, alice):
    import_, _ = bring_in(organization, csv(f"a@x.example,{'A' * 10_001},,,,,,,,,,,"))

    text = staging.read_all(import_.rejected_file, by=alice).decode()
    assert f'"{"A" * 1000}"' in text


def test_a_second_check_replaces_the_rows_set_aside(organization, bring_in, alice):
    import_, _ = bring_in(organization, csv("bad,,,,,,,,,,,,"), apply=False)
    first = import_.rejected_file_id

    importer.check(import_, by=alice)

    assert import_.rejected_file_id != first
    assert not StagedFile.objects.filter(pk=first).exists()
    assert Entry.objects.filter(action="file.deleted").count() == 1


def test_many_rejected_rows_are_counted_and_the_first_are_shown(organization, bring_in, alice):
    rows = [f"bad{n},,,,,,,,,,,," for n in range(250)] + [ANN]
    import_, checked = bring_in(organization, csv(*rows))

    assert checked.rejected == import_.rejected == 250
    assert len(import_.problems) == 100
    assert import_.plan["problems"] == {"address_at_sign": 250}
    text = staging.read_all(import_.rejected_file, by=alice).decode()
    assert text.count("\r\n") == 251
    assert '"251"' in text


def test_logs_entries_and_plans_hold_no_values(organization, bring_in, caplog):
    bring_in(
        organization,
        csv(
            "jane@canary.example,Canaria,Canarius,1971-03-04,,,,,Canary pox,,,,",
            "Canarella,,,,,,,,,,,,",
        ),
    )
    import_ = Import.objects.get()

    kept = f"{list(Entry.objects.values())} {import_.plan} {import_.problems} {caplog.text}"
    for value in ("anar", "1971", "pox"):
        assert value not in kept


# --- what is wrong with a file


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("", "empty_file"),
        ("email,email\na,b\n", "duplicate_headers"),
        ("email,,name\na,b,c\n", "empty_header"),
        (csv(ANN).encode("utf-16-le"), "encoding"),
        ("ann@x.example,Ann\nbob@x.example,Bob\n", "no_identity_column"),
        ("first_name,state\nAnn,CA\n", "no_identity_column"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe\r\n", "no_identity_column"),
        (HEADER + "\n", "no_rows"),
        (HEADER + "\n\n,,\n", "no_rows"),
    ],
)
def test_a_file_that_is_none_is_refused_as_a_whole(organization, bring_in, content, code):
    with pytest.raises(Refused) as refused:
        bring_in(organization, content)

    import_ = Import.objects.get()
    assert (refused.value.code, import_.refusal, import_.status) == (code, code, "refused")
    assert Contact.objects.count() == CustomField.objects.count() == 0
    entry = Entry.objects.get(action="import.failed")
    assert entry.detail == {"reason": code}
    assert "ann@x" not in str(refused.value)


@pytest.mark.parametrize("status", ["refused", "done", "applying"])
def test_an_import_goes_one_way(organization, bring_in, alice, status):
    import_, _ = bring_in(organization, csv(ANN))
    Import.objects.update(status=status)
    import_.refresh_from_db()

    with pytest.raises(WrongStatus):
        importer.check(import_, by=alice)
    with pytest.raises(WrongStatus):
        importer.map(import_, by=alice)
    if status == "refused":
        with pytest.raises(WrongStatus):
            importer.apply(import_, by=alice)
    assert Import.objects.get().status == status
    assert Contact.objects.count() == 1


def test_an_import_that_was_not_checked_is_not_applied(organization, alice):
    import_ = importer.start(organization, stage(organization, csv(ANN), by=alice), by=alice)

    with pytest.raises(WrongStatus):
        importer.apply(import_, by=alice)
    assert Contact.objects.count() == 0


def test_another_mapping_asks_for_another_check(organization, bring_in, alice):
    import_, _ = bring_in(organization, csv(ANN), apply=False)

    importer.map(import_, {"email": "email", "last_name": "first_name"}, by=alice)

    assert Import.objects.get().status == Import.Status.NEW
    with pytest.raises(WrongStatus):
        importer.apply(import_, by=alice)
    importer.check(import_, by=alice)
    importer.apply(Import.objects.get(), by=alice)
    (ann,) = people(organization)
    assert (ann.first_name, ann.last_name, ann.state) == ("Archer", None, None)


def test_a_file_that_expired_is_asked_for_again(organization, bring_in, alice):
    import_, _ = bring_in(organization, csv(ANN), apply=False)
    StagedFile.objects.update(expires_at=timezone.now())
    import_ = Import.objects.get()

    with pytest.raises(Refused) as refused:
        importer.apply(import_, by=alice)
    assert refused.value.code == "file_gone"
    with pytest.raises(Refused):
        importer.check(Import.objects.select_related("file").get(pk=import_.pk), by=alice) if (
            import_.status == "checked"
        ) else importer.apply(Import.objects.get(), by=alice)
    assert Contact.objects.count() == 0


def test_windows_files_are_read_with_a_warning(organization, bring_in):
    _, checked = bring_in(organization, csv("a@x.example,Jörg,,,,,,,,,,,").encode("cp1252"))

    assert people(organization)[0].first_name == "Jörg"
    assert "encoding_guessed" in [w.code for w in checked.warnings]


def test_left_out_columns_and_psychotherapy_notes_are_warned_of(organization, bring_in):
    _, checked = bring_in(
        organization,
        csv(
            "a@x.example,b@x.example,secret",
            header="email,e-mail address,psychotherapy notes".replace(
                "e-mail address", "email_address"
            ),
        ),
    )

    assert {w.code for w in checked.warnings} == {"psychotherapy_left_out", "column_left_out"}
    assert people(organization)[0].attributes == {}


# --- columns of higher apps


@pytest.fixture
def club(monkeypatch):
    """Two columns that share their function, and what they were told."""
    told = SimpleNamespace(rows=[], rejected=[], checked=[], fail=False)

    def check(cell):
        return Problem("not_a_club", "There is no such club.") if cell == "?" else cell.upper()

    def check_row(values):
        if values.get("club") == values.get("club_until"):
            return Problem("club_twice", "Both are the same.")
        return None

    def check_import(organization, import_, keys):
        told.checked.append((organization.pk, import_.pk, keys))
        return [Problem("club_closed", "The club is closed.")]

    def apply(organization, import_, rows, *, by):
        known = set(Contact.objects.filter(organization=organization).values_list("pk", flat=True))
        assert {pk for pk, _ in rows} <= known
        assert connection.in_atomic_block
        told.rows.append(rows)
        if told.fail:
            raise RuntimeError("The club is on fire.")

    def apply_rejected(organization, import_, rows, *, by):
        told.rejected.append(rows)

    for key in ("club", "club_until"):
        column = Column(
            label=key,
            check=check,
            apply=apply,
            check_row=check_row,
            check_import=check_import,
            apply_rejected=apply_rejected if key == "club" else None,
        )
        monkeypatch.setitem(COLUMNS, key, column)
    return told


CLUB = "email,state,club,club_until"


def test_a_higher_app_gets_its_values_with_the_contacts_row_by_row(organization, bring_in, club):
    import_, checked = bring_in(
        organization,
        csv(
            "a@x.example,,red,x",
            "b@x.example,,,",
            "A@x.example,,,y",
            "a@x.example,,blue,",
            header=CLUB,
        ),
    )

    a, b = people(organization)
    assert club.rows == [
        [
            (a.pk, {"club": "RED", "club_until": "X"}),
            (a.pk, {"club_until": "Y"}),
            (a.pk, {"club": "BLUE"}),
        ]
    ]
    assert a.attributes == b.attributes == {}
    assert checked.columns == import_.plan["columns"] == {"club": 2, "club_until": 2}
    assert club.checked == [(organization.pk, import_.pk, {"club", "club_until"})]
    assert [w.code for w in checked.warnings] == ["club_closed"]
    assert club.rejected == []


def test_its_problems_set_the_row_aside(organization, bring_in, club):
    import_, _ = bring_in(
        organization, csv("a@x.example,,?,", "b@x.example,,x,x", "c@x.example,,x,y", header=CLUB)
    )

    assert [p.email for p in people(organization)] == ["c@x.example"]
    assert [tuple(p[:3]) for p in import_.problems] == [
        (2, "club", "not_a_club"),
        (3, "club", "club_twice"),
    ]
    # What was said all the same is told, of b alone: a's own value is the wrong one.
    assert club.rejected == [[("b@x.example", {"club": "X"})]]


def test_what_must_not_be_lost_of_a_rejected_row_is_told_at_the_end(
    organization, bring_in, club, monkeypatch
):
    monkeypatch.setattr(reading, "CHUNK", 1)
    _, checked = bring_in(
        organization,
        csv("A@x.example,Atlantis,red,", "nobody,Atlantis,red,", "a@x.example,,,", header=CLUB),
    )

    assert checked.rescued == 1
    assert [p.email for p in people(organization)] == ["a@x.example"]
    assert club.rejected == [[("A@x.example", {"club": "RED"})]]


def test_a_chunk_whose_facts_cannot_be_recorded_is_not_written(organization, bring_in, alice, club):
    import_, _ = bring_in(organization, csv("a@x.example,,red,", header=CLUB), apply=False)
    club.fail = True

    with pytest.raises(RuntimeError):
        importer.apply(import_, by=alice)

    assert Contact.objects.count() == TermRow.objects.count() == 0
    assert Import.objects.get().next_row == 0
    assert Entry.objects.filter(action="contact.imported").count() == 0
    club.fail = False
    importer.apply(Import.objects.get(), by=alice)
    assert Contact.objects.count() == 1


def test_an_opt_out_on_either_row_counts_and_is_never_lifted(organization, bring_in):
    from consent.models import OptOut

    for rows in (
        ["a@x.example,A,,,,,,,,,,,yes", "A@X.example,,,,,,,,,,,,", "b@x.example,B,,,,,,,,,,,"],
        ["b@x.example,,,,,,,,,,,,", "B@x.example,,,1970-02-30,,,,,,,,,yes"],
        ["a@x.example,A,,,,,,,,,,,no", "b@x.example,,,,,,,,,,,,"],
    ):
        bring_in(organization, csv(*rows))

    a, b = people(organization)
    assert {(o.contact_id, o.direction) for o in OptOut.objects.all()} == {
        (a.pk, "out"),
        (b.pk, "out"),
    }


# --- crashes


def rows(number, start=0):
    return [f"p{n}@x.example,P{n},,,,CA,,,,,,," for n in range(start, start + number)]


def test_a_crash_between_chunks_loses_nothing_and_repeats_nothing(
    organization, bring_in, alice, monkeypatch
):
    monkeypatch.setattr(reading, "CHUNK", 3)
    content = csv(*rows(5), "bad,,,,,,,,,,,,", "", *rows(5, start=3))
    import_, _ = bring_in(organization, content, apply=False)
    real = apply_file.People.write
    calls = []

    def write(self, people, indexer):
        calls.append(1)
        real(self, people, indexer)
        if len(calls) in (2, 4):
            raise KeyboardInterrupt

    monkeypatch.setattr(apply_file.People, "write", write)

    for done in (3, 6):
        with pytest.raises(KeyboardInterrupt):
            importer.apply(Import.objects.get(), by=alice)
        assert Import.objects.get().next_row == done
        assert Contact.objects.count() == TermRow.objects.count() == {3: 3, 6: 5}[done]
    finished = importer.apply(Import.objects.get(), by=alice)

    assert counts(finished) == (11, 8, 0, 2, 1)
    assert [p.first_name for p in people(organization)] == [f"P{n}" for n in range(8)]
    assert Entry.objects.filter(action="import.resumed").count() == 2
    assert Entry.objects.filter(action="import.applied").get().count == 11
    assert (
        sum(Entry.objects.filter(action="contact.imported").values_list("count", flat=True)) == 10
    )
    # Numbers learnt in a transaction that was rolled back are not used again.
    assert len(ids(organization, {"field": "state", "op": "is", "value": "CA"})) == 8


@pytest.mark.django_db(transaction=True)
def test_a_killed_process_is_continued_by_another(tmp_path):
    organization = factories.make_organization()
    alice = factories.make_user("marketer", organization)
    content = csv(*rows(60), *rows(60))
    import_ = importer.start(organization, stage(organization, content, by=alice), by=alice)
    importer.check(import_, by=alice)
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    worker = subprocess.Popen(
        [sys.executable, str(script), str(import_.pk), str(alice.pk)],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "DJANGO_SETTINGS_MODULE": "hipaamail.settings",
            "TEST_DATABASE": connection.settings_dict["NAME"],
            "PYTEST_VERSION": "worker",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        for _ in range(600):
            done = Import.objects.values_list("next_row", flat=True).get()
            if done >= 20 or worker.poll() is not None:
                break
            time.sleep(0.05)
    finally:
        worker.send_signal(signal.SIGKILL)
        _, errors = worker.communicate()

    assert worker.returncode == -signal.SIGKILL, errors.decode()
    between = Import.objects.get()
    assert 20 <= between.next_row < 120
    assert between.next_row % 10 == 0
    assert Contact.objects.count() == min(between.next_row, 60)
    importer.apply(between, by=alice)
    assert counts(Import.objects.get()) == (120, 60, 0, 60, 0)
    assert Contact.objects.count() == TermRow.objects.count() == 60
    assert Tally.objects.get().contacts == 60
    assert len(ids(organization, {"field": "state", "op": "is", "value": "CA"})) == 60


WORKER = """
import hashlib, os, sys, time
import django
from django.conf import settings
settings.DATABASES["default"]["NAME"] = os.environ["TEST_DATABASE"]
settings.MASTER_KEYS = [hashlib.sha256(b"MASTER_KEYS of the tests").digest()]
django.setup()
from accounts.models import User
from contacts import importer, people, reading
from contacts.models import Import
reading.CHUNK = 10
real = people.People.write
def write(self, *args):
    real(self, *args)
    time.sleep(0.1)
people.People.write = write
importer.apply(Import.objects.get(pk=sys.argv[1]), by=User.objects.get(pk=sys.argv[2]))
"""


def test_whoever_is_overtaken_stops(organization, bring_in, alice, monkeypatch):
    monkeypatch.setattr(reading, "CHUNK", 2)
    import_, _ = bring_in(organization, csv(*rows(6)), apply=False)
    slow, fast = Import.objects.get(), Import.objects.get()
    importer.apply(fast, by=alice)
    slow.status = Import.Status.APPLYING

    for status in ("done", "applying"):
        Import.objects.update(status=status)
        with pytest.raises(Overtaken):
            importer.apply(slow, by=alice)
    assert Contact.objects.count() == 6
    assert counts(Import.objects.get()) == (6, 6, 0, 0, 0)


def test_somebody_who_is_made_meanwhile_is_found_at_the_second_try(
    organization, bring_in, alice, monkeypatch
):
    import_, _ = bring_in(organization, csv(*rows(3)), apply=False)
    real = apply_file.People.gather
    calls = []

    def gather(self, some, *, lock):
        done = real(self, some, lock=lock)
        if not calls:
            calls.append(1)
            factories.make_contact(organization, email="P1@x.example")
        return done

    monkeypatch.setattr(apply_file.People, "gather", gather)

    # In a test the other's row goes with the first try, so it comes back by the second.
    importer.apply(import_, by=alice)

    assert counts(import_) == (3, 3, 0, 0, 0)
    assert Contact.objects.count() == 3
    # The first try learnt that there are patients, and that went with it.
    assert len(ids(organization, {"field": "kind", "op": "is", "value": "patient"})) == 3


@pytest.mark.django_db(transaction=True)
def test_contacts_are_locked_before_they_are_changed():
    organization = factories.make_organization()
    person = factories.make_person(organization, email="a@x.example")
    everybody = People(organization, "", {})
    row = Row(2, {"email": "a@x.example"}, address=check("a@x.example"))
    other = connection.copy()

    def hand_over():
        with other.cursor() as cursor:
            cursor.execute("SELECT id FROM contacts_contact FOR SHARE SKIP LOCKED")
            return [pk for (pk,) in cursor.fetchall()]

    try:
        with transaction.atomic():
            everybody.gather([row], lock=False)
            assert hand_over() == [person.pk]
            everybody.gather([row], lock=True)
            assert hand_over() == []
    finally:
        other.close()


@pytest.mark.django_db(transaction=True)
def test_two_imports_at_once_make_one_person_of_each_address(monkeypatch):
    monkeypatch.setattr(reading, "CHUNK", 5)
    organization = factories.make_organization()
    alice = factories.make_user("marketer", organization)
    imports = []
    for _ in range(2):
        file = stage(organization, csv(*rows(40)), by=alice)
        import_ = importer.start(organization, file, by=alice)
        importer.check(import_, by=alice)
        imports.append(import_)
    ready = threading.Barrier(2)

    def run(import_):
        try:
            ready.wait(5)
            importer.apply(import_, by=alice)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(import_,)) for import_ in imports]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    done = Import.objects.all()
    assert [i.status for i in done] == ["done", "done"]
    assert sum(i.created for i in done) == sum(i.unchanged for i in done) == 40
    assert Contact.objects.count() == TermRow.objects.count() == Tally.objects.get().contacts == 40
    # Both learnt the same terms.
    assert len({tuple(row) for row in TermRow.objects.values_list("terms", flat=True)}) == 1


def test_tasks_take_ids(organization, alice):
    import_ = importer.start(organization, stage(organization, csv(ANN), by=alice), by=alice)

    tasks.check_import(str(import_.pk))
    tasks.apply_import(str(import_.pk))

    assert Import.objects.get().status == Import.Status.DONE
    assert Contact.objects.count() == 1


# --- in general


CELLS = {
    "email": st.sampled_from(["a@x.example", "A@x.example", "b@x.example", "bad", ""]),
    "record_number": st.sampled_from(["", "", "1", "2"]),
    "first_name": st.sampled_from(["Ann", "Bob", "", "\u202e"]),
    "date_of_birth": st.sampled_from(["1970-02-03", "1970-02-30", ""]),
    "visits": st.sampled_from(["1", "2", ""]),
}


def model(files):
    """What becomes of people, told without chunks, digests and databases: {identity: {field: value}}."""
    known = {}
    for rows in files:
        for row in rows:
            bad = (
                row["email"] == "bad"
                or row["first_name"] == "\u202e"
                or row["date_of_birth"].endswith("30")
            )
            who = row["record_number"] or row["email"].lower()
            if bad or not who:
                continue
            known.setdefault(who, {}).update({key: cell for key, cell in row.items() if cell})
    return known


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    st.lists(st.lists(st.fixed_dictionaries(CELLS), min_size=1, max_size=6), min_size=1, max_size=3)
)
def test_imports_come_to_what_the_rules_say(bring_in, files):
    organization = factories.make_organization(treatment_terms=True)
    CustomField.objects.create(organization=organization, key="visits", label="V", type="number")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "CHUNK", 2)
        for file in files:
            # A line of its own keeps a file of blank rows a file.
            lines = [",".join(row[key] for key in CELLS) for row in file] + ["bad,,,,"]
            import_, checked = bring_in(organization, csv(*lines, header=",".join(CELLS)))
            assert import_.rows == sum(counts(import_)[1:]) == checked.rows
            assert checked.new == import_.created
            assert checked.rejected == import_.rejected
            assert checked.repeated <= import_.updated + import_.unchanged

    wanted = model(files)
    found = {
        p.record_number or p.email.lower(): {
            "email": p.email or "",
            "record_number": p.record_number or "",
            "first_name": p.first_name or "",
            "date_of_birth": p.date_of_birth.isoformat() if p.date_of_birth else "",
            "visits": str(p.attributes.get("visits", "")),
        }
        for p in people(organization)
    }
    assert found == {
        who: {key: values.get(key, "") for key in CELLS} for who, values in wanted.items()
    }
    assert TermRow.objects.filter(organization=organization).count() == len(found)
