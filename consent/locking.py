"""The lock that orders "stop" against "send" (ADR 0007)."""

import datetime as dt
import uuid
from collections.abc import Iterable

from django.db import connection

from contacts.models import Contact


def lock(organization_id: uuid.UUID, contact_ids: Iterable[uuid.UUID]) -> list[uuid.UUID]:
    """Lock the rows of contacts, and of whoever shares their addresses, FOR UPDATE in id order until the
    transaction ends; return those that exist.

    A hand-over that holds them FOR SHARE is waited for; a later one waits for us and sees what we wrote. Of a
    household too: what one says about an address holds for all who have it.
    """
    ids = list(contact_ids)
    with connection.cursor() as cursor:
        # One statement, so that two of a household who say stop at once take the rows in one order.
        cursor.execute(
            """select id from contacts_contact where organization_id = %s and id in (
                 select unnest(%s::uuid[]) union all
                 select other.id from contacts_contact one join contacts_contact other
                   on other.organization_id = one.organization_id and other.email_digest = one.email_digest
                 where one.organization_id = %s and one.id = any(%s))
               order by id for update""",
            [organization_id, ids, organization_id, ids],
        )
        return [row[0] for row in cursor.fetchall()]


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
