"""The block document: what a template may consist of, checked strictly.

    {"version": 1,
     "settings": {"accent": "#1f6a6e", "font": "sans", ...},
     "blocks": [{"id": "a1", "type": "header"}, {"id": "a2", "type": "text", "html": "<p>...</p>"},
                ..., {"id": "z9", "type": "footer"}]}

Blocks stand under each other; `columns` holds two or three lists of blocks, one level deep. The footer
is there once and last (15 U.S.C. 7704(a)(5)(A)); the document chooses its wording and colours, while
postal address, unsubscribe link, sender and reason are written by the compiler.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from re import compile as pattern

from builder import characters, colours, links, rich, theme
from builder.problems import Problem, problem
from builder.tags import Context, Registry, parse

VERSION = 1
MAX_BLOCKS = 200
MAX_DOCUMENT = 400_000  # characters of text in all
MAX_LINE = 300
MAX_PROBLEMS = 200  # more than anybody reads
NESTED = frozenset({"text", "button", "image", "divider", "spacer"})
ALIGNS = ("left", "center", "right")

_ID = pattern(r"[a-z0-9-]{1,16}")
Check = Callable[["_Check", object, str], None]


def validate(
    document: object, *, tags: Registry | None = None, image_hosts: Collection[str] = ()
) -> list[Problem]:
    """Say everything that is wrong with a document; an empty list means that it can be compiled.

    Never raises, whatever JSON is given. With `tags` None the names of merge tags are not checked, only
    how they are written. `image_hosts` are the hosts that images may come from beside uploads.
    """
    check = _Check(tags, frozenset(image_hosts))
    _document(check, document)
    if check.characters > MAX_DOCUMENT:
        check.fault("too_big", "", MAX_DOCUMENT)
    return check.problems[:MAX_PROBLEMS]


def empty() -> dict:
    """A new document: header, one text, footer."""
    return {
        "version": VERSION,
        "settings": {},
        "blocks": [
            {"id": "header", "type": "header"},
            {"id": "text-1", "type": "text", "html": "<p>Write here.</p>"},
            {"id": "footer", "type": "footer"},
        ],
    }


def walk(document: dict) -> Iterator[tuple[str, dict]]:
    """Every block of a valid document with its path, in order, those inside columns too."""
    for i, block in enumerate(document["blocks"]):
        yield f"blocks[{i}]", block
        for j, column in enumerate(block.get("columns", ())):
            for k, nested in enumerate(column):
                yield f"blocks[{i}].columns[{j}][{k}]", nested


def media(document: dict) -> tuple[str, ...]:
    """The ids of the uploaded images that a valid document shows, each once."""
    sources = (block["src"] for _, block in walk(document) if block["type"] == "image")
    return tuple(dict.fromkeys(found for src in sources if (found := links.media_id(src))))


# --- checks -----------------------------------------------------------------------------------------


class _Check:
    """One reading of a document: what may be used, and what was found wrong."""

    def __init__(self, tags: Registry | None, image_hosts: frozenset[str]) -> None:
        self.tags = tags
        self.image_hosts = image_hosts
        self.problems: list[Problem] = []
        self.ids: set[str] = set()
        self.characters = 0
        self.blocks = 0

    def fault(self, code: str, path: str, what: object = "") -> None:
        self.problems.append(problem(code, path, what))

    def is_a(self, kind: type, value: object, path: str) -> bool:
        """Right type? (True is no number.)"""
        right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if not right:
            self.fault("wrong_type", path, _TYPES[kind])
        return right


_TYPES = {
    dict: "an object",
    list: "a list",
    str: "text",
    int: "a whole number",
    bool: "true or false",
}


@dataclass(frozen=True, slots=True)
class _Field:
    check: Check
    required: bool = False


def _fields(check: _Check, given: dict, fields: dict[str, _Field], path: str) -> bool:
    """Check an object's keys and values; was everything required there?"""
    inside = path + "." if path else ""
    for key in given:
        if key not in fields:
            check.fault("unknown_key", path, key)
    for key, field in fields.items():
        if key in given:
            field.check(check, given[key], inside + key)
        elif field.required:
            check.fault("missing_key", path, key)
    return all(key in given for key, field in fields.items() if field.required)


def _document(check: _Check, document: object) -> None:
    if not check.is_a(dict, document, ""):
        return
    version = document.get("version", VERSION)
    if type(version) is not int or version != VERSION:
        check.fault("wrong_version", "version")
        return
    _fields(check, document, _DOCUMENT, "")


def _settings(check: _Check, given: object, path: str) -> None:
    if not check.is_a(dict, given, path):
        return
    before = len(check.problems)
    _fields(check, given, _SETTINGS, path)
    if len(check.problems) == before:
        chosen = theme.DEFAULTS | given
        if colours.contrast(chosen["text"], chosen["surface"]) < colours.READABLE:
            check.fault("low_contrast", path + ".text")


def _blocks(check: _Check, given: object, path: str) -> None:
    if not check.is_a(list, given, path):
        return
    _list(check, given, path, frozenset(_BLOCKS))
    footers = [
        i
        for i, block in enumerate(given)
        if isinstance(block, dict) and block.get("type") == "footer"
    ]
    if not footers:
        check.fault("footer_missing", path)
    elif len(footers) > 1:
        check.fault("footer_repeated", f"{path}[{footers[1]}]")
    elif footers[0] != len(given) - 1:
        check.fault("footer_not_last", f"{path}[{footers[0]}]")


def _list(check: _Check, given: list, path: str, allowed: frozenset[str]) -> None:
    for i, block in enumerate(given):
        check.blocks += 1
        if check.blocks > MAX_BLOCKS:
            if check.blocks == MAX_BLOCKS + 1:
                check.fault("too_many_blocks", path, MAX_BLOCKS)
            return
        _block(check, block, f"{path}[{i}]", allowed)


def _block(check: _Check, block: object, path: str, allowed: frozenset[str]) -> None:
    if not check.is_a(dict, block, path):
        return
    kind = block.get("type")
    if kind is None:
        check.fault("missing_key", path, "type")
    elif not isinstance(kind, str) or kind not in _BLOCKS:
        check.fault("unknown_block", path, kind if isinstance(kind, str) else type(kind).__name__)
    elif kind not in allowed:
        check.fault("too_deep", path)
    else:
        before = len(check.problems)
        _fields(check, block, _COMMON | _BLOCKS[kind], path)
        if len(check.problems) == before and kind in _TOGETHER:
            _TOGETHER[kind](check, block, path)


def _id(check: _Check, value: object, path: str) -> None:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        check.fault("bad_id", path)
    elif value in check.ids:
        check.fault("repeated_id", path, value)
    else:
        check.ids.add(value)


def _choice(*choices: str) -> Check:
    def check_choice(check: _Check, value: object, path: str) -> None:
        if not isinstance(value, str) or value not in choices:
            check.fault("bad_choice", path, ", ".join(choices))

    return check_choice


def _number(low: int, high: int) -> Check:
    def check_number(check: _Check, value: object, path: str) -> None:
        if check.is_a(int, value, path) and not low <= value <= high:
            check.fault("out_of_range", path, f"{low} to {high}")

    return check_number


def _flag(check: _Check, value: object, path: str) -> None:
    check.is_a(bool, value, path)


def _colour(check: _Check, value: object, path: str) -> None:
    if not isinstance(value, str) or not colours.COLOUR.fullmatch(value):
        check.fault("bad_colour", path)


def _constant(check: _Check, value: object, path: str) -> None:
    """Checked by whoever chose these fields."""


def _line(context: Context | None, limit: int = MAX_LINE) -> Check:
    """A short text on one line; with a context, merge tags may stand in it."""

    def check_line(check: _Check, value: object, path: str) -> None:
        if not check.is_a(str, value, path):
            return
        check.characters += len(value)
        if len(value) > limit:
            check.fault("too_long", path, limit)
        elif characters.broken(value):
            check.fault("control_characters", path)
        elif context is not None:
            if not value.strip():
                check.fault("empty_text", path)
            check.problems += parse(value, check.tags, context=context, path=path)[1]

    return check_line


def _alt(check: _Check, value: object, path: str) -> None:
    if value == "":  # decoration, or forgotten: `_image` knows
        return
    _line(Context.ATTRIBUTE)(check, value, path)


def _html(check: _Check, value: object, path: str) -> None:
    if check.is_a(str, value, path):
        check.characters += len(value)
        check.problems += rich.problems(value, check.tags, path)


def _href(check: _Check, value: object, path: str) -> None:
    if check.is_a(str, value, path):
        check.characters += len(value)
        check.problems += links.read_link(value, check.tags, path=path)[1]


def _src(check: _Check, value: object, path: str) -> None:
    if check.is_a(str, value, path) and not (
        links.media_id(value) or links.is_image_address(value, check.image_hosts)
    ):
        check.fault("bad_image", path)


def _columns(check: _Check, value: object, path: str) -> None:
    if not check.is_a(list, value, path):
        return
    if not 2 <= len(value) <= 3:
        check.fault("out_of_range", path, "2 to 3")
    for i, column in enumerate(value[:3]):
        if check.is_a(list, column, f"{path}[{i}]"):
            _list(check, column, f"{path}[{i}]", NESTED)


def _widths(check: _Check, value: object, path: str) -> None:
    if check.is_a(list, value, path) and not (
        all(isinstance(width, int) and not isinstance(width, bool) for width in value)
        and all(20 <= width <= 80 for width in value)
        and sum(value) == 100
    ):
        check.fault("uneven_widths", path)


def _image_together(check: _Check, block: dict, path: str) -> None:
    if block.get("decoration") and block["alt"]:
        check.fault("alt_on_decoration", path + ".alt")
    elif not block.get("decoration") and not block["alt"].strip():
        check.fault("no_alt", path + ".alt")


def _columns_together(check: _Check, block: dict, path: str) -> None:
    if "widths" in block and len(block["widths"]) != len(block["columns"]):
        check.fault("uneven_widths", path + ".widths")


def _footer_together(check: _Check, block: dict, path: str) -> None:
    """The footer may be coloured, but not made to vanish."""
    if "text" in block:
        fill = block.get("background")
        if fill is None:
            check.fault("missing_key", path, "background")
        elif colours.contrast(block["text"], fill) < colours.READABLE:
            check.fault("low_contrast", path + ".text")


_DOCUMENT = {
    "version": _Field(_constant, required=True),
    "settings": _Field(_settings),
    "blocks": _Field(_blocks, required=True),
}
_SETTINGS = {
    "width": _Field(_number(480, 700)),
    "background": _Field(_colour),
    "surface": _Field(_colour),
    "text": _Field(_colour),
    "accent": _Field(_colour),
    "font": _Field(_choice(*theme.FONTS)),
    "heading_font": _Field(_choice(*theme.FONTS)),
}
_COMMON = {"id": _Field(_id, required=True), "type": _Field(_constant, required=True)}
_ALIGN = _Field(_choice(*ALIGNS))
_TONE = _Field(_choice(*theme.TONES))
_BLOCKS: dict[str, dict[str, _Field]] = {
    "header": {
        "show": _Field(_choice("name", "logo")),
        "look": _Field(_choice("open", "card", "band")),
        "align": _ALIGN,
        "tagline": _Field(_line(Context.HTML)),
    },
    "text": {
        "html": _Field(_html, required=True),
        "align": _ALIGN,
        "tone": _TONE,
        "size": _Field(_choice("small", "normal", "large")),
    },
    "button": {
        "label": _Field(_line(Context.HTML, 80), required=True),
        "href": _Field(_href, required=True),
        "align": _ALIGN,
        "tone": _TONE,
        "look": _Field(_choice("filled", "outline")),
    },
    "image": {
        "src": _Field(_src, required=True),
        "alt": _Field(_alt, required=True),
        "decoration": _Field(_flag),
        "href": _Field(_href),
        "width": _Field(_number(16, 700)),
        "align": _ALIGN,
        "tone": _TONE,
        "edge": _Field(_choice("inset", "full")),
    },
    "columns": {
        "columns": _Field(_columns, required=True),
        "widths": _Field(_widths),
        "look": _Field(_choice("open", "cards")),
        "tone": _TONE,
    },
    "divider": {"tone": _TONE},
    "spacer": {"height": _Field(_number(4, 120)), "tone": _TONE},
    "footer": {
        "wording": _Field(_choice("standard", "warm", "brief")),
        "align": _Field(_choice("left", "center")),
        "background": _Field(_colour),
        "text": _Field(_colour),
    },
}
_TOGETHER = {
    "image": _image_together,
    "columns": _columns_together,
    "footer": _footer_together,
}
