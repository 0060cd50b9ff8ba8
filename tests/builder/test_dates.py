"""Dates come out as Django itself would write them, in every language it knows."""

from datetime import date

import pytest
from django.conf import global_settings
from django.utils import dateformat, formats, translation

from builder import dates

DATES = [date(1931, 1, 9), date(2026, 5, 4), date(2026, 12, 31)]


@pytest.mark.parametrize("form", [form for form in dates.FORMATS if form != "long"])
def test_every_language_is_written_as_django_does(form: str) -> None:
    name = dates.FORMATS[form]
    for language, _ in global_settings.LANGUAGES:
        with translation.override(language):
            pattern = formats.get_format(name, lang=language) if name.isupper() else name
            expected = [str(dateformat.format(value, pattern)) for value in DATES]

        assert [dates.write(value, form, language) for value in DATES] == expected


def test_a_long_date_names_the_whole_month() -> None:
    assert dates.write(date(2026, 9, 3), "long", "en") == "September 3, 2026"
    assert dates.write(date(2026, 9, 3), "long", "de") == "3. September 2026"


def test_an_unknown_language_is_written_as_english() -> None:
    assert dates.write(date(2026, 9, 3), "month", "xx") == "September 2026"
