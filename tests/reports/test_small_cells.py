"""Small numbers stay hidden from whoever subtracts, and from whoever knows how hiding works."""

import itertools
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.small_cells import NOT_BROKEN_DOWN, Breakdown, Cell, breakdown, lone, part, shown

NAMES = "abcdefgh"


def counts_of(numbers: tuple[int, ...] | list[int]) -> dict[str, int]:
    return dict(zip(NAMES, numbers, strict=False))


def seen(parts: Breakdown) -> tuple[object, ...]:
    """All that a reader sees."""
    return parts.total, tuple(parts.cells.items()), parts.together


def test_a_lone_number_below_the_limit_is_hidden_and_nought_is_shown() -> None:
    assert lone(0, 11) == Cell(0, "0")
    assert lone(1, 11) == Cell(None, "fewer than 11")
    assert lone(10, 11) == Cell(None, "fewer than 11")
    assert lone(11, 11) == Cell(11, "11")
    assert lone(1234, 11).text == "1,234"


def test_a_part_is_hidden_when_it_or_the_rest_of_the_whole_is_small() -> None:
    assert part(0, 100, 11) == shown(0)
    assert part(5, 100, 11) == Cell(None, "fewer than 11")
    assert part(95, 100, 11) == Cell(None, "hidden")
    assert part(100, 100, 11) == shown(100)
    assert part(89, 100, 11) == shown(89)


def test_one_small_part_takes_the_next_smallest_with_it() -> None:
    parts = breakdown({"a": 5, "b": 60, "c": 500, "d": 0}, 11)

    assert parts.total == shown(565)
    assert parts.cells == {
        "a": Cell(None, "hidden"),
        "b": Cell(None, "hidden"),
        "c": shown(500),
        "d": shown(0),
    }
    assert parts.together == 65
    assert parts.hidden == ["a", "b"]


def test_without_small_parts_nothing_is_hidden() -> None:
    parts = breakdown({"a": 11, "b": 0, "c": 40}, 11)

    assert [cell.value for cell in parts.cells.values()] == [11, 0, 40]
    assert parts.together is None


def test_two_small_parts_alone_are_not_enough_since_their_sum_could_tell_them() -> None:
    # 10 and 10: whoever knows that both lie below 11 and that they make 20 knows both.
    parts = breakdown({"a": 10, "b": 10, "c": 30}, 11)

    assert parts.hidden == ["a", "b", "c"]


def test_a_total_of_few_parts_too_small_to_hide_each_other_is_not_broken_down() -> None:
    parts = breakdown({"a": 7, "b": 7}, 11)

    assert parts.total == shown(14)
    assert {cell.text for cell in parts.cells.values()} == {NOT_BROKEN_DOWN}
    assert not parts.is_broken_down


def test_a_hidden_total_is_not_broken_down_even_into_large_parts() -> None:
    parts = breakdown({"a": 40, "b": 50}, 11, within=Cell(None, "hidden"))

    assert all(cell.is_hidden for cell in parts.cells.values())
    assert parts.together is None


def test_equal_numbers_are_hidden_together_so_that_order_tells_nothing() -> None:
    assert breakdown({"a": 20, "b": 20, "c": 1, "d": 90}, 11).hidden == ["a", "b", "c"]


def test_a_limit_of_one_or_none_hides_nothing() -> None:
    assert breakdown({"a": 1, "b": 2}, 0).hidden == []
    assert breakdown({"a": 1, "b": 2}, 1).hidden == []


@pytest.mark.parametrize(("limit", "parts", "most"), [(3, 4, 14), (4, 3, 20), (5, 3, 22)])
def test_no_reader_who_knows_the_rule_can_tell_a_hidden_number(
    limit: int, parts: int, most: int
) -> None:
    # Every table that looks the same to the reader is one that the reader must reckon with.
    alike = defaultdict(list)
    for numbers in itertools.product(range(most + 1), repeat=parts):
        if sum(numbers) <= most:
            alike[seen(breakdown(counts_of(numbers), limit))].append(numbers)

    for tables in alike.values():
        told = breakdown(counts_of(tables[0]), limit)
        for place, name in enumerate(counts_of(tables[0])):
            if not told.cells[name].is_hidden:
                continue
            possible = {numbers[place] for numbers in tables}
            assert len(possible) > 1
            if told.is_broken_down:
                assert min(possible) < limit <= max(possible)


NUMBERS = st.lists(st.integers(0, 60), min_size=1, max_size=8)


@given(NUMBERS)
def test_what_is_shown_is_true_and_no_small_number_is_shown(numbers: list[int]) -> None:
    parts = breakdown(counts_of(numbers), 11)

    for name, number in counts_of(numbers).items():
        assert parts.cells[name].value in (None, number)
        assert not (0 < number < 11 and parts.cells[name].value is not None)
    if parts.together is not None:
        assert parts.together == sum(counts_of(numbers)[name] for name in parts.hidden)


@given(NUMBERS, st.randoms(use_true_random=False))
def test_hidden_numbers_may_change_places_unnoticed(numbers: list[int], random: object) -> None:
    counts = counts_of(numbers)
    parts = breakdown(counts, 11)
    if not parts.hidden or not parts.is_broken_down:
        return

    values = [counts[name] for name in parts.hidden]
    random.shuffle(values)
    exchanged = counts | dict(zip(parts.hidden, values, strict=True))

    assert seen(breakdown(exchanged, 11)) == seen(parts)
    assert min(values) < 11 <= max(values)


@given(NUMBERS)
def test_who_guesses_which_are_small_still_finds_each_possible_from_one_to_ten(
    numbers: list[int],
) -> None:
    counts = counts_of(numbers)
    parts = breakdown(counts, 11)
    if parts.together is None:
        return

    small = [name for name in parts.hidden if counts[name] < 11]
    large = [name for name in parts.hidden if counts[name] >= 11]
    # The others take their least; what is left is the most that one small part can be.
    most = parts.together - (len(small) - 1) - 11 * len(large)
    assert large
    assert most >= 10
