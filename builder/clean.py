"""The only door to bleach: rich text reduced to a few elements, their links and their alignment."""

import html
import re
import threading
from functools import lru_cache

import bleach
from bleach.css_sanitizer import CSSSanitizer

from builder import characters, tags
from builder.problems import Problem

# Elements, and the attributes that each may have.
ELEMENTS: dict[str, frozenset[str]] = {
    "p": frozenset({"style"}),
    "h1": frozenset({"style"}),
    "h2": frozenset({"style"}),
    "h3": frozenset({"style"}),
    "ul": frozenset(),
    "ol": frozenset(),
    "li": frozenset(),
    "br": frozenset(),
    "strong": frozenset(),
    "em": frozenset(),
    "u": frozenset(),
    "a": frozenset({"href"}),
}
STYLE = re.compile(r"\s*text-align\s*:\s*(left|center|right)\s*;?\s*")

_PROTOCOLS = frozenset({"https", "mailto", "tel"})
# A link that begins with a merge tag is kept, for `rich.problems` to name.
_WHOLE = re.compile("(?:https|mailto|tel):|\ue000")
_MARK = re.compile("\ue000([0-9]+)\ue001")
_ROUNDS = 8
MAX_FRAGMENT = 20_000  # characters
MAX_MARKUP = 1_200  # "<" in one fragment: nested lists take the parser quadratic time
# What browsers and word processors write.
_RENAMED = {"b": "strong", "i": "em", "h4": "h3", "h5": "h3", "h6": "h3"}
_RENAME = re.compile(r"<(/?)(b|i|h[456])(?=[\s>])[^<>]*>", re.IGNORECASE)
_CODE = re.compile(r"<(/?)(script|style|template|title|noscript|xml)\b[^<>]*>", re.IGNORECASE)
_REFERENCE = re.compile(r"&(?:#[0-9]{1,9}|#[xX][0-9A-Fa-f]{1,8});?")
# No character needs so many digits; Python refuses to read a number of thousands.
LONG_REFERENCE = re.compile(r"&#(?:[0-9]{10,}|[xX][0-9A-Fa-f]{9,});?")
_cleaners = threading.local()  # a Cleaner is not safe to share between threads


def rich_text(fragment: str) -> str:
    """Reduce what somebody wrote or pasted to what a text block may hold. Idempotent.

    Merge tags stay as they are. What is removed here without a word, `blocks.validate` names when it
    is sent to it: the editor stores what comes out of here, the API refuses. Raises ValueError for a
    fragment that is too long, or almost nothing but markup.
    """
    if len(fragment) > MAX_FRAGMENT or fragment.count("<") > MAX_MARKUP:
        raise ValueError("the text is too long to clean")
    # Removing one thing can lay bare another: again, until nothing changes.
    for _ in range(_ROUNDS):
        once = _round(fragment)
        if once == fragment:
            return once
        fragment = once
    return ""


@lru_cache(maxsize=1024)  # authors' texts, nobody's data; an edit changes one block of many
def marked(fragment: str) -> str:
    """Reduce a fragment whose merge tags are marks already (see `rich.read`)."""
    return _cleaner().clean(fragment)


def _round(fragment: str) -> str:
    inside: list[str] = []
    out: list[str] = []
    problems: list[Problem] = []
    for part, position in tags.scan(_visible(fragment), "", problems):
        text = html.unescape(part) if position is not None else part
        if position is None or characters.broken(text) or "{" in text or "}" in text:
            out.append(part if position is None else "{{" + part + "}}")
        else:
            out.append(f"\ue000{len(inside)}\ue001")
            inside.append("{{" + html.escape(text) + "}}")
    return _MARK.sub(lambda mark: inside[int(mark[1])], marked("".join(out)))


def without_long_references(fragment: str) -> str:
    """Without character references that are too long to be any."""
    while LONG_REFERENCE.search(fragment):
        fragment = LONG_REFERENCE.sub("", fragment)
    return fragment


def _visible(fragment: str) -> str:
    """Without killed characters, those written as character references (`&#8238;`) included."""
    text = characters.lines(_REFERENCE.sub(_without_killed, without_long_references(fragment)))
    return _RENAME.sub(lambda tag: f"<{tag[1]}{_RENAMED[tag[2].lower()]}>", _without_code(text))


def _without_code(fragment: str) -> str:
    """Without scripts and styles: the elements alone would leave their code behind as text."""
    out, done, inside = [], 0, ""
    for tag in _CODE.finditer(fragment):
        name = tag[2].lower()
        if not inside:
            out.append(fragment[done : tag.start()])
            inside = "" if tag[1] else name
            done = tag.end()
        elif tag[1] and name == inside:
            inside, done = "", tag.end()
    return "".join(out) + ("" if inside else fragment[done:])


def _without_killed(reference: re.Match[str]) -> str:
    return "" if characters.killed(html.unescape(reference[0])) else reference[0]


def _attribute(element: str, name: str, value: str) -> bool:
    if name not in ELEMENTS.get(element, ()):
        return False
    if name == "href":  # bleach lets addresses without a scheme pass, "//evil.example" among them
        return _WHOLE.match(value) is not None
    return STYLE.fullmatch(value) is not None


def _cleaner() -> bleach.Cleaner:
    cleaner = getattr(_cleaners, "rich_text", None)
    if cleaner is None:
        cleaner = _cleaners.rich_text = bleach.Cleaner(
            tags=frozenset(ELEMENTS),
            attributes=_attribute,
            protocols=_PROTOCOLS,
            strip=True,
            strip_comments=True,
            css_sanitizer=CSSSanitizer(
                allowed_css_properties=["text-align"], allowed_svg_properties=[]
            ),
        )
    return cleaner
