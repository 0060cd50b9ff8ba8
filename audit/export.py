"""Exports of the log that anybody can verify offline, with audit/verifier.py and nothing else of ours.

A zip of JSON lines:

- `manifest.json`: what was asked for, how much there is, the SHA-256 of each file; `manifest.sig`: its signature.
- `blocks.jsonl`: the headers and signatures of the blocks that seal the entries.
- `entries.jsonl`: each entry's line as it was hashed, with its place and its Merkle proof.
- `facts.jsonl`: the hashes of the rows that these entries vouch for.

A proof needs no other entry, so an organization's export shows nothing of the others'. It proves that each
entry is genuine and was not altered. That none was left out is proven only by an export of everything,
which has all blocks of the period, complete and chained.
"""

import json
import os
import uuid
import zipfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from django.db import connection, transaction

from audit import merkle
from audit.canonical import entry_line, moment
from audit.models import LINE_COLUMNS, Block
from audit.record import record
from audit.signing import public_key, sign, trusted_keys
from audit.snapshot import snapshot, streamed
from phi.keys import PLATFORM

EXPORT_FORMAT = "hipaamail.export.1"


class NotExported(Exception):
    """The log does not fit its own seals; verify it first."""


_WANTED = (
    "e.at >= %(since)s::timestamptz AND e.at < %(until)s::timestamptz "
    "AND (%(organization)s::uuid IS NULL OR e.organization_id = %(organization)s::uuid)"
)
_SPAN = f"""
SELECT coalesce(min(m.block_id), 0), coalesce(max(m.block_id), -1)
FROM audit_entry e JOIN audit_membership m ON m.entry_id = e.id WHERE {_WANTED}
"""  # noqa: S608
# An export of everything has whole blocks, a few entries before and after the period included.
_SPANNED = "m.block_id BETWEEN %(first)s AND %(last)s"
# All leaves of the blocks that hold an exported entry, since the proofs need them.
_MEMBERS = f"""
WITH blocks AS MATERIALIZED (
    SELECT DISTINCT m.block_id FROM audit_entry e JOIN audit_membership m ON m.entry_id = e.id
    WHERE {{exported}}
)
SELECT m.block_id, m.position, m.leaf, b.root, {{exported}}, {LINE_COLUMNS}
FROM blocks JOIN audit_membership m USING (block_id) JOIN audit_block b ON b.number = m.block_id
JOIN audit_entry e ON e.id = m.entry_id
ORDER BY m.block_id, m.position
"""  # noqa: S608
_FACTS = """
SELECT f.entry_id, f.label, f.row_id::text, encode(f.sha256, 'hex')
FROM audit_fact f JOIN audit_entry e ON e.id = f.entry_id JOIN audit_membership m ON m.entry_id = e.id
WHERE {exported} ORDER BY f.entry_id, f.label, f.row_id
"""


def write(
    path: Path, *, organization_id: uuid.UUID | None, since: datetime, until: datetime, by: Any
) -> dict[str, Any]:
    """Write the sealed entries with `since` ≤ time < `until` to a zip file, and return its manifest.

    `organization_id`: whose entries; None for all of the installation. Entries that are not sealed yet are
    left out; seal first. The file appears under its name only when it is whole. Raises NotExported when the
    log does not fit its seals; then there is no file.
    """
    asked = {"organization": organization_id, "since": since, "until": until}
    fresh = path.with_name(path.name + ".new")
    try:
        with (
            snapshot(),
            zipfile.ZipFile(fresh, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive,
        ):
            manifest = _written(archive, asked)
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        with transaction.atomic():
            record(
                "log.exported",
                organization_id=organization_id or PLATFORM,
                by=by,
                count=manifest["entries"],
                detail={"since": since, "until": until, "blocks": manifest["blocks"]},
            )
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return manifest


def _written(archive: zipfile.ZipFile, asked: dict[str, Any]) -> dict[str, Any]:
    whole = asked["organization"] is None
    with connection.cursor() as cursor:
        cursor.execute(_SPAN, asked)
        asked["first"], asked["last"] = cursor.fetchone()
    exported = f"({_SPANNED if whole else _WANTED})"
    touched: list[int] = []
    with streamed("members", _MEMBERS.format(exported=exported), asked) as rows:
        entries = _Member(archive, "entries.jsonl", _entry_lines(rows, touched))
    blocks = _Member(archive, "blocks.jsonl", _block_lines(touched))
    with streamed("facts", _FACTS.format(exported=exported), asked) as rows:
        facts = _Member(archive, "facts.jsonl", map(_fact_line, rows))
    manifest = {
        "format": EXPORT_FORMAT,
        "organization": None if whole else str(asked["organization"]),
        "since": moment(asked["since"]),
        "until": moment(asked["until"]),
        "made_at": moment(datetime.now(UTC)),
        "whole": whole,
        "entries": entries.lines,
        "blocks": blocks.lines,
        "facts": facts.lines,
        "files": {member.name: member.sha256 for member in (entries, blocks, facts)},
        "public_keys": sorted(key.hex() for key in trusted_keys()),
    }
    content = json.dumps(manifest, sort_keys=True, indent=1).encode()
    archive.writestr("manifest.json", content)
    signature = {"public_key": public_key().hex(), "signature": sign(content)[1].hex()}
    archive.writestr("manifest.sig", json.dumps(signature, sort_keys=True))
    return manifest


class _Member:
    """A file of the archive, written line by line, hashed on the way."""

    def __init__(self, archive: zipfile.ZipFile, name: str, lines: Iterable[bytes]) -> None:
        self.name, self.lines, hashed = name, 0, sha256()
        with archive.open(name, "w", force_zip64=True) as file:
            for line in lines:
                file.write(line)
                hashed.update(line)
                self.lines += 1
        self.sha256 = hashed.hexdigest()


def _entry_lines(rows: Iterable[tuple], touched: list[int]) -> Iterator[bytes]:
    """Yield the exported entries with their proofs; note the numbers of their blocks in `touched`."""
    for number, group in groupby(rows, key=itemgetter(0)):
        members = list(group)
        tree = merkle.levels([row[2] for row in members])
        if tree[-1][0] != members[0][3]:
            raise NotExported(f"Block {number} does not fit its entries: run verify_audit.")
        touched.append(number)
        for _, position, stored, _, exported, *columns in members:
            if not exported:
                continue
            line = entry_line(*columns)
            if merkle.leaf(line) != stored:
                raise NotExported(f"Entry {columns[0]} was altered: run verify_audit.")
            proof = json.dumps([step.hex() for step in merkle.proof(tree, position)])
            # The line stands last and as it is: the verifier hashes these very bytes.
            yield b'{"block":%d,"position":%d,"proof":%b,"entry":%b}\n' % (
                number,
                position,
                proof.encode(),
                line,
            )


def _block_lines(numbers: list[int]) -> Iterator[bytes]:
    for start in range(0, len(numbers), 2000):
        chosen = Block.objects.filter(number__in=numbers[start : start + 2000]).order_by("number")
        for block in chosen:
            signature = bytes(block.signature).hex().encode()
            yield b'{"signature":"%b","block":%b}\n' % (signature, block.header())


def _fact_line(row: tuple) -> bytes:
    entry_id, label, row_id, digest = row
    held = {"entry": entry_id, "label": label, "row": row_id, "sha256": digest}
    return json.dumps(held).encode() + b"\n"
