"""Erasure: a contact's values are overwritten here and in every app that kept some, in one transaction."""

import datetime as dt
import uuid
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from accounts.models import User
from audit.record import record
from contacts.models import Contact

#: Higher apps fill it in `AppConfig.ready()`: name → function(contact, *, by) that empties what the app keeps of the
#: contact and returns of how many rows. It runs in the erasing transaction, with the contact locked.
ERASERS: dict[str, Callable[..., int]] = {}

#: The longest that a backup may outlive an erasure (docs/running.md); settings.BACKUP_DAYS may be less.
LONGEST_BACKUP_DAYS = 35

#: What is emptied in the contact itself.
EMPTIED = (
    *("record_number", "record_digest", "email", "email_digest", "domain_digest"),
    *("first_name", "last_name", "date_of_birth", "sex", "state", "zip", "language"),
)


class AlreadyErased(ValueError):
    """There is nothing left to erase."""


@transaction.atomic
def erase(contact: Contact, *, by: User | str) -> dict[str, Any]:
    """Erase a contact and those merged into it, and return a certificate that names nobody.

    Opt-outs and suppressions stay: they hold the address only as a digest of their own, and must outlive the
    person's data (45 CFR 164.530(j), 16 CFR 316.4). Raises AlreadyErased; then nothing has changed.

    The certificate: {"contact", "also" (ids merged into it), "erased_at", "by", "fields", "rows" ({app: rows
    emptied}), "backups_expire_on"}.
    """
    rows = _locked(contact)
    if not rows or rows[0].standing == Contact.Standing.ERASED:
        raise AlreadyErased(f"contact {contact.pk}")
    emptied = {name: sum(eraser(row, by=by) for row in rows) for name, eraser in ERASERS.items()}
    for row in rows:
        _overwrite(row)
    found = Contact.objects.only("erased_at").get(pk=contact.pk)
    entry = record(
        "contact.erased",
        organization_id=contact.organization_id,
        by=by,
        target=contact,
        count=len(rows),
        fields=[*EMPTIED, "attributes"],
        detail={f"{name}_rows": number for name, number in emptied.items()},
    )
    contact.refresh_from_db()
    days = min(getattr(settings, "BACKUP_DAYS", LONGEST_BACKUP_DAYS), LONGEST_BACKUP_DAYS)
    return {
        "contact": str(contact.pk),
        "also": [str(row.pk) for row in rows[1:]],
        "erased_at": found.erased_at.isoformat(),
        "by": entry.actor,
        "fields": [*EMPTIED, "attributes"],
        "rows": emptied,
        "backups_expire_on": (found.erased_at + dt.timedelta(days=days)).date().isoformat(),
    }


def _locked(contact: Contact) -> list[Contact]:
    """Return the contact and all that were merged into it, it first, their rows locked in id order."""
    ids: set[uuid.UUID] = set()
    more = {contact.pk}
    same = Contact.objects.filter(organization_id=contact.organization_id)
    while more:
        ids |= more
        more = set(same.filter(merged_into__in=more).values_list("pk", flat=True)) - ids
    rows = list(same.filter(pk__in=ids).select_for_update().order_by("pk"))
    return sorted(rows, key=lambda row: (row.pk != contact.pk, row.pk))


def _overwrite(row: Contact) -> None:
    for name in EMPTIED:
        setattr(row, name, None)
    row.attributes = {}
    row.source = ""
    row.merged_into = None
    row.standing = Contact.Standing.ERASED
    row.erased_at = Now()
    # The terms go with the standing: a trigger deletes the row of whoever is not active.
    row.save()
