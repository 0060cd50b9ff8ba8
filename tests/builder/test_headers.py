"""No text can end a header line, and every text comes back as it was."""

import email
import email.header
import email.policy
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from builder import characters, headers

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
ATTACKS = [
    "Hi\r\nBcc: a@evil.example",
    "Hi\nBcc: a@evil.example",
    "Hi\rBcc: a@evil.example",
    "Hi\u2028Bcc: a@evil.example",
    "Hi\u2029Bcc: a@evil.example",
    "Hi\x85Bcc: a@evil.example",
    "Hi\x0bBcc: a@evil.example",
    "Hi\x0cBcc: a@evil.example",
    "Hi\x00\x1c\x1d\x1eBcc: a@evil.example",
    "=?UTF-8?Q?=0A?=Bcc: a@evil.example",
    "=?utf-8?b?DQpCY2M6IGFAZXZpbC5leGFtcGxl?=",
    "é =?UTF-8?Q?=0D=0A?= Bcc: a@evil.example",
    "Hi\r\n\r\n<script>",
]


def parsed(header: bytes, name: str) -> email.message.Message:
    return email.message_from_bytes(name.encode() + b": " + header + b"\r\nX-Last: yes\r\n\r\nbody")


def shown(header: bytes) -> str:
    """Decoded once, as a mail program does."""
    unfolded = header.replace(b"\r\n", b"").decode("ascii")
    return str(email.header.make_header(email.header.decode_header(unfolded)))


def tidy(text: str) -> str:
    return re.sub(" {2,}", " ", characters.single_line(text))


@settings(max_examples=150, deadline=None)
@given(TEXTS)
@example("x " * 90)
@example("é" * 300)
@example("\U0001f600" * 60)
@example("x" * 1200)
def test_any_text_comes_back_and_stays_one_header(text: str) -> None:
    header = headers.encode(text, name="Subject")

    assert header.isascii()
    lines = (b"Subject: " + header).split(b"\r\n")
    assert all(line.startswith(b" ") and line.strip() for line in lines[1:])
    assert all(len(line) <= 998 for line in lines)
    assert not re.search(rb"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]", header)
    assert b"\r" not in header.replace(b"\r\n", b"") and b"\n" not in header.replace(b"\r\n", b"")
    assert list(parsed(header, "Subject").keys()) == ["Subject", "X-Last"]
    assert shown(header) == tidy(text)


@settings(max_examples=150, deadline=None)
@given(TEXTS.filter(lambda text: not text.isascii() or "=?" in text))
def test_encoded_words_are_within_their_limits(text: str) -> None:
    for line in (b"Subject: " + headers.encode(text, name="Subject")).split(b"\r\n"):
        if b"=?" in line:
            assert len(line) <= 76
    for word in re.findall(rb"=\?[^ ]*", headers.encode(text, name="Subject")):
        assert len(word) <= 75


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_the_relaxed_form_is_the_value_unfolded(text: str) -> None:
    unfolded = headers.encode(text, name="Subject").replace(b"\r\n", b"")

    assert re.sub(rb"[ \t]+", b" ", unfolded).strip() == unfolded


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_text_adds_a_header(attack: str) -> None:
    for header in (headers.encode(attack, name="Subject"), headers.phrase(attack, name="From")):
        message = email.message_from_bytes(
            b"Subject: " + header + b"\r\n\r\nbody", policy=email.policy.default
        )

        assert message.keys() == ["Subject"]
        assert message.get_content() == "body"
        assert not re.search(rb"(?i)(^|\n)bcc", header)


def test_what_looks_like_an_encoded_word_is_shown_and_not_decoded() -> None:
    header = headers.encode("=?UTF-8?Q?=0A?=Bcc: a@evil.example", name="Subject")

    assert b"=?UTF-8?Q?=0A?=" not in header
    assert shown(header) == "=?UTF-8?Q?=0A?=Bcc: a@evil.example"


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("Lakeside Health", b"Lakeside Health"),
        ("Lakeside Health, Inc.", b'"Lakeside Health, Inc."'),
        ('Ana "Bo" Ruiz', b'"Ana \\"Bo\\" Ruiz"'),
        ("a\\b", b'"a\\\\b"'),
        ("<evil@x.example>", b'"<evil@x.example>"'),
    ],
)
def test_a_display_name_is_quoted_where_it_must_be(name: str, header: bytes) -> None:
    assert headers.phrase(name, name="From") == header


@settings(max_examples=100, deadline=None)
@given(TEXTS.filter(lambda text: tidy(text) != ""))
def test_a_display_name_never_becomes_an_address(name: str) -> None:
    line = b"From: " + headers.phrase(name, name="From") + b" <news@lakeside.example>\r\n\r\n"

    unfolded = line.replace(b"\r\n ", b" ")
    outside = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", unfolded)
    assert re.findall(rb"<[^>]*>", outside) == [b"<news@lakeside.example>"]
    assert b"," not in outside


def test_the_first_line_has_room_for_a_long_name() -> None:
    header = headers.encode("word " * 40, name="X-A-Rather-Long-Header-Name")

    assert len(b"X-A-Rather-Long-Header-Name: " + header.split(b"\r\n")[0]) <= 76
