"""Print the DNS records that an organization's sending domains need."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import Organization
from delivery.domains import records


class Command(BaseCommand):
    """Print JSON: {name: {type: value}}: DKIM, SPF, DMARC, return path, MTA-STS, TLS-RPT."""

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the organization's slug; without it, all organizations' records."""
        parser.add_argument("organization", nargs="?", help="slug of the organization")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the records."""
        organizations = Organization.objects.filter(sending_domains__isnull=False).distinct()
        if options["organization"]:
            organizations = organizations.filter(slug=options["organization"])
        if not organizations:
            raise CommandError("No such organization has a sending domain.")
        published: dict[str, dict[str, str]] = {}
        for organization in organizations:
            for name, types in records(organization).items():
                published.setdefault(name, {}).update(types)
        self.stdout.write(json.dumps(published, indent=2, sort_keys=True))
