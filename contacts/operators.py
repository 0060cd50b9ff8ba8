"""The questions that can be asked of a field: what value each takes, which terms answer it, how it is said."""

import calendar
import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from contacts import sensitive, terms
from contacts.attributes import Field, Type
from contacts.choices import LANGUAGES
from contacts.covers import FIRST_DAY, LAST_DAY, years_before
from contacts.expressions import Expression, Has, Not, Some, some_of
from contacts.problems import Unacceptable
from contacts.values import read

#: Values that one leaf may list.
MOST_LISTED = 500
MOST_DAYS = 36_500
OLDEST = 130


class BadValue(ValueError):
    """A value that an operator cannot take; the message is a sentence without the value."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One question.

    `phrase`: how it is said, with {field} and {value}. `value(field, raw)`: the value in its one canonical JSON
    form, or BadValue. `answer(field, value, today)`: the expression of terms that holds for those who match; None
    for what terms cannot tell (contacts/segments.py answers it). `say(field, value)`: the value in words.
    """

    phrase: str
    value: Callable[[Field, Any], Any]
    answer: Callable[[Field, Any, dt.date], Expression] | None
    say: Callable[[Field, Any], str]
    asks_presence: bool = False


# --- values


def _none(field: Field, raw: Any) -> None:
    if raw is not None:
        raise BadValue("This operator takes no value.")


def _one(field: Field, raw: Any) -> Any:
    if field.type == Type.YES_NO and isinstance(raw, bool):
        return raw
    if field.type == Type.NUMBER and isinstance(raw, int) and not isinstance(raw, bool):
        raw = str(raw)
    if not isinstance(raw, str) or not raw.strip():
        raise BadValue("A value is needed.")
    try:
        value = read(field, raw)
    except Unacceptable as error:
        raise BadValue(error.sentence) from None
    if field.type == Type.CHOICES:
        if len(value) != 1:
            raise BadValue("One value is needed here; list several with the operator in.")
        value = value[0]
    if isinstance(value, dt.date):
        return _day_in_range(value)
    if field.key == "zip" and len(value) != 5:
        raise BadValue("Five digits are needed.")
    if isinstance(value, str) and len(value) > terms.LONGEST_EXACT:
        raise BadValue(f"The value is longer than {terms.LONGEST_EXACT} characters.")
    return value


def _day_in_range(day: dt.date) -> str:
    if not FIRST_DAY < day < LAST_DAY:
        raise BadValue(f"Dates lie between {FIRST_DAY.year} and {LAST_DAY.year}.")
    return day.isoformat()


def _many(field: Field, raw: Any) -> list[Any]:
    if not isinstance(raw, list) or not 1 <= len(raw) <= MOST_LISTED:
        raise BadValue(f"A list of 1 to {MOST_LISTED} values is needed.")
    return sorted({_one(field, one) for one in raw})


def _pair(field: Field, raw: Any) -> list[Any]:
    if not isinstance(raw, list) or len(raw) != 2:
        raise BadValue("A list of two values is needed: the lowest and the highest.")
    low, high = _one(field, raw[0]), _one(field, raw[1])
    if high < low:
        raise BadValue("The lowest of the two values comes first.")
    return [low, high]


def _whole(low: int, high: int, what: str) -> Callable[[Field, Any], int]:
    def value(field: Field, raw: Any) -> int:
        if isinstance(raw, bool) or not isinstance(raw, int) or not low <= raw <= high:
            raise BadValue(f"{what} from {low} to {high} is needed.")
        return raw

    return value


def _beginning(field: Field, raw: Any) -> str:
    text = raw.strip() if isinstance(raw, str) else ""
    if field.key == "zip":
        if len(text) == 3 and text.isdigit() and text.isascii():
            return text
        raise BadValue("The first three digits of a ZIP code are needed.")
    if len(text) == 3 and sensitive.code_of(text):
        return text.upper()
    raise BadValue("The first three characters of an ICD-10-CM code are needed, such as E11.")


_YEARS = _whole(0, OLDEST, "A number of years")
_DAYS = _whole(0, MOST_DAYS, "A number of days")


# --- answers


def _exact(field: Field, value: Any, today: dt.date) -> Expression:
    if field.type in (Type.DATE, Type.NUMBER):
        low = _typed(field, value)
        return some_of(terms.between(field, low, low))
    if field.type == Type.CHOICES:
        return Has(terms.condition(field.key, value))
    if field.type == Type.YES_NO:
        value = "yes" if value else "no"
    return Has(terms.exact(field.key, value))


def _any_of(field: Field, value: list[Any], today: dt.date) -> Expression:
    return Some(tuple(_exact(field, one, today) for one in value))


def _typed(field: Field, value: Any) -> Any:
    return dt.date.fromisoformat(value) if field.type == Type.DATE else value


def _negated(answer: Callable[[Field, Any, dt.date], Expression]) -> Any:
    return lambda field, value, today: Not(answer(field, value, today))


def _between(field: Field, low: Any, high: Any) -> Expression:
    return some_of(terms.between(field, low, high))


def _next_birthdays(field: Field, days: int, today: dt.date) -> Expression:
    wanted = []
    for ahead in range(days + 1):
        day = today + dt.timedelta(days=ahead)
        wanted.append(terms.birthday(day.month, day.day))
        if (day.month, day.day) == (3, 1) and not calendar.isleap(day.year):
            # Who was born on 29 February has the birthday on 1 March then, as contacts/covers.py counts years.
            wanted.append(terms.birthday(2, 29))
    return some_of(wanted)


def _is_present(field: Field, value: Any, today: dt.date) -> Expression:
    carried, term = terms.present(field)
    return Has(term) if carried else Not(Has(term))


# --- words


def _say(field: Field, value: Any) -> str:
    if field.type == Type.YES_NO:
        return "yes" if value else "no"
    if field.key == "language":
        return LANGUAGES.get(value, value)
    return field.choices.get(value, str(value))


def _say_many(field: Field, value: list[Any]) -> str:
    return ", ".join(_say(field, one) for one in value)


def _say_pair(field: Field, value: list[Any]) -> str:
    return " and ".join(_say(field, one) for one in value)


def _say_number(field: Field, value: int) -> str:
    return f"{value:,}"


def _say_month(field: Field, value: int) -> str:
    return calendar.month_name[value]


def _say_nothing(field: Field, value: None) -> str:
    return ""


# --- the table

_PRESENCE = {
    "has_value": Operator("{field} is known", _none, _is_present, _say_nothing, asks_presence=True),
    "has_no_value": Operator(
        "{field} is not known", _none, _negated(_is_present), _say_nothing, asks_presence=True
    ),
}
_EQUAL = {
    "is": Operator("{field} is {value}", _one, _exact, _say),
    "is_not": Operator("{field} is not {value}", _one, _negated(_exact), _say),
    "in": Operator("{field} is one of {value}", _many, _any_of, _say_many),
    "not_in": Operator("{field} is none of {value}", _many, _negated(_any_of), _say_many),
}
_SEVERAL = {
    "is": Operator("{field} include {value}", _one, _exact, _say),
    "is_not": Operator("{field} do not include {value}", _one, _negated(_exact), _say),
    "in": Operator("{field} include any of {value}", _many, _any_of, _say_many),
    "not_in": Operator("{field} include none of {value}", _many, _negated(_any_of), _say_many),
    "starts_with": Operator(
        "{field} include a code of {value}",
        _beginning,
        lambda f, v, today: Has(terms.beginning(f.key, v)),
        _say,
    ),
}
_NUMBER = {
    "at_least": Operator(
        "{field} is at least {value}", _one, lambda f, v, today: _between(f, v, None), _say_number
    ),
    "at_most": Operator(
        "{field} is at most {value}", _one, lambda f, v, today: _between(f, None, v), _say_number
    ),
    "between": Operator(
        "{field} is between {value}", _pair, lambda f, v, today: _between(f, *v), _say_pair
    ),
}
_DAY = dt.timedelta(days=1)
_DATE = {
    "is": _EQUAL["is"],
    "is_not": _EQUAL["is_not"],
    "before": Operator(
        "{field} is before {value}",
        _one,
        lambda f, v, today: _between(f, None, _typed(f, v) - _DAY),
        _say,
    ),
    "after": Operator(
        "{field} is after {value}",
        _one,
        lambda f, v, today: _between(f, _typed(f, v) + _DAY, None),
        _say,
    ),
    "between": Operator(
        "{field} is between {value}",
        _pair,
        lambda f, v, today: _between(f, _typed(f, v[0]), _typed(f, v[1])),
        _say_pair,
    ),
    "within_last_days": Operator(
        "{field} is within the last {value} days",
        _DAYS,
        lambda f, v, today: _between(f, today - v * _DAY, today),
        _say_number,
    ),
    "within_next_days": Operator(
        "{field} is within the next {value} days",
        _DAYS,
        lambda f, v, today: _between(f, today, today + v * _DAY),
        _say_number,
    ),
    "more_than_days_ago": Operator(
        "{field} is more than {value} days ago",
        _DAYS,
        lambda f, v, today: _between(f, None, today - (v + 1) * _DAY),
        _say_number,
    ),
}
#: Age is in completed years: somebody of 65 years and 364 days is 65, and not older than 65.
_BIRTH = {
    "older_than": Operator(
        "age is over {value}",
        _YEARS,
        lambda f, v, today: _between(f, None, years_before(today, v + 1)),
        _say_number,
    ),
    "younger_than": Operator(
        "age is under {value}",
        _YEARS,
        lambda f, v, today: _between(f, years_before(today, v) + _DAY, None),
        _say_number,
    ),
    "at_least": Operator(
        "age is at least {value}",
        _YEARS,
        lambda f, v, today: _between(f, None, years_before(today, v)),
        _say_number,
    ),
    "at_most": Operator(
        "age is at most {value}",
        _YEARS,
        lambda f, v, today: _between(f, years_before(today, v + 1) + _DAY, None),
        _say_number,
    ),
    "birthday_month": Operator(
        "birthday is in {value}",
        _whole(1, 12, "A month"),
        lambda f, v, today: Has(terms.birthday(v)),
        _say_month,
    ),
    "birthday_within_days": Operator(
        "birthday is within the next {value} days",
        _whole(0, 31, "A number of days"),
        _next_birthdays,
        _say_number,
    ),
}
_ZIP = {
    "starts_with": Operator(
        "{field} begins with {value}",
        _beginning,
        lambda f, v, today: Has(terms.beginning(f.key, v)),
        _say,
    ),
}
#: Addresses have no terms; their digests are asked.
_ADDRESS = {
    "is": Operator("{field} is {value}", _one, None, _say),
    "in": Operator("{field} is one of {value}", _many, None, _say_many),
}
_OF_TYPE: dict[str, Mapping[str, Operator]] = {
    Type.TEXT: _EQUAL,
    Type.CHOICE: _EQUAL,
    Type.CHOICES: _SEVERAL,
    Type.NUMBER: _EQUAL | _NUMBER,
    Type.DATE: _DATE,
    Type.YES_NO: {name: _EQUAL[name] for name in ("is", "is_not")},
}
_OF_KEY: dict[str, Mapping[str, Operator]] = {
    "email": _ADDRESS,
    "zip": _EQUAL | _ZIP,
    "date_of_birth": _DATE | _BIRTH,
}


def operators_of(field: Field) -> dict[str, Operator]:
    """Return the operators that a field has in its organization, by name; empty when it cannot be asked at all."""
    found = dict(_PRESENCE) if field.presence else {}
    if field.searchable or field.key == "email":
        return {**_OF_KEY.get(field.key, _OF_TYPE[field.type]), **found}
    return found
