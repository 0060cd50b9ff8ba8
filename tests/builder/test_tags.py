"""Merge tags are read strictly, never executed, and escaped by where they stand."""

import html
import urllib.parse
from datetime import UTC, date, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder import characters, tags
from builder.tags import Context, Hole, MissingValue, Registry, Tag, UnusableValue
from tests.builder.conftest import STOP, TAGS


def parse(text: str, context: Context = Context.TEXT) -> tuple[tuple[str | Hole, ...], list[str]]:
    parts, problems = tags.parse(text, TAGS, context=context, path="here")
    assert all(found.path == "here" and found.position is not None for found in problems)
    return parts, [found.code for found in problems]


def hole(context: Context, **more: str) -> Hole:
    return Hole("first_name", context, **more)


@pytest.mark.parametrize(
    "written",
    [
        '{{ first_name | fallback: "there" }}',
        '{{first_name|fallback:"there"}}',
        "{{ first_name | fallback: 'there' }}",
        "{{ first_name | fallback: “there” }}",
        '{{\u00a0first_name\u00a0| fallback: "there"\u00a0}}',
    ],
)
def test_a_tag_may_be_written_in_several_ways(written: str) -> None:
    parts, problems = parse(f"Hello {written}!")

    assert problems == []
    assert parts == ("Hello ", Hole("first_name", Context.TEXT, "there"), "!")


def test_a_date_has_a_format_even_when_none_is_written() -> None:
    parts, _ = parse('{{ last_visit }} {{ last_visit | fallback: "soon" | date: "month" }}')

    assert parts == (
        Hole("last_visit", Context.TEXT, None, "long"),
        " ",
        Hole("last_visit", Context.TEXT, "soon", "month"),
    )


@pytest.mark.parametrize(
    ("text", "code", "position"),
    [
        ("Hi {{ nickname }}", "unknown_tag", 3),
        ("{{ settings }}", "unknown_tag", 0),
        ("{{ unsubscribe_url }}", "reserved_tag", 0),
        ("{{ first_name.__class__ }}", "attribute_access", 0),
        ("{{ first_name[0] }}", "attribute_access", 0),
        ("{{ first_name() }}", "attribute_access", 0),
        ("{{ first_name | upper }}", "unknown_filter", 0),
        ('{{ first_name | safe: "1" }}', "unknown_filter", 0),
        ('{{ first_name | fallback: "a" | fallback: "b" }}', "repeated_filter", 0),
        ('{{ first_name | fallback: "" }}', "empty_fallback", 0),
        ('{{ first_name | fallback: "\u202e" }}', "empty_fallback", 0),
        (f'{{{{ first_name | fallback: "{"x" * 201}" }}}}', "too_long", 0),
        ("{{ first_name | fallback: there }}", "bad_tag", 0),
        ('{{ first_name | fallback "there" }}', "bad_tag", 0),
        ("{{ first_name last_visit }}", "bad_tag", 0),
        ("{{ 1 + 1 }}", "bad_tag", 0),
        ("{{ _private }}", "bad_tag", 0),
        ("{{ }}", "bad_tag", 0),
        ("{{{ first_name }}}", "bad_tag", 0),
        ('{{ last_visit | date: "%Y" }}', "unknown_format", 0),
        ('{{ first_name | date: "long" }}', "not_a_date", 0),
        ("Hi {{ first_name", "unbalanced_braces", 3),
        ("Hi first_name }}", "unbalanced_braces", 14),
        ("{{ first_name {{ first_name }}", "unbalanced_braces", 0),
        ("{% include 'x' %}", "template_code", 0),
        ("a {# note #}", "template_code", 2),
    ],
)
def test_what_is_no_merge_tag_is_a_problem_with_its_place(
    text: str, code: str, position: int
) -> None:
    parts, problems = tags.parse(text, TAGS, context=Context.TEXT, path="subject")

    assert [(found.code, found.position) for found in problems] == [(code, position)]
    assert problems[0].sentence
    whole = [part for part in parts if isinstance(part, Hole)]
    assert all(part.name == "first_name" and part.fallback is None for part in whole)


def test_each_of_several_problems_is_told() -> None:
    assert parse("{{ a }} {{ b }} {% x %}")[1] == ["unknown_tag", "unknown_tag", "template_code"]


def test_without_a_registry_only_the_writing_is_checked() -> None:
    assert tags.parse("{{ anything }}", None, context=Context.TEXT, path="")[1] == []
    assert (
        tags.parse("{{ a.b }}", None, context=Context.TEXT, path="")[1][0].code
        == "attribute_access"
    )


@pytest.mark.parametrize(
    ("tag", "context", "allowed"),
    [
        ("doctor", Context.TEXT, True),
        ("doctor", Context.HTML, True),
        ("doctor", Context.HEADER, False),
        ("doctor", Context.PREHEADER, False),
        ("doctor", Context.ATTRIBUTE, False),
        ("doctor", Context.URL, False),
        ("first_name", Context.HEADER, True),
        ("first_name", Context.ATTRIBUTE, True),
        ("first_name", Context.URL, False),
        ("clinic", Context.URL, True),
    ],
)
def test_health_information_stays_in_the_body(tag: str, context: Context, allowed: bool) -> None:
    assert parse(f"{{{{ {tag} }}}}", context)[1] == ([] if allowed else ["sensitive_place"])


def test_a_tag_cannot_have_a_reserved_or_unreadable_name() -> None:
    for name in ("unsubscribe_url", "First", "a-b", "", "x" * 41):
        with pytest.raises(ValueError, match="cannot be a merge tag"):
            Tag(name, "", "contact")
    with pytest.raises(ValueError, match="two merge tags"):
        Registry([Tag("a", "", "contact"), Tag("a", "", "contact")])


ANY = st.text(st.characters(), max_size=60)


@settings(max_examples=150, deadline=None)
@given(ANY)
def test_a_value_in_html_is_text_and_nothing_else(value: str) -> None:
    for context in (Context.HTML, Context.ATTRIBUTE, Context.PREHEADER):
        try:
            written = tags.written(hole(context), value, "en")
        except MissingValue:
            assert characters.single_line(value) == ""
            continue

        assert not set("<>\"'\n\r\t") & set(written)
        assert html.unescape(written) == characters.single_line(value)


@settings(max_examples=150, deadline=None)
@given(ANY)
def test_a_value_in_an_address_is_one_part_of_it(value: str) -> None:
    try:
        written = tags.written(hole(Context.URL), value, "en")
    except (MissingValue, UnusableValue):
        return

    assert not set("/?#&=:@\\\"'<>% \n") & set(written.replace("%", "", written.count("%")))
    assert urllib.parse.unquote(written) == characters.single_line(value)
    assert written.strip(".") != ""


@pytest.mark.parametrize("value", [".", "..", "..."])
def test_a_value_does_not_climb_the_path(value: str) -> None:
    with pytest.raises(UnusableValue, match="not_a_part"):
        tags.written(hole(Context.URL), value, "en")


@pytest.mark.parametrize(
    "value", [None, "", "   ", "\t\n", "\u202e\u2066", "\x00", "\ud800", "\ue000"]
)
def test_nothing_to_show_takes_the_fallback_or_withholds(value: str | None) -> None:
    assert tags.written(hole(Context.TEXT, fallback="there"), value, "en") == "there"
    with pytest.raises(MissingValue) as caught:
        tags.written(hole(Context.TEXT), value, "en")
    assert (caught.value.name, caught.value.reason) == ("first_name", "missing")


def test_a_fallback_is_escaped_like_a_value() -> None:
    written = tags.written(hole(Context.HTML, fallback="you & <b>yours</b>"), None, "en")

    assert written == "you &amp; &lt;b&gt;yours&lt;/b&gt;"


@pytest.mark.parametrize("value", [3, True, b"Rosa", ["Rosa"], {"a": 1}])
def test_a_value_that_is_no_text_is_not_guessed_at(value: object) -> None:
    with pytest.raises(UnusableValue, match="not_text"):
        tags.written(hole(Context.TEXT), value, "en")  # type: ignore[arg-type]


def test_values_have_a_bound() -> None:
    assert len(tags.written(hole(Context.TEXT), "x" * 1000, "en")) == 1000
    for context, length in ((Context.TEXT, 1001), (Context.HEADER, 121), (Context.PREHEADER, 121)):
        with pytest.raises(UnusableValue, match="too_long") as caught:
            tags.written(hole(context), "x" * length, "en")
        assert "xx" not in str(caught.value)


def test_direction_characters_are_taken_out_of_names() -> None:
    assert tags.written(hole(Context.TEXT), "Ro\u202esa\u2069 \x07Li\ufeff", "en") == "Rosa Li"


def test_an_encoded_word_is_taken_out_of_a_value_for_the_subject() -> None:
    assert (
        tags.written(hole(Context.HEADER), "=?UTF-8?Q?=0A?=Bcc: x", "en") == "UTF-8?Q?=0A?=Bcc: x"
    )
    assert "=?" not in tags.written(hole(Context.HEADER), "a==??b", "en")


@pytest.mark.parametrize(
    "link",
    [
        "http://mail.lakeside.example/u/1",
        "javascript:alert(1)",
        "//mail.lakeside.example/u",
        "https://mail.lakeside.example",
        'https://mail.lakeside.example/u"onclick=x',
        "https://a@mail.lakeside.example/u",
        "https://mail.lakeside.example/u v",
        "https://mail.lakeside.example/\\u",
        "https://mail.lakeside.example/<u>",
    ],
)
def test_an_unsubscribe_link_must_be_one_of_ours(link: str) -> None:
    for context in (Context.LINK, Context.TEXT_LINK):
        with pytest.raises(UnusableValue, match="not_a_link"):
            tags.written(Hole("unsubscribe_url", context), link, "en")


def test_an_unsubscribe_link_is_escaped_in_html_only() -> None:
    link = STOP + "?a=1&b=2"

    assert tags.written(Hole("unsubscribe_url", Context.TEXT_LINK), link, "en") == link
    assert tags.written(Hole("unsubscribe_url", Context.LINK), link, "en") == STOP + "?a=1&amp;b=2"
    here = "http://127.0.0.1:8000/u/1"
    assert tags.written(Hole("unsubscribe_url", Context.LINK), here, "en") == here


@pytest.mark.parametrize(
    ("form", "language", "written"),
    [
        (None, "en", "November 24, 2026"),
        ("long", "es", "24 de noviembre de 2026"),
        ("short", "en", "11/24/2026"),
        ("month", "en", "November 2026"),
        ("day", "en", "November 24"),
        ("weekday", "es", "martes"),
    ],
)
def test_a_date_is_written_as_the_language_does(
    form: str | None, language: str, written: str
) -> None:
    place = Hole("last_visit", Context.TEXT, None, form)

    assert tags.written(place, date(2026, 11, 24), language) == written
    assert tags.written(place, datetime(2026, 11, 24, 23, 59, tzinfo=UTC), language) == written
