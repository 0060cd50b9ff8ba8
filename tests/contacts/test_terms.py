"""What contacts carry in the index, what the gate learns from it, and how it is kept."""

import datetime as dt
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from audit.models import Entry
from contacts import dictionary, terms
from contacts.attributes import fields_of, value_of
from contacts.models import Contact, CustomField, Tally, Term, TermRow
from contacts.terms import EVERYBODY, MISSING, NOBODY, years_before
from tests import factories
from tests.contacts.conftest import DAY

pytestmark = pytest.mark.django_db


def carried(contact):
    """The numbers in a contact's index row."""
    return set(TermRow.objects.get(contact=contact).terms)


def matches(contact, query):
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s::int4[] @@ %s::query_int", [list(carried(contact)), query])
        return cursor.fetchone()[0]


def number(organization, *term):
    return dictionary.look_up(organization.pk, [term]).get(term)


def person(organization, **fields):
    return factories.make_person(organization, **fields)


def test_an_indexed_contact_carries_all_of_its_terms_in_order(searchable):
    contact = person(
        searchable,
        first_name="Ann",
        date_of_birth=dt.date(1970, 2, 3),
        sex="female",
        state="CA",
        zip="90210-1234",
        language="es-MX",
        attributes={"conditions": ["E11.9"], "last_visit": "2026-01-02"},
    )

    fields = fields_of(searchable)
    wanted = terms.terms_for(terms.values_of(contact, fields), fields)
    row = TermRow.objects.get(contact=contact)
    assert row.terms == sorted(row.terms)
    assert set(row.terms) == set(dictionary.look_up(searchable.pk, wanted).values())
    assert len(row.terms) == len(wanted)
    for term in [
        ("sex", "=female"),
        ("zip", "=90210"),
        ("zip", "^902"),
        ("language", "=es-mx"),
        ("language", "=es"),
        ("date_of_birth", "m2"),
        ("date_of_birth", "d2-3"),
        ("conditions", "=e119"),
        ("conditions", "^e11"),
        ("last_name", MISSING),
        ("part2", "=no"),
        ("sensitivity", "=none"),
    ]:
        assert number(searchable, *term) in row.terms
    assert number(searchable, "first_name", MISSING) is None


def test_treatment_data_is_not_searchable_until_the_privacy_officer_chose_so(organization):
    CustomField.objects.create(organization=organization, key="plan", label="Plan", type="text")
    contact = person(
        organization,
        attributes={"conditions": ["asthma"], "last_visit": "2026-01-02", "plan": "gold"},
    )

    fields = fields_of(organization)
    for key in ("conditions", "last_visit", "plan"):
        assert not fields[key].searchable
        assert not [
            t for t in terms.terms_for(terms.values_of(contact, fields), fields) if t[0] == key
        ]
    before = len(carried(contact))
    organization.treatment_terms = True
    organization.save()
    terms.reindex(organization)
    assert len(carried(contact)) == before + 1 + 17 + 2


def test_the_facts_that_the_gate_needs_are_indexed_all_the_same(organization):
    contact = person(
        organization,
        date_of_birth=dt.date(2015, 1, 1),
        state="CA",
        attributes={"conditions": ["F11.20"]},
    )

    assert terms.numbers(organization, "part2", ["yes"])[0] in carried(contact)
    assert terms.numbers(organization, "sensitivity", ["substance_use"])[0] in carried(contact)
    assert terms.numbers(organization, "state", ["CA"])[0] in carried(contact)
    assert matches(contact, terms.query_born_after(organization, years_before(DAY, 18)))


@pytest.mark.parametrize(
    ("born", "may_be_minor"),
    [
        (dt.date(2008, 11, 24), False),
        (dt.date(2008, 11, 25), True),
        (dt.date(1930, 1, 1), False),
        (dt.date(2026, 11, 24), True),
        (None, True),
    ],
)
def test_who_is_not_known_to_be_of_age_counts_as_a_minor(organization, born, may_be_minor):
    contact = person(organization, date_of_birth=born)
    # Others, so that the cover's terms exist.
    for year in range(1930, 2026, 5):
        person(organization, date_of_birth=dt.date(year, 6, 1))

    query = terms.query_born_after(organization, years_before(DAY, 18))

    assert matches(contact, query) == may_be_minor


@pytest.mark.parametrize(
    ("conditions", "part2", "kinds"),
    [
        ([], False, set()),
        (["E11.9"], False, set()),
        (["F10.20"], True, {"substance_use"}),
        (["asthma", "opioid use disorder"], True, {"substance_use"}),
        (["F32.9", "B20"], False, {"mental_health", "hiv"}),
        (["psychotherapy notes"], False, {"psychotherapy", "mental_health"}),
    ],
)
def test_sensitive_conditions_are_told_apart(organization, conditions, part2, kinds):
    contact = person(organization, attributes={"conditions": conditions})
    person(organization)

    assert matches(contact, terms.query_part2(organization)) == part2
    for kind in ("substance_use", "mental_health", "hiv", "psychotherapy", "genetic"):
        assert matches(contact, terms.query_sensitivity(organization, [kind])) == (kind in kinds)


def test_own_fields_tell_of_sensitive_data_too(organization):
    for key, label, data_class, kind in [
        ("hiv_status", "HIV status", "treatment", "text"),
        ("in_recovery", "Substance use programme", "treatment", "yes_no"),
        ("secret", "Secret", "sensitive", "text"),
        ("ward", "Ward", "treatment", "text"),
        ("colour", "HIV colour", "contact", "text"),
    ]:
        CustomField.objects.create(
            organization=organization, key=key, label=label, data_class=data_class, type=kind
        )

    def kinds(**attributes):
        contact = person(organization, attributes=attributes)
        found = {
            k
            for k in ("substance_use", "hiv", "mental_health", "other")
            if matches(contact, terms.query_sensitivity(organization, [k]))
        }
        return found, matches(contact, terms.query_part2(organization))

    assert kinds(hiv_status="negative") == ({"hiv"}, False)
    assert kinds(hiv_status="none") == (set(), False)
    assert kinds(in_recovery=True) == ({"substance_use"}, True)
    assert kinds(in_recovery=False) == (set(), False)
    assert kinds(secret="x") == ({"other"}, False)
    assert kinds(ward="psychiatry") == ({"mental_health"}, False)
    assert kinds(ward="3 West") == (set(), False)
    assert kinds(colour="red") == (set(), False)


def test_the_state_that_nobody_knows_counts_as_the_strictest(organization):
    here, away, unknown = (person(organization, state=s) for s in ("CA", "NY", None))

    query = terms.query_state(organization, ["CA", "WA"])

    assert [matches(c, query) for c in (here, away, unknown)] == [True, False, True]


def test_queries_over_an_empty_dictionary_are_the_strictest(organization):
    assert terms.query_sensitivity(organization, ["hiv"]) == NOBODY
    assert terms.query_state(organization, ["CA"]) == NOBODY
    for query in (
        terms.query_part2(organization),
        terms.query_born_after(organization, DAY),
        EVERYBODY,
    ):
        with connection.cursor() as cursor:
            cursor.execute("SELECT '{5}'::int4[] @@ %s::query_int", [query])
            assert cursor.fetchone()[0]
    assert Term.objects.count() == 0


def test_a_value_that_no_contact_has_has_no_number_and_gets_none(organization):
    person(organization, state="CA")
    before = Term.objects.count()

    assert terms.numbers(organization, "state", ["WY"]) == []
    assert len(terms.numbers(organization, "state", ["ca", "WY"])) == 1
    assert Term.objects.count() == before


def test_terms_do_not_leak_from_one_organization_to_another(organization, other_organization):
    fields = {"state": "CA", "sex": "female", "date_of_birth": dt.date(1970, 2, 3)}
    ours, theirs = person(organization, **fields), person(other_organization, **fields)

    assert carried(ours).isdisjoint(carried(theirs))
    assert terms.numbers(organization, "state", ["CA"]) != terms.numbers(
        other_organization, "state", ["CA"]
    )


def test_indexing_again_follows_the_contact(organization):
    contact = person(organization, state="CA")

    contact.state = "NY"
    contact.save()
    terms.index([contact])

    assert set(terms.numbers(organization, "state", ["CA", "NY"])) & carried(contact) == set(
        terms.numbers(organization, "state", ["NY"])
    )
    assert TermRow.objects.count() == 1


@pytest.mark.parametrize("standing", ["deceased", "erased", "merged"])
def test_who_is_no_longer_active_has_no_terms(organization, standing):
    contact, other = person(organization), person(organization)

    Contact.objects.filter(pk=contact.pk).update(standing=standing)

    assert list(TermRow.objects.values_list("contact", flat=True)) == [other.pk]
    # Not even by somebody who still holds it as active.
    terms.index([contact])
    assert not TermRow.objects.filter(contact=contact).exists()


def test_the_tally_follows_whoever_comes_and_goes(organization, other_organization):
    def tally(which):
        return Tally.objects.filter(organization=which).values_list("contacts", flat=True).first()

    contacts = [factories.make_contact(organization) for _ in range(3)]
    factories.make_contact(other_organization, standing="deceased")
    assert (tally(organization), tally(other_organization)) == (3, None)

    Contact.objects.filter(pk__in=[c.pk for c in contacts[:2]]).update(standing="deceased")
    assert tally(organization) == 1
    Contact.objects.filter(pk=contacts[0].pk).update(standing="active")
    contacts[2].save()
    assert tally(organization) == 2
    Contact.objects.filter(organization=organization).delete()
    assert (tally(organization), tally(other_organization)) == (0, None)


def test_reindex_rebuilds_what_a_restore_left_out(searchable, other_organization):
    contacts = [
        person(searchable, state="CA", attributes={"conditions": ["asthma"]}) for _ in range(3)
    ]
    person(other_organization, state="CA")
    before = {c.pk: carried(c) for c in contacts}
    TermRow.objects.all().delete()
    out = StringIO()

    call_command("reindex", organization="lakeside", stdout=out)

    assert {c.pk: carried(c) for c in contacts} == before
    assert TermRow.objects.count() == 3
    assert out.getvalue() == "lakeside: 3 contacts indexed\n"
    entry = Entry.objects.filter(action="terms.rebuilt").get()
    assert (entry.organization_id, entry.count) == (searchable.pk, 3)
    call_command("reindex", stdout=out)
    assert TermRow.objects.count() == 4


def test_reindex_goes_through_all_batches(organization, monkeypatch):
    monkeypatch.setattr(terms, "BATCH", 2)
    for _ in range(5):
        factories.make_contact(organization)
    told = []

    assert terms.reindex(organization, progress=told.append) == 5
    assert told == [2, 4, 5]
    assert TermRow.objects.count() == 5


def test_reindex_of_nobody_says_so():
    with pytest.raises(CommandError):
        call_command("reindex", organization="nowhere", stdout=StringIO())


def test_values_have_their_types(organization):
    CustomField.objects.create(
        organization=organization, key="renewal", label="Renewal", type="date"
    )
    CustomField.objects.create(organization=organization, key="code", label="Code", type="text")
    contact = person(
        organization,
        date_of_birth=dt.date(1970, 2, 3),
        attributes={"last_visit": "2026-01-02", "renewal": "2027-01-01", "code": "2027-01-01"},
    )

    contact = Contact.objects.get(pk=contact.pk)
    assert value_of(contact, "date_of_birth") == dt.date(1970, 2, 3)
    assert value_of(contact, "last_visit") == dt.date(2026, 1, 2)
    assert value_of(contact, "renewal") == dt.date(2027, 1, 1)
    assert value_of(contact, "code") == "2027-01-01"
    assert value_of(contact, "conditions") is None
    assert value_of(contact, "nothing") is None
