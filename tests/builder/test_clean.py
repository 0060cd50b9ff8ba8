"""Whatever is pasted, what is kept is a few elements with good links, and cleaning it again changes nothing."""

import html
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder import characters, clean, rich, tags
from tests.builder.conftest import TAGS

ATTACKS = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<script>alert(1)",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<math><mi//xlink:href='data:x,<script>alert(4)</script>'>",
    '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;">',
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "<p onclick=alert(1)>x</p>",
    "<p style='background:url(https://evil.example/x)'>x</p>",
    "<p style='text-align:center;position:fixed'>x</p>",
    "<p style='text-align:expression(alert(1))'>x</p>",
    "<style>@import 'https://evil.example/x.css';</style>",
    "<base href='https://evil.example/'>",
    "<meta http-equiv=refresh content='0;url=https://evil.example/'>",
    "<iframe src=https://evil.example/></iframe>",
    "<form action=https://evil.example/><input name=a></form>",
    "<a href='javascript:alert(1)'>x</a>",
    "<a href='JaVaScRiPt&#58;alert(1)'>x</a>",
    "<a href='java&#10;script:alert(1)'>x</a>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
    "<a href='//evil.example'>x</a>",
    "<a href='https://x.example' onmouseover=alert(1)>x</a>",
    "<a href=https://x.example/{{ clinic }}onclick=alert(1)>x</a>",
    "<!--[if mso]><script>alert(1)</script><![endif]-->",
    "<![CDATA[<script>alert(1)</script>]]>",
    "<?php alert(1) ?>",
    '<p>{{ first_name | fallback: "<script>alert(1)</script>" }}</p>',
    "<{{ first_name }} onclick=alert(1)>",
    "<p {{ first_name }}>x</p>",
    "<a href='{{ first_name }}'>x</a>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<x/><p/onclick=alert(1)>",
    "\x00<scr\x00ipt>alert(1)</scr\x00ipt>",
    "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>",
    "<video><source onerror=alert(1)></video>",
    "<a href='mailto:a@x.example%0ABcc:b@x.example'>x</a>",
]


class Seen(HTMLParser):
    def __init__(self, markup: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, attrs))


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_that_runs_or_loads_is_kept(attack: str) -> None:
    cleaned = clean.rich_text(attack)

    for tag, attrs in Seen(cleaned).elements:
        assert tag in clean.ELEMENTS
        for name, value in attrs:
            assert name in clean.ELEMENTS[tag]
            assert name != "style" or clean.STYLE.fullmatch(value or "")
            assert name != "href" or re.match(r"(?:https|mailto|tel):|\{\{", value or "")
    assert clean.rich_text(cleaned) == cleaned


# Text that only looks dangerous, shown as it is written.
HARMLESS = ("&lt;script", "fallback", "<{{", "}}onclick")


@pytest.mark.parametrize(
    "attack", [attack for attack in ATTACKS if not any(part in attack for part in HARMLESS)]
)
def test_every_attack_is_also_a_problem(attack: str) -> None:
    assert rich.problems(attack, TAGS, "html") != []


MARKUP = st.lists(
    st.sampled_from(
        [
            "<p>",
            "</p>",
            "<ul><li>",
            "</li></ul>",
            "<strong>",
            "</strong>",
            "<a href='https://x.example/'>",
            "</a>",
        ]
        + [
            "<br>",
            "<script>",
            "</script>",
            "<div>",
            "<b>",
            "</b>",
            "<!--",
            "-->",
            "&amp;",
            "&lt;",
            "&#8238;",
            "&#x",
            "&",
        ]
        + [
            "{{ first_name }}",
            "{{",
            "}}",
            '{{ first_name | fallback: "a" }}',
            "{{ &quot; }}",
            "\u202e",
            "\ue000",
            "<",
            ">",
        ]
        + [
            "<h1 style='text-align:center'>",
            "</h1>",
            "\n",
            "é",
            '"',
            "'",
            "<table><tr><td>",
            "<svg>",
            "&#123;",
            "}",
        ]
    )
    | st.text(max_size=4),
    max_size=12,
).map("".join)


@settings(max_examples=80, deadline=None)
@given(MARKUP)
def test_cleaning_again_changes_nothing(markup: str) -> None:
    once = clean.rich_text(markup)

    assert clean.rich_text(once) == once
    assert not characters.killed(html.unescape(once))
    assert all(tag in clean.ELEMENTS for tag, _ in Seen(once).elements)


def test_a_direction_character_cannot_hide_as_a_reference() -> None:
    for hidden in (
        "a&#8238;b",
        "a&#x202E;b",
        "a&#8238b",
        "a&#&#8238;8238;b",
        "a&#0000008238;b",
        "a&#00000000008238;b",
    ):
        assert clean.rich_text(hidden) == "ab"
    assert clean.rich_text("a&#" + "0" * 5_000 + "8238;b") == "ab"
    assert clean.rich_text("a&#&#1111111111;" + "0" * 5_000 + "8238;b") == "ab"
    assert clean.rich_text("a&amp;#8238;b") == "a&amp;#8238;b"


def test_what_word_processors_write_becomes_ours() -> None:
    pasted = "<style>p{color:red}</style><h4>Hours</h4><div><b>Open</b> <i>late</i></div>"

    kept = clean.rich_text(pasted)

    assert kept.replace("\n", "") == "<h3>Hours</h3><strong>Open</strong> <em>late</em>"


def test_good_text_stays_as_it_is() -> None:
    good = (
        '<h1>Hello</h1><p style="text-align: center;">A <strong>b</strong> <em>c</em> <u>d</u><br>'
        '<a href="https://x.example/?a=1&amp;b=2">e</a></p><ul><li>f</li></ul><ol><li>g</li></ol>'
    )

    assert clean.rich_text(good) == good


def test_merge_tags_stay_and_can_be_read_afterwards() -> None:
    written = '<p>{{ first_name | fallback: "you & <yours>" }}</p>'

    cleaned = clean.rich_text(written)

    assert rich.problems(cleaned, TAGS, "html") == []
    (paragraph,) = rich.read(cleaned, TAGS)
    assert paragraph.children[0].fallback == "you & <yours>"  # type: ignore[union-attr]


@pytest.mark.parametrize("number", ["1" * 5_000, "x" + "f" * 5_000, "0" * 5_000 + "65"])
def test_a_reference_of_a_thousand_digits_is_refused(number: str) -> None:
    fragment = f"<p>a&#{number};{{{{ first_name | fallback: 'a&#{number};' }}}}</p>"

    assert [found.code for found in rich.problems(fragment, TAGS, "html")] == ["forbidden_markup"]
    assert "1" * 200 not in clean.rich_text(fragment)
    assert "a" in repr(rich.read(fragment, TAGS))


@pytest.mark.parametrize("fragment", ["x" * 20_001, "<ul><li>" * 700])
def test_what_would_take_long_is_refused_at_once(fragment: str) -> None:
    with pytest.raises(ValueError, match="too long"):
        clean.rich_text(fragment)
    assert [found.code for found in rich.problems(fragment, TAGS, "html")] in (
        ["too_long"],
        ["too_nested"],
    )


def depth(children: list[rich.Element | str | tags.Hole]) -> int:
    return max(
        (1 + depth(child.children) for child in children if isinstance(child, rich.Element)),
        default=0,
    )


def test_reading_is_safe_by_itself() -> None:
    """Not only what `problems` let pass: the engine recurses, and a mail program follows any address."""
    tree = rich.read("<ul><li>" * 200 + "deep" + "<a href='https://x.example/\\'>a</a>", TAGS)

    assert depth(tree) == rich.MAX_DEPTH
    assert "deep" in repr(tree)
    (paragraph,) = rich.read("<a href='https://x.example@evil.example/'>a</a>", TAGS)
    assert isinstance(paragraph, rich.Element)
    (link,) = paragraph.children
    assert isinstance(link, rich.Element)
    assert link.href == ()
