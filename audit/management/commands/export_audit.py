"""Write the log of a period to a file that anybody can verify offline with audit/verifier.py."""

import datetime as dt
import uuid
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from audit.export import NotExported, write
from audit.seal import seal
from audit.signing import public_key


class Command(BaseCommand):
    """`manage.py export_audit --from 2026-01-01 --to 2026-01-31 [--organization ID] -o FILE`"""

    help = "Exports sealed audit entries with proofs; verify with: python audit/verifier.py FILE --key KEY"

    def add_arguments(self, parser: CommandParser) -> None:
        day = dt.date.fromisoformat
        parser.add_argument("--from", dest="since", type=day, required=True, help="first day, UTC")
        parser.add_argument("--to", dest="until", type=day, required=True, help="last day, UTC")
        parser.add_argument("--organization", type=uuid.UUID, help="its id; without it, everything")
        parser.add_argument(
            "-o",
            "--output",
            type=Path,
            required=True,
            help="a zip file, or a directory to put it in",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        since, until = options["since"], options["until"]
        if until < since:
            raise CommandError("The last day lies before the first.")
        path = options["output"]
        if path.is_dir():
            whose = options["organization"] or "all"
            path /= f"audit-{whose}-{since}-{until}.zip"
        seal()
        try:
            manifest = write(
                path,
                organization_id=options["organization"],
                since=_midnight(since),
                until=_midnight(until + dt.timedelta(days=1)),
                by="system:export_audit",
            )
        except (NotExported, OSError) as error:
            raise CommandError(str(error)) from error
        seal()
        self.stdout.write(f"{manifest['entries']} entries in {path}")
        self.stdout.write(f"Public key: {public_key().hex()}")


def _midnight(day: dt.date) -> dt.datetime:
    return dt.datetime.combine(day, dt.time(), dt.UTC)
