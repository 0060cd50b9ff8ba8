"""Load the invented health system, once."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from demo import world
from demo.showing import Bar


class Command(BaseCommand):
    """Two organizations, staff of every role, 2,000 invented patients; a second run changes nothing."""

    help = __doc__

    def handle(self, *args: Any, **options: Any) -> None:
        """Load it."""
        try:
            with Bar("Loading 2,000 invented patients") as bar:
                world.load(bar)
        except world.NotInProduction as error:
            raise CommandError(str(error)) from None
