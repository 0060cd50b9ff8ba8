"""Days are whole days in the organization's time zone."""

import datetime as dt
from typing import Any

import pytest

from reports import period as periods
from reports.period import BadPeriod, period

TODAY = dt.datetime(2026, 11, 24, 3, 0, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periods, "database_time", lambda: TODAY)


@pytest.fixture
def chicago(organization: Any) -> Any:
    organization.time_zone = "America/Chicago"
    return organization


def hours(found: Any) -> float:
    return (found.end - found.start).total_seconds() / 3600


def test_a_day_begins_at_midnight_where_the_organization_is(chicago: Any) -> None:
    found = period(chicago, dt.date(2026, 7, 4), dt.date(2026, 7, 4))

    assert found.start == dt.datetime(2026, 7, 4, 5, 0, tzinfo=dt.UTC)
    assert found.end == dt.datetime(2026, 7, 5, 5, 0, tzinfo=dt.UTC)


def test_days_on_which_clocks_change_have_23_and_25_hours(chicago: Any) -> None:
    assert hours(period(chicago, dt.date(2026, 3, 8), dt.date(2026, 3, 8))) == 23
    assert hours(period(chicago, dt.date(2026, 11, 1), dt.date(2026, 11, 1))) == 25


def test_where_clocks_skip_midnight_the_day_begins_when_they_do(organization: Any) -> None:
    organization.time_zone = "America/Santiago"  # on 2026-09-06 midnight became one o'clock

    found = period(organization, dt.date(2026, 9, 6), dt.date(2026, 9, 6))

    assert found.start == dt.datetime(2026, 9, 6, 4, 0, tzinfo=dt.UTC)
    assert hours(found) == 23


def test_adjoining_periods_touch(chicago: Any) -> None:
    october = period(chicago, dt.date(2026, 10, 1), dt.date(2026, 10, 31))
    november = period(chicago, dt.date(2026, 11, 1), dt.date(2026, 11, 23))

    assert october.end == november.start


def test_today_is_the_organizations_today(chicago: Any) -> None:
    # At three in the morning UTC it is still the 23rd in Chicago.
    assert period(chicago, dt.date(2026, 11, 23), dt.date(2026, 11, 23)).last_day.day == 23
    with pytest.raises(BadPeriod, match="in the future. Today is November 23, 2026"):
        period(chicago, dt.date(2026, 11, 23), dt.date(2026, 11, 24))


@pytest.mark.parametrize(
    ("first", "last", "sentence"),
    [
        (dt.date(2026, 2, 1), dt.date(2026, 1, 1), "The last day lies before the first"),
        (dt.date(2026, 11, 1), dt.date(2027, 1, 1), "lies in the future"),
        (dt.date(2026, 11, 1), dt.date.max, "lies in the future"),
        (dt.date(1926, 11, 1), dt.date(2026, 11, 1), "lies before 2000"),
        (dt.date.min, dt.date.min, "lies before 2000"),
        (dt.date(2001, 1, 1), dt.date(2026, 1, 1), "longer than ten years"),
    ],
)
def test_what_is_no_period_is_refused_with_a_sentence(
    organization: Any, first: dt.date, last: dt.date, sentence: str
) -> None:
    with pytest.raises(BadPeriod, match=sentence):
        period(organization, first, last)


def test_ten_years_are_a_period(organization: Any) -> None:
    assert period(organization, dt.date(2016, 11, 24), dt.date(2026, 11, 23))


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        (dt.date(2026, 10, 1), dt.date(2026, 10, 1), "October 1, 2026"),
        (dt.date(2026, 10, 1), dt.date(2026, 11, 2), "October 1 to November 2, 2026"),
        (dt.date(2025, 12, 1), dt.date(2026, 1, 31), "December 1, 2025 to January 31, 2026"),
    ],
)
def test_a_period_reads_like_a_sentence(
    organization: Any, first: dt.date, last: dt.date, words: str
) -> None:
    assert period(organization, first, last).words == words
