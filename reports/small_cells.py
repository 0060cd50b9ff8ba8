"""Small numbers are hidden, and what would reveal them by subtraction (ADR 0018).

A number of people from 1 to `limit` - 1 is *small*: with a little knowledge of the place it can point at
somebody (45 CFR 164.514(b)(2)(ii); the limit of 11 is that of the Centers for Medicare & Medicaid Services).
Nought is shown: it points at nobody. docs/reports.md says which numbers of a report go through here.

What `breakdown()` promises, for parts that add up to a total that is shown:

1. Every small part is hidden, and at least one part of `limit` or more is hidden with it; all hidden parts look
   alike. Which parts are hidden depends on the numbers alone, not on their order or names, so any hidden
   number could stand in the place of any other: whoever knows the total, the shown parts and this very rule
   cannot compute a hidden number, nor tell whether it lies below the limit or above.
2. Whoever guesses rightly which of the hidden parts are the small ones, but does not reason about this rule, still
   finds each of them possible with every value from 1 to `limit` - 1.
3. Where that cannot be had, the total is not broken down at all: then no part can be computed.

It does not promise anything about several reports held against each other (say, of overlapping periods).
"""

from collections.abc import Mapping
from dataclasses import dataclass

HIDDEN = "hidden"
NOT_BROKEN_DOWN = "not broken down"


@dataclass(frozen=True, slots=True)
class Cell:
    """A number as it may be shown: `value` is None when it is hidden, `text` is what stands in its place."""

    value: int | None
    text: str

    @property
    def is_hidden(self) -> bool:
        """Whether the number is not shown."""
        return self.value is None


@dataclass(frozen=True, slots=True)
class Breakdown:
    """A total and its parts as they may be shown.

    `together`: the sum of the hidden parts, which whoever subtracts finds anyway; None when no part is hidden,
    or the total is not broken down.
    """

    total: Cell
    cells: dict[str, Cell]
    together: int | None = None

    @property
    def is_broken_down(self) -> bool:
        """Whether any part is told at all."""
        return all(cell.text != NOT_BROKEN_DOWN for cell in self.cells.values())

    @property
    def hidden(self) -> list[str]:
        """The names of the parts that are hidden."""
        return [name for name, cell in self.cells.items() if cell.is_hidden]


def shown(value: int) -> Cell:
    """Return a number that may be shown whatever it is."""
    return Cell(value, f"{value:,}")


def is_small(value: int, limit: int) -> bool:
    """Say whether a number of people is too small to be shown."""
    return 0 < value < limit


def lone(value: int, limit: int) -> Cell:
    """Return a number that belongs to no total."""
    return Cell(None, f"fewer than {limit}") if is_small(value, limit) else shown(value)


def part(value: int, whole: int, limit: int) -> Cell:
    """Return a number of people who are among `whole`; hidden also where the rest of them are few."""
    if is_small(value, limit):
        return lone(value, limit)
    if is_small(whole, limit) or is_small(whole - value, limit):
        return Cell(None, HIDDEN)
    return shown(value)


def breakdown(counts: Mapping[str, int], limit: int, *, within: Cell | None = None) -> Breakdown:
    """Return a total and its parts with what must be hidden hidden.

    `counts`: the parts by name, none of them negative, together the whole. `within`: the total as the table
    above this one shows it; a total that is hidden there is not broken down here, since its parts would
    reveal it. A `limit` of 1 or less hides nothing.
    """
    total = lone(sum(counts.values()), limit) if within is None else within
    if total.is_hidden:
        return _not_broken_down(total, counts)
    small = {name for name, count in counts.items() if is_small(count, limit)}
    if not small:
        return Breakdown(total, {name: shown(count) for name, count in counts.items()})
    hidden = set(small)
    # Smallest first, equal ones together: no order of the parts may decide.
    for size in sorted({count for count in counts.values() if count >= limit}):
        hidden |= {name for name, count in counts.items() if count == size}
        if _slack(counts, hidden, limit) >= limit - 2:
            return Breakdown(
                total,
                {
                    name: Cell(None, HIDDEN) if name in hidden else shown(count)
                    for name, count in counts.items()
                },
                together=sum(counts[name] for name in hidden),
            )
    return _not_broken_down(total, counts)


def _slack(counts: Mapping[str, int], hidden: set[str], limit: int) -> int:
    """Return how far the hidden parts, small and large, lie above the least that each could be.

    With `limit` - 2 of it, one small part can take any value from 1 to `limit` - 1 while the others make up
    for it (promise 2).
    """
    return sum(counts[name] - (limit if counts[name] >= limit else 1) for name in hidden)


def _not_broken_down(total: Cell, counts: Mapping[str, int]) -> Breakdown:
    return Breakdown(total, {name: Cell(None, NOT_BROKEN_DOWN) for name in counts})
