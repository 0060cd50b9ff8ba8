"""Cells become values of their field's type, or a sentence that does not repeat them."""

import datetime as dt

import pytest

from contacts.attributes import STANDARD, custom
from contacts.problems import Unacceptable
from contacts.values import normal, normal_condition, read

TODAY = dt.date(2026, 11, 24)
TEXT = custom("note", "Note", "treatment", "text")
NUMBER = custom("visits", "Visits", "treatment", "number")
YES_NO = custom("member", "Member", "treatment", "yes_no")


@pytest.mark.parametrize(
    ("field", "cell", "value"),
    [
        ("first_name", " José ", "José"),
        ("first_name", "Jose\u0301", "Jos\u00e9"),
        ("last_name", "=1+1", "=1+1"),
        ("last_name", "O'Neil-Łukasz d’Arc", "O'Neil-Łukasz d’Arc"),
        # A zero-width non-joiner is spelling, in Persian.
        ("last_name", "می\u200cخواهم", "می\u200cخواهم"),
        ("date_of_birth", "1970-02-28", dt.date(1970, 2, 28)),
        ("date_of_birth", "2026-11-24", TODAY),
        ("sex", "F", "female"),
        ("sex", "Male", "male"),
        ("sex", "x", "other"),
        ("state", "ca", "CA"),
        ("state", "New  york".replace("  ", " "), "NY"),
        ("state", "washington d.c.", "DC"),
        ("zip", "02134", "02134"),
        ("zip", "021341234", "02134-1234"),
        ("zip", "02134-1234", "02134-1234"),
        ("language", "EN", "en"),
        ("language", "Spanish", "es"),
        ("language", "zh_hant_tw", "zh-Hant-TW"),
        ("conditions", "E11.9; asthma ;;ASTHMA; knee  pain", ["E11.9", "asthma", "knee pain"]),
        ("conditions", " ; ", []),
        ("last_visit", "2026-11-25", dt.date(2026, 11, 25)),
        ("kind", "Health professional", "professional"),
        ("kind", "Member", "patient"),
        ("record_number", "000-17", "000-17"),
        ("email", "Ann@MÜLLER.example", "Ann@xn--mller-kva.example"),
    ],
)
def test_a_cell_is_read_as_its_field(field, cell, value):
    assert read(STANDARD[field], cell, today=TODAY) == value


@pytest.mark.parametrize(
    ("field", "cell", "value"),
    [
        (TEXT, "two\r\nlines\tand a tab", "two lines and a tab"),
        (NUMBER, "-17", -17),
        (NUMBER, "2147483647", 2147483647),
        (YES_NO, "Yes", True),
        (YES_NO, "0", False),
    ],
)
def test_an_own_field_is_read_by_its_type(field, cell, value):
    assert read(field, cell) == value


@pytest.mark.parametrize(
    ("field", "cell", "code"),
    [
        ("first_name", "Ann\nBcc: x@y.example", "hidden_characters"),
        ("first_name", "An\x00n", "hidden_characters"),
        ("first_name", "An\x1b[31mn", "hidden_characters"),
        ("first_name", "\u202eAnn", "hidden_characters"),
        ("first_name", "Ann\u2067", "hidden_characters"),
        ("first_name", "Ann\u2028", "hidden_characters"),
        ("first_name", "A\u200bnn", "hidden_characters"),
        ("first_name", "\u2028Ann", "hidden_characters"),
        ("first_name", "Ann\x1f", "hidden_characters"),
        ("first_name", "=?UTF-8?Q?=0A?=", "encoded_word"),
        ("first_name", "A" * 121, "too_long"),
        ("date_of_birth", "1970-02-30", "impossible_date"),
        ("date_of_birth", "1970-2-3", "not_a_date"),
        ("date_of_birth", "02/03/1970", "not_a_date"),
        ("date_of_birth", "19700203", "not_a_date"),
        ("date_of_birth", "١٩٧٠-٠٢-٠٣", "not_a_date"),
        ("date_of_birth", "2026-11-25", "future_date"),
        ("date_of_birth", "1895-12-31", "impossible_date"),
        ("date_of_birth", "0000-01-01", "impossible_date"),
        ("last_visit", "2026-11-26", "future_date"),
        ("last_visit", "1700-01-01", "impossible_date"),
        ("sex", "maybe", "not_a_sex"),
        ("state", "XX", "not_a_state"),
        ("zip", "2134", "not_a_zip"),
        ("zip", "1234５", "not_a_zip"),
        ("language", "klingon!", "not_a_language"),
        ("conditions", ";".join(f"c{n}" for n in range(51)), "too_many_values"),
        ("conditions", "fine;" + "x" * 121, "too_long"),
        ("kind", "robot", "not_a_kind"),
        ("email", "ann@localhost", "address_local_domain"),
    ],
)
def test_a_bad_cell_is_refused_without_being_repeated(field, cell, code):
    with pytest.raises(Unacceptable) as refused:
        read(STANDARD[field], cell, today=TODAY)

    assert refused.value.code == code
    assert cell not in str(refused.value)


@pytest.mark.parametrize(
    ("field", "cell", "code"),
    [
        (NUMBER, "1.5", "not_a_number"),
        (NUMBER, "2147483648", "not_a_number"),
        (NUMBER, "12a", "not_a_number"),
        (NUMBER, "９", "not_a_number"),
        (YES_NO, "perhaps", "not_yes_or_no"),
        (TEXT, "\u202e", "hidden_characters"),
        (TEXT, "x" * 501, "too_long"),
    ],
)
def test_a_bad_cell_of_an_own_field_is_refused(field, cell, code):
    with pytest.raises(Unacceptable) as refused:
        read(field, cell)

    assert refused.value.code == code


def test_texts_are_equal_whatever_their_spaces_and_capitals():
    assert normal("  New   YORK ") == normal("new york") != normal("newyork")


def test_codes_are_equal_with_and_without_their_dot_and_other_texts_are_not():
    assert normal_condition("E11.9") == normal_condition("e119")
    assert normal_condition("E11.9 diabetes") != normal_condition("E119")
    assert normal_condition("St. Vitus") != normal_condition("St Vitus")
