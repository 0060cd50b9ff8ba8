"""Controls and direction overrides go; letters of every script stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import characters


@given(st.text(st.characters()))
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    for clean in (characters.single_line, characters.lines):
        once = clean(text)
        assert clean(once) == once
        assert not characters.killed(once)
    assert not characters.broken(characters.single_line(text))


@pytest.mark.parametrize(
    "name", ["José", "שלום", "محمد", "नमस्ते", "Ng\u0169g\u0129", "👩\u200d⚕️", "می\u200cخواهم"]
)
def test_names_of_every_script_stay_whole(name: str) -> None:
    assert characters.single_line(name) == name
    assert characters.lines(name) == name


@pytest.mark.parametrize(
    "character",
    ["\x00", "\x07", "\x1b", "\x7f", "\x9b", "\u202a", "\u202e", "\u2066", "\u2069", "\ud800"]
    + ["\ue000", "\uf8ff", "\ufdd0", "\ufeff", "\uffff"],
)
def test_what_has_no_business_in_a_mail_goes(character: str) -> None:
    assert characters.killed(f"Ro{character}sa")
    assert characters.single_line(f"Ro{character}sa") == "Rosa"
    assert characters.lines(f"Ro{character}sa") == "Rosa"


@pytest.mark.parametrize(
    "line_break", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"]
)
def test_every_kind_of_break_is_one(line_break: str) -> None:
    assert characters.broken(f"a{line_break}b")
    assert characters.single_line(f"a{line_break}b").split() == ["a", "b"]
    assert characters.lines(f"a{line_break}b") == "a\nb"
