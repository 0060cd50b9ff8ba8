"""Which conditions are sensitive: by code, by words, and when in doubt."""

import pytest

from contacts.sensitive import CATEGORIES, code_of, kinds_of


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("F10.20", {"substance_use"}),
        ("f1120", {"substance_use"}),
        ("F19.9 Other psychoactive substance", {"substance_use", "mental_health"}),
        ("F17.210", {"substance_use"}),
        ("Opioid dependence", {"substance_use"}),
        ("history of ALCOHOL use", {"substance_use"}),
        ("OUD", {"substance_use"}),
        ("F32.1", {"mental_health"}),
        ("F20", {"mental_health"}),
        ("major depression", {"mental_health"}),
        ("B20", {"hiv"}),
        ("Z21", {"hiv"}),
        ("HIV positive", {"hiv"}),
        ("hiv_status", {"hiv"}),
        ("O80", {"reproductive"}),
        ("Z34.90", {"reproductive"}),
        ("pregnancy", {"reproductive"}),
        ("BRCA1", {"genetic"}),
        ("Q90.9", {"genetic"}),
        ("psychotherapy notes", {"psychotherapy", "mental_health"}),
        ("E11.9", set()),
        ("type 2 diabetes", set()),
        ("I10", set()),
        ("hives", set()),
        ("audiology", set()),
        ("mature onset", set()),
        ("standard check-up", set()),
        ("F1", set()),
        ("", set()),
    ],
)
def test_a_condition_tells_of_these_kinds(text, kinds):
    assert kinds_of(text) == kinds


@pytest.mark.parametrize("number", range(10, 20))
def test_every_category_from_f10_to_f19_is_a_part_2_candidate(number):
    assert "substance_use" in kinds_of(f"F{number}")
    assert "substance_use" in kinds_of(f"f{number}.129")


@pytest.mark.parametrize("number", [9, 20, 32, 43, 99])
def test_its_neighbours_are_mental_health_alone(number):
    assert kinds_of(f"F{number:02}") == {"mental_health"}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("E11.9", "E119"),
        ("e119", "E119"),
        ("F11.20 Opioid dependence", "F1120"),
        ("E11", "E11"),
        ("O9A.1", "O9A1"),
        ("E1", None),
        ("asthma", None),
        ("E11.9x99999", None),
        ("E119 7", "E119"),
    ],
)
def test_a_code_is_read_with_and_without_its_dot(text, code):
    assert code_of(text) == code


def test_the_table_holds_each_kind_that_the_law_names():
    assert set(CATEGORIES) == {
        *("substance_use", "psychotherapy", "mental_health", "hiv", "reproductive", "genetic"),
    }
