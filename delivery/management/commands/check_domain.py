"""Look up the records of a sending domain and mark it verified when they are there."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import SendingDomain
from delivery import domains, mx


class Command(BaseCommand):
    """Say which records are published as they should be; mark the domain verified when the needed ones are."""

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the domain."""
        parser.add_argument("domain")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check it; exit 1 while something that is needed is missing."""
        for domain in SendingDomain.objects.filter(domain=options["domain"]):
            try:
                found = domains.verify(domain, by="system:check_domain")
            except mx.LookupFailed as error:
                raise CommandError(f"{error}. Try again.") from None
            for what, is_there in sorted(found.items()):
                self.stdout.write(f"{'found  ' if is_there else 'MISSING'} {what}")
            if missing := [what for what in domains.NEEDED if not found.get(what)]:
                raise CommandError(f"Not verified: {', '.join(missing)} is missing.")
            self.stdout.write("Verified.")
            return
        raise CommandError("No organization sends from this domain.")
