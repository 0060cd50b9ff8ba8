"""The lock that orders "stop" against "send" (ADR 0007)."""

import datetime as dt
import uuid
from collections.abc import Iterable

from django.db import connection

from contacts.models import Contact


def lock(organization_id: uuid.UUID, contact_ids: Iterable[uuid.UUID]) -> list[uuid.UUID]:
    """Lock the contacts' rows FOR UPDATE in id order until the transaction ends, and return those that exist.

    A hand-over that holds them FOR SHARE is waited for; a later one waits for us and sees what we wrote.
    """
    return list(
        Contact.objects.select_for_update()
        .filter(organization_id=organization_id, pk__in=list(contact_ids))
        .order_by("pk")
        .values_list("pk", flat=True)
    )


def lock_address(organization_id: uuid.UUID, email_digest: bytes) -> list[uuid.UUID]:
    """Lock everybody at an address the same way."""
    return list(
        Contact.objects.select_for_update()
        .filter(organization_id=organization_id, email_digest=email_digest)
        .order_by("pk")
        .values_list("pk", flat=True)
    )


def database_time() -> dt.datetime:
    """Return the database's clock: facts and marks are ordered by one clock, whatever host records them."""
    with connection.cursor() as cursor:
        cursor.execute("select clock_timestamp()")
        return cursor.fetchone()[0]
