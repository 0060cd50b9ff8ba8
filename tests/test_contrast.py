"""Text and edges can be seen by everybody: WCAG 2.2, 1.4.3 and 1.4.11, computed from the style sheet."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.colours import contrast
from delivery import accent

TOKENS = Path(__file__).parent.parent / "static" / "css" / "tokens.css"
PAPERS = ("bg", "surface", "sunk")
TEXT, EDGE = 4.5, 3.0


def themes() -> dict[str, dict[str, str]]:
    """Return {"light" or "dark": {token: "#rrggbb"}} of tokens.css."""
    light, dark = re.sub(r"/\*.*?\*/", "", TOKENS.read_text(), flags=re.S).split("@media", 1)
    found = {
        name: dict(re.findall(r"--hm-([a-z0-9-]+):\s*(#[0-9a-f]{6});", part))
        for name, part in (("light", light), ("dark", dark))
    }
    assert len(found["light"]) == 23
    assert set(found["light"]) == set(found["dark"])
    return found


def pairs() -> list[tuple[str, str, float]]:
    """Return (what is seen, on what, contrast that it needs)."""
    texts = ["ink", "ink-2", "ink-3", "accent", "accent-hover"]
    states = ["go", "hold", "stop", "info", "quiet"]
    needed = [(text, paper, TEXT) for text in texts + states for paper in PAPERS]
    needed += [(state, f"{state}-tint", TEXT) for state in [*states, "accent"]]
    needed += [("on-accent", "accent", TEXT), ("on-accent", "accent-hover", TEXT)]
    needed += [(edge, paper, EDGE) for edge in ("edge", "focus") for paper in PAPERS]
    return needed


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_tokens_can_be_read(theme: str) -> None:
    tokens = themes()[theme]

    too_faint = [
        f"{seen} on {paper}: {contrast(tokens[seen], tokens[paper]):.2f}"
        for seen, paper, least in pairs()
        if contrast(tokens[seen], tokens[paper]) < least
    ]

    assert too_faint == []


def test_the_papers_of_an_accent_are_those_of_the_style_sheet() -> None:
    found = themes()

    assert tuple(found["light"][paper] for paper in PAPERS) == accent.LIGHT
    assert tuple(found["dark"][paper] for paper in PAPERS) == accent.DARK


@given(st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}"))
def test_any_colour_of_an_organization_becomes_one_that_can_be_read(colour: str) -> None:
    for papers in (accent.LIGHT, accent.DARK):
        shades = accent.shades(colour, papers)

        assert all(contrast(shades["accent"], paper) >= TEXT for paper in papers)
        assert all(contrast(shades["accent-hover"], paper) >= TEXT for paper in papers)
        assert contrast(shades["on-accent"], shades["accent"]) >= TEXT
        assert contrast(shades["on-accent"], shades["accent-hover"]) >= TEXT


def test_a_colour_that_can_be_read_is_left_as_it_is() -> None:
    assert accent.shades("#0e5a5a", accent.LIGHT)["accent"] == "#0e5a5a"
    assert accent.shades("#ffe14d", accent.DARK)["accent"] == "#ffe14d"
