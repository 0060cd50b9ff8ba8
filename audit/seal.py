"""Sealing: new entries get a Merkle root, chained to the last block, signed, and known outside the database.

Ids and times are drawn before commit, so entries become visible out of their order; a watermark on either
loses some for good. A transaction id below `pg_snapshot_xmin` belongs to a transaction that has ended, so
whatever it wrote can be seen now and nothing more will come: sealing goes by that.
"""

from collections.abc import Sequence
from datetime import datetime

from django.db import connection, transaction

from audit import heads
from audit.canonical import entry_line
from audit.merkle import EMPTY, leaf, root
from audit.models import LINE_COLUMNS, Block
from audit.signing import link, public_key, sign

#: One sealer at a time; the number is arbitrary and fixed.
LOCK = 0x5EA1
#: Entries in a block at most: about 10 MB of lines.
BLOCK_SIZE = 10_000

#: An entry that can be seen though its transaction id is one that the snapshot has not reached, and is not one's own,
#: was restored from another cluster's dump, whose ids mean nothing here.
FOREIGN = "(e.xid >= unborn AND e.xid IS DISTINCT FROM pg_current_xact_id_if_assigned())"
#: Below `ended` every transaction has ended; from `unborn` on none has begun.
SNAPSHOT = "SELECT pg_snapshot_xmin(pg_current_snapshot()) AS ended, pg_snapshot_xmax(pg_current_snapshot()) AS unborn"

_UNSEALED = f"""
WITH now AS MATERIALIZED ({SNAPSHOT})
SELECT ended::text, {LINE_COLUMNS}
FROM now, audit_entry e
WHERE e.xid >= %(floor)s::xid8 AND (e.xid < ended OR {FOREIGN})
  AND NOT EXISTS (SELECT FROM audit_membership m WHERE m.entry_id = e.id)
ORDER BY e.xid, e.id
LIMIT %(limit)s
"""  # noqa: S608


def seal(now: datetime | None = None) -> Block | None:
    """Seal all entries of ended transactions, and write the heads out; return the newest block made, or None.

    `now`: when the blocks say they were sealed (default: the database's clock). The first call also makes
    block 0. While another process seals, this returns None at once. A transaction that stays open holds
    back what was written after it, so writers keep theirs short. Must not be called inside a transaction: the
    head may only leave once the block is committed.
    """
    newest = None
    while True:
        with transaction.atomic(durable=True):
            block = _seal_one(now)
        newest = block or newest
        if block is None or 0 < block.count < BLOCK_SIZE:
            break
    heads.publish()
    return newest


def _seal_one(now: datetime | None) -> Block | None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT pg_try_advisory_xact_lock(%s), clock_timestamp(), unborn::text FROM ({SNAPSHOT}) s",  # noqa: S608
            [LOCK],
        )
        locked, clock, unborn = cursor.fetchone()
        if not locked:
            return None
        last = Block.objects.order_by("-number").first()
        if last is None:
            return _write(None, [], [], 0, now or clock)
        # A watermark that no transaction has reached was restored: then all entries are looked through.
        floor = 0 if last.watermark > int(unborn) else last.watermark
        cursor.execute(_UNSEALED, {"floor": str(floor), "limit": BLOCK_SIZE})
        rows = cursor.fetchall()
    if not rows:
        return None
    # A full block may end in the middle of a transaction; the next one takes up there.
    ended, last_xid = int(rows[-1][0]), int(rows[-1][2])
    watermark = min(last_xid, ended) if len(rows) == BLOCK_SIZE else ended
    leaves = [leaf(entry_line(*row[1:])) for row in rows]
    return _write(last, [row[1] for row in rows], leaves, watermark, now or clock)


def _write(
    last: Block | None,
    entry_ids: Sequence[int],
    leaves: Sequence[bytes],
    watermark: int,
    sealed_at: datetime,
) -> Block:
    block = Block(
        number=0 if last is None else last.number + 1,
        previous=bytes(32) if last is None else link(last.header(), last.signature),
        root=root(leaves) if leaves else EMPTY,
        count=len(leaves),
        total=len(leaves) + (0 if last is None else last.total),
        first_id=entry_ids[0] if entry_ids else None,
        last_id=entry_ids[-1] if entry_ids else None,
        watermark=watermark,
        sealed_at=sealed_at,
        public_key=public_key(),
    )
    block.signature = sign(block.header())[1]
    block.save()
    with (
        connection.cursor() as cursor,
        cursor.copy(
            "COPY audit_membership (entry_id, block_id, position, leaf) FROM STDIN"
        ) as copy,
    ):
        for position, (entry_id, hashed) in enumerate(zip(entry_ids, leaves, strict=True)):
            copy.write_row((entry_id, block.number, position, hashed))
    return block
