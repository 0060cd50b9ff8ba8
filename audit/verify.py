"""Verification: recompute the whole log from the database and hold it against the heads outside.

Everything is read in one snapshot, so what is written meanwhile makes nothing look wrong. The hashing is
Python's own; PostgreSQL only hands out the columns. 45 CFR 164.312(b), (c)(1), (c)(2).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter

from django.db import connection

from audit import heads, vouched
from audit.canonical import entry_line, moment
from audit.findings import Finding, Findings
from audit.grants import unguarded
from audit.merkle import leaf, root
from audit.models import LINE_COLUMNS, Block
from audit.seal import FOREIGN, SNAPSHOT
from audit.signing import link, trusted_keys, valid
from audit.snapshot import snapshot, streamed

#: What can be sealed is, within ten seconds; a head follows at once.
SEALED_WITHIN = timedelta(seconds=60)
#: An entry waits behind an open transaction no longer than this, and is no older than the block before its own by more.
LONGEST_TRANSACTION = timedelta(hours=1)

#: Called with how many entries and facts are done, and how many there are.
Progress = Callable[[int, int], None]

_MEMBERS = f"""
SELECT m.block_id, m.position, m.leaf, m.entry_id, {LINE_COLUMNS}
FROM audit_membership m LEFT JOIN audit_entry e ON e.id = m.entry_id
ORDER BY m.block_id, m.position
"""  # noqa: S608
_AT = 6

_UNSEALED = f"""
WITH now AS MATERIALIZED ({SNAPSHOT}), unsealed AS MATERIALIZED (
    SELECT e.id, CASE
        WHEN e.xid < %(watermark)s::xid8 AND %(watermark)s::xid8 <= unborn THEN 'entry.inserted'
        WHEN e.at < %(long)s::timestamptz THEN 'entry.unsealed'
        WHEN e.at < %(soon)s::timestamptz AND (e.xid < ended OR {FOREIGN}) THEN 'entry.unsealed'
        END AS code
    FROM now, audit_entry e WHERE NOT EXISTS (SELECT FROM audit_membership m WHERE m.entry_id = e.id)
)
SELECT code, count(*), (array_agg(id ORDER BY id))[1:%(limit)s] FROM unsealed GROUP BY code
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome. `unsealed` entries are too young to be sealed, which is no finding."""

    entries: int
    blocks: int
    facts: int
    unsealed: int
    #: At most a hundred of each kind; `counts` has them all.
    findings: list[Finding]
    counts: dict[str, int]
    verified_at: datetime
    #: The newest block's hash, in hex.
    head: str

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def verify(progress: Progress | None = None) -> Verification:
    """Recompute every hash, link and signature, and return what was found. Changes nothing.

    It sees what the caller's transaction sees, or else opens a read-only one in which nothing moves.
    """
    # The heads first: a block is committed before its head is written, so the snapshot has all of these.
    outside, latest = heads.extent(), heads.latest()
    found = Findings()
    with snapshot():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT clock_timestamp(), (SELECT count(*) FROM audit_membership) "
                "+ (SELECT count(*) FROM audit_fact)"
            )
            now, total = cursor.fetchone()
        steps = _Steps(progress, total)
        beside = _Beside(found, heads.read(outside), latest)
        chain = _Chain(found, beside)
        with streamed("members", _MEMBERS) as members:
            _walk(Block.objects.order_by("number").iterator(), members, chain, found, steps)
        chain.end(now)
        unsealed = _find_unsealed(found, chain.watermark, now)
        facts = vouched.verify(found, steps.add)
        for table in unguarded(connection):
            found.add("guard.missing", table)
    return Verification(
        entries=chain.entries + unsealed,
        blocks=chain.blocks,
        facts=facts,
        unsealed=unsealed,
        findings=found.ordered(),
        counts=found.counts,
        verified_at=now,
        head=chain.hash.hex(),
    )


def _walk(
    blocks: Iterable[Block],
    members: Iterator[tuple],
    chain: "_Chain",
    found: Findings,
    steps: "_Steps",
) -> None:
    """Go through the blocks and their entries side by side; both come in the order of the blocks."""
    groups = groupby(members, key=itemgetter(0))
    number, group = next(groups, (None, ()))
    for block in blocks:
        while number is not None and number < block.number:
            found.add("block.missing", f"block {number}, though entries belong to it")
            number, group = next(groups, (None, ()))
        oldest = chain.add(block)
        rows: list[tuple] = []
        if number == block.number:
            rows = list(group)
            number, group = next(groups, (None, ()))
        _compare(block, rows, oldest, found)
        steps.add(len(rows))
    while number is not None:
        found.add("block.missing", f"block {number}, though entries belong to it")
        number, group = next(groups, (None, ()))


def _compare(block: Block, rows: list[tuple], oldest: str, found: Findings) -> None:
    """Check the entries of one block against its root.

    The tree is made of the leaves as they were stored when sealing. If it fits, a leaf that differs from its
    entry's tells which entry was altered.
    """
    stored = [row[2] for row in rows]
    computed = [None if row[4] is None else leaf(entry_line(*row[4:])) for row in rows]
    ids = [row[3] for row in rows]
    ends = (ids[0], ids[-1]) if ids else (None, None)
    if (
        root(stored) != bytes(block.root)
        or len(rows) != block.count
        or ends != (block.first_id, block.last_id)
        or [row[1] for row in rows] != list(range(len(rows)))
    ):
        found.add("block.altered", f"block {block.number}")
    if computed != stored:
        for row, now in zip(rows, computed, strict=True):
            if now != row[2]:
                code = "entry.deleted" if now is None else "entry.altered"
                found.add(code, f"entry {row[3]}, block {block.number}")
    if min((row[_AT] for row in rows if row[4] is not None), default=oldest) < oldest:
        for row in rows:
            if row[4] is not None and row[_AT] < oldest:
                found.add("entry.backdated", f"entry {row[3]}, block {block.number}")


class _Chain:
    """The blocks' own order: numbers, links, keys, signatures."""

    def __init__(self, found: Findings, beside: "_Beside") -> None:
        self.found, self.beside = found, beside
        self.trusted = trusted_keys()
        self.blocks = self.entries = self.watermark = 0
        self.hash = bytes(32)
        self.last: Block | None = None

    def add(self, block: Block) -> str:
        """Check the next block; return the earliest time that one of its entries can honestly have."""
        last, number = self.last, block.number
        expected = 0 if last is None else last.number + 1
        follows = number == expected and bytes(block.previous) == self.hash
        if number != expected:
            missing = (
                f"block {expected}"
                if number == expected + 1
                else f"blocks {expected} to {number - 1}"
            )
            self.found.add("block.missing", missing, times=number - expected)
        elif not follows or block.total != block.count + (0 if last is None else last.total):
            self.found.add("block.unlinked", f"block {number}")
        # A block's hash covers its signature. So where the next block follows under the same key, that one's
        # signature vouches for this one's, and only the last needs the 0.1 ms of checking.
        if last is not None and not (follows and last.public_key == block.public_key):
            self._check_signature(last)
        if bytes(block.public_key) not in self.trusted:
            self.found.add("block.untrusted", f"block {number}")
        self.hash = link(block.header(), block.signature)
        self.beside.compare(number, self.hash)
        self.blocks += 1
        self.entries += block.count
        self.last, self.watermark = block, block.watermark
        begun = block.sealed_at if last is None else last.sealed_at
        return moment(begun - LONGEST_TRANSACTION)

    def end(self, now: datetime) -> None:
        """Check what follows the last block: its signature, and the heads of blocks that are gone."""
        if self.last is not None:
            self._check_signature(self.last)
        self.beside.end(self.last, now)

    def _check_signature(self, block: Block) -> None:
        key, signature = bytes(block.public_key), bytes(block.signature)
        if not valid(key, signature, block.header()):
            self.found.add("block.unsigned", f"block {block.number}")


class _Beside:
    """The heads outside the database, read beside the blocks."""

    def __init__(
        self,
        found: Findings,
        lines: Iterator[heads.Head | heads.UnreadableHead],
        latest: heads.Head | heads.UnreadableHead | None,
    ) -> None:
        self.found, self.lines, self.trusted = found, lines, trusted_keys()
        self.newest = -1
        self.latest: heads.Head | None = None
        if isinstance(latest, heads.UnreadableHead):
            found.add("head.unreadable", str(latest))
        else:
            self.latest = latest
        self.head = self._next()

    def compare(self, number: int, block_hash: bytes) -> None:
        """Hold the block of this number against its head, if it has one."""
        told = {self.latest} if self.latest is not None and self.latest.number == number else set()
        while self.head is not None and self.head.number <= number:
            if self.head.number == number:
                told.add(self.head)
            self.head = self._next()
        for head in told:
            if head.hash != block_hash:
                code = "block.replaced" if self._genuine(head) else "head.altered"
                self.found.add(code, f"block {number}")

    def end(self, last: Block | None, now: datetime) -> None:
        """Find heads of blocks that the database lacks, and blocks whose heads are missing."""
        number, total = (-1, 0) if last is None else (last.number, last.total)
        gone: list[heads.Head] = []
        while self.head is not None:
            gone.append(self.head)
            del gone[1:-1]
            self.head = self._next()
        if self.latest is not None and self.latest.number > max(number, self.newest):
            gone.append(self.latest)
        if gone and self._genuine(gone[-1]):
            blocks = f"blocks {number + 1} to {gone[-1].number}"
            self.found.add("log.truncated", f"{blocks}, {gone[-1].total - total} entries")
        elif gone:
            self.found.add("head.altered", f"head of block {gone[-1].number}")
        if last is not None and number > self.newest:
            self._find_unpublished(now)

    def _find_unpublished(self, now: datetime) -> None:
        behind = Block.objects.filter(number__gt=self.newest, sealed_at__lt=now - SEALED_WITHIN)
        count = behind.count()
        if count and self.newest < 0:
            self.found.add("head.missing", f"{count} blocks")
        elif count:
            self.found.add("head.behind", f"{count} blocks after block {self.newest}")

    def _genuine(self, head: heads.Head) -> bool:
        return head.public_key in self.trusted and valid(
            head.public_key, head.signature, head.header
        )

    def _next(self) -> heads.Head | None:
        for line in self.lines:
            if isinstance(line, heads.UnreadableHead):
                self.found.add("head.unreadable", str(line))
            elif line.number < self.newest:
                self.found.add("head.altered", f"head of block {line.number}, out of order")
            else:
                self.newest = line.number
                return line
        return None


def _find_unsealed(found: Findings, watermark: int, now: datetime) -> int:
    """Count the entries in no block, and find those that should be in one."""
    with connection.cursor() as cursor:
        cursor.execute(
            _UNSEALED,
            {
                "watermark": str(watermark),
                "long": now - LONGEST_TRANSACTION,
                "soon": now - SEALED_WITHIN,
                "limit": found.limit,
            },
        )
        rows = cursor.fetchall()
    for code, count, ids in rows:
        if code:
            for entry_id in ids:
                found.add(code, f"entry {entry_id}")
            if count > len(ids):
                found.add(code, f"{count - len(ids)} more entries", times=count - len(ids))
    return sum(count for _, count, _ in rows)


class _Steps:
    """Counts what is done and tells now and then."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total = progress, total
        self.done = self.told = 0

    def add(self, count: int) -> None:
        """Note that so many more are done."""
        self.done += count
        if self.progress and (self.done - self.told >= 2000 or self.done == self.total):
            self.told = self.done
            self.progress(self.done, self.total)
