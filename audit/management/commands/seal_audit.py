"""Seal what has been recorded since, and write the heads out; Celery's beat does the same every five seconds."""

from typing import Any

from django.core.management.base import BaseCommand

from audit.seal import seal


class Command(BaseCommand):
    """`manage.py seal_audit`"""

    help = "Seals the audit log's new entries and writes its heads outside the database."

    def handle(self, *args: Any, **options: Any) -> None:
        block = seal()
        self.stdout.write("Nothing new to seal." if block is None else f"Sealed up to {block}.")
