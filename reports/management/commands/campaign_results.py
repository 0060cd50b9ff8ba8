"""`manage.py campaign_results`: show or write what came of a campaign, small numbers hidden."""

import argparse
import uuid
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from campaigns.models import Campaign
from reports import campaign_document
from reports.campaign import results
from reports.document import Document, write_private
from reports.small_cells import Cell

MAKERS = {
    "pdf": campaign_document.as_pdf,
    "csv": campaign_document.as_csv,
    "json": campaign_document.as_json,
}


class Command(BaseCommand):
    """Show what came of a campaign; exit 1 where its numbers contradict each other."""

    help = "Show what came of a campaign, with small numbers of people hidden."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("campaign", type=uuid.UUID, metavar="CAMPAIGN_ID")
        parser.add_argument("--format", choices=["text", *sorted(MAKERS)], default="text")
        parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="required for pdf")

    def handle(self, **options: Any) -> None:
        """Count, and write to the file or the terminal."""
        campaign = (
            Campaign.objects.select_related("organization").filter(pk=options["campaign"]).first()
        )
        if campaign is None:
            raise CommandError("There is no such campaign.")
        kind, output = options["format"], options["output"]
        if kind == "pdf" and output is None:
            raise CommandError("Say where the PDF goes: -o FILE.")
        found = results(campaign)
        if kind == "text":
            content = as_text(campaign_document.document(found, campaign.organization)).encode()
        else:
            content = MAKERS[kind](found, campaign.organization)
        if output is None:
            self.stdout.write(content.decode())
        else:
            write_private(output, content)
            self.stdout.write(f"{output}: {len(content):,} bytes")
        if found.problems:
            raise CommandError(" ".join(found.problems), returncode=1)


def as_text(document: Document) -> str:
    """Return a report for the terminal."""
    lines = [f"{document.title}: {document.subtitle}", document.summary]
    for section in document.sections:
        for table in section.tables:
            lines += ["", table.caption]
            lines += [
                "  " + "  ".join([f"{row.label:<60}", *(f"{_text(v):>14}" for v in row.values)])
                for row in table.rows
            ] or [f"  {table.nothing}"]
            lines += [f"  {table.note}"] if table.note else []
    return "\n".join(lines)


def _text(value: object) -> str:
    return value.text if isinstance(value, Cell) else str(value or "–")
