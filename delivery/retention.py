"""What the ledger forgets: merge values after a while, and at erasure."""

import datetime as dt

from django.conf import settings
from django.db import transaction

from audit.record import record
from consent.locking import database_time
from contacts.models import Contact
from delivery.models import Message
from phi.keys import PLATFORM


@transaction.atomic
def empty_values(now: dt.datetime | None = None) -> int:
    """Empty the merge values of messages that were finished long ago; return how many."""
    before = (now or database_time()) - dt.timedelta(days=settings.VALUES_KEPT_DAYS)
    emptied = Message.objects.filter(finished_at__lt=before, values__isnull=False).update(
        values=None
    )
    if emptied:
        record("message.emptied", organization_id=PLATFORM, by="system:retention", count=emptied)
    return emptied


def erase_values(contact: Contact, *, by: object) -> int:
    """Empty the merge values of a contact that is being erased; return how many messages it concerned."""
    return Message.objects.filter(contact=contact, values__isnull=False).update(values=None)
