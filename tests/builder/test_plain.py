"""The plain text part can be read with pleasure, and leads to the same places."""

from collections.abc import Callable

import pytest

from builder.compile import Compiled
from builder.preview import preview_text
from tests.builder.conftest import STOP, text

Compile = Callable[..., Compiled]


def body(mail: Compiled) -> str:
    """What stands between header and footer."""
    whole = preview_text(
        mail, {"first_name": "Rosa", "clinic": "Lakeside", "unsubscribe_url": STOP}
    )
    return whole.split("-" * 40 + "\n\n", 1)[1].rsplit("\n\n" + "-" * 40, 1)[0]


@pytest.mark.parametrize(
    ("html", "plain"),
    [
        ("<p>One</p><p>Two</p>", "One\n\nTwo"),
        ("<h1>Hello {{ first_name }}</h1>", "Hello Rosa\n=============="),
        ("<h2>Hours</h2><h3>Monday</h3>", "Hours\n-----\n\nMonday"),
        ("<p>a<br>b</p>", "a\nb"),
        ("<p>  many\n   spaces&nbsp; </p>", "many spaces"),
        ("<ul><li>One</li><li>Two <strong>three</strong></li></ul>", "- One\n- Two three"),
        ("<ol><li>One<ul><li>Deep</li></ul></li><li>Two</li></ol>", "1. One\n   - Deep\n2. Two"),
        ("<ul><li>a<br>b</li></ul>", "- a\n  b"),
        ("<p><a href='https://x.example/a'>Read on</a></p>", "Read on: https://x.example/a"),
        ("<p><a href='https://x.example/a'>https://x.example/a</a></p>", "https://x.example/a"),
        ("<p><a href='mailto:a@x.example'>Write</a></p>", "Write: a@x.example"),
        ("<p>Call <a href='tel:+16085550142'>us</a></p>", "Call us: +16085550142"),
        ("<p><a href='tel:608-555-0142'>608-555-0142</a></p>", "608-555-0142"),
        ("<p><a href='tel:+16085550142'>(608) 555-0142</a></p>", "(608) 555-0142"),
        ("<p><a href='tel:+16085550142'>555-0199</a></p>", "555-0199: +16085550142"),
        ("<p>&lt;b&gt; &amp; co</p>", "<b> & co"),
        ("loose <em>text</em><p>then more</p>", "loose text\n\nthen more"),
    ],
)
def test_rich_text_is_written_plainly(compiled: Compile, html: str, plain: str) -> None:
    assert body(compiled(text(html))) == plain


def test_blocks_are_written_plainly(compiled: Compile) -> None:
    mail = compiled(
        {"type": "button", "label": "Book", "href": "https://x.example/?c={{ clinic }}"},
        {"type": "image", "src": "media:lake", "alt": "The lake"},
        {"type": "image", "src": "media:lake", "alt": "The lake", "href": "https://x.example/"},
        {"type": "image", "src": "media:lake", "alt": "", "decoration": True},
        {"type": "spacer"},
        {
            "type": "columns",
            "columns": [
                [{"id": "l", **text("<p>Left</p>")}],
                [{"id": "r", **text("<p>Right</p>")}],
            ],
        },
    )

    assert body(mail) == (
        "Book: https://x.example/?c=Lakeside\n\n[The lake]\n\n[The lake]: https://x.example/\n\nLeft\n\nRight"
    )


def test_the_text_begins_with_who_and_ends_with_where(compiled: Compile) -> None:
    mail = compiled(text("<p>Hello</p>"))

    lines = preview_text(mail, {"unsubscribe_url": STOP}).split("\n")
    assert lines[0] == "Lakeside Health"
    assert lines[-4:] == ["Lakeside Health", "12 Shore Road", "Madison, WI 53703", ""]
