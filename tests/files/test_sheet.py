"""CSV files: what was a text stays one in every spreadsheet program."""

import csv
import datetime as dt
import io
import unicodedata
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from files import sheet
from files.sheet import neutral, restored


def read(pieces):
    return list(csv.reader(io.StringIO(b"".join(pieces).decode("utf-8-sig"), newline="")))


def test_a_file_has_a_header_and_quoted_cells_and_crlf():
    written = b"".join(sheet.write([["Ann", 3], ['say "hi"', None]], ["name", "n"]))

    assert written == b'"name","n"\r\n"Ann","3"\r\n"say ""hi""",""\r\n'


def test_a_byte_order_mark_is_written_when_asked_for():
    assert b"".join(sheet.write([], ["ñ"], bom=True)) == b'\xef\xbb\xbf"\xc3\xb1"\r\n'


def test_values_have_one_form_each():
    day = dt.date(2026, 11, 24)
    row = [
        None,
        True,
        False,
        -5,
        1.5,
        Decimal("-2.50"),
        day,
        dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    ]
    (_, cells) = read(sheet.write([row], list("abcdefgh")))

    assert cells == [
        "",
        "yes",
        "no",
        "-5",
        "1.5",
        "-2.50",
        "2026-11-24",
        "2026-01-02T00:00:00+00:00",
    ]


def test_a_row_of_another_length_is_refused_by_number_not_by_content():
    with pytest.raises(ValueError, match="Row 2 has 1 cells; 2 are needed") as caught:
        list(sheet.write([["a", "b"], ["Zelda"]], ["x", "y"]))

    assert "Zelda" not in str(caught.value)


def test_many_rows_come_in_pieces_and_none_is_lost():
    pieces = list(sheet.write(([n] for n in range(1201)), ["n"]))

    assert len(pieces) == 3
    assert [row[0] for row in read(pieces)] == ["n", *map(str, range(1201))]


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("=cmd|'/C calc'!A0", "'=cmd|'/C calc'!A0"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("  =1", "  '=1"),
        ("\u00a0=1", "\u00a0'=1"),
        ("\ufeff=1", "\ufeff'=1"),
        ("\u200b=1", "\u200b'=1"),
        ("\x00=1", "'=1"),
        ("\x0b=1", "'=1"),
        ("\u202e=1", "'=1"),
        ("\t=1", "'\t'=1"),
        ("\tAnn", "'\tAnn"),
        ("\r=1", "'\r'=1"),
        ("\n=1", "'\n'=1"),
        ("\uff1dcmd", "'\uff1dcmd"),
        ("\uff0b1", "'\uff0b1"),
        ("\uff0d1", "'\uff0d1"),
        ("\uff20SUM", "'\uff20SUM"),
        ("Ann;=1", "Ann;'=1"),
        ("Ann\n=1", "Ann\n'=1"),
        ("Ann\t=1", "Ann\t'=1"),
        ('Ann",=1', "Ann\",'=1"),
        ('"=1', "\"'=1"),
        ("'=1", "''=1"),
    ],
    ids=ascii,
)
def test_a_formula_becomes_text(text, safe):
    assert neutral(text) == safe
    assert restored(safe) == "".join(c for c in text if c not in "\x00\x0b\u202e")


@pytest.mark.parametrize(
    "text",
    ["Ann", "O'Neil-Smith", "a=b", "ann@mail.example", "1-2", "Ann, Bob", "مریم\u200cزاده", ""],
)
def test_an_ordinary_text_stays_as_it_is(text):
    assert neutral(text) == text


def test_every_character_that_folds_to_a_sign_is_known():
    folding = {
        chr(n) for n in range(0x110000) if unicodedata.normalize("NFKC", chr(n))[:1] in set("=+-@")
    }

    assert folding == set(sheet.SIGNS.replace("\\", ""))


CELL = st.text(st.sampled_from("=+-@\uff1d ;,|\t\r\n\"'aA1\u200b\ufeff"), max_size=12)


@given(CELL)
def test_no_cell_begins_a_formula_and_each_can_be_restored(text):
    safe = neutral(text)

    assert restored(safe) == text
    blank = " \t\r\n\u200b\ufeff"
    for separator in (";", ",", "|", "\t", "\r", "\n", '"'):
        for part in safe.split(separator):
            assert part.strip(blank)[:1] not in set("=+-@\uff1d")


@given(st.text(max_size=20))
def test_any_text_is_written_and_read_back(text):
    (_, (cell,)) = read(sheet.write([[text]], ["text"]))

    kept = "".join(
        c
        for c in text
        if not (unicodedata.category(c) in {"Cc", "Cs"} and c not in "\t\r\n")
        and c not in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )
    assert restored(cell) == kept


def test_headers_are_neutralised_too():
    assert read(sheet.write([], ["=1"])) == [["'=1"]]
