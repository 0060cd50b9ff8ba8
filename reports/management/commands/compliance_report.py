"""`manage.py compliance_report`: make a compliance report and write it to a file."""

import argparse
import datetime as dt
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import Organization
from reports import compliance
from reports.document import write_private

BY = "system:command"
MAKERS = {"pdf": compliance.as_pdf, "csv": compliance.as_csv, "json": compliance.as_json}


def day(text: str) -> dt.date:
    """Return the day that an option names; argparse tells what it raises."""
    try:
        return dt.datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=dt.UTC).date()
    except ValueError:
        raise argparse.ArgumentTypeError("a day is written YYYY-MM-DD and must exist") from None


class Command(BaseCommand):
    """Make the report on a period of whole days of an organization; what it found is printed as well."""

    help = "Make the compliance report of an organization for a period of whole days."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--organization", required=True, metavar="SLUG")
        parser.add_argument("--from", required=True, type=day, metavar="YYYY-MM-DD")
        parser.add_argument("--to", required=True, type=day, metavar="YYYY-MM-DD")
        parser.add_argument("--format", choices=sorted(MAKERS), default="pdf")
        parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE")

    def handle(self, **options: Any) -> None:
        """Make it, note it in the log, write it readable for its owner alone."""
        organization = Organization.objects.filter(slug=options["organization"]).first()
        if organization is None:
            raise CommandError("There is no such organization.")
        try:
            made = compliance.report(organization, options["from"], options["to"], by=BY)
        except compliance.BadPeriod as error:
            raise CommandError(str(error)) from None
        content = MAKERS[options["format"]](made)
        compliance.note_made(organization, made, by=BY)
        write_private(options["output"], content)
        self.stdout.write(f"{options['output']}: {len(content):,} bytes")
        for finding in made.findings:
            self.stdout.write(f"Finding: {finding.sentence} {finding.citation}".rstrip())
