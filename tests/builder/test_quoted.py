"""Pieces and values can be joined in any order: lines, decoding, and DKIM's relaxed form hold at every seam."""

import binascii
import re

import pytest
from dkim.canonicalization import CanonicalizationPolicy
from hypothesis import example, given, settings
from hypothesis import strategies as st

from builder import quoted

# Everything that breaks naive encoders, and any character at all.
AWKWARD = st.sampled_from(
    [
        ".",
        "..",
        "a",
        "b ",
        "  ",
        " ",
        "\t",
        "\n",
        "\n.",
        "é",
        "=",
        "From ",
        "F",
        "-",
        "--b",
        "x" * 80,
        "x" * 74,
    ]
    + [
        "x" * 75,
        "x" * 76,
        "\U0001f600",
        '<td  style="a">',
        "\n\n",
        "שלום",
        "=\n",
        "\u2028",
        "=3D",
        "\x0c",
        " \n",
    ]
)
TEXTS = st.lists(AWKWARD | st.characters(exclude_categories=["Cs"]), max_size=14).map("".join)
VALUES = TEXTS.map(lambda text: re.sub(r"[\r\n]", " ", text))


def decoded(encoded: bytes) -> str:
    return binascii.a2b_qp(encoded.replace(b"\r\n", b"\n")).decode()


def lines_of(encoded: bytes) -> list[bytes]:
    return encoded.split(b"\r\n")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(TEXTS, VALUES), min_size=1, max_size=5), TEXTS)
@example([(" ", "."), ("", " ")], "-")
@example([("x" * 75, "F"), ("\n", "\t")], ".")
@example([("a ", " b")], " ")
def test_any_join_keeps_every_rule(pairs: list[tuple[str, str]], end: str) -> None:
    joined = b"".join(quoted.piece(piece) + quoted.value(value) for piece, value in pairs)
    joined += quoted.piece(end, last=True)
    body = joined + b"\r\n"

    assert all(len(line) <= 76 for line in lines_of(body))
    assert not any(line.startswith((b".", b"-", b"From ")) for line in lines_of(body))
    assert body.isascii()
    assert b"\r" not in body.replace(b"\r\n", b"")
    assert b"\n" not in body.replace(b"\r\n", b"")
    said = "".join(piece + value for piece, value in pairs) + end
    assert decoded(joined) == said.replace("\r\n", "\n").replace("\r", "\n")
    assert quoted.is_joinable(body)
    relaxed = CanonicalizationPolicy.from_c_value(b"relaxed/relaxed").canonicalize_body(
        body + b"--end\r\n"
    )
    assert relaxed == body + b"--end\r\n"


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_every_piece_and_value_ends_at_the_start_of_a_line(text: str) -> None:
    for encoded in (quoted.piece(text), quoted.value(text)):
        assert encoded == b"" or encoded.endswith(b"\r\n")


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_the_quick_way_is_the_same_as_the_long_way(text: str) -> None:
    assert quoted.value(text) == quoted.piece(text)


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("", b""),
        ("Rosa", b"Rosa=\r\n"),
        ("Fay", b"=46ay=\r\n"),
        (".", b"=2E=\r\n"),
        ("a  b", b"a =20b=\r\n"),
        ("a\tb", b"a=09b=\r\n"),
        ("a=b", b"a=3Db=\r\n"),
        ("é", b"=C3=A9=\r\n"),
        ("a \nb", b"a=20\r\nb=\r\n"),
        ("a\n", b"a\r\n"),
    ],
)
def test_a_text_is_encoded_like_this(text: str, encoded: bytes) -> None:
    assert quoted.piece(text) == encoded


def test_the_last_piece_leaves_the_line_open() -> None:
    assert quoted.piece("a\n", last=True) == b"a\r\n"
    assert quoted.piece("ab ", last=True) == b"ab=20"


@pytest.mark.parametrize("text", ["Rosa", "Madison, WI", "608-555-0142", "Dr. Ana Ruiz"])
def test_what_is_plain_is_the_same_in_html(text: str) -> None:
    assert quoted.is_plain(text)


@pytest.mark.parametrize(
    "text",
    ["", "F", "O'Neil", "a&b", "<b>", " a", "a ", "a  b", "-a", ".a", "é", "a=b", "x" * 76, "a\n"],
)
def test_what_is_not_plain_takes_the_long_way(text: str) -> None:
    assert not quoted.is_plain(text)


@pytest.mark.parametrize(
    "encoded",
    [
        b"no end",
        b".dot\r\n",
        b"-hyphen\r\n",
        b"From\r\n",
        b" space\r\n",
        b"space \r\n",
        b"two  spaces\r\n",
        b"tab\tinside\r\n",
        b"bare\nbreak\r\n",
        b"bad=4\r\n",
        b"bad=zz\r\n",
        b"8-bit \xc3\xa9\r\n",
        b"x" * 77 + b"\r\n",
    ],
)
def test_lines_that_could_not_be_joined_are_told(encoded: bytes) -> None:
    assert not quoted.is_joinable(encoded)


def test_a_long_line_is_never_cut_inside_an_escape() -> None:
    for shift in range(6):
        encoded = quoted.piece("x" * shift + "é" * 400)

        assert re.fullmatch(rb"(?:(?:x|=[0-9A-F]{2})*=\r\n)+", encoded)
        assert decoded(encoded) == "x" * shift + "é" * 400
