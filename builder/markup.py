"""Blocks as MJML: every section, its colours, and the style sheet for dark mode and phones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from builder import colours, links, rich, wording
from builder.brand import Brand, address_lines
from builder.marks import Marks, attribute
from builder.rich import Element
from builder.stylesheet import stylesheet
from builder.tags import Context, Hole, Registry, parse
from builder.theme import Shades, Theme

SIDE = 40  # px between the edge of the mail and its text; 24 on a phone
BETWEEN = 10  # px above and below a block
EDGE = 34  # px where a tone begins or ends
ROUND = "14px"
_SIZES = {"small": "14px", "normal": "17px", "large": "20px"}
_HEADINGS = {"h1": ("34px", "1.2", 400), "h2": ("25px", "1.3", 400), "h3": ("19px", "1.35", 700)}
# Keeps what follows the preview line out of the list of messages.
_FILLER = "&#847;&zwnj;&nbsp;" * 40
_AIR = '<mj-section padding="0"><mj-column><mj-spacer height="28px" /></mj-column></mj-section>'
_UNSUBSCRIBE = Hole("unsubscribe_url", Context.LINK)


@dataclass(frozen=True, slots=True)
class Mail:
    """What blocks are drawn with: the look, the organization, the merge tags, and the holes made so far."""

    theme: Theme
    brand: Brand
    tags: Registry
    marks: Marks
    language: str
    images: Mapping[str, str]  # media id -> address
    trees: dict[str, list[Element | str | Hole]] = field(default_factory=dict)  # read so far

    @property
    def start(self) -> str:
        """Where lines begin."""
        return "right" if wording.direction(self.language) == "rtl" else "left"

    def parts(self, text: str) -> tuple[str | Hole, ...]:
        """The parts of a line that was checked."""
        return parse(text, self.tags, context=Context.HTML, path="")[0]

    def tree(self, fragment: str) -> list[Element | str | Hole]:
        """The tree of a rich text that was checked; both parts of the mail are made from one reading."""
        if fragment not in self.trees:
            self.trees[fragment] = rich.read(fragment, self.tags)
        return self.trees[fragment]

    def address(self, href: str) -> str:
        """The address of a link that was checked, for an attribute."""
        return self.marks.attribute(read_address(href, self.tags), Context.URL)


def read_address(href: str, tags: Registry) -> tuple[str | Hole, ...]:
    """The parts of an address that was checked."""
    return links.read_link(href, tags, path="")[0]


def document(blocks: list[dict], mail: Mail, *, title: str, preheader: str) -> str:
    """The MJML source of a valid document."""
    direction = wording.direction(mail.language)
    return "\n".join(
        [
            f'<mjml lang="{attribute(mail.language)}" dir="{direction}"><mj-head>',
            f"<mj-title>{attribute(title)}</mj-title>",
            _preview(preheader, mail),
            '<mj-raw><meta name="color-scheme" content="light dark" />'
            '<meta name="supported-color-schemes" content="light dark" />'
            '<meta name="x-apple-disable-message-reformatting" />'
            '<meta name="format-detection" content="telephone=no,date=no,address=no,email=no,url=no" />'
            "</mj-raw>",
            f'<mj-attributes><mj-all font-family="{attribute(mail.theme.font)}" /></mj-attributes>',
            f"<mj-style>{stylesheet(mail.theme)}</mj-style>",
            "</mj-head>",
            f'<mj-body width="{mail.theme.width}px" css-class="page" '
            f'background-color="{mail.theme.tones["page"].fill}">',
            *_sections(blocks, mail),
            "</mj-body></mjml>",
        ]
    )


def _preview(preheader: str, mail: Mail) -> str:
    if not preheader:
        return "<mj-preview>&nbsp;</mj-preview>"
    parts = parse(preheader, mail.tags, context=Context.PREHEADER, path="")[0]
    return f"<mj-preview>{mail.marks.content(parts, Context.PREHEADER)}{_FILLER}</mj-preview>"


# --- sections ---------------------------------------------------------------------------------------


def tone_of(block: dict) -> str:
    """The tone that a block is painted in."""
    if block["type"] == "footer":
        return "page"
    if block["type"] == "header":
        return {"open": "page", "card": "plain", "band": "strong"}[block.get("look", "open")]
    return block.get("tone", "plain")


def _sections(blocks: list[dict], mail: Mail) -> list[str]:
    # a picture from edge to edge is a tone of its own, so that what is above and below gets air
    tones = ["page", *("edge" if _is_full(b) else tone_of(b) for b in blocks), "page"]
    air = "" if tones[1] == "page" else _AIR  # the page shows above the first card, too
    return [
        air,
        *(
            _section(block, mail, before=tones[i], after=tones[i + 2])
            for i, block in enumerate(blocks)
        ),
    ]


def _is_full(block: dict) -> bool:
    return block["type"] == "image" and block.get("edge") == "full"


def _section(block: dict, mail: Mail, *, before: str, after: str) -> str:
    """One block as one section; corners and air where its tone meets another."""
    tone = tone_of(block)
    shades = mail.theme.tones[tone]
    fill = block.get("background", shades.fill) if block["type"] == "footer" else shades.fill
    plain = block["type"] in ("header", "footer", "spacer") or _is_full(block)
    top = 0 if plain or before == tone else EDGE - BETWEEN
    bottom = 0 if plain or after == tone else EDGE - BETWEEN
    round_top = ROUND if before == "page" != tone else "0"
    round_bottom = ROUND if after == "page" != tone else "0"
    side = 0
    kind = ""
    if block["type"] == "columns":
        cards = block.get("look") == "cards"
        kind, side = (" cols-cards", SIDE - 8) if cards else (" cols", SIDE - 12)
    inner = (
        _columns(block, mail, tone)
        if block["type"] == "columns"
        else f'<mj-column width="100%">{_DRAW[block["type"]](block, mail, shades)}</mj-column>'
    )
    return (
        f'<mj-section css-class="tone-{tone}{kind} blk-{block["id"]}" background-color="{fill}" '
        f'padding="{top}px {side}px {bottom}px" '
        f'border-radius="{round_top} {round_top} {round_bottom} {round_bottom}">{inner}</mj-section>'
    )


def _columns(block: dict, mail: Mail, tone: str) -> str:
    columns = block["columns"]
    widths = block.get("widths") or [100 / len(columns)] * len(columns)
    cards = block.get("look") == "cards"
    inside = ("plain" if tone == "soft" else "soft") if cards else tone
    shades = mail.theme.tones[inside]
    card = (
        f' css-class="card card-{inside}" padding="8px" inner-background-color="{shades.fill}"'
        ' inner-border-radius="10px"'
        if cards
        else ""
    )
    return "".join(
        f'<mj-column width="{width:.4g}%" vertical-align="top"{card}>'
        + "".join(_nested(nested, mail, shades, cards) for nested in column)
        + "</mj-column>"
        for width, column in zip(widths, columns, strict=True)
    )


def _nested(block: dict, mail: Mail, shades: Shades, card: bool) -> str:
    drawn = _DRAW[block["type"]](block, mail, shades, side=16 if card else 12)
    return drawn.replace('css-class="', f'css-class="blk-{block["id"]} ', 1)


# --- blocks -----------------------------------------------------------------------------------------


def _header(block: dict, mail: Mail, shades: Shades, side: int = SIDE) -> str:
    brand, theme = mail.brand, mail.theme
    align = block.get("align", mail.start)
    padding = "34px 40px 26px" if block.get("look", "open") == "open" else "28px 40px"
    tagline = block.get("tagline", "")
    line = (
        f'<div class="muted" style="padding-top:8px;color:{shades.muted};font-family:{attribute(theme.font)};'
        'font-size:15px;font-weight:400;line-height:1.5;">'
        f"{mail.marks.content(mail.parts(tagline))}</div>"
        if tagline
        else ""
    )
    if block.get("show") == "logo" and brand.logo:
        address = mail.images[links.media_id(brand.logo) or ""]
        logo = (
            f'<mj-image css-class="logo" src="{attribute(address)}" alt="{attribute(brand.organization)}" '
            f'width="180px" align="{align}" padding="28px 40px {10 if line else 28}px" '
            f'color="{shades.heading}" font-size="22px" />'
        )
        return logo + (
            f'<mj-text css-class="txt" align="{align}" padding="0 40px 26px">{line}</mj-text>'
            if line
            else ""
        )
    return (
        f'<mj-text css-class="txt" align="{align}" padding="{padding}" color="{shades.heading}" '
        f'font-family="{attribute(theme.heading_font)}" font-size="21px" line-height="34px" font-weight="700">'
        f'{_seal(block, mail, shades)}&nbsp; <span class="name" style="vertical-align:middle;letter-spacing:0.2px;">'
        f"{mail.marks.content((brand.organization,))}</span>{line}</mj-text>"
    )


def _seal(block: dict, mail: Mail, shades: Shades) -> str:
    """The organization's initial on a disc: a logo that nothing has to be loaded for."""
    fill, ink = mail.theme.accent, mail.theme.on_accent
    if block.get("look") == "band":
        fill, ink = shades.text, mail.theme.accent
    initial = mail.marks.content((mail.brand.organization.strip()[:1].upper(),))
    return (
        f'<span class="seal" aria-hidden="true" style="display:inline-block;width:34px;height:34px;'
        f"line-height:34px;border-radius:17px;background:{fill};color:{ink};font-size:18px;"
        f'text-align:center;vertical-align:middle;">{initial}</span>'
    )


def _text(block: dict, mail: Mail, shades: Shades, side: int = SIDE) -> str:
    size = block.get("size", "normal")
    content = _rich(mail.tree(block["html"]), mail, shades)
    return (
        f'<mj-text css-class="txt" align="{block.get("align", mail.start)}" '
        f'padding="{BETWEEN}px {side}px" color="{shades.text}" '
        f'font-size="{_SIZES[size]}" line-height="1.6">{content}</mj-text>'
    )


def _button(block: dict, mail: Mail, shades: Shades, side: int = SIDE) -> str:
    theme = mail.theme
    outline = block.get("look") == "outline"
    on_strong = shades.fill == theme.accent
    fill, ink = (shades.text, theme.accent) if on_strong else (theme.accent, theme.on_accent)
    if outline:
        fill, ink = shades.fill, shades.link
    kind = f"{'outline' if outline else 'filled'}{'-strong' if on_strong else ''}"
    return (
        f'<mj-button css-class="btn-{kind}" href="{mail.address(block["href"])}" '
        f'align="{block.get("align", mail.start)}" padding="{BETWEEN}px {side}px" '
        f'background-color="{fill}" color="{ink}" border="2px solid {ink if outline else fill}" '
        'border-radius="26px" font-size="17px" font-weight="600" line-height="1.3" '
        f'inner-padding="12px 26px">{mail.marks.content(mail.parts(block["label"]))}</mj-button>'
    )


def _image(block: dict, mail: Mail, shades: Shades, side: int = SIDE) -> str:
    media = links.media_id(block["src"])
    address = mail.images[media] if media else block["src"]
    full = _is_full(block)
    alt = mail.marks.attribute(
        parse(block["alt"], mail.tags, context=Context.ATTRIBUTE, path="")[0], Context.ATTRIBUTE
    )
    more = f' width="{block["width"]}px"' if "width" in block else ' fluid-on-mobile="true"'
    if "href" in block:
        more += f' href="{mail.address(block["href"])}"'
    return (
        f'<mj-image css-class="img{" edge" if full else ""}" src="{attribute(address)}" alt="{alt}" '
        f'align="{block.get("align", "center")}" padding="{"0" if full else f"{BETWEEN}px {side}px"}" '
        f'border-radius="{"0" if full else "8px"}" color="{shades.text}" font-size="15px"{more} />'
    )


def _divider(block: dict, mail: Mail, shades: Shades, side: int = SIDE) -> str:
    return (
        f'<mj-divider css-class="rule" padding="16px {side}px" border-width="1px" '
        f'border-color="{shades.line}" />'
    )


def _spacer(block: dict, mail: Mail, shades: Shades, side: int = SIDE) -> str:
    return f'<mj-spacer css-class="gap" height="{block.get("height", 24)}px" />'


def _footer(block: dict, mail: Mail, shades: Shades, side: int = SIDE) -> str:
    """Who sends and why, the postal address, and how to stop it; made here, whatever the document says."""
    brand, words = mail.brand, wording.footer(mail.language)
    fill = block.get("background", shades.fill)
    ink = block.get("text") or colours.readable(shades.muted, fill)
    link = f'style="color:{ink};text-decoration:underline;font-weight:600;"'
    paragraph = f'<p style="margin:0 0 12px;color:{ink};">'
    say = mail.marks.content
    stop = (
        f'<a href="{attribute(mail.marks.place(_UNSUBSCRIBE, Context.LINK))}" {link}>'
        f"{say((brand.unsubscribe_label or words['unsubscribe'],))}</a>"
    )
    if brand.preferences_url:
        stop += (
            f' &nbsp;·&nbsp; <a href="{attribute(brand.preferences_url)}" {link}>'
            f"{say((brand.preferences_label or words['preferences'],))}</a>"
        )
    before = words[block.get("wording", "standard")]
    address = "<br />".join(say((line,)) for line in address_lines(brand))
    sender = words["sent_by"].format(sender=brand.sender_name)
    reasons = " ".join(say((line,)) for line in (sender, brand.reason, brand.notice) if line)
    return (
        f'<mj-text css-class="{"foot" if "background" in block else "txt foot"}" '
        f'align="{block.get("align", mail.start)}" padding="28px {side}px 40px" color="{ink}" '
        f'font-size="14px" line-height="1.6">{paragraph}{reasons}</p>'
        f"{paragraph}{say((before + ' ',)) if before else ''}{stop}</p>"
        f'<p style="margin:0;color:{ink};">{address}</p></mj-text>'
    )


def _rich(children: list[Element | str | Hole], mail: Mail, shades: Shades) -> str:
    """Rich text with its styles on the elements, where every mail program sees them."""
    return "".join(
        mail.marks.content((child,))
        if not isinstance(child, Element)
        else _element(child, mail, shades, first=i == 0, last=i == len(children) - 1)
        for i, child in enumerate(children)
    )


def _element(element: Element, mail: Mail, shades: Shades, *, first: bool, last: bool) -> str:
    name = element.name
    if name == "br":
        return "<br />"
    inside = _rich(element.children, mail, shades)
    if name == "a":
        href = mail.marks.attribute(element.href, Context.URL)
        whole = "white-space:nowrap;" if href.startswith("tel:") else ""
        return (
            f'<a href="{href}" style="color:{shades.link};text-decoration:underline;{whole}">{inside}</a>'
            if element.href
            else inside
        )
    style = _block_style(name, mail, shades, first=first, last=last)
    if element.align:
        style += f"text-align:{element.align};"
    return f'<{name} style="{style}">{inside}</{name}>' if style else f"<{name}>{inside}</{name}>"


def _block_style(name: str, mail: Mail, shades: Shades, *, first: bool, last: bool) -> str:
    under = "0" if last else "16px"
    if name in _HEADINGS:
        size, height, weight = _HEADINGS[name]
        return (
            f"margin:{'0' if first else '28px'} 0 {'0' if last else '12px'};color:{shades.heading};font-size:{size};"
            f"line-height:{height};font-weight:{weight};font-family:{attribute(mail.theme.heading_font)};"
        )
    if name == "p":
        return f"margin:0 0 {under};"
    if name in ("ul", "ol"):
        inset = "0 24px 0 0" if mail.start == "right" else "0 0 0 24px"
        return f"margin:0 0 {under};padding:{inset};"
    if name == "li":
        return f"margin:0 0 {'0' if last else '8px'};"
    return ""


_DRAW: dict[str, Callable[..., str]] = {
    "header": _header,
    "text": _text,
    "button": _button,
    "image": _image,
    "divider": _divider,
    "spacer": _spacer,
    "footer": _footer,
}
