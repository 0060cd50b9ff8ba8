"""PDF: accessible, in its language, and made of nothing but what is ours."""

import re
import zlib
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.template import engines
from django.utils import translation

from files import pdf

PAGE = """<!doctype html><html lang="{{ language }}"><head><title>Report</title>
<style>%s</style></head><body><h1>{{ name }}</h1>%s</body></html>"""


@pytest.fixture
def template(settings, tmp_path, monkeypatch):
    """Return a function that writes a template and returns its name."""
    monkeypatch.setattr(engines["django"].engine, "dirs", [tmp_path])
    for loader in engines["django"].engine.template_loaders:
        loader.reset()

    def write(style="", body=""):
        (tmp_path / "page.html").write_text(PAGE % (style, body))
        return "page.html"

    yield write
    for loader in engines["django"].engine.template_loaders:
        loader.reset()


def inside(document):
    """Return a PDF's bytes with its streams inflated."""
    parts = [document]
    for match in re.finditer(rb"stream\r?\n(.*?)\r?\nendstream", document, re.S):
        try:
            parts.append(zlib.decompress(match[1]))
        except zlib.error:
            continue
    return b"\n".join(parts)


def test_a_template_becomes_an_accessible_pdf_with_language_and_title(template):
    document = pdf.render(template(), {"name": "Results"})
    text = inside(document)

    assert document.startswith(b"%PDF-1.7")
    assert b"/Lang (en)" in text
    assert b"/MarkInfo" in text
    assert b"/StructTreeRoot" in text
    assert b"pdfuaid:part" in text
    assert b"Report" in text


def test_the_language_is_the_active_one(template):
    with translation.override("es"):
        assert b"/Lang (es)" in inside(pdf.render(template(), {"name": "x"}))


def test_values_are_escaped(template):
    with_markup = pdf.render(template(), {"name": '<img src="file:///etc/passwd">'})

    assert with_markup.startswith(b"%PDF")


SECRETS = [
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "file:/etc/passwd",
    "http://127.0.0.1:9/x.png",
    "https://example.org/x.png",
    "ftp://127.0.0.1/x",
    "static:../hipaamail/settings.css",
    "static:/etc/passwd.png",
    "static:css/missing.css",
    "static:hipaamail.py",
    "gopher://127.0.0.1/",
    "//127.0.0.1:9/x.png",
    "/etc/passwd",
    "x.png",
]


@pytest.mark.parametrize("address", SECRETS)
def test_a_fetcher_gives_nothing_that_is_not_ours(address):
    with pytest.raises(pdf.Refused) as caught:
        pdf.OursOnly().fetch(address)

    assert "passwd" not in str(caught.value)


@pytest.mark.parametrize(
    ("style", "body"),
    [
        ("", '<img src="{}" alt="x">'),
        ("body {{ background: url({}) }}", ""),
        ("@import url({});", ""),
        ("@font-face {{ font-family: x; src: url({}) }} h1 {{ font-family: x }}", ""),
        ("", '<object data="{}"></object>'),
        ("", '<link rel="stylesheet" href="{}">'),
        ("", '<link rel="attachment" href="{}">'),
        ("", '<a rel="attachment" href="{}">x</a>'),
        (
            "",
            '<svg xmlns="http://www.w3.org/2000/svg"><image href="{}" width="5" height="5"/></svg>',
        ),
    ],
    ids=["img", "css", "import", "font", "object", "link", "attachment", "a", "svg"],
)
@pytest.mark.parametrize("address", ["file:///etc/passwd", "http://127.0.0.1:9/x"])
def test_no_way_of_asking_reads_a_file_or_the_network(template, style, body, address):
    name = template(style.format(address), body.format(address))

    try:
        document = pdf.render(name, {"name": "x"})
    except pdf.Refused as error:
        assert address not in str(error)
    else:
        assert b"root:" not in inside(document)
        assert Path("/etc/passwd").read_bytes()[:20] not in inside(document)


def test_most_ways_of_asking_end_in_a_refusal_that_says_so(template):
    with pytest.raises(pdf.Refused, match="asks for more"):
        pdf.render(template(body='<img src="file:///etc/passwd" alt="x">'), {"name": "x"})


@pytest.fixture
def static(settings, tmp_path):
    """A folder of static files with a style sheet and a script."""
    (tmp_path / "css").mkdir()
    (tmp_path / "css" / "test.css").write_text("h1 { color: rgb(1, 2, 3) }")
    (tmp_path / "test.js").write_text("1")
    settings.STATICFILES_DIRS = [tmp_path]
    finders.get_finder.cache_clear()
    yield tmp_path
    finders.get_finder.cache_clear()


@pytest.mark.parametrize("address", ["css/test.css", "static:test.js", "STATIC:css/test.css"])
def test_a_static_file_is_given_by_its_full_address_and_kind_only(static, address):
    assert pdf.OursOnly().fetch("static:css/test.css").content_type == "text/css"

    with pytest.raises(pdf.Refused):
        pdf.OursOnly().fetch(address)


def test_data_addresses_and_our_static_files_are_used(template, static):
    pixel = (
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
        "AAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    name = template("@import url(static:css/test.css);", f'<img src="{pixel}" alt="a dot">')
    text = inside(pdf.render(name, {"name": "x"}))

    assert b"0.003922 0.007843 0.011765" in text
    assert b"/Subtype /Image" in text
