"""Criteria are read strictly, and say where and why they are not understood."""

import pytest

from contacts import segments
from contacts.criteria import MOST_DEPTH, MOST_LEAVES, Criterion
from contacts.models import CustomField
from contacts.segments import CRITERIA, CriteriaError, Sql

pytestmark = pytest.mark.django_db

CA = {"field": "state", "op": "is", "value": "CA"}


def nested(depth):
    criteria = CA
    for _ in range(depth - 1):
        criteria = {"all": [criteria]}
    return criteria


@pytest.mark.parametrize(
    ("criteria", "path", "sentence"),
    [
        (None, "", "A group or a question is needed"),
        ("all", "", "A group or a question is needed"),
        ([], "", "A group or a question is needed"),
        ({}, "", "none of the keys"),
        ({"every": []}, "", "none of the keys"),
        ({"all": CA}, "all", "A list is needed"),
        ({"all": [CA], "any": [CA]}, "", "does not belong"),
        ({**CA, "or": 1}, "", "does not belong"),
        ({"all": [CA, 5]}, "all[1]", "A group or a question is needed"),
        (
            {"any": [{"not": {"all": [CA, {"field": "nope", "op": "is"}]}}]},
            "any[0].not.all[1].field",
            "no such field",
        ),
        ({"field": None, "op": "is"}, "field", "no such field"),
        ({"field": ["state"], "op": "is"}, "field", "no such field"),
        ({"field": "sensitivity", "op": "is", "value": "hiv"}, "field", "no such field"),
        ({"field": "state"}, "op", "State can be asked with: is, is_not, in, not_in, has_value"),
        ({"field": "state", "op": "older_than", "value": 5}, "op", "State can be asked with"),
        ({"field": "state", "op": {}, "value": 5}, "op", "State can be asked with"),
        (
            {"field": "first_name", "op": "is", "value": "Ann"},
            "op",
            "First name can be asked with: has_value, has_no_value.",
        ),
        ({"field": "record_number", "op": "is", "value": "1"}, "op", "Record number can be asked"),
        ({"field": "state", "op": "is"}, "value", "A value is needed"),
        ({"field": "state", "op": "is", "value": " "}, "value", "A value is needed"),
        ({"field": "state", "op": "is", "value": 5}, "value", "A value is needed"),
        ({"field": "state", "op": "is", "value": ["CA"]}, "value", "A value is needed"),
        ({"field": "state", "op": "is", "value": "Atlantis"}, "value", "not a US state"),
        ({"field": "state", "op": "in", "value": "CA"}, "value", "A list of 1 to 500 values"),
        ({"field": "state", "op": "in", "value": []}, "value", "A list of 1 to 500 values"),
        (
            {"field": "state", "op": "in", "value": ["CA"] * 501},
            "value",
            "A list of 1 to 500 values",
        ),
        ({"field": "state", "op": "has_value", "value": "CA"}, "value", "takes no value"),
        ({"field": "zip", "op": "is", "value": "90210-1234"}, "value", "Five digits"),
        ({"field": "zip", "op": "starts_with", "value": "9021"}, "value", "first three digits"),
        ({"field": "date_of_birth", "op": "is", "value": "1999-02-30"}, "value", "no such day"),
        (
            {"field": "date_of_birth", "op": "before", "value": "1800-01-01"},
            "value",
            "between 1800 and 2158",
        ),
        (
            {"field": "date_of_birth", "op": "after", "value": "9999-12-31"},
            "value",
            "between 1800 and 2158",
        ),
        (
            {"field": "date_of_birth", "op": "between", "value": ["1999-01-01"]},
            "value",
            "A list of two values",
        ),
        (
            {"field": "date_of_birth", "op": "between", "value": ["1999-01-02", "1999-01-01"]},
            "value",
            "lowest",
        ),
        ({"field": "date_of_birth", "op": "older_than", "value": 131}, "value", "from 0 to 130"),
        ({"field": "date_of_birth", "op": "older_than", "value": -1}, "value", "from 0 to 130"),
        ({"field": "date_of_birth", "op": "older_than", "value": "65"}, "value", "from 0 to 130"),
        ({"field": "date_of_birth", "op": "older_than", "value": True}, "value", "from 0 to 130"),
        ({"field": "date_of_birth", "op": "older_than", "value": 65.5}, "value", "from 0 to 130"),
        ({"field": "date_of_birth", "op": "birthday_month", "value": 13}, "value", "from 1 to 12"),
        (
            {"field": "date_of_birth", "op": "within_last_days", "value": 10**9},
            "value",
            "from 0 to 36500",
        ),
        ({"field": "email", "op": "is", "value": "a@d>,<b@d"}, "value", "An address has no spaces"),
        ({"segment": "x"}, "segment", "no such segment"),
        ({"segment": None}, "segment", "no such segment"),
        ({"segment": 7}, "segment", "no such segment"),
        ({"segment": "00000000-0000-7000-8000-000000000000"}, "segment", "no such segment"),
        ({"criterion": "opened", "op": "is"}, "criterion", "no such criterion"),
        ({"criterion": [], "op": "is"}, "criterion", "no such criterion"),
        (
            {"field": "conditions", "op": "is", "value": "asthma"},
            "field",
            "the privacy officer has not chosen",
        ),
        ({"field": "last_visit", "op": "has_value"}, "field", "the privacy officer has not chosen"),
        (nested(MOST_DEPTH + 1), ".".join(["all[0]"] * MOST_DEPTH), "more than 10 deep"),
        ({"all": [CA] * (MOST_LEAVES + 1)}, "all", "more than 200 parts"),
        (
            {"all": [{"any": [CA] * 150}, {"any": [CA] * 51}]},
            "all[1].any[50]",
            "more than 200 questions",
        ),
    ],
)
def test_what_is_not_understood_is_refused_with_its_place(organization, criteria, path, sentence):
    with pytest.raises(CriteriaError) as refused:
        segments.check(organization, criteria)

    assert refused.value.path == path
    assert sentence in refused.value.sentence
    assert str(refused.value).startswith(f"{path or 'criteria'}: ")


def test_a_refusal_does_not_repeat_the_value(organization):
    for field in ("state", "zip", "date_of_birth", "email"):
        with pytest.raises(CriteriaError) as refused:
            segments.check(organization, {"field": field, "op": "is", "value": "Jane Q. Patient"})
        assert "Jane" not in str(refused.value)


def test_criteria_may_be_as_deep_and_as_long_as_said(organization):
    segments.check(organization, nested(MOST_DEPTH))
    segments.check(organization, {"all": [CA] * MOST_LEAVES})


@pytest.mark.parametrize(
    ("criteria", "sentence"),
    [
        ({"all": []}, "Everyone."),
        ({"any": []}, "Nobody."),
        (CA, "Everyone for whom this holds: state is California."),
        (
            {"all": [CA, {"field": "date_of_birth", "op": "older_than", "value": 65}]},
            "Everyone for whom this holds: state is California and age is over 65.",
        ),
        (
            {
                "any": [
                    {"all": [CA, {"field": "sex", "op": "is", "value": "f"}]},
                    {"field": "zip", "op": "has_no_value"},
                ]
            },
            "Everyone for whom this holds: (state is California and sex is female) or ZIP code is not known.",
        ),
        (
            {"not": {"field": "conditions", "op": "in", "value": ["E11.9", "asthma"]}},
            "Everyone for whom this holds: not (conditions include any of E11.9, asthma).",
        ),
        (
            {"field": "last_visit", "op": "more_than_days_ago", "value": 1000},
            "Everyone for whom this holds: last visit is more than 1,000 days ago.",
        ),
        (
            {"field": "date_of_birth", "op": "birthday_month", "value": 3},
            "Everyone for whom this holds: birthday is in March.",
        ),
        (
            {"field": "language", "op": "is", "value": "es"},
            "Everyone for whom this holds: language is Spanish.",
        ),
        (
            {"field": "date_of_birth", "op": "between", "value": ["1970-01-01", "1979-12-31"]},
            "Everyone for whom this holds: date of birth is between 1970-01-01 and 1979-12-31.",
        ),
        (
            {"field": "member", "op": "is", "value": True},
            "Everyone for whom this holds: member of {club} is yes.",
        ),
        (
            {"criterion": "opened", "op": "within", "value": 30},
            "Everyone for whom this holds: opened a message in the last 30 days.",
        ),
    ],
)
def test_criteria_are_read_back(searchable, monkeypatch, criteria, sentence):
    CustomField.objects.create(
        organization=searchable, key="member", label="Member of {club}", type="yes_no"
    )
    monkeypatch.setitem(CRITERIA, "opened", opened())

    assert segments.describe(searchable, criteria) == sentence
    assert segments.describe(searchable, criteria, language="xx") == sentence


def opened():
    def check(op, value):
        if not isinstance(value, int):
            raise ValueError("A number of days is needed.")
        return value

    return Criterion(
        label="Opened",
        ops={"within": "opened a message in the last {value} days"},
        check=check,
        sql=lambda organization, op, value, today: Sql("SELECT NULL::uuid AS id WHERE false"),
        describe=lambda op, value: str(value),
    )


def test_a_criterion_of_a_higher_app_checks_its_own_values(organization, monkeypatch):
    monkeypatch.setitem(CRITERIA, "opened", opened())

    for criteria, path in [
        ({"criterion": "opened", "op": "before", "value": 1}, "op"),
        ({"criterion": "opened", "op": [], "value": 1}, "op"),
        ({"criterion": "opened", "op": "within", "value": "1"}, "value"),
    ]:
        with pytest.raises(CriteriaError) as refused:
            segments.check(organization, criteria)
        assert refused.value.path == path
    assert segments.count(organization, {"criterion": "opened", "op": "within", "value": 1}) == 0


@pytest.mark.parametrize(
    ("criteria", "canonical"),
    [
        (
            {"field": "state", "op": "in", "value": ["ny", "California", "CA"]},
            {"field": "state", "op": "in", "value": ["CA", "NY"]},
        ),
        ({"field": "sex", "op": "is", "value": "M"}, {"field": "sex", "op": "is", "value": "male"}),
        (
            {"field": "state", "op": "has_value", "value": None},
            {"field": "state", "op": "has_value"},
        ),
        ({"all": []}, {"all": []}),
    ],
)
def test_what_means_the_same_is_written_the_same(organization, criteria, canonical):
    resolved = segments.resolved(organization, criteria)

    assert resolved["criteria"] == canonical
    assert resolved["version"] == 1


def test_every_operator_is_in_the_docs(searchable):
    from pathlib import Path

    from contacts.attributes import STANDARD, custom
    from contacts.operators import operators_of

    page = (Path(__file__).parents[2] / "docs" / "segments.md").read_text()
    fields = [
        *STANDARD.values(),
        *(custom("x", "X", "contact", t) for t in CustomField.Type.values),
    ]
    operators = {name for field in fields for name in operators_of(field)}

    assert {name for name in operators if f"`{name}`" not in page} == set()
    assert {key for key in STANDARD if f"`{key}`" not in page} == set()
