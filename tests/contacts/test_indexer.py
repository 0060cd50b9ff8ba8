"""The indexer that imports use says what `terms.terms_for()` says."""

import datetime as dt

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contacts import dictionary, indexer, terms
from contacts.attributes import fields_of
from contacts.indexer import Indexer
from contacts.models import CustomField, Term

pytestmark = pytest.mark.django_db

ROWS = st.fixed_dictionaries(
    {},
    optional={
        "email": st.just("ann@example.org"),
        "first_name": st.sampled_from(["Ann", "Bob"]),
        "date_of_birth": st.dates(dt.date(1930, 1, 1), dt.date(2026, 1, 1)),
        "state": st.sampled_from(["CA", "NY"]),
        "zip": st.sampled_from(["90210", "10001-1234"]),
        "language": st.sampled_from(["en", "es-MX"]),
        "conditions": st.lists(
            st.sampled_from(["E11.9", "asthma", "F10.20", "HIV", "E11.2"]), unique=True, max_size=3
        ),
        "kind": st.sampled_from(["patient", "lead"]),
        "visits": st.integers(-5, 5),
        "member": st.booleans(),
        "note": st.sampled_from(["alcohol", "none", "x" * 200]),
    },
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(ROWS, min_size=1, max_size=5), chosen=st.booleans(), most=st.sampled_from([3, 99])
)
def test_it_gives_the_numbers_of_all_terms(organization, rows, chosen, most):
    organization.treatment_terms = chosen
    for key, kind in (("visits", "number"), ("member", "yes_no"), ("note", "text")):
        CustomField.objects.get_or_create(
            organization=organization, key=key, label=key, defaults={"type": kind}
        )
    fields = fields_of(organization)
    known = Indexer(organization, fields)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexer, "MOST_KEPT", most)

        for _ in range(2):
            known.trim()
            known.learn(rows)
            for row in rows:
                wanted = terms.terms_for(row, fields)
                numbers = dictionary.look_up(organization.pk, wanted)
                assert len(numbers) == len(wanted)
                assert known.numbers(row) == sorted(numbers.values())


def test_after_forgetting_it_asks_the_dictionary_again(organization):
    known = Indexer(organization, fields_of(organization))
    known.learn([{"state": "CA"}])
    Term.objects.all().delete()

    known.forget()
    known.learn([{"state": "CA"}])

    assert terms.numbers(organization, "state", ["CA"])[0] in known.numbers({"state": "CA"})
