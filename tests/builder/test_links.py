"""A link leads where the author says and where a reader expects; an image tells no stranger who reads."""

import pytest

from builder import links
from builder.tags import Context, Hole
from tests.builder.conftest import TAGS


def codes(href: str) -> list[str]:
    return [found.code for found in links.read_link(href, TAGS, path="href")[1]]


@pytest.mark.parametrize(
    "href",
    [
        "https://lakeside.example",
        "https://lakeside.example/",
        "https://www.lakeside.example:8443/a/b.html?c=1&d=%20e#f",
        "https://xn--bcher-kva.example/",
        "https://lakeside.example/?c={{ clinic }}",
        "https://lakeside.example/{{ clinic }}/visit",
        "https://lakeside.example#{{ clinic }}",
        "mailto:care@lakeside.example",
        "mailto:care@lakeside.example?subject=Hello%20there",
        "tel:+16085550142",
        "tel:608-555-0142",
    ],
)
def test_these_links_are_good(href: str) -> None:
    assert codes(href) == []


@pytest.mark.parametrize(
    ("href", "code"),
    [
        ("javascript:alert(1)", "bad_scheme"),
        ("JavaScript:alert(1)", "bad_scheme"),
        (" javascript:alert(1)", "bad_scheme"),
        ("java\nscript:alert(1)", "bad_address"),
        ("data:text/html,x", "bad_scheme"),
        ("vbscript:x", "bad_scheme"),
        ("http://lakeside.example/", "bad_scheme"),
        ("ftp://lakeside.example/", "bad_scheme"),
        ("file:///etc/passwd", "bad_scheme"),
        ("//evil.example", "bad_address"),
        ("\\\\evil.example", "bad_address"),
        ("/relative", "bad_address"),
        ("", "bad_address"),
        ("#top", "bad_address"),
        ("https:/evil.example", "bad_address"),
        ("https:evil.example", "bad_address"),
        ("https://", "bad_address"),
        ("https://localhost/", "bad_address"),
        ("https://169.254.169.254/", "bad_address"),
        ("https://0x7f.1/", "bad_address"),
        ("https://[::1]/", "bad_address"),
        ("https://lakeside.example@evil.example/", "bad_address"),
        ("https://lakeside.example\\@evil.example/", "bad_address"),
        ("https://lakeside.example/a b", "bad_address"),
        ("https://lakeside.example/\x00", "bad_address"),
        ("https://lakeside.example/\u202e", "bad_address"),
        ("https://lakeside.example/é", "bad_address"),
        ("https://lаkeside.example/", "bad_address"),  # Cyrillic а
        ("https://lakeside.example/<script>", "bad_address"),
        ('https://lakeside.example/"onclick="x', "bad_address"),
        ("https://lakeside.example/%zz", "bad_address"),
        ("mailto:a@x.example?bcc=b@x.example", "bad_address"),
        ("mailto:a@x.example?subject=a%0D%0ABcc:b", "bad_address"),
        ("mailto:a@x.example,b@x.example", "bad_address"),
        ("tel:911;x=javascript:alert(1)", "bad_address"),
        ("{{ clinic }}", "tag_begins_address"),
        ("{{ clinic }}://x.example", "tag_begins_address"),
        ("https://{{ clinic }}/", "tag_begins_address"),
        ("https://{{ clinic }}.example/", "tag_begins_address"),
        ("https://lakeside.example{{ clinic }}/", "tag_begins_address"),
        ("https://lakeside.example:{{ clinic }}/", "tag_begins_address"),
        ("mailto:{{ clinic }}@x.example", "tag_begins_address"),
        ("https://x.example/{{ first_name }}", "sensitive_place"),
        ("https://x.example/{{ doctor }}", "sensitive_place"),
        ("https://x.example/{{ nobody }}", "unknown_tag"),
        ("https://x.example/" + "a" * 2000, "too_long"),
    ],
)
def test_these_links_are_refused(href: str, code: str) -> None:
    assert codes(href) == [code]


def test_holes_of_a_link_are_in_their_context() -> None:
    parts, _ = links.read_link("https://x.example/{{ clinic }}?a=1", TAGS, path="")

    assert parts == ("https://x.example/", Hole("clinic", Context.URL), "?a=1")


def test_an_image_is_an_upload_or_on_an_allowed_host() -> None:
    hosts = {"images.lakeside.example"}

    assert links.media_id("media:lake_1-a") == "lake_1-a"
    assert links.media_id("media:../etc") is None
    assert links.is_image_address("https://images.lakeside.example/a.png", hosts)
    for src in (
        "https://tracker.example/pixel.gif",
        "https://images.lakeside.example.evil.example/a.png",
        "https://images.lakeside.example@evil.example/a.png",
        "http://images.lakeside.example/a.png",
        "//images.lakeside.example/a.png",
        "data:image/png;base64,AAAA",
        "file:///etc/passwd",
        "cid:logo",
        "https://images.lakeside.example/\ue000.png",
    ):
        assert not links.is_image_address(src, hosts)


def test_our_own_server_may_be_this_machine() -> None:
    assert links.is_resolved("https://mail.lakeside.example/m/1")
    assert links.is_resolved("http://127.0.0.1:8000/m/1")
    assert not links.is_resolved("http://mail.lakeside.example/m/1")
    assert not links.is_resolved("javascript:alert(1)")
