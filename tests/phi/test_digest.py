"""Blind digests: equal for equal values of one kind in one organization, and for nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phi.digest import address_digest, digest, normal_address, normal_domain


def test_digests_are_apart_by_organization_kind_and_value(organization, other_organization):
    seen = {
        digest(scope.pk, kind, value)
        for scope in (organization, other_organization)
        for kind in ("address", "record")
        for value in ("a", "b")
    }

    assert len(seen) == 8
    assert {len(value) for value in seen} == {32}


def test_kind_and_value_cannot_run_into_each_other(organization):
    assert digest(organization.pk, "term:a", "b") != digest(organization.pk, "term", ":ab")


@pytest.mark.parametrize(
    "written",
    ["Ann@Mail.Example", " ann@mail.example ", "ANN@MAIL.EXAMPLE.", "ann@MAIL.example"],
)
def test_ways_of_writing_one_address_have_one_digest(organization, written):
    assert address_digest(organization.pk, written) == address_digest(
        organization.pk, "ann@mail.example"
    )


def test_a_domain_in_letters_and_as_a_label_are_one():
    assert normal_address("ann@Bücher.example") == "ann@xn--bcher-kva.example"
    assert normal_domain("BÜCHER.example") == normal_domain("xn--bcher-kva.example")


def test_composed_and_decomposed_letters_are_one():
    assert normal_address("jose\u0301@mail.example") == normal_address("jos\u00e9@mail.example")


@pytest.mark.parametrize("text", ["", "ann", "@mail.example", "ann@", "ann@-", "ann@a..b", "ann@ "])
def test_what_is_no_address_is_refused_without_quoting_it(text):
    with pytest.raises(ValueError, match="not a") as caught:
        normal_address(text)

    assert "ann" not in str(caught.value)


@given(st.text(max_size=40))
def test_normalising_is_steady(local):
    try:
        once = normal_address(f"{local}@mail.example")
    except ValueError:
        return

    assert normal_address(once) == once
