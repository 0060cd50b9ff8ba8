"""A mail as one person would see it, for the screen; what a person lacks is shown as [First name]."""

import html as markup
from collections.abc import Mapping
from datetime import date

from builder import marks
from builder.compile import Compiled
from builder.tags import CannotFill, Context, Hole, written

Values = Mapping[str, str | date | None]
_LINKS = frozenset({Context.URL, Context.LINK})


def preview_html(compiled: Compiled, values: Values) -> str:
    """The HTML part; show it in a frame of its own, whose policy allows no script."""
    return _filled(compiled, compiled.html, values)


def preview_text(compiled: Compiled, values: Values) -> str:
    """The plain text part."""
    return _filled(compiled, compiled.text, values)


def preview_subject(compiled: Compiled, values: Values) -> str:
    """The subject, not encoded."""
    return "".join(
        part if isinstance(part, str) else _shown(part, values, compiled.language)
        for part in compiled.subject
    )


def _filled(compiled: Compiled, marked: str, values: Values) -> str:
    return "".join(
        part if isinstance(part, str) else _shown(compiled.holes[part], values, compiled.language)
        for part in marks.split(marked)
    )


def _shown(hole: Hole, values: Values, language: str) -> str:
    try:
        return written(hole, values.get(hole.name), language)
    except CannotFill:
        if hole.context in _LINKS:
            return "#"
        label = f"[{hole.name.replace('_', ' ').capitalize()}]"
        return label if hole.context in (Context.TEXT, Context.HEADER) else markup.escape(label)
