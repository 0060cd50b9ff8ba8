"""What comes out of the compiler: the mail as written, nothing foreign, nothing running, and a way out."""

import html as markup
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import mjml
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder import characters, clean, marks
from builder.brand import Brand
from builder.compile import Compiled, CompileError, compile_document
from builder.preview import preview_html, preview_subject, preview_text
from builder.problems import Invalid
from builder.tags import Context
from tests.builder.conftest import BRAND, STOP, TAGS, document, text
from tests.builder.test_clean import ATTACKS, MARKUP

Compile = Callable[..., Compiled]
VALUES = {"first_name": "Rosa", "clinic": "Lakeside", "doctor": "Dr. Wu", "unsubscribe_url": STOP}


class Page(HTMLParser):
    """What a mail program would see."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def text(self) -> str:
        return "".join(self.texts)


def seen(mail: Compiled, **values: Any) -> Page:
    return Page(preview_html(mail, VALUES | values))


PLAIN_ELEMENTS = {
    *(
        "html",
        "head",
        "title",
        "meta",
        "style",
        "body",
        "div",
        "table",
        "tbody",
        "tr",
        "td",
        "span",
    ),
    *("p", "h1", "h2", "h3", "ul", "ol", "li", "br", "strong", "em", "u", "a"),
}
EVERYTHING = (
    text(
        "<h1>Hello {{ first_name | fallback: 'there' }}</h1><p>See <a href='https://x.example/?c={{ clinic }}'>this</a>.</p>"
    ),
    {
        "type": "button",
        "label": "Book at {{ clinic }}",
        "href": "https://x.example/b?c={{ clinic }}&d=1",
    },
    {
        "type": "image",
        "src": "media:lake",
        "alt": "The lake near {{ clinic }}",
        "href": "https://x.example/",
    },
    {"type": "divider"},
    {"type": "spacer"},
    {
        "type": "columns",
        "look": "cards",
        "columns": [
            [
                {"id": "n1", **text("<h3>Left</h3><p>{{ doctor }}</p>")},
                {"id": "n2", "type": "divider"},
            ],
            [{"id": "n3", "type": "image", "src": "media:lake", "alt": "Again"}],
            [{"id": "n4", "type": "button", "label": "Go", "href": "tel:+16085550142"}],
        ],
    },
)


def test_a_mail_is_readable_by_machines_and_in_the_dark(compiled: Compile) -> None:
    mail = compiled(
        *EVERYTHING, subject="Hello {{ first_name | fallback: 'there' }}!", preheader="Ten minutes"
    )

    page = seen(mail)
    assert page.all("html")[0]["lang"] == "en"
    assert re.search(r"<title>Hello there!</title>", mail.html)
    assert {"name": "color-scheme", "content": "light dark"} in page.all("meta")
    assert "@media (prefers-color-scheme:dark)" in mail.html
    assert all(table.get("role") == "presentation" for table in page.all("table"))
    assert [image["alt"] for image in page.all("img")] == ["The lake near Lakeside", "Again"]
    assert page.text.index("Ten minutes") < page.text.index("Hello Rosa")


def test_nothing_is_loaded_from_anybody_else(compiled: Compile) -> None:
    mail = compiled(*EVERYTHING)

    page = seen(mail)
    assert {image["src"] for image in page.all("img")} == {
        "https://mail.lakeside.example/m/lake.png"
    }
    loading = re.findall(r"""(?:src|background|srcset)\s*=\s*["']?([^"'>\s]+)""", mail.html)
    assert set(loading) == {"https://mail.lakeside.example/m/lake.png"}
    assert not re.search(
        r"url\(|@import|<link|<script|<iframe|<form|@font-face", mail.html, re.IGNORECASE
    )
    hosts = set(re.findall(r"https?://([^/\"'?#\s]+)", mail.html))
    assert hosts == {"mail.lakeside.example", "x.example", "www.w3.org"}  # w3.org: the namespace
    for third_party in ("googleapis", "mailjet", "imgur", "fonts."):
        assert third_party not in mail.html


def test_each_hole_is_written_for_its_place(compiled: Compile) -> None:
    mail = compiled(*EVERYTHING)

    page = seen(mail, clinic='A & "B" <c>', first_name="<b>Rosa</b>", doctor="O'Neil")
    assert "Hello <b>Rosa</b>" in page.text
    assert 'Book at A & "B" <c>' in page.text
    assert page.all("img")[0]["alt"] == 'The lake near A & "B" <c>'
    links = [link["href"] for link in page.all("a")]
    assert "https://x.example/?c=A%20%26%20%22B%22%20%3Cc%3E" in links
    assert "https://x.example/b?c=A%20%26%20%22B%22%20%3Cc%3E&d=1" in links
    assert STOP in links
    assert page.all("b") == [] and page.all("c") == []


def test_the_footer_says_who_why_where_and_how_to_stop(compiled: Compile) -> None:
    brand = Brand(
        organization="Lakeside Health",
        postal_address="12 Shore Road\nMadison, WI 53703",
        reason="You get this because you asked for it.",
        sender_name="The Community Team",
        notice="This is an advertisement.",
        preferences_url="https://mail.lakeside.example/preferences",
    )

    mail = compiled(text("<p>Hello</p>"), brand=brand)

    page, plain = seen(mail), preview_text(mail, VALUES)
    for said in (
        "Sent by The Community Team.",
        "You get this because you asked for it.",
        "This is an advertisement.",
        "12 Shore Road",
        "Madison, WI 53703",
        "Unsubscribe",
        "Choose what you get",
    ):
        assert said in page.text
        assert said in plain
    assert [link["href"] for link in page.all("a")] == [STOP, brand.preferences_url]
    assert f"Unsubscribe: {STOP}" in plain
    assert page.text.count("Lakeside Health") == 2  # the header and the address
    assert "display:none" not in mail.html.split("Sent by")[1]


def test_the_footer_speaks_the_language_of_the_mail(compiled: Compile) -> None:
    mail = compiled(text("<p>Hola</p>"), language="es")

    page = seen(mail)
    assert page.all("html")[0]["lang"] == "es"
    assert "Cancelar la suscripción" in page.text
    assert "Unsubscribe" not in page.text


def test_a_language_written_from_the_right_is_laid_out_so(compiled: Compile) -> None:
    mail = compiled(text("<p>שלום</p>"), language="he")

    page = seen(mail)
    assert page.all("html")[0]["dir"] == "rtl"
    assert "text-align:right" in mail.html


def test_a_logo_is_an_upload_with_the_name_as_its_description(compiled: Compile) -> None:
    brand = Brand(
        **({name: getattr(BRAND, name) for name in Brand.__slots__} | {"logo": "media:lake"})
    )
    given = document(text("<p>Hello</p>"))
    given["blocks"][0]["show"] = "logo"

    mail = compile_document(
        given,
        brand=brand,
        tags=TAGS,
        subject="Hello",
        resolve_media=lambda media: f"https://m.example/{media}",
    )

    (image,) = seen(mail).all("img")
    assert (image["src"], image["alt"]) == ("https://m.example/lake", "Lakeside Health")
    assert mail.media == ("lake",)


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "http://m.example/a", "https://a@m.example/"]
)
def test_an_upload_that_resolves_to_something_odd_stops_everything(
    compiled: Compile, address: str
) -> None:
    with pytest.raises(CompileError, match="no https address"):
        compiled(*EVERYTHING, resolve_media=lambda media: address)


def test_the_same_mail_compiles_to_the_same_bytes(compiled: Compile) -> None:
    assert compiled(*EVERYTHING).pieces.to_bytes() == compiled(*EVERYTHING).pieces.to_bytes()


# --- hostile texts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_in_any_value_is_only_text(compiled: Compile, attack: str) -> None:
    mail = compiled(*EVERYTHING, subject="Hello {{ first_name }}")
    harmless = seen(mail)

    page = seen(mail, first_name=attack[:100], clinic=attack, doctor=attack)

    assert [tag for tag, _ in page.elements] == [tag for tag, _ in harmless.elements]
    assert [list(attrs) for _, attrs in page.elements] == [
        list(attrs) for _, attrs in harmless.elements
    ]
    assert all(link["href"].startswith(("https://", "tel:")) for link in page.all("a"))


@pytest.mark.parametrize(
    "attack", ['"><script>alert(1)</script>', "--><script>", "]]>", "</mj-text><mj-raw>", "\\u{41}"]
)
def test_an_attack_in_what_the_organization_says_is_only_text(
    compiled: Compile, attack: str
) -> None:
    brand = Brand(
        organization=attack,
        postal_address=attack,
        reason=attack,
        sender_name=attack,
        notice=attack,
        unsubscribe_label=attack,
    )

    mail = compiled(
        {"type": "button", "label": attack, "href": "https://x.example/"},
        brand=brand,
        subject=attack,
    )

    page = seen(mail)
    assert page.all("script") == []
    assert page.text.count(attack) >= 7
    assert preview_text(mail, VALUES).count(attack) >= 6


SAID = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Co"]), min_size=1, max_size=25
).filter(
    lambda said: said.strip() and not re.search(r"[{}]|=\?", said) and not characters.broken(said)
)


@settings(max_examples=80, deadline=None)
@given(SAID, SAID, SAID)
def test_any_text_comes_out_as_it_went_in(label: str, alt: str, name: str) -> None:
    given = document(
        {"type": "button", "label": label, "href": "https://x.example/"},
        {"type": "image", "src": "media:lake", "alt": alt},
        text(f"<p>{markup.escape(name)}</p>"),
    )
    brand = Brand(organization=name, postal_address="1 Road", reason="Because.", sender_name=name)

    mail = compile_document(
        given,
        brand=brand,
        tags=TAGS,
        subject="Hello",
        resolve_media=lambda media: "https://m.example/a",
    )

    page = seen(mail)
    assert page.all("img")[0]["alt"] == alt
    assert label in page.text
    assert page.text.count(characters.lines(name).strip()) >= 2


def test_invisible_joiners_survive_in_attributes(compiled: Compile) -> None:
    """The engine writes attributes as Rust debug strings; they must go in as references."""
    alt = "👩\u200d⚕️ e\u0301 \\ \u00ad “q”"

    mail = compiled({"type": "image", "src": "media:lake", "alt": alt})

    assert seen(mail).all("img")[0]["alt"] == alt


def test_text_that_looks_like_a_mark_is_text(compiled: Compile) -> None:
    mail = compiled(
        {"type": "image", "src": "media:lake", "alt": "&#57344;0&#57345;"},
        text("<p>&amp;#57344;0&amp;#57345;</p>"),
    )

    page = seen(mail)
    assert page.all("img")[0]["alt"] == "&#57344;0&#57345;"
    assert "&#57344;0&#57345;" in page.text


def test_words_of_the_engine_are_only_words(compiled: Compile) -> None:
    said = "mj-include path=/etc/passwd &lt;mj-raw&gt; &lt;!-- x --&gt;"

    mail = compiled(text(f"<p>{said}</p>"))

    assert "mj-include path=/etc/passwd <mj-raw> <!-- x -->" in seen(mail).text


@settings(max_examples=80, deadline=None)
@given(MARKUP, st.sampled_from(["", "en", "he"]))
def test_whatever_passes_the_check_compiles(fragment: str, language: str) -> None:
    given = document(text(fragment), text(f"<p>{fragment}</p>"), text(clean.rich_text(fragment)))
    try:
        mail = compile_document(
            given, brand=BRAND, tags=TAGS, subject="Hello", language=language or "es"
        )
    except Invalid:
        return

    page = seen(mail)
    assert {tag for tag, _ in page.elements} <= PLAIN_ELEMENTS
    assert STOP in [link["href"] for link in page.all("a")]


@pytest.mark.parametrize(
    "lines",
    [{"subject": "Hi\r\nBcc: a@evil.example"}, {"subject": ""}, {"preheader": "{{ doctor }}"}],
)
def test_a_bad_subject_or_preview_line_makes_no_mail(
    compiled: Compile, lines: dict[str, str]
) -> None:
    with pytest.raises(Invalid) as caught:
        compiled(text("<p>Hello</p>"), **lines)

    assert [problem.path for problem in caught.value.problems] == list(lines)
    assert "evil" not in str(caught.value)


# --- the last check -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("</body>", "<script>alert(1)</script></body>", "<script>"),
        ("</body>", "<img src='https://tracker.example/p.gif'></body>", "another host"),
        ("</body>", "<img src='//tracker.example/p.gif'></body>", "another host"),
        ("</body>", "<img src='data:image/gif;base64,AAAA'></body>", "another host"),
        (
            "</body>",
            "<table background='https://tracker.example/p.gif'></table></body>",
            "another host",
        ),
        ("</body>", "<link href='https://fonts.example/css'></body>", "<link>"),
        ("</body>", "<iframe></iframe></body>", "<iframe>"),
        ("</body>", "<form></form></body>", "<form>"),
        ("</body>", "<p onclick='x'></p></body>", "onclick="),
        ("</body>", "<p style='background:url(x)'></p></body>", "style= that loads"),
        ("</head>", "<style>@import 'x';</style></head>", "style that loads"),
        ("</head>", "<meta http-equiv='refresh' content='0'></head>", "meta refresh"),
        (
            "</body>",
            "<!--[if mso]><v:fill src='https://t.example/x' /><![endif]--></body>",
            "comment that loads",
        ),
        ("</body>", "<a href='javascript:x'>x</a></body>", "another scheme"),
        ("</head>", "<base href='https://evil.example/'></head>", "<base>"),
        ("<title>Hello", "<title>\ue0000\ue001", "hole 0 in title"),
        ("</body>", "<!-- \ue0000\ue001 --></body>", "hole 0 in comment"),
        ("</body>", "<p title='\ue0000\ue001'></p></body>", "hole 0 in title"),
        ("</body>", "<a href='https://x.example/\ue0000\ue001'></a></body>", "hole 0 in href"),
        ("</head>", "<style>\ue0000\ue001</style></head>", "hole 0 in style"),
        ("</body>", "\ue00099\ue001</body>", "hole 99"),
        ("\ue0000\ue001", "", "holes lost"),
    ],
)
def test_an_engine_that_goes_astray_is_caught(
    compiled: Compile, monkeypatch: pytest.MonkeyPatch, old: str, new: str, fault: str
) -> None:
    engine = mjml.mjml2html
    monkeypatch.setattr(
        mjml, "mjml2html", lambda source, **more: engine(source, **more).replace(old, new, 1)
    )

    with pytest.raises(CompileError, match=re.escape(fault)):
        compiled(text("<p>Hello {{ first_name }}</p>"))


def test_a_mail_without_a_way_out_is_not_made(
    compiled: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builder.plain._footer", lambda block, mail: ["Goodbye"])

    with pytest.raises(CompileError, match="no unsubscribe link"):
        compiled(text("<p>Hello</p>"))


def test_an_engine_that_refuses_its_source_is_told_apart(
    compiled: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: str, **more: Any) -> str:
        raise ValueError("unexpected token")

    monkeypatch.setattr(mjml, "mjml2html", refuse)

    with pytest.raises(CompileError, match="refused its source"):
        compiled(text("<p>Hello</p>"))


def test_the_deepest_text_allowed_does_not_trouble_the_engine(compiled: Compile) -> None:
    deep = "<ul><li>" * 6 + "deep" + "</li></ul>" * 6

    assert "deep" in seen(compiled(text(deep))).text


def test_a_big_document_compiles_and_says_that_gmail_would_clip_it(compiled: Compile) -> None:
    sentence = "A plain sentence with a <strong>word</strong> and a <a href='https://x.example/p'>link</a>. "
    blocks = [text(f"<p>{sentence * 12}</p>") for _ in range(36)]  # about 40 kB

    mail = compiled(*blocks)

    assert [notice.code for notice in mail.notices] == ["clipped_by_gmail"]
    assert compiled(text("<p>Short</p>")).notices == ()


# --- previews -----------------------------------------------------------------------------------------


def test_a_preview_shows_what_is_missing(compiled: Compile) -> None:
    mail = compiled(*EVERYTHING, subject="For {{ first_name }}")

    shown = Page(preview_html(mail, {}))
    assert "Hello there" in shown.text
    assert "Book at [Clinic]" in shown.text
    assert "https://x.example/?c=#" in [link["href"] for link in shown.all("a")]
    assert preview_subject(mail, {}) == "For [First name]"
    assert preview_subject(mail, VALUES) == "For Rosa"
    assert "Book at [Clinic]: https://x.example/b?c=#&d=1" in preview_text(mail, {})
    assert not marks.numbers(preview_html(mail, {}) + preview_text(mail, {}))


def test_holes_know_where_they_are(compiled: Compile) -> None:
    mail = compiled(*EVERYTHING, preheader="For {{ first_name | fallback: 'you' }}")

    assert {hole.context for hole in mail.holes} == set(Context) - {Context.HEADER}
