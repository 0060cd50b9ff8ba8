"""Segments find whom a reader of the criteria would find, and nobody of another organization."""

import calendar
import datetime as dt
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.models import Entry
from contacts import segments, terms
from contacts.attributes import fields_of, value_of
from contacts.criteria import Criterion
from contacts.models import Contact, CustomField, Segment, TermRow
from contacts.segments import CRITERIA, EVERYONE, CriteriaError, Sql
from tests import factories
from tests.contacts.conftest import DAY, ids

pytestmark = pytest.mark.django_db

OWN = {"visits": "number", "member": "yes_no", "renewal": "date", "ward": "text"}
DATES = [DAY + dt.timedelta(days=n) for n in (-400, -31, -30, -29, -1, 0, 1, 7, 30, 31)]
BIRTHS = [
    *(dt.date(2026 - age, 11, 24) for age in (17, 18, 64, 65, 66)),
    *(dt.date(2026 - age, 11, 25) for age in (18, 65, 66)),
    *(dt.date(1960, 2, 29), dt.date(1981, 12, 1), dt.date(1933, 3, 1), dt.date(2026, 11, 24)),
]


# --- a reader of criteria that knows nothing of terms


def holds(criteria, person, leads):
    """Whether criteria hold for a person, given as {field key: value}."""
    match criteria:
        case {"all": parts}:
            return all(holds(part, person, leads) for part in parts)
        case {"any": parts}:
            return any(holds(part, person, leads) for part in parts)
        case {"not": part}:
            return not holds(part, person, leads)
        case {"criterion": "lead"}:
            return person["id"] in leads
    value = person.get(criteria["field"])
    values = value if isinstance(value, list) else [] if value is None else [value]
    return answer(criteria["field"], criteria["op"], criteria.get("value"), values)


def answer(field, op, wanted, values):
    days = [v for v in values if isinstance(v, dt.date)]
    ages = [DAY.year - d.year - ((DAY.month, DAY.day) < (d.month, d.day)) for d in days]
    spoken = {v.isoformat() if isinstance(v, dt.date) else v for v in values}
    several = op in ("in", "not_in", "between")
    a, *rest = wanted if several else [wanted]
    b = rest[-1] if rest else a
    born = field == "date_of_birth"
    match op:
        case "is" | "in":
            return bool(spoken & {a, *rest})
        case "is_not" | "not_in":
            return not spoken & {a, *rest}
        case "has_value":
            return bool(values)
        case "has_no_value":
            return not values
        case "starts_with":
            return any(v.startswith(a) for v in values)
        case "between":
            return any(a <= v <= b for v in spoken)
        case "before":
            return any(v < a for v in spoken)
        case "after":
            return any(v > a for v in spoken)
        case "at_least":
            return any(v >= a for v in (ages if born else values))
        case "at_most":
            return any(v <= a for v in (ages if born else values))
        case "older_than":
            return any(v > a for v in ages)
        case "younger_than":
            return any(v < a for v in ages)
        case "within_last_days":
            return any(0 <= (DAY - d).days <= a for d in days)
        case "within_next_days":
            return any(0 <= (d - DAY).days <= a for d in days)
        case "more_than_days_ago":
            return any((DAY - d).days > a for d in days)
        case "birthday_month":
            return any(d.month == a for d in days)
        case "birthday_within_days":
            return any(0 <= days_to_birthday(d) <= a for d in days)


def days_to_birthday(born):
    for year in (DAY.year, DAY.year + 1):
        is_odd = (born.month, born.day) == (2, 29) and not calendar.isleap(year)
        day = dt.date(year, 3, 1) if is_odd else born.replace(year=year)
        if day >= DAY:
            return (day - DAY).days
    raise AssertionError


def leaf(field, op, values):
    return st.builds(lambda v: {"field": field, "op": op, "value": v}, values)


def equals(field, choices, several=("in", "not_in")):
    one, many = st.sampled_from(choices), st.lists(st.sampled_from(choices), min_size=1, max_size=3)
    return st.one_of(
        leaf(field, "is", one),
        leaf(field, "is_not", one),
        *(leaf(field, op, many) for op in several),
    )


def dated(field, choices):
    day = st.sampled_from([d.isoformat() for d in choices])
    return st.one_of(
        *(leaf(field, op, day) for op in ("is", "is_not", "before", "after")),
        leaf(field, "between", st.lists(day, min_size=2, max_size=2).map(sorted)),
        *(
            leaf(field, op, st.sampled_from([0, 1, 29, 30, 31, 400]))
            for op in ("within_last_days", "within_next_days", "more_than_days_ago")
        ),
    )


AGES = st.sampled_from([0, 17, 18, 64, 65, 66, 93, 130])
FIELDS = ["state", "date_of_birth", "conditions", "last_visit", "zip", "first_name", "email", *OWN]
LEAVES = st.one_of(
    equals("state", ["CA", "NY", "WY"]),
    equals("kind", ["patient", "professional", "lead"]),
    equals("conditions", ["E11.9", "asthma", "E11.2", "gout"]),
    leaf("conditions", "starts_with", st.sampled_from(["E11", "I10"])),
    equals("zip", ["90210", "90211", "10001"]),
    leaf("zip", "starts_with", st.sampled_from(["902", "100", "111"])),
    equals("ward", ["3 West", "4 East"]),
    equals("visits", [-2, 0, 1, 7, 9]),
    equals("member", [True, False], several=()),
    leaf("visits", "between", st.sampled_from([[-2, 0], [0, 7], [8, 10]])),
    *(leaf("visits", op, st.sampled_from([-3, 0, 1, 7, 8])) for op in ("at_least", "at_most")),
    dated("date_of_birth", BIRTHS),
    dated("last_visit", DATES),
    dated("renewal", DATES),
    *(
        leaf("date_of_birth", op, AGES)
        for op in ("older_than", "younger_than", "at_least", "at_most")
    ),
    leaf("date_of_birth", "birthday_month", st.sampled_from([2, 11, 12])),
    leaf("date_of_birth", "birthday_within_days", st.sampled_from([0, 1, 7, 31])),
    st.builds(
        lambda f, op: {"field": f, "op": op},
        st.sampled_from(FIELDS),
        st.sampled_from(["has_value", "has_no_value"]),
    ),
    leaf("email", "is", st.sampled_from([f"p{n}@mail.example" for n in range(4)])),
    st.just({"criterion": "lead", "op": "is"}),
)
CRITERIA_TREES = st.recursive(
    LEAVES,
    lambda parts: (
        st.builds(lambda p: {"not": p}, parts)
        | st.builds(lambda p: {"all": p}, st.lists(parts, max_size=4))
        | st.builds(lambda p: {"any": p}, st.lists(parts, max_size=4))
    ),
    max_leaves=8,
)


@pytest.fixture
def people(searchable, other_organization):
    """Forty people of all sorts, as {id: {field key: value}}, among others who must never be found."""
    chance = random.Random(11)
    maybe = lambda *values: chance.choice([None, *values])  # noqa: E731
    for key, kind in OWN.items():
        CustomField.objects.create(organization=searchable, key=key, label=key.title(), type=kind)

    def fields(number):
        attributes = {
            "conditions": maybe(["E11.9"], ["asthma", "E11.2"], ["asthma"], []),
            "last_visit": maybe(*(d.isoformat() for d in DATES)),
            "visits": maybe(-2, 0, 1, 7, 9),
            "member": maybe(True, False),
            "renewal": maybe(*(d.isoformat() for d in DATES)),
            "ward": maybe("3 West", "4 East"),
        }
        return {
            "email": maybe(f"p{number}@mail.example", f"p{number}@mail.example"),
            "first_name": maybe("Ann", "Bob"),
            "date_of_birth": maybe(*BIRTHS),
            "state": maybe("CA", "NY"),
            "zip": maybe("90210", "90211", "10001"),
            "kind": chance.choice(["patient", "professional"]),
            "attributes": {key: value for key, value in attributes.items() if value is not None},
        }

    ours = [factories.make_contact(searchable, **fields(n)) for n in range(40)]
    terms.index(ours)
    # The same people elsewhere, and those who are no longer here.
    terms.index([factories.make_contact(other_organization, **fields(n)) for n in range(10)])
    gone = [
        factories.make_contact(searchable, **fields(n + 100), standing="deceased") for n in range(5)
    ]
    terms.index(gone)
    known = fields_of(searchable)
    found = {}
    for contact in ours:
        values = {key: value_of(contact, key, known) for key in known}
        found[contact.pk] = {key: v for key, v in values.items() if v not in (None, [])} | {
            "id": contact.pk
        }
    return found


@pytest.fixture
def leads(people, monkeypatch):
    """The people whom a criterion of a higher app finds, which answers for too many."""
    chosen = set(list(people)[::3])
    everywhere = list(chosen) + list(
        Contact.objects.exclude(pk__in=people).values_list("pk", flat=True)
    )
    monkeypatch.setitem(
        CRITERIA,
        "lead",
        Criterion(
            label="Lead",
            ops={"is": "they are a lead"},
            check=lambda op, value: value,
            sql=lambda organization, op, value, today: Sql(
                "SELECT unnest(%s::uuid[]) AS id", [everywhere * 2]
            ),
            describe=lambda op, value: "",
        ),
    )
    return chosen


def test_criteria_find_whom_a_reader_would_find(searchable, people, leads):
    @settings(
        max_examples=250, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
    )
    @given(CRITERIA_TREES)
    def agree(criteria):
        found = ids(searchable, criteria)

        assert found == {pk for pk, person in people.items() if holds(criteria, person, leads)}

    agree()


def test_a_question_and_its_negation_part_the_organization(searchable, people, leads):
    @settings(
        max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
    )
    @given(CRITERIA_TREES)
    def parts(criteria):
        inside, outside = ids(searchable, criteria), ids(searchable, {"not": criteria})

        assert inside | outside == set(people)
        assert not inside & outside

    parts()


def test_the_canonical_form_finds_the_same_people(searchable, people, leads):
    @settings(
        max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
    )
    @given(CRITERIA_TREES)
    def same(criteria):
        canonical = segments.resolved(searchable, criteria)["criteria"]

        assert ids(searchable, canonical) == ids(searchable, criteria)
        assert segments.resolved(searchable, canonical)["criteria"] == canonical
        assert segments.describe(searchable, criteria).endswith(".")

    same()


def test_everyone_is_everyone_who_is_active(searchable, people):
    assert ids(searchable, EVERYONE) == set(people)
    assert segments.count(searchable, EVERYONE) == 40
    assert ids(searchable, {"any": []}) == set()


def test_values_are_found_however_they_are_written(searchable):
    person = factories.make_person(
        searchable,
        email="Jürgen@müller.example",
        state="CA",
        sex="female",
        language="es-MX",
        attributes={"conditions": ["E11.9", "Knee pain"]},
    )
    for field, value in [
        ("state", "California"),
        ("state", "ca"),
        ("sex", "F"),
        ("language", "Spanish"),
        ("language", "es-mx"),
        ("conditions", "e119"),
        ("conditions", "KNEE  PAIN"),
        ("email", "JÜRGEN@xn--mller-kva.example"),
        ("email", "ju\u0308rgen@MÜLLER.example"),
    ]:
        assert ids(searchable, {"field": field, "op": "is", "value": value}) == {person.pk}, field
    assert ids(searchable, {"field": "language", "op": "is", "value": "es-ES"}) == set()


def test_who_was_never_indexed_is_in_everyone_but_carries_no_term(searchable):
    person = factories.make_person(searchable, state="CA")
    new = factories.make_contact(searchable, state="CA")

    assert ids(searchable, EVERYONE) == {person.pk, new.pk}
    assert ids(searchable, {"field": "state", "op": "is", "value": "CA"}) == {person.pk}
    assert ids(searchable, {"field": "state", "op": "is_not", "value": "NY"}) == {person.pk, new.pk}


def test_the_day_is_that_of_the_organization(searchable, monkeypatch):
    searchable.time_zone = "Pacific/Kiritimati"
    now = dt.datetime(2026, 11, 24, 11, 0, tzinfo=dt.UTC)
    monkeypatch.setattr(segments.timezone, "now", lambda: now)

    assert segments.today(searchable) == dt.date(2026, 11, 25)
    person = factories.make_person(searchable, date_of_birth=dt.date(2008, 11, 25))
    query = segments.query(searchable, {"field": "date_of_birth", "op": "at_least", "value": 18})
    assert list(Contact.objects.raw(query.text, query.params)) == [person]


def test_compiling_makes_one_query_int_of_all_that_terms_answer(searchable):
    factories.make_person(searchable, state="CA", date_of_birth=dt.date(1950, 1, 1), zip="90210")
    criteria = {
        "all": [
            {"field": "state", "op": "is", "value": "CA"},
            {
                "any": [
                    {"field": "zip", "op": "is", "value": "90210"},
                    {"field": "sex", "op": "has_value"},
                ]
            },
            {"not": {"field": "date_of_birth", "op": "younger_than", "value": 65}},
        ]
    }

    text, params = segments.compile(searchable, criteria, today=DAY)

    assert text.count("query_int") == 1
    assert text.count("SELECT") == 1
    assert len(params) == 2


def test_asking_makes_no_terms(searchable):
    factories.make_person(searchable, state="CA")
    before = TermRow.objects.count(), segments.Segment.objects.count()
    from contacts.models import Term

    known = Term.objects.count()
    ids(searchable, {"field": "zip", "op": "is", "value": "55555"})
    ids(searchable, {"field": "date_of_birth", "op": "is", "value": "1999-09-09"})

    assert Term.objects.count() == known
    assert (TermRow.objects.count(), segments.Segment.objects.count()) == before


# --- saved segments


CA = {"field": "state", "op": "is", "value": "CA"}


def test_a_segment_is_saved_sealed_and_logged(organization, alice):
    segment = segments.create(organization, "  Coast   dwellers ", CA, by=alice)

    assert (segment.name, segment.criteria, segment.created_by_id) == (
        "Coast dwellers",
        CA,
        alice.pk,
    )
    sealed = Segment.objects.values_list("criteria", flat=True).get()
    assert b"state" not in bytes(sealed)
    entry = Entry.objects.get(action="segment.created")
    assert (entry.target_id, entry.detail) == (segment.pk, {})


@pytest.mark.parametrize("name", ["", "   ", "x" * 121, "Taken"])
def test_a_segment_needs_a_name_of_its_own(organization, alice, name):
    segments.create(organization, "Taken", CA, by=alice)

    with pytest.raises(CriteriaError) as refused:
        segments.create(organization, name, CA, by=alice)

    assert refused.value.path == "name"
    assert Segment.objects.count() == 1
    assert Entry.objects.filter(action="segment.created").count() == 1


def test_another_organization_may_take_the_same_name(organization, other_organization, alice):
    segments.create(organization, "Taken", CA, by=alice)
    segments.create(other_organization, "Taken", CA, by=alice)

    assert Segment.objects.count() == 2


def test_changing_a_segment_is_logged_without_its_values(organization, alice):
    segment = segments.create(organization, "One", CA, by=alice)

    changed = segments.change(segment, criteria=EVERYONE, by=alice)

    assert (changed.name, changed.criteria) == ("One", EVERYONE)
    assert Segment.objects.get().criteria == EVERYONE
    assert Entry.objects.get(action="segment.changed").fields == ["criteria"]
    with pytest.raises(CriteriaError):
        segments.change(segment, criteria={"field": "nothing", "op": "is"}, by=alice)
    assert Segment.objects.get().criteria == EVERYONE


def test_a_segment_may_refer_to_another(organization, alice):
    here = factories.make_person(organization, state="CA")
    there = factories.make_person(organization, state="NY")
    inner = segments.create(organization, "Inner", CA, by=alice)
    outer = {"not": {"segment": str(inner.pk)}}

    assert ids(organization, outer) == {there.pk}
    before = segments.resolved(organization, outer)
    assert before["criteria"] == {"not": CA}
    assert before["fields"].keys() == {"state"}
    assert segments.fields_used(organization, outer) == {"state"}
    assert "“Inner”" in segments.describe(organization, outer)

    segments.change(inner, criteria={"not": CA}, by=alice)
    assert ids(organization, outer) == {here.pk}
    assert segments.resolved(organization, outer) != before


def test_a_segment_that_contains_itself_is_refused(organization, alice):
    first = segments.create(organization, "First", CA, by=alice)
    second = segments.create(organization, "Second", {"segment": str(first.pk)}, by=alice)

    for criteria in ({"segment": str(first.pk)}, {"all": [{"segment": str(second.pk)}]}):
        with pytest.raises(CriteriaError, match="itself"):
            segments.change(first, criteria=criteria, by=alice)
    assert Segment.objects.get(pk=first.pk).criteria == CA

    # Planted past the check, it is found out when it is read.
    first.criteria = {"segment": str(second.pk)}
    first.save()
    with pytest.raises(CriteriaError, match="itself"):
        segments.count(organization, {"segment": str(first.pk)})


def test_another_organizations_segment_is_unknown(organization, other_organization, alice, charlie):
    theirs = segments.create(other_organization, "Theirs", CA, by=charlie)
    factories.make_person(organization, state="CA")

    for call in (segments.count, segments.query, segments.describe, segments.resolved):
        with pytest.raises(CriteriaError, match="no such segment"):
            call(organization, {"segment": str(theirs.pk)})
    with pytest.raises(CriteriaError):
        segments.create(organization, "Mine", {"segment": str(theirs.pk)}, by=alice)
    assert Segment.objects.filter(organization=organization).count() == 0


def test_changing_what_a_field_means_changes_what_an_approval_binds(searchable):
    field = CustomField.objects.create(
        organization=searchable, key="ward", label="Ward", type="text"
    )
    criteria = {"field": "ward", "op": "is", "value": "3 West"}
    before = segments.resolved(searchable, criteria)

    assert segments.resolved(searchable, dict(criteria)) == before
    field.data_class = "contact"
    field.save()
    assert segments.resolved(searchable, criteria) != before


# --- small numbers


@pytest.fixture
def ward_of(searchable):
    def ward_of(**sizes):
        """People by (state, has diabetes), as many as said, e.g. CA_sick=12."""
        made = []
        for key, size in sizes.items():
            state, health = key.split("_")
            for _ in range(size):
                conditions = ["E11.9"] if health == "sick" else ["I10"]
                made.append(
                    factories.make_contact(
                        searchable, state=state, attributes={"conditions": conditions}
                    )
                )
        terms.index(made)

    return ward_of


SICK = {"field": "conditions", "op": "is", "value": "E11.9"}


@pytest.mark.parametrize(
    ("sizes", "criteria", "shown"),
    [
        ({"CA_sick": 11, "CA_well": 11}, SICK, 11),
        ({"CA_sick": 10, "CA_well": 30}, SICK, None),
        ({"CA_sick": 1, "CA_well": 30}, SICK, None),
        ({"CA_well": 30}, SICK, 0),
        # The rest would tell.
        ({"CA_sick": 30, "CA_well": 10}, SICK, None),
        ({"CA_sick": 30, "CA_well": 10}, {"not": SICK}, None),
        ({"CA_sick": 30}, SICK, 30),
        # So would the rest among those whom the other questions find.
        ({"CA_sick": 30, "CA_well": 5, "NY_well": 30}, {"all": [CA, SICK]}, None),
        (
            {"CA_sick": 30, "CA_well": 5, "NY_well": 30},
            {"all": [CA, {"all": [{"not": SICK}]}]},
            None,
        ),
        ({"CA_sick": 30, "CA_well": 15, "NY_well": 30}, {"all": [CA, SICK]}, 30),
        # Where people live is no clinical fact.
        ({"CA_sick": 3, "NY_well": 30}, CA, 3),
    ],
)
def test_small_clinical_numbers_are_not_shown(searchable, ward_of, sizes, criteria, shown):
    ward_of(**sizes)

    found = segments.shown_count(searchable, criteria, today=DAY)

    assert found.count == shown
    assert found.text == (
        "not shown: fewer than 11 people are in it, or fewer than 11 are left out"
        if shown is None
        else str(shown)
    )


def test_each_organization_sets_its_own_limit(searchable, ward_of):
    ward_of(CA_sick=5, CA_well=30)
    searchable.small_cell = 5

    assert segments.shown_count(searchable, SICK, today=DAY).count == 5


def test_a_clinical_criterion_of_a_higher_app_is_hidden_too(searchable, people, leads, monkeypatch):
    criteria = {
        "all": [{"criterion": "lead", "op": "is"}, {"field": "state", "op": "is", "value": "CA"}]
    }
    assert segments.shown_count(searchable, criteria, today=DAY).count is not None

    lead = CRITERIA["lead"]
    monkeypatch.setitem(
        CRITERIA,
        "lead",
        Criterion(lead.label, lead.ops, lead.check, lead.sql, lead.describe, clinical=True),
    )
    assert 0 < segments.count(searchable, criteria, today=DAY) < 11
    assert segments.shown_count(searchable, criteria, today=DAY).count is None
