"""Rich text as a tree of known elements with merge tags read; what cannot be read is said."""

import html
import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser

from builder import characters, clean, tags
from builder.links import read_link
from builder.problems import Problem, problem
from builder.tags import Context, Hole, Registry

BLOCKS = frozenset({"p", "h1", "h2", "h3", "ul", "ol", "li"})
_MARKS = re.compile("(\ue000[0-9]+\ue001)")
MAX_DEPTH = 12  # the MJML engine and most mail programs follow nesting by recursion


@dataclass(slots=True)
class Element:
    """An element of the allow-list; children are elements, texts and holes (their context still open)."""

    name: str
    href: tuple[str | Hole, ...] = ()
    align: str = ""
    children: list["Element | str | Hole"] = field(default_factory=list)


def read(fragment: str, registry: Registry | None) -> list[Element | str | Hole]:
    """The tree of a fragment, cleaned; a fragment in which `problems` found something is not for this."""
    text, holes, _ = _mark(fragment, registry, "")
    tree = _Tree(holes, registry)
    tree.feed(clean.marked(text))
    tree.close()
    return _paragraphs(tree.top.children)


def problems(fragment: str, registry: Registry | None, path: str) -> list[Problem]:
    """Everything that would be removed or refused: markup outside the allow-list, bad links, bad merge tags."""
    if len(fragment) > clean.MAX_FRAGMENT:
        return [problem("too_long", path, clean.MAX_FRAGMENT)]
    if fragment.count("<") > clean.MAX_MARKUP:
        return [problem("too_nested", path)]
    if long := clean.LONG_REFERENCE.search(fragment):
        return [problem("forbidden_markup", path, long[0])]
    found: list[Problem] = []
    if characters.killed(html.unescape(fragment)):
        found.append(problem("control_characters", path))
    text, holes, faults = _mark(fragment, registry, path)
    look = _Look(holes, registry, path)
    look.feed(text)
    look.close()
    if not (look.holds_text or faults or look.found):
        found.append(problem("empty_text", path))
    return found + faults + look.found


def _mark(
    fragment: str, registry: Registry | None, path: str
) -> tuple[str, list[tuple[str, int]], list[Problem]]:
    """Swap each merge tag for a mark; returns also what stood inside, and problems in how they are written."""
    fragment = characters.lines(clean.without_long_references(fragment))
    inside: list[tuple[str, int]] = []
    out: list[str] = []
    faults: list[Problem] = []
    for part, position in tags.scan(fragment, path, faults):
        if position is None:
            out.append(part)
            continue
        hole = tags.read(
            html.unescape(part), registry, context=Context.HTML, path=path, position=position
        )
        if isinstance(hole, Problem):
            faults.append(hole)
        else:
            out.append(f"\ue000{len(inside)}\ue001")
            inside.append((html.unescape(part), position))
    return "".join(out), inside, faults


def _unmarked(text: str, inside: list[tuple[str, int]]) -> str:
    """The text with its merge tags written out again."""
    return _MARKS.sub(lambda mark: "{{" + inside[int(mark[0][1:-1])][0] + "}}", text)


class _Tree(HTMLParser):
    """Builds the tree from cleaned markup."""

    def __init__(self, inside: list[tuple[str, int]], registry: Registry | None) -> None:
        super().__init__(convert_charrefs=True)
        self.inside = inside
        self.registry = registry
        self.top = Element("")
        self.open = [self.top]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in clean.ELEMENTS:  # cleaned before; said twice because it must hold
            return
        given = {name: value or "" for name, value in attrs}
        element = Element(tag)
        if tag == "a" and "href" in given:
            href = _unmarked(given["href"], self.inside)
            parts, faults = read_link(href, self.registry, path="")
            element.href = () if faults else parts
        if (style := clean.STYLE.fullmatch(given.get("style", ""))) is not None:
            element.align = style[1]
        if tag == "br":
            self.open[-1].children.append(element)
        elif len(self.open) <= MAX_DEPTH:
            self.open[-1].children.append(element)
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if any(element.name == tag for element in self.open[1:]):
            while self.open.pop().name != tag:
                pass

    def handle_data(self, data: str) -> None:
        for part in _MARKS.split(data):
            if part.startswith("\ue000") and part.endswith("\ue001"):
                text, position = self.inside[int(part[1:-1])]
                hole = tags.read(
                    text, self.registry, context=Context.HTML, path="", position=position
                )
                if isinstance(hole, Hole):
                    self.open[-1].children.append(hole)
            elif kept := characters.lines(part).replace("\n", " "):
                self.open[-1].children.append(kept)


class _Look(HTMLParser):
    """Finds in uncleaned markup what the author should know about."""

    def __init__(self, inside: list[tuple[str, int]], registry: Registry | None, path: str) -> None:
        super().__init__(convert_charrefs=True)
        self.inside = inside
        self.registry = registry
        self.path = path
        self.found: list[Problem] = []
        self.holds_text = False
        self.open: list[str] = []
        self.strangers: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if "\ue000" in tag or any("\ue000" in name for name, _ in attrs):
            self.found.append(problem("tag_in_markup", self.path))
            return
        if tag not in clean.ELEMENTS:
            self.strangers.add(tag)
            self._forbid(f"<{tag}>")
            return
        self._nest(tag)
        for name, value in attrs:
            self._attribute(tag, name, value or "")

    def _nest(self, tag: str) -> None:
        if tag == "br":
            return
        if self.open and self.open[-1] == tag and tag in BLOCKS - {"ul", "ol"}:
            self.open.pop()  # the end tag of a paragraph or an item may be left out
        self.open.append(tag)
        if len(self.open) == MAX_DEPTH + 1:
            self.found.append(problem("too_nested", self.path))

    def _attribute(self, tag: str, name: str, value: str) -> None:
        if name not in clean.ELEMENTS[tag] or name == "style" and not clean.STYLE.fullmatch(value):
            if "\ue000" in value:
                self.found.append(problem("tag_in_markup", self.path))
            else:
                self._forbid(f"{name}=" if name != "style" else f"{name}={value}")
        elif name == "href":
            href = _unmarked(value, self.inside)
            faults = read_link(href, self.registry, path=self.path)[1]
            # the position counts from the start of the address, which nobody sees in a text
            self.found += [replace(fault, position=None) for fault in faults]

    def handle_data(self, data: str) -> None:
        self.holds_text = self.holds_text or bool(data.strip())

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()
        if tag not in clean.ELEMENTS and tag not in self.strangers:
            self._forbid(f"</{tag}>")

    def handle_comment(self, data: str) -> None:
        self._forbid("<!-- -->")

    def handle_decl(self, decl: str) -> None:
        self._forbid("<!>")

    def unknown_decl(self, data: str) -> None:
        self._forbid("<![]>")

    def handle_pi(self, data: str) -> None:
        self._forbid("<?>")

    def _forbid(self, what: str) -> None:
        new = problem("forbidden_markup", self.path, what)
        if new not in self.found:
            self.found.append(new)


def _paragraphs(children: list[Element | str | Hole]) -> list[Element | str | Hole]:
    """Put text that stands by itself between paragraphs into a paragraph of its own."""
    out: list[Element | str | Hole] = []
    loose: list[Element | str | Hole] = []
    for child in [*children, None]:
        if child is None or isinstance(child, Element) and child.name in BLOCKS:
            if any(not isinstance(part, str) or part.strip() for part in loose):
                out.append(Element("p", children=loose))
            loose = []
            if child is not None:
                out.append(child)
        else:
            loose.append(child)
    return out
