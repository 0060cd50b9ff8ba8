"""Dyadic intervals: a value belongs to one block of every size 2^k, a range is a few blocks, so ranges need no order.

A position is a whole number from 0 to 2^LEVELS - 1. Block (k, n) holds the positions from n * 2^k to
(n + 1) * 2^k - 1.
"""

import datetime as dt
from functools import lru_cache

Block = tuple[int, int]

#: Days from 1800-01-01: 2^17 of them reach into 2158. What lies outside counts as the first or last day.
DATE_LEVELS = 17
FIRST_DAY = dt.date(1800, 1, 1)
LAST_DAY = FIRST_DAY + dt.timedelta(days=2**DATE_LEVELS - 1)
#: Whole numbers of 32 bits with a sign.
NUMBER_LEVELS = 32
LEAST, GREATEST = -(2**31), 2**31 - 1


def blocks_of(position: int, levels: int) -> list[Block]:
    """Return the blocks that hold `position`, one of each size but the whole."""
    return [(level, position >> level) for level in range(levels)]


def cover(low: int, high: int, levels: int) -> list[Block]:
    """Return the fewest blocks that together are exactly the positions from `low` to `high`, both included.

    At most two of each size; an empty range gives an empty list; the whole gives both halves.
    """
    low, end = max(low, 0), min(high, 2**levels - 1) + 1
    blocks: list[Block] = []
    level = 0
    while low < end:
        if level == levels - 1:
            # Blocks are not kept larger than half of everything.
            blocks.extend((level, n) for n in range(low, end))
            break
        if low & 1:
            blocks.append((level, low))
            low += 1
        if end & 1:
            end -= 1
            blocks.append((level, end))
        low, end, level = low >> 1, end >> 1, level + 1
    return blocks


def position_of_day(day: dt.date) -> int:
    """Return the position of a calendar day."""
    return min(max((day - FIRST_DAY).days, 0), 2**DATE_LEVELS - 1)


def position_of_number(number: int) -> int:
    """Return the position of a whole number."""
    return min(max(number, LEAST), GREATEST) - LEAST


@lru_cache(maxsize=4096)
def years_before(day: dt.date, years: int) -> dt.date:
    """Return the latest birth date of somebody who is at least `years` years old on `day`.

    Somebody born on 29 February comes of age on 1 March in common years.
    """
    try:
        return day.replace(year=day.year - years)
    except ValueError:
        return dt.date(day.year - years, 2, 28)
