"""An organization's colour on its public pages: a small style sheet, with shades that can be read.

The colour itself is in the address (`/u/accent/0e5a5a.css`), so the sheet is the same for everybody, tells
nothing, and can be kept for ever; and the pages need no inline style (Content-Security-Policy).
"""

import colorsys

from builder import colours

#: The papers of static/css/tokens.css that the colour is read on: bg, surface and sunk.
LIGHT = ("#f6f5f1", "#ffffff", "#edebe5")
DARK = ("#111718", "#182022", "#202a2c")


def shades(colour: str, papers: tuple[str, ...]) -> dict[str, str]:
    """Return {token: "#rrggbb"} for one theme: the accent, its hover shade, and what is written on both.

    Text reaches 4.5:1 (WCAG 2.2, 1.4.3): the accent on every paper, `on-accent` on the accent.
    """
    accent = _readable(colour, papers)
    on_accent = colours.on(accent)
    # Hovering moves away from what is written on it, so it only gets easier to read.
    away = colours.BLACK if on_accent == colours.WHITE else colours.WHITE
    return {
        "accent": accent,
        "accent-hover": colours.mix(accent, away, 0.25),
        "on-accent": on_accent,
    }


def sheet(colour: str) -> str:
    """Return the style sheet of a colour, "#rrggbb"."""
    light, dark = _declared(shades(colour, LIGHT)), _declared(shades(colour, DARK))
    return f":root{{{light}}}\n@media (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


def _readable(colour: str, papers: tuple[str, ...]) -> str:
    """Return the colour made lighter or darker, no further than needed; its hue stays, so it stays theirs."""
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
    end = 1.0 if colours.on(papers[0]) == colours.WHITE else 0.0
    shade = colour
    for step in range(101):
        moved = colorsys.hls_to_rgb(hue, lightness + (end - lightness) * step / 100, saturation)
        shade = "#" + "".join(f"{round(part * 255):02x}" for part in moved)
        if all(colours.contrast(shade, paper) >= colours.READABLE for paper in papers):
            break
    return shade


def _declared(tokens: dict[str, str]) -> str:
    return "".join(f"--hm-{name}:{value};" for name, value in tokens.items())
