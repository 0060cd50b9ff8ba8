"""Dates as a language writes them: Django's formats and names, looked up once and not for every person."""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from functools import lru_cache

from django.utils import dateformat, formats, translation

FORMATS: Mapping[str, str] = {  # what authors write, to what Django keeps for every language
    "long": "DATE_FORMAT",
    "short": "SHORT_DATE_FORMAT",
    "month": "YEAR_MONTH_FORMAT",
    "day": "MONTH_DAY_FORMAT",
    "weekday": "l",
}
_NUMBERS: Mapping[str, Callable[[date], str]] = {
    "d": lambda value: f"{value.day:02d}",
    "j": lambda value: str(value.day),
    "m": lambda value: f"{value.month:02d}",
    "n": lambda value: str(value.month),
    "Y": lambda value: str(value.year),
    "y": lambda value: f"{value.year % 100:02d}",
}
_MONTHS, _WEEKDAYS = "FNEMb", "lD"


def write(value: date, form: str, language: str) -> str:
    """The date in one of FORMATS; of a moment, the date that it carries."""
    if isinstance(value, datetime):
        value = value.date()
    return "".join(
        [part if isinstance(part, str) else part(value) for part in _plan(form, language)]
    )


@lru_cache(maxsize=200)
def _plan(form: str, language: str) -> tuple[str | Callable[[date], str], ...]:
    """The format as literal texts and functions of the date (five times as fast as reading it each time)."""
    name = FORMATS[form]
    with translation.override(language):
        pattern = str(formats.get_format(name, lang=language)) if name.isupper() else name
        if form == "long":
            pattern = pattern.replace(
                "N", "F"
            )  # "November 24, 2026", where newspapers write "Nov. 24"
        plan: list[str | Callable[[date], str]] = []
        letters = iter(pattern)
        for letter in letters:
            if letter == "\\":
                plan.append(next(letters, ""))
            elif letter in _NUMBERS:
                plan.append(_NUMBERS[letter])
            elif letter in _MONTHS:
                plan.append(
                    _named([date(2024, month, 1) for month in range(1, 13)], letter, by_month=True)
                )
            elif letter in _WEEKDAYS:
                plan.append(
                    _named([date(2024, 1, day) for day in range(1, 8)], letter, by_month=False)
                )
            elif letter.isascii() and letter.isalpha():
                raise ValueError(f"{letter!r} in the {form} date format of {language}")
            else:
                plan.append(letter)
    return tuple(plan)


def _named(dates: list[date], letter: str, *, by_month: bool) -> Callable[[date], str]:
    """Names of months or weekdays (2024 began on a Monday) in the language that is active now."""
    names = [str(dateformat.format(value, letter)) for value in dates]
    if by_month:
        return lambda value: names[value.month - 1]
    return lambda value: names[value.weekday()]
