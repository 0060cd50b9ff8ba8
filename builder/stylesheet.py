"""The style sheet of a mail: dark mode, phones, and links. Mail programs that drop it lose nothing else."""

from builder.theme import Shades, Theme

PHONE = 480


def stylesheet(theme: Theme) -> str:
    """CSS for the head; every value in it is a checked colour or a constant."""
    dark = [
        f"body,.page{{background-color:{theme.dark['page'].fill} !important}}",
        *(_tone(name, shades) for name, shades in theme.dark.items()),
        *(
            f".card-{name}>table>tbody>tr>td>table{{background-color:{shades.fill} !important}}"
            + _inside(f".card-{name}", shades)
            for name, shades in theme.dark.items()
            if name in ("plain", "soft")
        ),
        _button(".btn-filled", theme.dark_accent, theme.dark_on_accent, theme.dark_accent),
        *(
            _button(f".tone-{name} .btn-outline", shades.fill, shades.link, shades.link)
            for name, shades in theme.dark.items()
            if name != "page"
        ),
        f".tone-page .seal,.tone-plain .seal{{background-color:{theme.dark_accent} !important;color:{theme.dark_on_accent} !important}}",
    ]
    return "\n".join(
        [
            "a:hover{text-decoration:none !important}",
            f"@media only screen and (max-width:{PHONE}px){{"
            ".txt,.foot,.img,.rule{padding-left:24px !important;padding-right:24px !important}"
            ".edge{padding-left:0 !important;padding-right:0 !important}"
            ".btn-filled,.btn-outline,.btn-filled-strong,.btn-outline-strong"
            "{padding-left:24px !important;padding-right:24px !important}"
            ".cols>table>tbody>tr>td{padding-left:0 !important;padding-right:0 !important}"
            ".cols-cards>table>tbody>tr>td{padding-left:16px !important;padding-right:16px !important}"
            ".card .txt,.card .img,.card .btn-filled,.card .btn-outline{padding-left:16px !important;padding-right:16px !important}"
            "h1{font-size:28px !important}}",
            "@media (prefers-color-scheme:dark){" + "".join(dark) + "}",
        ]
    )


def _tone(name: str, shades: Shades) -> str:
    section = f".tone-{name}"
    return (
        f"{section},{section}>table{{background:{shades.fill} !important;background-color:{shades.fill} !important}}"
        + _inside(section, shades)
    )


def _inside(where: str, shades: Shades) -> str:
    text = ",".join(f"{where} .txt {element}" for element in ("div", "p", "li"))
    headings = ",".join(f"{where} .txt {element}" for element in ("h1", "h2", "h3", ".name"))
    return (
        f"{text}{{color:{shades.text} !important}}"
        f"{headings}{{color:{shades.heading} !important}}"
        f"{where} .txt a{{color:{shades.link} !important}}"
        f"{where} .muted,{where} .foot p,{where} .foot a{{color:{shades.muted} !important}}"
        f"{where} .rule p{{border-top-color:{shades.line} !important}}"
    )


def _button(where: str, fill: str, ink: str, border: str) -> str:
    return (
        f"{where} table td{{background:{fill} !important;border-color:{border} !important}}"
        f"{where} a{{background:{fill} !important;color:{ink} !important}}"
    )
