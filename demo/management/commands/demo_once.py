"""Do the main job from CSV to report and print its numbers as the last line, in JSON."""

import json
import os
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from builder.compile import Invalid
from campaigns.launch import Refused
from contacts import importer
from contacts.segments import CriteriaError
from demo import once
from demo.servers import DidNotStart


class Command(BaseCommand):
    """Import, segment, audience, approve, send, unsubscribe one person, report."""

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take a file of contacts and a segment."""
        parser.add_argument("--contacts", type=Path, metavar="FILE.csv")
        parser.add_argument("--segment", metavar="JSON", help="criteria, see docs/segments.md")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run it; exit 0 only if the numbers add up."""
        # What this run and its workers leave is the user's alone.
        os.umask(0o077)
        if settings.PRODUCTION:
            raise CommandError("The demo does not run in production.")
        try:
            numbers = once.run(options["contacts"], _criteria(options["segment"]))
        except OSError as error:
            raise CommandError(f"{options['contacts']}: {error.strerror}") from None
        except (CriteriaError, DidNotStart, Invalid, Refused, importer.Refused) as error:
            raise CommandError(str(error)) from None
        wrong = once.adds_up(numbers)
        for claim in wrong:
            self.stdout.write(f"Does not hold: {claim}")
        self.stdout.write("\n" + json.dumps(numbers))
        self.stdout.flush()
        if wrong:
            sys.exit(1)


def _criteria(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        criteria = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise CommandError(f"--segment is not JSON: {error}") from None
    if not isinstance(criteria, dict):
        # Never everyone by mistake: an unset variable of a shell is not a wish.
        raise CommandError('--segment is a JSON object such as {"all": []}, see docs/segments.md.')
    return criteria
