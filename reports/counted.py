"""Tables of counts: parts of a total in a fixed order, with bars, small numbers hidden."""

from collections.abc import Iterable, Mapping

from reports import words
from reports.document import Column, Row, Table
from reports.small_cells import Breakdown, Cell, breakdown, shown

MESSAGES = Column("messages", "Messages")


def bars(cells: Iterable[Cell]) -> list[float | None]:
    """Return each number's part of the largest one shown, as the length of its bar; None where it is hidden."""
    values = [cell.value for cell in cells]
    largest = max((value for value in values if value is not None), default=0)
    return [None if value is None else value / largest if largest else 0.0 for value in values]


def note_on(parts: Breakdown, limit: int) -> str:
    """Return the sentence that explains what a table hides, or ""."""
    if not parts.is_broken_down:
        return f"Not broken down: the parts are too small, and numbers of people below {limit} are not shown."
    if not parts.hidden:
        return ""
    number = len(parts.hidden)
    return (
        f"{number} numbers are hidden; together they are {parts.together:,}. "
        f"At least one lies below {limit}, and the others keep it from being worked out."
    )


def counted(
    code: str,
    caption: str,
    first_head: str,
    counts: Mapping[str, int],
    names: Mapping[str, str],
    limit: int,
    *,
    colour: str = "accent",
    within: Cell | None = None,
    citations: Mapping[str, str] | None = None,
    total: str = "Together",
    wrong: str | None = None,
) -> Table:
    """Return a table of counts with bars, small numbers hidden; `limit` 0 hides none.

    Rows are in the order of `names`, then what it lacks; parts of nought are left out. `within`: the total as
    it is shown elsewhere; by default it is shown as it is. `total`: the label of the last row, "" for none.
    `wrong`: the part that should not be there.
    """
    present = {code: counts[code] for code in _ordered(counts, names) if counts[code]}
    parts = breakdown(present, limit, within=within or shown(sum(present.values())))
    # A total that is not broken down names no parts: that one is there at all may be what must not be told.
    told = parts.cells if parts.is_broken_down else {}
    rows = [
        Row(
            name,
            words.of(dict(names), name),
            (cell,),
            (citations or {}).get(name, ""),
            share,
            "stop" if name == wrong else "",
        )
        for (name, cell), share in zip(told.items(), bars(told.values()), strict=True)
    ]
    if present and total:
        rows.append(Row("total", total, (parts.total,), share=0.0, tone="total"))
    return Table(
        code, caption, first_head, (MESSAGES,), tuple(rows), bars=colour, note=note_on(parts, limit)
    )


def _ordered(counts: Mapping[str, int], names: Mapping[str, str]) -> list[str]:
    known = [name for name in names if name in counts]
    return known + sorted(set(counts) - set(known))
