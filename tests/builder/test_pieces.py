"""Pieces are stored and read back exactly, and what is filled is a well-formed mail whoever it is for."""

import email
import email.policy
import hashlib
import json
import re
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from dkim.canonicalization import CanonicalizationPolicy
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from builder import marks, pieces, tags
from builder.compile import Compiled
from builder.pieces import NotPieces, Pieces, fill
from builder.tags import Context, Hole, MissingValue, UnusableValue
from tests.builder.conftest import STOP, text
from tests.builder.test_headers import ATTACKS
from tests.builder.test_quoted import TEXTS

Compile = Callable[..., Compiled]
PLACES = [
    Hole("a", Context.HTML),
    Hole("b", Context.ATTRIBUTE, "it's"),
    Hole("c", Context.URL, "main"),
    Hole("d", Context.PREHEADER, ". F--"),
    Hole("stop", Context.LINK),
    Hole("a", Context.TEXT),
    Hole("c", Context.URL, "main"),
    Hole("when", Context.TEXT, "soon", "long"),
    Hole("stop", Context.TEXT_LINK),
]
IN_HTML, IN_TEXT = (0, 1, 2, 3, 4), (5, 6, 7, 8)
VALUE = TEXTS.map(lambda value: value[:100]) | st.none()


def marked(parts: list[str], numbers: tuple[int, ...]) -> str:
    """Texts with a mark after each of them."""
    pairs = zip(parts, numbers, strict=False)
    return "".join(re.sub("[\ue000\ue001]", "", part) + f"\ue000{n}\ue001" for part, n in pairs)


def said(text_with_marks: str, values: dict[str, Any]) -> str:
    """What a reader should get: the parts as they are, the holes written for their place."""
    return "".join(
        part
        if isinstance(part, str)
        else tags.written(PLACES[part], values.get(PLACES[part].name), "en")
        for part in marks.split(text_with_marks)
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(TEXTS, min_size=1, max_size=5),
    st.lists(TEXTS, min_size=1, max_size=4),
    TEXTS,
    st.fixed_dictionaries(
        {"a": TEXTS, "b": VALUE, "c": VALUE, "d": VALUE, "when": st.none() | st.dates()}
    ),
)
@example([""], [""], "", {"a": ".", "b": None, "c": None, "d": None, "when": None})
@example(
    ["x" * 75, " "], ["-", ""], "\n", {"a": "F", "b": " ", "c": "..", "d": "\u202e", "when": None}
)
def test_any_pieces_and_values_make_a_mail_that_reads_as_written(
    html: list[str], plain: list[str], end: str, values: dict[str, Any]
) -> None:
    html_part, text_part = (
        marked(html, IN_HTML) + re.sub("[\ue000\ue001]", "", end),
        marked(plain, IN_TEXT),
    )
    values = {**values, "stop": STOP}
    try:
        expected = said(text_part, values), said(html_part, values)
    except tags.CannotFill:
        return
    made = pieces.build(
        language="en", subject=("Hi",), text=text_part, html=html_part, holes=PLACES
    )

    filled = fill(Pieces.from_bytes(made.to_bytes()), values)

    body = filled.body
    assert body.isascii()
    assert all(len(line) <= 76 for line in body.split(b"\r\n"))
    assert not re.search(rb"(?:^|\n)(?:\.|From )", body)
    assert b"\r" not in body.replace(b"\r\n", b"") and b"\n" not in body.replace(b"\r\n", b"")
    assert body.endswith(b"\r\n") and not body.endswith(b"\r\n\r\n")
    relaxed = CanonicalizationPolicy.from_c_value(b"relaxed/relaxed").canonicalize_body(body)
    assert hashlib.sha256(relaxed).digest() == hashlib.sha256(body).digest()
    message = email.message_from_bytes(
        b"MIME-Version: 1.0\r\nContent-Type: " + filled.content_type + b"\r\n\r\n" + body
    )
    parts = message.get_payload()
    assert [part.get_content_type() for part in parts] == ["text/plain", "text/html"]
    for part, wanted in zip(parts, expected, strict=True):
        got = part.get_payload(decode=True).decode(part.get_content_charset())
        assert got.replace("\r\n", "\n") == wanted.replace("\r\n", "\n").replace("\r", "\n")
    assert not message.defects and not any(part.defects for part in parts)


@pytest.fixture
def mail(compiled: Compile) -> Pieces:
    return compiled(
        text(
            "<p>Dear {{ first_name | fallback: 'neighbor' }}, {{ doctor }} saw you on {{ last_visit }}.</p>"
        ),
        {"type": "button", "label": "Book", "href": "https://x.example/?c={{ clinic }}"},
        subject="{{ first_name | fallback: 'Neighbor' }}, your letter from {{ clinic }}",
    ).pieces


VALUES: dict[str, Any] = {
    "first_name": "Rosa",
    "doctor": "Dr. Wu",
    "last_visit": date(2026, 11, 2),
    "clinic": "Lakeside",
    "unsubscribe_url": STOP,
}


def parsed(filled: pieces.Filled) -> email.message.EmailMessage:
    return email.message_from_bytes(
        b"Subject: %b\r\nMIME-Version: 1.0\r\nContent-Type: %b\r\n\r\n%b"
        % (filled.subject, filled.content_type, filled.body),
        policy=email.policy.default,
    )


def test_one_persons_mail_is_complete(mail: Pieces) -> None:
    message = parsed(fill(mail, VALUES))

    assert message["Subject"] == "Rosa, your letter from Lakeside"
    plain, html = (part.get_content() for part in message.iter_parts())
    assert "Dear Rosa, Dr. Wu saw you on November 2, 2026." in plain
    assert "Dear Rosa, Dr. Wu saw you on November 2, 2026." in html
    assert "Book: https://x.example/?c=Lakeside" in plain
    assert f"Unsubscribe: {STOP}" in plain
    assert f'href="{STOP}"' in html


def test_it_is_known_which_values_a_mail_needs(mail: Pieces) -> None:
    assert mail.holes == ("clinic", "doctor", "first_name", "last_visit", "unsubscribe_url")
    assert mail.required == ("clinic", "doctor", "last_visit", "unsubscribe_url")
    assert pieces.missing(mail, VALUES) == ()
    assert pieces.missing(mail, {**VALUES, "doctor": " \u202e", "last_visit": None}) == (
        "doctor",
        "last_visit",
    )


@pytest.mark.parametrize("name", ["doctor", "last_visit", "clinic", "unsubscribe_url"])
@pytest.mark.parametrize("value", [None, "", " "])
def test_a_missing_value_makes_no_mail(mail: Pieces, name: str, value: str | None) -> None:
    with pytest.raises(MissingValue) as caught:
        fill(mail, {**VALUES, name: value})

    assert caught.value.name == name


def test_a_plain_value_is_still_written_for_its_place(mail: Pieces) -> None:
    filled = fill(mail, {**VALUES, "clinic": "Madison, WI"})

    assert b"?c=3D=\r\nMadison%2C%20WI=\r\n" in filled.body
    assert filled.subject == b"Rosa, your letter from Madison, WI"
    with pytest.raises(UnusableValue):
        fill(mail, {**VALUES, "unsubscribe_url": "Madison, WI"})


def test_a_fallback_stands_in_everywhere(mail: Pieces) -> None:
    filled = fill(mail, {**VALUES, "first_name": None})

    assert filled.subject == b"Neighbor, your letter from Lakeside"
    assert b"Dear =\r\nneighbor=\r\n" in filled.body


@pytest.mark.parametrize("value", [7, b"Rosa", ["Rosa"], "x" * 1001])
def test_an_unusable_value_makes_no_mail_and_is_not_quoted(mail: Pieces, value: Any) -> None:
    with pytest.raises(UnusableValue) as caught:
        fill(mail, {**VALUES, "doctor": value})

    assert caught.value.name == "doctor"
    assert "Rosa" not in str(caught.value) and "xx" not in str(caught.value)


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_value_adds_a_header_or_ends_a_part(mail: Pieces, attack: str) -> None:
    hostile = dict.fromkeys(
        ("first_name", "doctor", "clinic"), attack + "\r\n--=_alternative--\r\n.\r\n"
    )
    filled = fill(mail, {**VALUES, **hostile})
    message = parsed(filled)

    assert message.keys() == ["Subject", "MIME-Version", "Content-Type"]
    assert b"\n" not in filled.subject.replace(b"\r\n ", b"")
    assert filled.body.count(b"--=_alternative") == 3
    assert b"\r\n.\r\n" not in filled.body
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert "<script>" not in list(message.iter_parts())[1].get_content()


# --- storage ------------------------------------------------------------------------------------------


def test_pieces_are_stored_and_read_back_exactly(mail: Pieces) -> None:
    stored = mail.to_bytes()

    again = Pieces.from_bytes(stored)
    assert again == mail
    assert again.to_bytes() == stored
    assert again.digest() == hashlib.sha256(stored).digest()
    assert fill(again, VALUES) == fill(mail, VALUES)


def test_pieces_cannot_be_changed(mail: Pieces) -> None:
    with pytest.raises(AttributeError):
        mail.subject = ("Another",)  # type: ignore[misc]


def altered(mail: Pieces, change: Callable[[dict[str, Any]], object]) -> bytes:
    stored = json.loads(mail.to_bytes())
    change(stored)
    return json.dumps(stored, sort_keys=True, separators=(",", ":")).encode()


def first_hole(stored: dict[str, Any]) -> dict[str, Any]:
    return next(part for part in stored["body"] if isinstance(part, dict))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(version=2),
        lambda s: s.update(version=True),
        lambda s: s.update(more=1),
        lambda s: s.pop("language"),
        lambda s: s.update(language="en\r\nX: y"),
        lambda s: s.update(boundary="x"),
        lambda s: s.update(boundary="=_other"),
        lambda s: s.update(boundary=None),
        lambda s: s.update(body="x"),
        lambda s: s.update(body=[]),
        lambda s: s.update(subject=None),
        lambda s: s["subject"].append(7),
        lambda s: s["subject"].append({**s["subject"][0], "context": "html"}),
        lambda s: s["body"].pop(),
        lambda s: s["body"].pop(0),
        lambda s: s["body"].insert(1, ".\r\n"),
        lambda s: s["body"].insert(1, "no end"),
        lambda s: s["body"].insert(1, "é\r\n"),
        lambda s: s["body"].insert(1, "x" * 77 + "\r\n"),
        lambda s: s["body"].insert(1, "\r\n--=_alternative--\r\n"),
        lambda s: s["body"].append(first_hole(s)),
        lambda s: s["body"].insert(0, first_hole(s)),
        lambda s: s["body"].insert(-1, {**first_hole(s), "context": "text"}),
        lambda s: s["body"].insert(1, {**first_hole(s), "context": "html"}),
        lambda s: s["body"].insert(1, {**first_hole(s), "context": "header"}),
        lambda s: first_hole(s).update(context="raw"),
        lambda s: first_hole(s).update(hole="__class__"),
        lambda s: first_hole(s).update(fallback=""),
        lambda s: first_hole(s).update(fallback=7),
        lambda s: first_hole(s).update(fallback="a\r\nb"),
        lambda s: first_hole(s).update(fallback="\ud800"),
        lambda s: first_hole(s).update(format="Y"),
        lambda s: first_hole(s).update(more=None),
        lambda s: first_hole(s).pop("format"),
    ],
)
def test_anything_else_is_not_pieces(
    mail: Pieces, change: Callable[[dict[str, Any]], object]
) -> None:
    with pytest.raises(NotPieces):
        Pieces.from_bytes(altered(mail, change))


def test_bytes_in_another_form_are_not_pieces(mail: Pieces) -> None:
    stored = mail.to_bytes()
    for other in (
        b"",
        b"null",
        b"[]",
        b"{",
        stored[:-1],
        stored + b" ",
        json.dumps(json.loads(stored)).encode(),
    ):
        with pytest.raises(NotPieces):
            Pieces.from_bytes(other)
    assert Pieces.from_bytes(altered(mail, lambda s: None)) == mail


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_at_all_make_it_stumble(stored: bytes) -> None:
    with pytest.raises(NotPieces):
        Pieces.from_bytes(stored)
    with pytest.raises(NotPieces):
        Pieces.from_bytes(b"[" * 20_000 + stored)


def test_every_flipped_bit_changes_the_hash(mail: Pieces) -> None:
    changed = altered(mail, lambda s: first_hole(s).update(fallback="somebody"))

    assert Pieces.from_bytes(changed).digest() != mail.digest()
