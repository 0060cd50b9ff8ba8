"""Make a domain's next DKIM key, or sign with one that is published."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import SendingDomain
from delivery import domains

BY = "system:dkim_key"


class Command(BaseCommand):
    """Without --use: make a key and print the record to publish. With it: sign with that key from now on."""

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the domain, and the selector of a key to use."""
        parser.add_argument("domain")
        parser.add_argument("--use", metavar="SELECTOR")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it."""
        domain = SendingDomain.objects.filter(domain=options["domain"]).first()
        if domain is None:
            raise CommandError("No organization sends from this domain.")
        if options["use"]:
            key = domain.dkim_keys.filter(selector=options["use"], retired_at__isnull=True).first()
            if key is None:
                raise CommandError("The domain has no such key.")
            domains.use_key(key, by=BY)
            self.stdout.write(f"{key.selector} signs from now on.")
            return
        key = domains.new_key(domain, by=BY)
        name = f"{key.selector}._domainkey.{domain.domain}"
        self.stdout.write(json.dumps({name: {"TXT": key.public_txt}}, indent=2))
