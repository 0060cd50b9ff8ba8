"""The days that a report is about: whole days in the organization's time zone."""

import datetime as dt
from dataclasses import dataclass

from accounts.models import Organization
from consent.locking import database_time

#: Records are kept for six years (45 CFR 164.530(j)); a longer period than this is a slip of the pen.
LONGEST = dt.timedelta(days=3653)
EARLIEST = 2000


class BadPeriod(ValueError):
    """There is no report about these days; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Period:
    """Days from `first_day` to `last_day`, both included, and the moments that bound them.

    A moment `at` lies in it when `start <= at < end`. A day has 23 or 25 hours where clocks change.
    """

    first_day: dt.date
    last_day: dt.date
    time_zone: str
    start: dt.datetime
    end: dt.datetime

    @property
    def words(self) -> str:
        """The period in words, such as "October 1 to November 23, 2026"."""
        first, last = self.first_day, self.last_day
        if first == last:
            return _day(last)
        year = "" if first.year == last.year else f", {first.year}"
        return f"{first:%B} {first.day}{year} to {_day(last)}"


def period(organization: Organization, first_day: dt.date, last_day: dt.date) -> Period:
    """Return the period of whole days of an organization.

    Raises BadPeriod when the last day lies before the first or in the future, or the period is longer than
    ten years. Today may be the last day; it counts as far as it has come.
    """
    today = database_time().astimezone(organization.zone).date()
    if last_day < first_day:
        raise BadPeriod("The last day lies before the first. Exchange them.")
    if last_day > today:
        raise BadPeriod(
            f"The last day lies in the future. Today is {_day(today)} in {organization.time_zone}."
        )
    if first_day.year < EARLIEST:
        raise BadPeriod(f"The first day lies before {EARLIEST}; there can be no records of it.")
    if last_day - first_day >= LONGEST:
        raise BadPeriod("The period is longer than ten years. Make one report for each ten years.")
    return Period(
        first_day,
        last_day,
        organization.time_zone,
        start=_midnight(organization, first_day),
        end=_midnight(organization, last_day + dt.timedelta(days=1)),
    )


def _midnight(organization: Organization, day: dt.date) -> dt.datetime:
    """Return when a day begins; where clocks skip midnight, the moment at which they do."""
    return dt.datetime.combine(day, dt.time.min, organization.zone).astimezone(dt.UTC)


def _day(day: dt.date) -> str:
    return f"{day:%B} {day.day}, {day.year}"
