"""The kill switch: stop everything that an organization sends, or allow it again."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts import organizations
from accounts.models import Organization

BY = "system:stop_sending"


class Command(BaseCommand):
    """From now on nothing more of the organization is handed over; --allow lifts it."""

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the organization's slug."""
        parser.add_argument("organization")
        parser.add_argument("--allow", action="store_true", help="let it send again")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it."""
        organization = Organization.objects.filter(slug=options["organization"]).first()
        if organization is None:
            raise CommandError("There is no such organization.")
        if options["allow"]:
            organizations.allow_sending(organization, by=BY)
            self.stdout.write(f"{organization.slug} may send again.")
        else:
            organizations.stop_sending(organization, by=BY)
            self.stdout.write(f"{organization.slug} sends nothing more.")
