"""What expressions become means the same to PostgreSQL as to logic."""

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contacts.expressions import ALWAYS, NEVER, All, Folded, Has, Not, Some, fold, terms_in

TERMS = [("field", f"={n}") for n in range(6)]
#: The last two are carried by nobody.
NUMBERS = {term: 100 + n for n, term in enumerate(TERMS[:4])}

EXPRESSIONS = st.recursive(
    st.sampled_from([Has(term) for term in TERMS]),
    lambda parts: (
        st.builds(Not, parts)
        | st.builds(lambda p: All(tuple(p)), st.lists(parts, max_size=4))
        | st.builds(lambda p: Some(tuple(p)), st.lists(parts, max_size=4))
    ),
    max_leaves=12,
)


def holds(expression, carried):
    match expression:
        case Has(term):
            return term in carried
        case Not(part):
            return not holds(part, carried)
        case All(parts):
            return all(holds(part, carried) for part in parts)
        case Some(parts):
            return any(holds(part, carried) for part in parts)


@pytest.mark.django_db
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(EXPRESSIONS, st.sets(st.sampled_from(TERMS[:4])))
def test_a_folded_expression_holds_when_the_expression_does(expression, carried):
    folded = fold(expression, NUMBERS)

    assert folded.matches_empty == holds(expression, set())
    if folded.text is None:
        assert folded.matches_empty == holds(expression, carried)
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT %s::int4[] @@ %s::query_int", [[NUMBERS[t] for t in carried], folded.text]
        )
        assert cursor.fetchone()[0] == holds(expression, carried)


def test_constants_have_no_text():
    assert fold(ALWAYS, {}) == Folded(None, True)
    assert fold(NEVER, {}) == Folded(None, False)
    assert fold(Not(Has(TERMS[5])), NUMBERS) == Folded(None, True)
    assert fold(All((Has(TERMS[0]), Has(TERMS[5]))), NUMBERS) == Folded(None, False)


def test_a_union_of_many_terms_is_one_text():
    expression = Some(tuple(Has(term) for term in [*TERMS, *TERMS]))

    assert fold(expression, NUMBERS).text == "(100|101|102|103)"
    assert set(terms_in(Not(expression))) == set(TERMS)


def test_negations_are_moved_inwards_so_that_the_index_can_be_searched():
    a, b = Has(TERMS[0]), Has(TERMS[1])

    assert fold(Not(Not(a)), NUMBERS).text == "100"
    assert fold(Not(All((Not(a), Not(b)))), NUMBERS).text == "(100|101)"
    assert fold(Not(Some((Not(a), b))), NUMBERS).text == "(100&!101)"
    # The complement of a range stays short.
    assert fold(Not(Some((a, b))), NUMBERS).text == "!(100|101)"
