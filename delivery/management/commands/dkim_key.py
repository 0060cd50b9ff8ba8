"""Make a domain's next DKIM key, sign with one that is published, or retire one."""

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import SendingDomain
from delivery import domains
from delivery.models import DkimKey

BY = "system:dkim_key"


class Command(BaseCommand):
    """Without an option: make a key and print the record to publish."""

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the domain, and the selector of a key to use."""
        parser.add_argument("domain")
        parser.add_argument("--use", metavar="SELECTOR", help="sign with this key from now on")
        parser.add_argument("--retire", metavar="SELECTOR", help="publish this key no longer")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it."""
        domain = SendingDomain.objects.filter(domain=options["domain"]).first()
        if domain is None:
            raise CommandError("No organization sends from this domain.")
        if options["use"]:
            key = _key(domain, options["use"])
            domains.use_key(key, by=BY)
            self.stdout.write(f"{key.selector} signs from now on.")
            return
        if options["retire"]:
            key = _key(domain, options["retire"])
            try:
                domains.retire_key(key, by=BY)
            except ValueError as error:
                raise CommandError(str(error)) from None
            self.stdout.write(f"{key.selector} is retired; take its record out of the DNS.")
            return
        key = domains.new_key(domain, by=BY)
        name = f"{key.selector}._domainkey.{domain.domain}"
        self.stdout.write(json.dumps({name: {"TXT": key.public_txt}}, indent=2))


def _key(domain: SendingDomain, selector: str) -> DkimKey:
    key = domain.dkim_keys.filter(selector=selector, retired_at__isnull=True).first()
    if key is None:
        raise CommandError("The domain has no such key.")
    return key
