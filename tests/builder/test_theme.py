"""Whatever colours an organization picks, text can be read, by day and by night."""

from hypothesis import given, settings
from hypothesis import strategies as st

from builder import colours, theme

COLOURS = st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}")


def test_contrast_is_that_of_wcag() -> None:
    assert round(colours.contrast("#000000", "#ffffff"), 2) == 21
    assert colours.contrast("#123456", "#123456") == 1
    assert round(colours.contrast("#767676", "#ffffff"), 2) == 4.54


@given(COLOURS)
def test_there_is_always_a_colour_to_write_with(background: str) -> None:
    assert colours.contrast(colours.on(background), background) >= 4.5


@settings(max_examples=150, deadline=None)
@given(COLOURS, COLOURS, COLOURS, COLOURS)
def test_every_shade_can_be_read(accent: str, background: str, surface: str, text: str) -> None:
    made = theme.theme(
        {"accent": accent, "background": background, "surface": surface, "text": text}
    )

    for shades in (*made.tones.values(), *made.dark.values()):
        for colour in (shades.text, shades.heading, shades.link, shades.muted):
            assert colours.contrast(colour, shades.fill) >= 4.5
    assert colours.contrast(made.on_accent, made.accent) >= 4.5
    assert colours.contrast(made.dark_on_accent, made.dark_accent) >= 4.5


def test_the_organizations_accent_is_used_where_the_document_has_none() -> None:
    assert theme.theme({}, "#0a6ebd").accent == "#0a6ebd"
    assert theme.theme({"accent": "#aa3300"}, "#0a6ebd").accent == "#aa3300"
    assert theme.theme({}).accent == theme.DEFAULTS["accent"]
