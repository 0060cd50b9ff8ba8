"""Dyadic intervals cover a range exactly, and a date's years are counted as birthdays are."""

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from contacts import covers
from contacts.covers import blocks_of, cover, position_of_day, position_of_number, years_before


@given(st.integers(1, 6), st.integers(-3, 70), st.integers(-3, 70))
def test_a_cover_is_the_range_and_nothing_else(levels, low, high):
    blocks = cover(low, high, levels)

    wanted = [p for p in range(2**levels) if low <= p <= high]
    held = [p for level, n in blocks for p in range(n << level, (n + 1) << level)]
    assert sorted(held) == wanted
    assert len(blocks) <= 2 * levels
    assert {level for level, _ in blocks} <= set(range(levels))


@given(st.integers(1, 6), st.integers(0, 63), st.integers(-3, 70), st.integers(-3, 70))
def test_a_position_shares_a_block_with_a_cover_just_when_it_is_in_the_range(levels, p, low, high):
    p %= 2**levels

    shared = set(blocks_of(p, levels)) & set(cover(low, high, levels))

    assert len(shared) == (low <= p <= high)


@given(st.dates(), st.dates(), st.dates())
def test_days_outside_the_calendar_count_as_its_ends(day, low, high):
    inside = min(max(day, covers.FIRST_DAY), covers.LAST_DAY)
    low, high = (
        min(max(d, covers.FIRST_DAY), covers.LAST_DAY) for d in (min(low, high), max(low, high))
    )

    blocks = blocks_of(position_of_day(day), covers.DATE_LEVELS)
    wanted = cover(position_of_day(low), position_of_day(high), covers.DATE_LEVELS)

    assert bool(set(blocks) & set(wanted)) == (low <= inside <= high)


@given(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1))
def test_numbers_keep_their_order(one, other):
    assert (position_of_number(one) < position_of_number(other)) == (one < other)


def test_the_calendar_reaches_from_1800_into_2158():
    assert (dt.date(1800, 1, 1), dt.date(2158, 11, 11)) == (covers.FIRST_DAY, covers.LAST_DAY)


@given(st.dates(dt.date(1900, 1, 1), dt.date(2100, 1, 1)), st.integers(0, 90))
def test_years_before_is_the_latest_birth_date_of_that_age(today, years):
    def age(born):
        return today.year - born.year - ((today.month, today.day) < (born.month, born.day))

    latest = years_before(today, years)

    assert age(latest) == years
    assert age(latest + dt.timedelta(days=1)) == years - 1


def test_who_was_born_on_29_february_comes_of_age_on_1_march():
    born = dt.date(2008, 2, 29)

    assert born > years_before(dt.date(2026, 2, 28), 18)
    assert born <= years_before(dt.date(2026, 3, 1), 18)
    assert years_before(dt.date(2028, 2, 29), 18) == dt.date(2010, 2, 28)
