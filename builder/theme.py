"""The colours and letters of one mail, by light and by dark, from a document's few settings."""

from dataclasses import dataclass

from builder import colours

DEFAULTS = {
    "width": 600,
    "background": "#f3eee6",
    "surface": "#fffdf9",
    "text": "#33302c",
    "accent": "#1f6a6e",
    "font": "sans",
    "heading_font": "serif",
}
# Letters that are on the reader's machine; a font fetched from elsewhere would tell who reads.
FONTS = {
    "sans": "-apple-system, BlinkMacSystemFont, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif",
    "serif": "Georgia, Cambria, 'Times New Roman', serif",
    "humanist": "Optima, Candara, 'Gill Sans', 'Trebuchet MS', sans-serif",
}
TONES = ("plain", "soft", "strong")
_NIGHT = {"background": "#14171a", "surface": "#1d2226", "text": "#e6e2da"}


@dataclass(frozen=True, slots=True)
class Shades:
    """What one kind of section is painted with."""

    fill: str
    text: str
    heading: str
    link: str
    muted: str
    line: str


@dataclass(frozen=True, slots=True)
class Theme:
    """Everything that the blocks of one mail are drawn with; `tones` also has "page", around the mail."""

    width: int
    font: str
    heading_font: str
    accent: str
    on_accent: str
    tones: dict[str, Shades]
    dark: dict[str, Shades]
    dark_accent: str
    dark_on_accent: str


def theme(settings: dict[str, object], accent: str = "") -> Theme:
    """The theme of a valid document's settings; `accent` is the organization's own, where the document has none."""
    chosen = DEFAULTS | ({"accent": accent} if accent else {}) | settings
    day = {key: str(chosen[key]) for key in ("background", "surface", "text", "accent")}
    night_accent = colours.readable(day["accent"], _NIGHT["surface"], _NIGHT["background"])
    return Theme(
        width=int(str(chosen["width"])),
        font=FONTS[str(chosen["font"])],
        heading_font=FONTS[str(chosen["heading_font"])],
        accent=day["accent"],
        on_accent=colours.on(day["accent"]),
        tones=_tones(**day),
        # a strong section keeps its day colours: they are the organization's, and dark enough
        dark={k: v for k, v in _tones(**_NIGHT, accent=night_accent).items() if k != "strong"},
        dark_accent=night_accent,
        dark_on_accent=colours.on(night_accent),
    )


def shades(fill: str, text: str, accent: str) -> Shades:
    """The shades of a section with this fill."""
    return Shades(
        fill=fill,
        text=colours.readable(text, fill),
        heading=colours.readable(colours.mix(text, accent, 0.25), fill),
        link=colours.readable(accent, fill),
        muted=colours.readable(colours.mix(text, fill, 0.4), fill),
        line=colours.mix(fill, text, 0.16),
    )


def _tones(background: str, surface: str, text: str, accent: str) -> dict[str, Shades]:
    on_accent = colours.on(accent)
    return {
        "page": shades(background, text, accent),
        "plain": shades(surface, text, accent),
        "soft": shades(colours.mix(surface, accent, 0.1), text, accent),
        "strong": Shades(
            fill=accent,
            text=on_accent,
            heading=on_accent,
            link=on_accent,
            muted=on_accent,
            line=colours.mix(accent, on_accent, 0.35),
        ),
    }
