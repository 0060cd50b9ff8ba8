"""Writes the search terms of contacts anew: after a restore, and after the choice of what may be searched."""

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import Organization
from contacts import terms
from contacts.compiler import size_of


class Command(BaseCommand):
    """`manage.py reindex [--organization SLUG]`."""

    help = "Write the search terms of all contacts anew, of one organization or of all."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take an organization's slug."""
        parser.add_argument("--organization", metavar="SLUG", help="only this one")

    def handle(self, *args: Any, **options: Any) -> None:
        """Rebuild, and say how far it is when somebody watches."""
        organizations = Organization.objects.order_by("slug")
        if options["organization"]:
            organizations = organizations.filter(slug=options["organization"])
            if not organizations:
                raise CommandError("There is no such organization.")
        for organization in organizations:
            done = terms.reindex(organization, progress=self._bar(organization))
            self.stdout.write(f"{organization.slug}: {done:,} contacts indexed")

    def _bar(self, organization: Organization) -> terms.Progress | None:
        if not sys.stderr.isatty():
            return None
        total = max(size_of(organization), 1)

        def show(done: int) -> None:
            width = min(40, 40 * done // total)
            end = "\n" if done >= total else "\r"
            self.stderr.write(
                f"{organization.slug} [{'#' * width:40}] {done:,} of {total:,}", ending=end
            )

        return show
