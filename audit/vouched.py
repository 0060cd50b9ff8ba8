"""Verification's second half: the rows that entries vouch for are still as they were."""

from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import groupby
from operator import itemgetter

from django.db import connection

from audit.facts import FACTS, Facts, text_sql
from audit.findings import Findings
from audit.snapshot import streamed

_LABELS = """
SELECT DISTINCT jsonb_object_keys(facts) FROM audit_entry WHERE facts <> '{}'
UNION SELECT DISTINCT label FROM audit_fact
"""


def verify(found: Findings, done: Callable[[int], None]) -> int:
    """Recompute the hash of every row that an entry vouches for; return how many there are."""
    with connection.cursor() as cursor:
        cursor.execute(_LABELS)
        labels = {label for (label,) in cursor.fetchall()}
    count = 0
    for label in sorted(labels | set(FACTS)):
        if label in FACTS:
            count += _verify_rows(label, FACTS[label], found, done)
            if FACTS[label].every_row:
                _find_uncovered(label, FACTS[label], found)
        else:
            found.add("fact.undeclared", label)
    return count


def _verify_rows(label: str, facts: Facts, found: Findings, done: Callable[[int], None]) -> int:
    pk, table = facts.model._meta.pk.column, facts.model._meta.db_table
    rows_sql = (
        f'SELECT f.entry_id, uuid_send(f.row_id), f.sha256, CASE WHEN t."{pk}" IS NOT NULL '  # noqa: S608
        f'THEN {text_sql(facts)} END FROM audit_fact f LEFT JOIN "{table}" t ON t."{pk}" = f.row_id '
        "WHERE f.label = %s ORDER BY f.entry_id, f.row_id"
    )
    claims_sql = (
        "SELECT id, facts->%s->>'count', facts->%s->>'sha256' FROM audit_entry "
        "WHERE jsonb_exists(facts, %s) ORDER BY id"
    )
    count = 0
    with (
        streamed("facts", rows_sql, [label]) as stream,
        streamed("claims", claims_sql, [label] * 3) as claims,
    ):
        for entry_id, rows, claim in _side_by_side(stream, claims):
            _compare(label, entry_id, rows, found)
            listed = sha256(b"".join([row[1] + row[2] for row in rows])).hexdigest()
            if claim is None or claim[1:] != (str(len(rows)), listed):
                found.add("fact.relisted", f"entry {entry_id}, {label}")
            count += len(rows)
            done(len(rows))
    return count


def _compare(label: str, entry_id: int, rows: list[tuple], found: Findings) -> None:
    computed = [None if row[3] is None else sha256(row[3].encode()).digest() for row in rows]
    if computed == [row[2] for row in rows]:
        return
    for row, now in zip(rows, computed, strict=True):
        if now != row[2]:
            code = "fact.deleted" if now is None else "fact.altered"
            found.add(code, f"{label} {_uuid(row[1])}, entry {entry_id}")


def _side_by_side(
    stream: Iterator[tuple], claims: Iterator[tuple]
) -> Iterator[tuple[int, list[tuple], tuple | None]]:
    """Pair the rows of each entry with what the entry says of them; either may be missing."""
    claim = next(claims, None)
    for entry_id, group in groupby(stream, key=itemgetter(0)):
        while claim is not None and claim[0] < entry_id:
            yield claim[0], [], claim
            claim = next(claims, None)
        if claim is not None and claim[0] == entry_id:
            yield entry_id, list(group), claim
            claim = next(claims, None)
        else:
            yield entry_id, list(group), None
    while claim is not None:
        yield claim[0], [], claim
        claim = next(claims, None)


def _find_uncovered(label: str, facts: Facts, found: Findings) -> None:
    pk, table = facts.model._meta.pk.column, facts.model._meta.db_table
    published = (
        f'AND t."{facts.model._meta.get_field(facts.when).column}" IS NOT NULL'
        if facts.when
        else ""
    )
    with connection.cursor() as cursor:
        cursor.execute(
            f'SELECT t."{pk}", count(*) OVER () FROM "{table}" t '  # noqa: S608
            "WHERE NOT EXISTS (SELECT FROM audit_fact f WHERE f.row_id = "
            f't."{pk}" AND f.label = %s) {published} ORDER BY 1 LIMIT %s',
            [label, found.limit],
        )
        rows = cursor.fetchall()
    for row_id, _ in rows:
        found.add("fact.uncovered", f"{label} {row_id}")
    if rows and rows[0][1] > len(rows):
        more = rows[0][1] - len(rows)
        found.add("fact.uncovered", f"{label}: {more} more", times=more)


def _uuid(raw: bytes) -> str:
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
