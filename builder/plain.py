"""Blocks as plain text: a mail that is pleasant to read without HTML, with the same holes."""

import re

from builder import characters, wording
from builder.brand import address_lines
from builder.markup import Mail, read_address
from builder.rich import Element
from builder.tags import Context, Hole, parse

_RULE = "-" * 40
_MARK = re.compile("\ue000[0-9]+\ue001")
_SPACES = re.compile(r"[ \t\n\xa0]+")
_UNSUBSCRIBE = Hole("unsubscribe_url", Context.TEXT_LINK)
_TYPICAL = 8  # characters, for the line under a heading that holds a merge tag


def document(blocks: list[dict], mail: Mail) -> str:
    """The plain text part of a valid document, with marks for the holes; ends with a line break."""
    paragraphs = [text for block in blocks for text in _block(block, mail) if text]
    return "\n\n".join(paragraphs) + "\n"


def _block(block: dict, mail: Mail) -> list[str]:
    match block["type"]:
        case "header":
            lines = [mail.marks.text((mail.brand.organization.strip(),))]
            if block.get("tagline"):
                lines.append(mail.marks.text(mail.parts(block["tagline"])))
            return ["\n".join(lines), _RULE]
        case "text":
            return _rich(mail.tree(block["html"]), mail)
        case "button":
            label = mail.marks.text(mail.parts(block["label"])).strip()
            return [f"{label}: {_address(block['href'], mail)}"]
        case "image":
            return [_image(block, mail)]
        case "columns":
            return [
                text
                for column in block["columns"]
                for nested in column
                for text in _block(nested, mail)
            ]
        case "divider":
            return [_RULE]
        case "footer":
            return _footer(block, mail)
    return []  # a spacer


def _image(block: dict, mail: Mail) -> str:
    if not block["alt"]:
        return ""
    parts = parse(block["alt"], mail.tags, context=Context.ATTRIBUTE, path="")[0]
    described = f"[{mail.marks.text(parts).strip()}]"
    return f"{described}: {_address(block['href'], mail)}" if "href" in block else described


def _footer(block: dict, mail: Mail) -> list[str]:
    brand, words = mail.brand, wording.footer(mail.language)
    say = mail.marks.text
    sender = words["sent_by"].format(sender=brand.sender_name)
    reasons = " ".join(say((line,)) for line in (sender, brand.reason, brand.notice) if line)
    before = words[block.get("wording", "standard")]
    stop = [
        *([before] if before else []),
        f"{say((brand.unsubscribe_label or words['unsubscribe'],))}: "
        f"{mail.marks.place(_UNSUBSCRIBE, Context.TEXT_LINK)}",
    ]
    if brand.preferences_url:
        stop.append(
            f"{say((brand.preferences_label or words['preferences'],))}: {brand.preferences_url}"
        )
    address = "\n".join(say((line,)) for line in address_lines(brand))
    return [_RULE, reasons, "\n".join(stop), address]


def _address(href: str, mail: Mail) -> str:
    address = mail.marks.text(read_address(href, mail.tags), Context.URL)
    return re.sub(r"^(?:mailto|tel):", "", address)


# --- rich text --------------------------------------------------------------------------------------


def _rich(children: list[Element | str | Hole], mail: Mail) -> list[str]:
    return [text for child in children for text in _paragraph(child, mail)]


def _paragraph(child: Element | str | Hole, mail: Mail) -> list[str]:
    if not isinstance(child, Element):
        return [_inline([child], mail)]
    if child.name in ("ul", "ol"):
        return ["\n".join(_items(child, mail, ""))]
    text = _inline(child.children, mail)
    if child.name in ("h1", "h2"):
        under = "=" if child.name == "h1" else "-"
        longest = max(map(_length, text.split("\n")), default=0)
        return [f"{text}\n{under * min(longest, 60)}"]
    return [text]


def _items(items: Element, mail: Mail, indent: str) -> list[str]:
    lines: list[str] = []
    number = 0
    for item in items.children:
        if not isinstance(item, Element):
            continue
        number += 1
        bullet = f"{number}. " if items.name == "ol" else "- "
        own = [c for c in item.children if not _is_list(c)]
        inner = indent + " " * len(bullet)
        text = _inline(own, mail).replace("\n", "\n" + inner)
        lines.append(f"{indent}{bullet}{text}")
        for nested in item.children:
            if isinstance(nested, Element) and _is_list(nested):
                lines += _items(nested, mail, inner)
    return lines


def _is_list(child: Element | str | Hole) -> bool:
    return isinstance(child, Element) and child.name in ("ul", "ol")


def _inline(children: list[Element | str | Hole], mail: Mail) -> str:
    """One paragraph on lines as long as they come; <br> breaks them."""
    lines = _run(children, mail).split("\v")
    return "\n".join(_SPACES.sub(" ", line).strip() for line in lines).strip("\n")


def _run(children: list[Element | str | Hole], mail: Mail) -> str:
    return "".join(_span(child, mail) for child in children)


def _span(child: Element | str | Hole, mail: Mail) -> str:
    if isinstance(child, Hole):
        return mail.marks.place(child, Context.TEXT)
    if isinstance(child, str):
        return characters.lines(child)
    if child.name == "br":
        return "\v"  # `characters` leaves none in a text
    inside = _run(child.children, mail)
    if child.name != "a" or not child.href:
        return inside
    whole = mail.marks.text(child.href, Context.URL)
    address = re.sub(r"^(?:mailto|tel):", "", whole)
    label = inside.strip()
    if whole.startswith("tel:") and _same_number(label, address):
        return label
    return address if label in ("", address) else f"{label}: {address}"


def _same_number(label: str, address: str) -> bool:
    """Is the label the number itself, perhaps without its country code?"""
    digits = re.sub(r"\D", "", label)
    return len(digits) >= 7 and re.sub(r"\D", "", address).endswith(digits)


def _length(marked: str) -> int:
    return len(_MARK.sub("x" * _TYPICAL, marked))
