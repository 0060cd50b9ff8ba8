"""A document is taken whole or refused with a plain sentence for each thing wrong."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder import blocks, problems
from builder.brand import Brand
from builder.compile import check_preheader, check_subject, compile_document
from builder.problems import Invalid, Problem
from tests.builder.conftest import BRAND, TAGS, document, text

GOOD = document(
    text(
        "<h1>Hello {{ first_name | fallback: 'there' }}</h1>",
        tone="soft",
        align="left",
        size="large",
    ),
    {
        "type": "button",
        "label": "Book",
        "href": "https://x.example/",
        "look": "outline",
        "tone": "strong",
    },
    {
        "type": "image",
        "src": "media:lake",
        "alt": "A lake",
        "href": "https://x.example/",
        "width": 300,
    },
    {
        "type": "image",
        "src": "https://images.lakeside.example/a.png",
        "alt": "",
        "decoration": True,
    },
    {"type": "divider"},
    {"type": "spacer", "height": 40},
    {
        "type": "columns",
        "look": "cards",
        "widths": [40, 60],
        "columns": [[{"id": "l", **text("<p>Left</p>")}], [{"id": "r", **text("<p>Right</p>")}]],
    },
    width=640,
    background="#ffffff",
    surface="#FAFAFA",
    text="#222222",
    accent="#0a6ebd",
    font="serif",
    heading_font="humanist",
)
HOSTS = ("images.lakeside.example",)


def validate(given: object) -> list[Problem]:
    return blocks.validate(given, tags=TAGS, image_hosts=HOSTS)


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """GOOD, changed."""
    given = copy.deepcopy(GOOD)
    change(given)
    return given


def with_block(**block: Any) -> dict[str, Any]:
    return document(block)


def with_footer(**more: Any) -> dict[str, Any]:
    return changed(lambda given: given["blocks"][-1].update(more))


def test_a_good_document_has_no_problem() -> None:
    assert validate(GOOD) == []
    assert validate(blocks.empty()) == []


# One document for each code, and where the problem is.
DOCUMENTS: dict[str, tuple[object, str]] = {
    "wrong_type": (changed(lambda d: d.update(blocks="none")), "blocks"),
    "wrong_version": (changed(lambda d: d.update(version=2)), "version"),
    "unknown_key": (changed(lambda d: d.update(script="x")), ""),
    "missing_key": (with_block(type="text"), "blocks[1]"),
    "unknown_block": (with_block(type="html"), "blocks[1]"),
    "too_many_blocks": (document(*[{"type": "divider"}] * 199), "blocks"),
    "too_deep": (
        with_block(
            type="columns", columns=[[{"id": "x", "type": "columns", "columns": [[], []]}], []]
        ),
        "blocks[1].columns[0][0]",
    ),
    "bad_id": (changed(lambda d: d["blocks"][0].update(id="A B")), "blocks[0].id"),
    "repeated_id": (changed(lambda d: d["blocks"][0].update(id="footer")), "blocks[8].id"),
    "bad_choice": (with_block(type="divider", tone="loud"), "blocks[1].tone"),
    "out_of_range": (with_block(type="spacer", height=0), "blocks[1].height"),
    "uneven_widths": (
        with_block(type="columns", columns=[[], []], widths=[50, 40]),
        "blocks[1].widths",
    ),
    "bad_colour": (document(accent="red"), "settings.accent"),
    "low_contrast": (document(text="#aaaaaa"), "settings.text"),
    "empty_text": (with_block(**text("<p> </p>")), "blocks[1].html"),
    "too_long": (
        with_block(type="button", label="x" * 81, href="https://x.example/"),
        "blocks[1].label",
    ),
    "too_big": (document(*[text("<p>" + "x" * 19_000)] * 22), ""),
    "control_characters": (
        with_block(type="button", label="Go\u202e", href="https://x.example/"),
        "blocks[1].label",
    ),
    "footer_missing": (changed(lambda d: d["blocks"].pop()), "blocks"),
    "footer_repeated": (
        changed(lambda d: d["blocks"].append({"id": "again", "type": "footer"})),
        "blocks[9]",
    ),
    "footer_not_last": (changed(lambda d: d["blocks"].insert(0, d["blocks"].pop())), "blocks[0]"),
    "no_alt": (with_block(type="image", src="media:lake", alt=""), "blocks[1].alt"),
    "alt_on_decoration": (
        with_block(type="image", src="media:lake", alt="A lake", decoration=True),
        "blocks[1].alt",
    ),
    "bad_image": (
        with_block(type="image", src="https://tracker.example/p.gif", alt="A"),
        "blocks[1].src",
    ),
    "forbidden_markup": (with_block(**text("<p>a</p><script>b</script>")), "blocks[1].html"),
    "too_nested": (with_block(**text("<ul><li>" * 8 + "a")), "blocks[1].html"),
    "bad_address": (with_block(type="button", label="Go", href="//x.example"), "blocks[1].href"),
    "bad_scheme": (
        with_block(type="button", label="Go", href="http://x.example"),
        "blocks[1].href",
    ),
    "tag_begins_address": (
        with_block(**text("<a href='https://{{ clinic }}/'>a</a>")),
        "blocks[1].html",
    ),
    "unknown_tag": (with_block(**text("<p>{{ nobody }}</p>")), "blocks[1].html"),
    "reserved_tag": (with_block(**text("<p>{{ unsubscribe_url }}</p>")), "blocks[1].html"),
    "bad_tag": (with_block(**text("<p>{{ 1 }}</p>")), "blocks[1].html"),
    "unbalanced_braces": (with_block(**text("<p>{{ first_name</p>")), "blocks[1].html"),
    "template_code": (with_block(**text("<p>a {% if 1 %}</p>")), "blocks[1].html"),
    "attribute_access": (with_block(**text("<p>{{ first_name.upper }}</p>")), "blocks[1].html"),
    "unknown_filter": (with_block(**text("<p>{{ first_name | safe }}</p>")), "blocks[1].html"),
    "repeated_filter": (
        with_block(**text("<p>{{ first_name | fallback: 'a' | fallback: 'b' }}</p>")),
        "blocks[1].html",
    ),
    "empty_fallback": (
        with_block(**text("<p>{{ first_name | fallback: '' }}</p>")),
        "blocks[1].html",
    ),
    "unknown_format": (with_block(**text("<p>{{ last_visit | date: 'Y' }}</p>")), "blocks[1].html"),
    "not_a_date": (with_block(**text("<p>{{ first_name | date: 'long' }}</p>")), "blocks[1].html"),
    "tag_in_markup": (with_block(**text("<p style='{{ first_name }}'>a</p>")), "blocks[1].html"),
    "sensitive_place": (
        with_block(type="image", src="media:lake", alt="With {{ doctor }}"),
        "blocks[1].alt",
    ),
}


@pytest.mark.parametrize("code", DOCUMENTS)
def test_each_fault_is_named_once_at_its_place(code: str) -> None:
    given, path = DOCUMENTS[code]

    found = validate(given)

    assert [(problem.code, problem.path) for problem in found] == [(code, path)]
    assert found[0].sentence[0] in "“ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    assert found[0].sentence.endswith(".")
    with pytest.raises(Invalid):
        compile_document(given, brand=BRAND, tags=TAGS, subject="Hello")  # type: ignore[arg-type]


def compiling(**more: Any) -> list[Problem]:
    arguments = {"document": GOOD, "brand": BRAND, "tags": TAGS, "subject": "Hello"}
    with pytest.raises(Invalid) as caught:
        compile_document(**(arguments | {"image_hosts": HOSTS} | more))
    return caught.value.problems


def test_the_other_faults_are_named_when_compiling() -> None:
    others = {
        "unknown_media": compiling(resolve_media={}.__getitem__),
        "encoded_word": check_subject("=?utf-8?q?a?=", TAGS),
        "false_reply": check_subject("Re: your visit", TAGS),
        "bad_language": compiling(language="English!"),
        "incomplete_brand": compiling(brand=Brand(**{**as_dict(BRAND), "postal_address": "  \n"})),
    }

    assert {code: [found.code for found in there] for code, there in others.items()} == {
        code: [code] for code in others
    }
    assert set(DOCUMENTS) | set(others) | problems.NOTICES == set(problems.SENTENCES)


def as_dict(brand: Brand) -> dict[str, str]:
    return {name: getattr(brand, name) for name in Brand.__slots__}


@pytest.mark.parametrize("name", ["organization", "postal_address", "reason", "sender_name"])
def test_a_footer_without_its_legal_parts_is_not_made(name: str) -> None:
    (found,) = compiling(
        brand=Brand(**(as_dict(BRAND) | {name: "\u202e "})),
        resolve_media=lambda media: "https://m.example/a",
    )

    assert (found.code, found.path) == ("incomplete_brand", f"brand.{name}")


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("accent", "red", "bad_colour"),
        ("logo", "https://x.example/logo.png", "bad_image"),
        ("preferences_url", "javascript:alert(1)", "bad_address"),
    ],
)
def test_a_brand_is_checked_too(field: str, value: str, code: str) -> None:
    found = compiling(
        brand=Brand(**(as_dict(BRAND) | {field: value})),
        resolve_media=lambda media: "https://m.example/a",
    )

    assert [problem.code for problem in found] == [code]


def test_the_footer_cannot_be_hidden_by_its_colours() -> None:
    assert [p.code for p in validate(with_footer(background="#ffffff", text="#eeeeee"))] == [
        "low_contrast"
    ]
    assert [p.code for p in validate(with_footer(text="#f3eee6"))] == ["missing_key"]
    assert validate(with_footer(background="#111111", text="#eeeeee")) == []


@pytest.mark.parametrize("key", ["hidden", "html", "height", "tone", "address", "unsubscribe_url"])
def test_the_footer_takes_no_content_from_the_document(key: str) -> None:
    assert [p.code for p in validate(with_footer(**{key: "x"}))] == ["unknown_key"]


def test_a_footer_inside_columns_is_no_footer() -> None:
    inside = with_block(type="columns", columns=[[{"id": "x", "type": "footer"}], []])
    del inside["blocks"][-1]

    assert {p.code for p in validate(inside)} == {"too_deep", "footer_missing"}


def test_a_header_inside_columns_is_refused() -> None:
    inside = with_block(type="columns", columns=[[{"id": "x", "type": "header"}], []])

    assert [p.code for p in validate(inside)] == ["too_deep"]


def test_all_problems_are_told_together() -> None:
    several = document(
        text("<p>{{ nobody }}</p>"),
        {"type": "button", "label": "", "href": "javascript:alert(1)"},
        {"type": "image", "src": "x", "alt": ""},
    )

    assert [(p.code, p.path) for p in validate(several)] == [
        ("unknown_tag", "blocks[1].html"),
        ("empty_text", "blocks[2].label"),
        ("bad_scheme", "blocks[2].href"),
        ("bad_image", "blocks[3].src"),
    ]


@pytest.mark.parametrize("value", [True, 1.5, "40", None, [], float("nan")])
def test_a_number_is_a_whole_number(value: object) -> None:
    assert [p.code for p in validate(with_block(type="spacer", height=value))] == ["wrong_type"]


@pytest.mark.parametrize("version", [True, 1.0, "1", None, 0])
def test_a_version_is_the_number_one(version: object) -> None:
    given = changed(lambda d: d.update(version=version))

    assert [p.code for p in validate(given)] == ["wrong_version"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
KEYS = [
    "html",
    "label",
    "href",
    "src",
    "alt",
    "columns",
    "widths",
    "height",
    "tone",
    "id",
    "type",
    "align",
    "tagline",
]
NEARLY = st.fixed_dictionaries(
    {
        "version": st.just(1),
        "settings": st.dictionaries(st.sampled_from(["accent", "width", "font"]), JSON, max_size=2),
        "blocks": st.lists(
            st.dictionaries(st.sampled_from(KEYS), JSON, max_size=5).flatmap(
                lambda block: st.sampled_from(sorted(blocks._BLOCKS)).map(
                    lambda kind: {**block, "type": kind}
                )
            ),
            max_size=4,
        ),
    }
)


@settings(max_examples=100, deadline=None)
@given(JSON | NEARLY)
def test_whatever_json_comes_is_answered(given_json: object) -> None:
    for problem in validate(given_json):
        assert problem.code in problems.SENTENCES
        assert len(problem.sentence) < 300


def test_an_enormous_document_is_answered_briefly() -> None:
    huge = {"version": 1, "blocks": [{"id": "x", "type": "text", "html": 1}] * 100_000}

    assert len(validate(huge)) == blocks.MAX_PROBLEMS


def test_a_document_says_which_images_it_shows() -> None:
    nested = {
        "type": "columns",
        "columns": [[{"id": "n", "type": "image", "src": "media:n", "alt": "N"}], []],
    }
    given = document(
        {"type": "image", "src": "media:b", "alt": "B"},
        nested,
        {"type": "image", "src": "media:b", "alt": "B"},
    )

    assert blocks.media(given) == ("b", "n")


@pytest.mark.parametrize(
    ("subject", "codes"),
    [
        ("Your flu shot is ready", []),
        ("Hello {{ first_name | fallback: 'there' }}", []),
        ("", ["empty_text"]),
        ("  ", ["empty_text"]),
        ("x" * 151, ["too_long"]),
        ("Hi\r\nBcc: a@evil.example", ["control_characters"]),
        ("Hi\u2028there", ["control_characters"]),
        ("Hi \u202e", ["control_characters"]),
        ("About {{ doctor }}", ["sensitive_place"]),
        ("FWD: news", ["false_reply"]),
        ("{{ nobody }}", ["unknown_tag"]),
    ],
)
def test_a_subject_is_checked(subject: str, codes: list[str]) -> None:
    assert [found.code for found in check_subject(subject, TAGS)] == codes


def test_a_preview_line_is_checked_and_may_be_empty() -> None:
    assert check_preheader("", TAGS) == []
    assert [p.code for p in check_preheader("{{ doctor }}", TAGS)] == ["sensitive_place"]
    assert [p.code for p in check_preheader("x" * 201, TAGS)] == ["too_long"]
