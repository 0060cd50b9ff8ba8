"""Colours that can be read: contrast by WCAG 2.2 (1.4.3), and the nearest shade that has it."""

import re

COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
READABLE = 4.5  # WCAG 2.2, 1.4.3: text of normal size
WHITE = "#ffffff"
INK = "#1d2327"
BLACK = "#000000"  # only where neither of the others can be read; it or white always can


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, from 1 (the same) to 21 (black on white)."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def mix(one: str, other: str, share: float) -> str:
    """`one` with a `share` (0 to 1) of `other`."""
    return "#" + "".join(
        f"{round(a + (b - a) * share):02x}" for a, b in zip(_rgb(one), _rgb(other), strict=True)
    )


def on(background: str) -> str:
    """White, ink or black: what can be read on the background."""
    return next(c for c in (WHITE, INK, BLACK) if contrast(c, background) >= READABLE)


def readable(colour: str, *backgrounds: str) -> str:
    """The colour, moved no further than needed toward ink or white to be read on all the backgrounds."""
    target = on(backgrounds[0])
    for step in range(21):
        shade = mix(colour, target, step / 20)
        if all(contrast(shade, background) >= READABLE for background in backgrounds):
            return shade
    return target


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def _luminance(colour: str) -> float:
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (value / 255 for value in _rgb(colour))
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
