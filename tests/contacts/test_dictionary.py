"""Terms get short numbers once, whoever asks first, and nobody else's."""

import threading

import pytest
from django.db import connection, transaction

from contacts import dictionary
from contacts.dictionary import NoNumberLeft, candidate, learn, look_up
from contacts.models import Term
from tests import factories

CA, NY = ("state", "=ca"), ("state", "=ny")

pytestmark = pytest.mark.django_db


def blind(*numbers):
    """A digest that asks for these numbers, one attempt after the other."""
    return b"".join(number.to_bytes(4, "big") for number in (*numbers, *[7] * (8 - len(numbers))))


def test_a_term_keeps_its_number(organization):
    first = learn(organization.pk, [CA, NY])

    assert learn(organization.pk, [NY, CA]) == look_up(organization.pk, [CA, NY]) == first
    assert first[CA] != first[NY]
    assert all(0 < number < 2**31 for number in first.values())


def test_looking_up_makes_no_term(organization):
    learn(organization.pk, [CA])

    assert look_up(organization.pk, [CA, NY, ("state", "=tx")]).keys() == {CA}
    assert Term.objects.count() == 1


def test_two_organizations_have_other_numbers_and_digests_for_one_value(
    organization, other_organization
):
    ours = learn(organization.pk, [CA, NY])
    theirs = learn(other_organization.pk, [CA, NY])

    assert set(ours.values()).isdisjoint(theirs.values())
    assert len(set(Term.objects.values_list("digest", flat=True))) == 4
    assert look_up(other_organization.pk, [CA]) == {CA: theirs[CA]}


def test_the_same_text_of_two_fields_is_two_terms(organization):
    numbers = learn(organization.pk, [("state", "=ca"), ("plan", "=ca")])

    assert len(set(numbers.values())) == 2


def test_the_number_is_31_bits_of_the_digest(organization):
    digest = dictionary.blinded(organization.pk, CA)

    assert learn(organization.pk, [CA]) == {CA: int.from_bytes(digest[:4], "big") & 0x7FFFFFFF}
    assert candidate(digest, 3) == int.from_bytes(digest[12:16], "big") & 0x7FFFFFFF


def test_a_collision_takes_the_next_31_bits(organization, monkeypatch):
    blinds = {CA: blind(5, 11), NY: blind(5, 12), ("state", "=tx"): blind(5, 12, 13)}
    monkeypatch.setattr(dictionary, "blinded", lambda organization_id, term: blinds[term])

    assert learn(organization.pk, [CA]) == {CA: 5}
    assert learn(organization.pk, [CA, NY]) == {CA: 5, NY: 12}
    assert learn(organization.pk, [("state", "=tx")]) == {("state", "=tx"): 13}


def test_terms_that_collide_in_one_go_all_get_numbers(organization, monkeypatch):
    terms = [("zip", f"={n}") for n in range(20)]
    # The last four bytes make them different digests.
    blinds = {
        term: blind(1, 2, 3 + n, 4, 5, 6, 7)[:28] + n.to_bytes(4, "big")
        for n, term in enumerate(terms)
    }
    monkeypatch.setattr(dictionary, "blinded", lambda organization_id, term: blinds[term])

    numbers = learn(organization.pk, terms)

    assert len(set(numbers.values())) == 20
    assert numbers == look_up(organization.pk, terms)


def test_zero_is_never_a_number(organization, monkeypatch):
    monkeypatch.setattr(
        dictionary, "blinded", lambda organization_id, term: blind(0, 0x80000000, 9)
    )

    assert learn(organization.pk, [CA]) == {CA: 9}


def test_a_term_without_any_number_left_raises(organization, monkeypatch):
    monkeypatch.setattr(
        dictionary,
        "blinded",
        lambda organization_id, term: blind(*range(1, 9)) + (b"2" if term == NY else b"1"),
    )
    for number in range(1, 9):
        Term.objects.create(organization=organization, number=number, digest=bytes([number]))

    with pytest.raises(NoNumberLeft):
        learn(organization.pk, [NY])
    assert Term.objects.count() == 8


@pytest.mark.django_db(transaction=True)
def test_two_processes_that_learn_the_same_terms_agree():
    organization = factories.make_organization()
    terms = [("zip", f"={n}") for n in range(400)]
    found, ready = [], threading.Barrier(2)

    def run(mine):
        try:
            ready.wait(5)
            for _ in range(3):
                with transaction.atomic():
                    found.append(learn(organization.pk, mine))
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(order,)) for order in (terms, terms[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert len(found) == 6
    assert all(numbers == found[0] for numbers in found)
    assert len(set(found[0].values())) == Term.objects.count() == 400
