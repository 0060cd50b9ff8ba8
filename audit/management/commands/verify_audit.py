"""Verify the whole log, say what was found, and leave with 1 if anything was."""

import json
import sys
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import IntegrityError

from audit.record import record
from audit.seal import seal
from audit.signing import trusted_keys
from audit.verify import Verification, verify
from phi.keys import PLATFORM


class Command(BaseCommand):
    """`manage.py verify_audit [--json] [--read-only]`"""

    help = "Recomputes the audit log from the database and holds it against the heads outside; exit 1 on a finding."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
        parser.add_argument(
            "--read-only",
            action="store_true",
            help="neither seal what is new before, nor record this verification after",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        writes = not options["read_only"]
        if writes:
            try:
                seal()
            except IntegrityError:
                # The end of the log is not what it was, so nothing can be sealed onto it: what follows says what.
                writes = False
        began = time.process_time()
        outcome = verify(_Bar())
        seconds = time.process_time() - began
        if writes:
            record(
                "log.verified",
                organization_id=PLATFORM,
                by="system:verify_audit",
                count=outcome.entries,
                detail={
                    "ok": outcome.ok,
                    "blocks": outcome.blocks,
                    "head": outcome.head,
                    **outcome.counts,
                },
            )
            # So that cutting this very entry off would show.
            seal()
        self.stdout.write(_as_json(outcome, seconds) if options["json"] else _as_text(outcome))
        if not outcome.ok:
            raise SystemExit(1)


def _public_keys() -> list[str]:
    return sorted(key.hex() for key in trusted_keys())


def _as_json(outcome: Verification, seconds: float) -> str:
    return json.dumps(
        {
            "ok": outcome.ok,
            "entries": outcome.entries,
            "blocks": outcome.blocks,
            "facts": outcome.facts,
            "unsealed": outcome.unsealed,
            "head": outcome.head,
            "public_keys": _public_keys(),
            "verified_at": outcome.verified_at.isoformat(),
            "cpu_seconds": round(seconds, 3),
            "counts": outcome.counts,
            "findings": [
                {"code": f.code, "where": f.where, "sentence": f.sentence} for f in outcome.findings
            ],
        }
    )


def _as_text(outcome: Verification) -> str:
    lines = [
        f"{outcome.entries} entries, of which {outcome.unsealed} not yet sealed; {outcome.blocks} blocks; "
        f"{outcome.facts} rows that entries vouch for.",
        f"Newest block: {outcome.head}",
        f"Public keys: {', '.join(_public_keys())}",
    ]
    for code, count in outcome.counts.items():
        listed = [finding for finding in outcome.findings if finding.code == code]
        lines.append(f"\n{listed[0].sentence} ({code}, {count})")
        lines += [f"  {finding.where}" for finding in listed]
        if len(listed) < count:
            lines.append("  …")
    lines.append("The log is whole." if outcome.ok else "\nTHE LOG IS NOT AS IT WAS WRITTEN.")
    return "\n".join(lines)


class _Bar:
    """A progress bar on standard error, once the work has taken a second."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() - self.began < 1 or not total:
            return
        width = 40 * done // total
        end = "\n" if done == total else ""
        sys.stderr.write(f"\r[{'#' * width:40}] {100 * done // total:3} %{end}")
        sys.stderr.flush()
