"""Merge tags: a name, a fallback, a way to write a date; no logic, nothing is ever executed.

    {{ first_name }}   {{ first_name | fallback: "there" }}   {{ last_visit | date: "long" }}

The place where a tag stands decides how its value is escaped (`Context`), never the author. A tag that
has neither value nor fallback withholds that person's message: nobody is greeted as "Dear ,".
"""

import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from urllib.parse import quote

from builder import characters, dates
from builder.problems import Problem, problem


class Context(StrEnum):
    """Where a hole is, and so how its value is written."""

    TEXT = "text"  # the plain text part
    HTML = "html"  # text between HTML tags
    PREHEADER = "preheader"  # the same, but shown in the list of messages and on locked screens
    ATTRIBUTE = "attribute"  # an HTML attribute in double quotes
    URL = "url"  # a part of an address, after its host
    LINK = "link"  # a whole address in an HTML attribute, made by us
    TEXT_LINK = "text_link"  # the same in the plain text part
    HEADER = "header"  # the subject


# What a tag's data class must be to stand where others than the reader may see it: the subject and the
# preview line on a locked screen, an image's description, a link in the logs of web servers.
# Everything else stays in the body (45 CFR 164.502(b), minimum necessary).
OPEN_CLASSES: Mapping[Context, frozenset[str]] = {
    Context.HEADER: frozenset({"contact", "organization"}),
    Context.PREHEADER: frozenset({"contact", "organization"}),
    Context.ATTRIBUTE: frozenset({"contact", "organization"}),
    Context.URL: frozenset({"organization"}),
}
RESERVED = frozenset({"unsubscribe_url"})
KINDS = ("text", "date")
DATE_FORMATS = tuple(dates.FORMATS)
MAX_FALLBACK = 200
MAX_VALUE = 1_000  # characters; "who is called this" rather than a limit of any format
MAX_HEADER_VALUE = 120
MAX_LINK = 2_000

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_BRACES = re.compile(r"\{\{|\}\}|\{%|\{#")
_FILTER = re.compile(
    r"""\s*\|\s*(?P<filter>[A-Za-z_]{1,40})\s*:\s*(?P<quoted>"[^"{}]*"|'[^'{}]*'|“[^“”{}]*”)"""
)
_LINK = re.compile(
    r"(?:https://[A-Za-z0-9.-]+|http://(?:localhost|127\.0\.0\.1))(?::[0-9]{1,5})?"
    r"/[A-Za-z0-9._~%!$&()*+,;=:@/?#-]*"
)
_ENCODED_WORD = re.compile(r"=+\?+")


@dataclass(frozen=True, slots=True)
class Tag:
    """A merge tag that authors may use: its name, what it is called on screen, its data class and kind."""

    name: str
    label: str
    data_class: str
    kind: str = "text"

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name) or self.name in RESERVED or self.kind not in KINDS:
            raise ValueError(f"{self.name!r} cannot be a merge tag")


class Registry(Mapping[str, Tag]):
    """The merge tags of one organization, by name; immutable."""

    def __init__(self, tags: Iterable[Tag] = ()) -> None:
        self._tags: dict[str, Tag] = {}
        for tag in tags:
            if tag.name in self._tags:
                raise ValueError(f"two merge tags are called {tag.name!r}")
            self._tags[tag.name] = tag

    def __getitem__(self, name: str) -> Tag:
        return self._tags[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tags)

    def __len__(self) -> int:
        return len(self._tags)


@dataclass(frozen=True, slots=True)
class Hole:
    """A place for one person's value: of which tag, in which context, what else to write, how to write a date."""

    name: str
    context: Context
    fallback: str | None = None
    format: str | None = None


class CannotFill(ValueError):
    """This person's message cannot be written and is withheld. Names the tag, never the value."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason
        super().__init__(f"{name}: {reason}")


class MissingValue(CannotFill):
    """The person has no such value and the tag no fallback."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "missing")


class UnusableValue(CannotFill):
    """The value cannot stand where it should: `too_long`, `not_text`, `not_a_part` of a URL, `not_a_link`."""


# --- reading what authors write ---------------------------------------------------------------------


def parse(
    text: str, registry: Registry | None, *, context: Context, path: str
) -> tuple[tuple[str | Hole, ...], list[Problem]]:
    """Split a text at its merge tags.

    `registry` None checks how tags are written, not their names. Returns the parts in order, without
    empty strings, and the problems with their position in `text`.
    """
    parts: list[str | Hole] = []
    problems: list[Problem] = []
    for part, position in scan(text, path, problems):
        if position is None:
            parts.append(part)
        else:
            hole = read(part, registry, context=context, path=path, position=position)
            (problems if isinstance(hole, Problem) else parts).append(hole)
    problems.sort(key=lambda found: found.position or 0)
    return tuple(parts), problems


def scan(text: str, path: str, problems: list[Problem]) -> Iterator[tuple[str, int | None]]:
    """Yield (plain text, None) and (inside of a tag, its position) in turn; add what is unbalanced to `problems`."""
    done = 0
    opened: int | None = None
    for brace in _BRACES.finditer(text):
        here = brace.start()
        if brace[0] == "{{":
            if opened is not None:
                problems.append(problem("unbalanced_braces", path, position=opened))
            opened = here
        elif brace[0] == "}}":
            if opened is None:
                problems.append(problem("unbalanced_braces", path, position=here))
                continue
            if opened > done:
                yield text[done:opened], None
            yield text[opened + 2 : here], opened
            done, opened = brace.end(), None
        else:
            problems.append(problem("template_code", path, position=here))
    if opened is not None:
        problems.append(problem("unbalanced_braces", path, position=opened))
    if done < len(text):
        yield text[done:], None


def read(
    inside: str, registry: Registry | None, *, context: Context, path: str, position: int
) -> Hole | Problem:
    """Read what stands between the braces of one tag: a Hole, or the Problem with it."""

    def fault(code: str, what: object = "") -> Problem:
        return problem(code, path, what, position)

    inside = inside.strip()
    name = NAME.match(inside)
    if not name:
        return fault("bad_tag")
    rest = inside[name.end() :]
    if rest[:1] in (".", "[", "("):
        return fault("attribute_access")
    chosen: dict[str, str] = {}
    at = 0
    while at < len(rest) and (found := _FILTER.match(rest, at)):
        kind = found["filter"]
        if kind not in ("fallback", "date"):
            return fault("unknown_filter", kind)
        if kind in chosen:
            return fault("repeated_filter", kind)
        chosen[kind] = characters.single_line(found["quoted"][1:-1])
        at = found.end()
    if at < len(rest):
        other = re.match(r"\s*\|\s*([A-Za-z_]{1,40})", rest[at:])
        if other and other[1] not in ("fallback", "date"):
            return fault("unknown_filter", other[1])
        return fault("bad_tag")
    return _checked(name[0], chosen, registry, context, fault)


def _checked(
    name: str,
    chosen: dict[str, str],
    registry: Registry | None,
    context: Context,
    fault: Callable[..., Problem],
) -> Hole | Problem:
    if name in RESERVED:
        return fault("reserved_tag", name)
    fallback, form = chosen.get("fallback"), chosen.get("date")
    if fallback == "":
        return fault("empty_fallback")
    if fallback is not None and len(fallback) > MAX_FALLBACK:
        return fault("too_long", MAX_FALLBACK)
    if form is not None and form not in DATE_FORMATS:
        return fault("unknown_format", ", ".join(DATE_FORMATS))
    if registry is not None:
        tag = registry.get(name)
        if tag is None:
            return fault("unknown_tag", name)
        if form is not None and tag.kind != "date":
            return fault("not_a_date", tag.label)
        if tag.kind == "date" and form is None:
            form = "long"
        if context in OPEN_CLASSES and tag.data_class not in OPEN_CLASSES[context]:
            return fault("sensitive_place", tag.label)
    return Hole(name, context, fallback, form)


# --- writing what persons get -----------------------------------------------------------------------


def written(hole: Hole, value: str | date | None, language: str) -> str:
    """The value, or else the fallback, as it stands in the hole's place, escaped for it.

    Raises MissingValue and UnusableValue.
    """
    return escaped(hole, plain(hole, value, language))


def plain(hole: Hole, value: str | date | None, language: str) -> str:
    """The value, or else the fallback, on one line, not yet escaped; the same in every context."""
    if isinstance(value, str):
        text = characters.single_line(value)
    elif isinstance(value, date):
        text = characters.single_line(dates.write(value, hole.format or "long", language))
    elif value is None:
        text = ""
    else:
        raise UnusableValue(hole.name, "not_text")
    if text:
        return text
    if hole.fallback is None:
        raise MissingValue(hole.name)
    return hole.fallback


def escaped(hole: Hole, text: str) -> str:
    """A plain text as it stands in the hole's place; the place, not the author, decides how."""
    if len(text) > _BOUND.get(hole.context, MAX_VALUE):
        raise UnusableValue(hole.name, "too_long")
    return _ESCAPE[hole.context](text, hole.name)


_BOUND = {
    Context.HEADER: MAX_HEADER_VALUE,
    Context.PREHEADER: MAX_HEADER_VALUE,
    Context.LINK: MAX_LINK,
    Context.TEXT_LINK: MAX_LINK,
}


def _url_part(text: str, name: str) -> str:
    if not text.strip("."):  # "." and ".." would climb the path, and no percent-encoding helps
        raise UnusableValue(name, "not_a_part")
    return quote(text, safe="")


def _link(text: str, name: str) -> str:
    if not _LINK.fullmatch(text):
        raise UnusableValue(name, "not_a_link")
    return text


def _header(text: str, name: str) -> str:
    # Decoded by a careless program, an "=?UTF-8?Q?=0A?=" inside a name would become a line break.
    text = _ENCODED_WORD.sub("", text).strip()
    if not text:
        raise MissingValue(name)
    return text


_ESCAPE = {
    Context.TEXT: lambda text, name: text,
    Context.HTML: lambda text, name: html.escape(text),
    Context.PREHEADER: lambda text, name: html.escape(text),
    Context.ATTRIBUTE: lambda text, name: html.escape(text),
    Context.URL: _url_part,
    Context.LINK: lambda text, name: html.escape(_link(text, name)),
    Context.TEXT_LINK: _link,
    Context.HEADER: _header,
}
