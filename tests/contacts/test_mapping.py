"""Columns find their fields by name; what nobody knows becomes a field of the organization's own."""

import pytest

from contacts.columns import COLUMNS, Column
from contacts.mapping import BadMapping, Proposal, checked, propose
from contacts.models import CustomField
from contacts.table import Record

pytestmark = pytest.mark.django_db


def proposed(organization, header, *cells):
    rows = (Record(n, list(row)) for n, row in enumerate(cells, start=2))
    return propose(organization, header, rows)


def test_columns_are_known_by_many_names(organization):
    header = ["E-Mail", "Given Name", "SURNAME", "DOB", "Gender", "State Code", "Zip Code", "MRN"]
    header += ["Preferred language", "Diagnoses", "Last Visit Date", "Kind"]

    found = proposed(organization, header)

    assert list(found.columns.values()) == [
        *("email", "first_name", "last_name", "date_of_birth", "sex", "state", "zip"),
        *("record_number", "language", "conditions", "last_visit", "kind"),
    ]
    assert found.new_fields == {}


def test_columns_of_higher_apps_are_known_by_key_label_and_alias(organization, monkeypatch):
    monkeypatch.setitem(
        COLUMNS,
        "club_until",
        Column("Club membership ends", check=str, apply=print, aliases=("Member until",)),
    )

    for name in ("club_until", "Club Until", "Club membership ends", "member-until"):
        assert proposed(organization, [name]).columns == {name: "club_until"}
    assert proposed(organization, ["opted_out"]).columns == {"opted_out": "opted_out"}


def test_own_fields_are_known_again(organization):
    CustomField.objects.create(
        organization=organization, key="plan", label="Health plan", type="text"
    )

    found = proposed(organization, ["Health Plan"])

    assert (found.columns, found.new_fields) == ({"Health Plan": "plan"}, {})


def test_another_organizations_fields_are_not(organization, other_organization):
    CustomField.objects.create(
        organization=other_organization, key="plan_x", label="Health plan", type="number"
    )

    found = proposed(organization, ["Health plan"], ["gold"])

    assert found.columns == {"Health plan": "health_plan"}


def test_an_unknown_column_becomes_a_field_of_treatment_data(organization):
    found = proposed(organization, ["email", "Favourite ward!"], ["a@x.example", "3 West"])

    assert found.columns == {"email": "email", "Favourite ward!": "favourite_ward"}
    assert found.new_fields == {
        "favourite_ward": {"label": "Favourite ward!", "type": "text", "data_class": "treatment"}
    }
    assert CustomField.objects.count() == 0


def test_a_column_whose_name_tells_of_sensitive_data_is_sensitive(organization):
    found = proposed(organization, ["HIV status", "Rehab: substance use"])

    assert {f["data_class"] for f in found.new_fields.values()} == {"sensitive"}


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "-20", "", "0"], "number"),
        (["1", "007"], "text"),
        (["1", "1.5"], "text"),
        (["1234567890"], "text"),
        (["12", "12A"], "text"),
        (["2026-01-02", "1999-12-31", " "], "date"),
        (["2026-01-02", "2026-02-30"], "text"),
        (["20260102"], "number"),
        (["yes", "No", "TRUE"], "yes_no"),
        (["1", "0"], "number"),
        (["yes", "maybe"], "text"),
        (["", " "], "text"),
        (["١"], "text"),
    ],
)
def test_a_type_is_guessed_only_if_every_value_in_the_file_has_it(organization, cells, kind):
    found = proposed(organization, ["thing"], *([cell] for cell in cells))

    assert found.new_fields["thing"]["type"] == kind


def test_rows_are_read_only_when_there_is_an_unknown_column(organization):
    def rows():
        raise AssertionError("read")
        yield

    propose(organization, ["email", "state"], rows())


@pytest.mark.parametrize(
    ("title", "key"),
    [
        ("2nd phone", "f_2nd_phone"),
        ("Größe", "groe"),
        ("名前", "field"),
        ("!!!", "field"),
        ("part2", "part2_2"),
        ("id", "id_2"),
        ("x" * 100, "x" * 56),
    ],
)
def test_keys_are_plain_and_never_those_of_something_else(organization, title, key):
    assert proposed(organization, [title]).columns == {title: key}


def test_two_titles_that_make_one_key_get_two(organization):
    found = proposed(organization, ["Größe", "groe", "Gro e"])

    assert list(found.columns.values()) == ["groe", "groe_2", "gro_e"]


def test_a_column_of_a_fields_own_name_has_it_and_another_name_is_a_field_of_its_own(organization):
    found = proposed(organization, ["email", "E-Mail"])

    assert found.columns == {"email": "email", "E-Mail": "e_mail"}
    assert set(found.new_fields) == {"e_mail"}


@pytest.mark.parametrize("title", ["Psychotherapy notes", "therapy_notes", "Counseling note"])
def test_psychotherapy_notes_are_never_imported(organization, title):
    found = proposed(organization, ["email", title])

    assert found.columns[title] is None
    assert found.new_fields == {}
    with pytest.raises(BadMapping) as refused:
        checked(organization, ["email", title], found, {title: "first_name"})
    assert refused.value.code == "psychotherapy"


def test_a_person_may_correct_the_proposal(organization):
    header = ["mail", "given", "ward", "plan"]
    proposal = proposed(organization, header)

    found = checked(
        organization, header, proposal, {"mail": "email", "given": "first_name", "ward": "ward"}
    )

    assert found.columns == {"mail": "email", "given": "first_name", "ward": "ward", "plan": None}
    assert found.new_fields.keys() == {"ward"}


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"mail": "email", "phone": None}, "unknown_column"),
        ({"mail": "address"}, "unknown_field"),
        ({"mail": 5}, "unknown_field"),
        ({"mail": ["email"]}, "unknown_field"),
        ({"mail": "email", "given": "email"}, "field_twice"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused(organization, columns, code):
    with pytest.raises(BadMapping) as refused:
        checked(organization, ["mail", "given"], Proposal({}), columns)

    assert refused.value.code == code


@pytest.mark.parametrize("header", [["mail", "email"], ["email", "mail"]])
def test_another_name_takes_no_field_from_the_column_that_is_called_so(organization, header):
    found = proposed(organization, header)

    assert found.columns == {"email": "email", "mail": "mail"}
    assert set(found.new_fields) == {"mail"}


def test_a_column_that_may_be_a_record_number_is_not_taken_for_one(organization):
    assert proposed(organization, ["email", "patient_id"]).columns["patient_id"] == "patient_id"
