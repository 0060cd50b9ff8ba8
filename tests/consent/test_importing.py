"""Columns of consent in an import: a date is no permission, and a stop is never lost or lifted."""

import datetime as dt
import threading

import pytest
from django.db import OperationalError, connection, transaction

from audit.models import Entry
from audit.verify import verify
from consent import gate, importing, stop
from consent.authorize import revoke
from consent.importing import check_opted_out
from consent.models import Authorization, OptOut
from contacts import importer, reading
from contacts.models import Contact, Import
from contacts.problems import Problem
from files import staging
from tests.factories import BY, make_authorized, make_form, make_organization

pytestmark = pytest.mark.django_db

HEADER = "email,first_name,authorized_on,authorization_expires,opted_out"


@pytest.fixture
def form(organization):
    return make_form(organization)


def import_csv(organization, form, *rows, header=HEADER, copies_given=True, **options):
    """Import these rows; `form` None names none."""
    content = "\r\n".join([header, *rows, ""]).encode()
    file = staging.put(
        organization,
        kind="upload",
        name="people.csv",
        chunks=[content],
        by=BY,
        content_type="text/csv",
        keep=dt.timedelta(hours=1),
    )
    options.setdefault("evidence", "Archive, cabinet 7")
    if form is not None:
        options["form_version"] = str(form.pk)
    import_ = importer.start(
        organization,
        file,
        source="ehr",
        options={**options, "copies_given": copies_given},
        by=BY,
    )
    importer.map(import_, by=BY)
    importer.check(import_, by=BY)
    return importer.apply(import_, by=BY)


def reasons(organization, purpose="MARKETING"):
    """Return {address: the gate's answer}."""
    contacts = {contact.pk: contact.email for contact in Contact.objects.all()}
    decided = gate.decide(gate.ask(organization, purpose), contacts)
    return {contacts[pk]: reason for pk, reason in decided.items()}


def problems(import_):
    return Import.objects.get(pk=import_.pk).plan["problems"]


def test_a_date_with_form_and_evidence_is_an_authorization(organization, form):
    import_ = import_csv(organization, form, "ann@mail.example,Ann,2026-01-15,,")

    authorization = Authorization.objects.get()
    assert (authorization.signed_on, authorization.copy_given_on) == (dt.date(2026, 1, 15),) * 2
    assert authorization.evidence == f"Archive, cabinet 7 (import {import_.pk})"
    assert reasons(organization) == {"ann@mail.example": ""}


@pytest.mark.parametrize(
    "options",
    [{"form": None}, {"evidence": ""}, {"evidence": "  "}, {"form": "draft"}, {"form": "other"},
     {"form": "nonsense"}],
    ids=lambda options: str(options),
)  # fmt: skip
def test_a_date_without_form_or_evidence_is_none_and_the_check_says_so(organization, form, options):
    stranger = make_organization()
    named = {
        None: None,
        "draft": type(form).objects.create(organization=organization, name="Draft", number=1),
        "other": make_form(stranger),
        "nonsense": type("Form", (), {"pk": "no id"})(),
    }.get(options.pop("form", "ours"), form)

    import_ = import_csv(organization, named, "ann@mail.example,Ann,2026-01-15,,", **options)

    assert not Authorization.objects.exists()
    assert not Entry.objects.filter(action="authorization.recorded").exists()
    assert "no_authorization_arises" in import_.plan["warnings"]
    assert reasons(organization) == {"ann@mail.example": "no_authorization"}


def test_without_a_copy_given_the_authorization_is_kept_and_not_usable(organization, form):
    import_csv(organization, form, "ann@mail.example,Ann,2026-01-15,,", copies_given=False)

    assert Authorization.objects.get().copy_given_on is None
    assert reasons(organization) == {"ann@mail.example": "authorization_not_usable"}


@pytest.mark.parametrize(
    ("dates", "code"),
    [
        ("2999-01-01,", "signed_in_future"),
        ("2026-02-01,2026-01-31", "ends_before_it_begins"),
        ("2026-02-30,", "not_a_day"),
        ("15/01/2026,", "not_a_day"),
        ("2026-01-15,soon", "not_a_day"),
        ("20260115,", "not_a_day"),
    ],
)
def test_a_row_with_a_wrong_date_is_set_aside_whole(organization, form, dates, code):
    import_ = import_csv(organization, form, f"ann@mail.example,Ann,{dates},")

    assert not Authorization.objects.exists()
    assert not Contact.objects.exists()
    assert problems(import_) == {code: 1}


@pytest.mark.parametrize("cell", ["maybe", "y e s", "2", "ja", "-", "?"])
def test_an_opt_out_that_is_neither_yes_nor_no_is_a_problem_and_never_a_silent_no(
    organization, form, cell
):
    import_ = import_csv(organization, form, f"ann@mail.example,Ann,2026-01-15,,{cell}")

    assert problems(import_) == {"not_yes_or_empty": 1}
    assert not Contact.objects.exists()


@pytest.mark.parametrize(
    ("cell", "answer"), [("YES", True), ("x", True), ("1", True), ("No", False), ("0", False)]
)
def test_words_for_yes_and_no(cell, answer):
    assert check_opted_out(cell) is answer
    assert isinstance(check_opted_out(f"{cell}{cell}"), Problem)


def test_an_opt_out_counts_whichever_row_of_a_person_says_it(organization, form):
    import_csv(
        organization,
        form,
        "ann@mail.example,Ann,2026-01-15,,yes",
        "ANN@Mail.Example,Ann,2026-01-15,,",
        "ben@mail.example,Ben,2026-01-15,,",
        "Ben@mail.example,Ben,2026-01-15,,yes",
        "cleo@mail.example,Cleo,2026-01-15,,no",
    )

    assert OptOut.objects.filter(scope="all", direction="out").count() == 2
    assert sorted(reasons(organization).values()) == ["", "opted_out", "opted_out"]


def test_an_opt_out_counts_for_everybody_at_the_address(organization, form):
    header = f"record_number,{HEADER}"
    import_csv(
        organization,
        form,
        "R1,home@mail.example,Ann,2026-01-15,,yes",
        "R2,home@mail.example,Ben,2026-01-15,,",
        header=header,
    )

    assert set(reasons(organization).values()) == {"opted_out"}


@pytest.mark.parametrize("cell", ["", "no"])
def test_an_import_never_lifts_an_opt_out(organization, form, cell):
    import_csv(organization, form, "ann@mail.example,Ann,2026-01-15,,yes")

    import_csv(organization, form, f"ann@mail.example,Ann,2026-01-15,,{cell}")

    assert reasons(organization) == {"ann@mail.example": "opted_out"}
    assert OptOut.objects.count() == 1


def test_an_import_never_lifts_a_stop_made_by_the_person(organization, form):
    ann = make_authorized(organization, form, email="ann@mail.example")
    stop.opt_out(ann, "commercial", source="page", by=ann)

    import_csv(organization, form, "ann@mail.example,Ann,2026-02-15,,no")

    assert reasons(organization) == {"ann@mail.example": "opted_out"}


def test_the_same_file_again_records_nothing_again(organization, form):
    rows = ("ann@mail.example,Ann,2026-01-15,,", "ben@mail.example,Ben,2026-01-15,,yes")
    import_csv(organization, form, *rows)
    before = (Authorization.objects.count(), OptOut.objects.count())
    entries = Entry.objects.filter(action__in=["authorization.recorded", "opt_out.recorded"])
    assert (before, entries.count()) == ((2, 1), 2)

    import_csv(organization, form, *rows)

    assert (Authorization.objects.count(), OptOut.objects.count()) == before
    assert entries.count() == 2


@pytest.mark.parametrize("row", ["2026-01-15", "2025-06-01"])
def test_a_paper_imported_again_after_a_revocation_revives_nothing(organization, form, petra, row):
    import_csv(organization, form, "ann@mail.example,Ann,2026-01-15,,")
    revoke(Authorization.objects.get(), source="phone", by=petra)

    import_csv(organization, form, f"ann@mail.example,Ann,{row},,")

    assert reasons(organization) == {"ann@mail.example": "authorization_revoked"}


def test_an_opt_out_of_a_row_that_is_set_aside_counts_all_the_same(organization, form):
    ann = make_authorized(organization, form, email="ann@mail.example")

    import_ = import_csv(organization, form, "Ann@MAIL.example,Right\u202eLeft,2026-01-15,,yes")

    assert import_.rejected == 1
    assert OptOut.objects.get().contact_id == ann.pk
    assert reasons(organization) == {"ann@mail.example": "opted_out"}


def test_an_opt_out_of_a_row_set_aside_counts_for_who_comes_later_in_the_file(organization, form):
    import_csv(
        organization,
        form,
        "ann@mail.example,Ann,2026-99-99,,yes",
        "ann@mail.example,Ann,2026-01-15,,",
    )

    assert reasons(organization) == {"ann@mail.example": "opted_out"}


def test_an_opt_out_of_another_organizations_file_says_nothing_here(organization, form):
    make_authorized(organization, form, email="ann@mail.example")
    stranger = make_organization()

    import_csv(stranger, None, "ann@mail.example,Ann,,,yes", "ann@mail.example,Ann,2026-99-99,,yes")

    assert reasons(organization)["ann@mail.example"] == ""


def test_the_log_vouches_for_what_was_imported(organization, form):
    import_csv(
        organization,
        form,
        *(f"p{number}@mail.example,P,2026-01-15,,{'yes' * (number % 2)}" for number in range(6)),
    )

    entry = Entry.objects.get(action="authorization.recorded")
    assert (entry.count, entry.target_id) == (6, Import.objects.get().pk)
    assert [one for one in verify().findings if one.code.startswith("fact")] == []


def test_a_signature_is_never_younger_than_today_where_the_organization_is(organization, form):
    organization.time_zone = "Etc/GMT+12"
    organization.save()
    today = gate.today(organization)
    contact = make_authorized(organization, form)
    rows = [(contact.pk, {"authorized_on": today + dt.timedelta(days=1)})]
    import_ = Import(
        organization=organization,
        options={"form_version": str(form.pk), "evidence": "x"},
        created_by_id=form.published_by_id,
    )
    import_.save()

    importing.apply_authorizations(organization, import_, rows, by=BY)

    assert Authorization.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_an_imported_stop_waits_for_a_mark_in_the_making(organization, form):
    """Also of a row that was set aside, whose contact nobody has locked."""
    ann = make_authorized(organization, form, email="ann@mail.example")
    question = gate.ask(organization, "MARKETING")
    import_ = Import.objects.create(organization=organization, created_by_id=ann.pk)
    errors = []

    def say_stop():
        try:
            with transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute("set local lock_timeout = '150ms'")
                said = [("ann@mail.example", {"opted_out": True})]
                importing.rescue_opt_outs(organization, import_, said, by=BY)
        except OperationalError as error:
            errors.append(error)
        finally:
            connection.close()

    with transaction.atomic():
        assert gate.decide_locked(question, [ann.pk]) == {ann.pk: ""}
        thread = threading.Thread(target=say_stop)
        thread.start()
        thread.join()

    assert len(errors) == 1
    assert not OptOut.objects.exists()


DATES = "email,authorized_on,authorization_expires"


def test_the_latest_row_of_a_person_counts_whatever_chunk_it_stands_in(
    organization, form, monkeypatch
):
    monkeypatch.setattr(reading, "CHUNK", 2)
    fillers = [f"p{number}@mail.example,2026-01-05," for number in range(5)]
    rows = ["ann@mail.example,2026-01-05,2099-12-31", *fillers]

    import_csv(organization, form, *rows, "ann@mail.example,2026-01-06,2026-02-01", header=DATES)

    assert reasons(organization)["ann@mail.example"] == "authorization_expired"


def test_a_corrected_file_corrects_and_the_same_file_again_writes_nothing(organization, form):
    until_2099 = "ann@mail.example,2026-01-05,2099-12-31"
    for _ in range(2):
        import_csv(organization, form, until_2099, header=DATES)
    assert Authorization.objects.count() == 1

    import_csv(organization, form, "ann@mail.example,2026-01-05,2026-02-01", header=DATES)
    assert reasons(organization) == {"ann@mail.example": "authorization_expired"}

    import_csv(organization, form, until_2099, header=DATES)
    assert reasons(organization) == {"ann@mail.example": ""}


def test_the_stop_of_a_rejected_row_waits_for_a_person_who_comes_later(organization, form):
    header = "email,date_of_birth,authorized_on,opted_out"
    first = import_csv(organization, form, "ann@mail.example,1990-02-31,,yes", header=header)
    assert (first.rejected, Contact.objects.count()) == (1, 0)

    import_csv(organization, form, "Ann@Mail.example,1990-02-03,2026-01-05,", header=header)

    assert reasons(organization) == {"Ann@mail.example": "suppressed"}


@pytest.mark.parametrize("row", ["7,not an address,,yes", "7,,1990-02-31,yes"])
def test_the_stop_of_a_rejected_row_is_heard_by_its_record_number(organization, form, row):
    header = "record_number,email,date_of_birth,opted_out"
    import_csv(organization, form, "7,ann@mail.example,1990-02-03,", header=header)

    again = import_csv(organization, form, row, row.replace("yes", "no"), header=header)

    assert again.rejected == 2
    assert reasons(organization, "TREATMENT") == {"ann@mail.example": "opted_out"}


@pytest.mark.parametrize("day", ["2026-W01-1", "0001-01-01", "1880-01-01", "２０２６-01-01"])
def test_a_day_of_signature_that_cannot_be_is_a_problem(day):
    assert isinstance(importing.check_signed_on(day), Problem)
