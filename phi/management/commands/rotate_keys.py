"""Gives organizations new data keys: `manage.py rotate_keys [--organization ID] [--destroy-old] [--rewrap]`."""

import sys
import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from audit.record import record
from phi import keys, rotate

WIDTH = 30


class Command(BaseCommand):
    """New keys, values sealed again, each opened afterwards; may be interrupted and run again."""

    help = (
        "Seals every encrypted value again under a new data key and verifies it. Interrupted, it goes on "
        "where it was when run again. Old keys keep opening old copies until --destroy-old."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--organization", type=uuid.UUID, help="only this one; default: all")
        parser.add_argument(
            "--destroy-old",
            action="store_true",
            help="then destroy the old keys: backups of before become unreadable too",
        )
        parser.add_argument(
            "--rewrap",
            action="store_true",
            help="instead wrap all keys with the newest master key, so that older ones can go",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["rewrap"]:
                self._rewrap()
                return
            for organization_id in self._chosen(options["organization"]):
                self._rotate(organization_id)
                if options["destroy_old"]:
                    self._destroy_old(organization_id)
        except (keys.Unreadable, rotate.Held) as error:
            raise CommandError(f"{error} Run it again when that is mended.") from None

    def _chosen(self, organization_id: uuid.UUID | None) -> list[uuid.UUID]:
        known = rotate.organizations()
        if organization_id is None:
            return known
        if organization_id not in known:
            raise CommandError(f"{organization_id} has no data key.")
        return [organization_id]

    def _rotate(self, organization_id: uuid.UUID) -> None:
        with transaction.atomic():
            new = rotate.begin(organization_id)
            if new is not None:
                _record("key.created", organization_id, detail={"key": new})
        done = rotate.finish(organization_id, progress=self._progress)
        _record(
            "key.rotated",
            organization_id,
            count=done.rows,
            detail={"key": done.key_id, "resumed": new is None, "verified": done.verified},
        )
        self.stdout.write(
            f"{organization_id}: {'went on with' if new is None else 'made'} key {done.key_id}, "
            f"sealed {done.rows} rows again, {done.verified} values verified."
        )

    def _destroy_old(self, organization_id: uuid.UUID) -> None:
        rotate.settle(organization_id, rest=rotate.REST, waiting=self._waiting)
        with transaction.atomic():
            gone = keys.destroy_old_data_keys(organization_id)
            _record("key.destroyed", organization_id, count=gone)
        self.stdout.write(f"{organization_id}: destroyed {gone} old keys.")

    def _rewrap(self) -> None:
        with transaction.atomic():
            count = keys.rewrap_keys()
            _record("key.rotated", keys.PLATFORM, count=count, detail={"wrapped": True})
        self.stdout.write(f"Wrapped {count} keys with the newest master key.")

    def _progress(self, done: int, total: int) -> None:
        if total and sys.stderr.isatty():
            filled = WIDTH * done // total
            bar = "█" * filled + "·" * (WIDTH - filled)
            end = "\n" if done == total else ""
            self.stderr.write(f"\r{bar} {done:,} of {total:,} rows", ending=end)

    def _waiting(self, reason: str) -> None:
        if sys.stderr.isatty():
            self.stderr.write(f"\rWaiting for {reason} …", ending="")


def _record(action: str, organization_id: uuid.UUID, **facts: Any) -> None:
    record(action, organization_id=organization_id, by="system:rotate_keys", **facts)
