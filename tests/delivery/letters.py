"""Makes messages as the ledger has them after sending, for tests that begin with a link in a mail."""

import itertools
import uuid
from typing import Any

from django.utils import timezone

from campaigns.models import Campaign, Submission
from contacts.models import Contact
from delivery.models import Message

_numbers = itertools.count(1)


def make_message(contact: Contact, *, purpose: str = "MARKETING", **fields: Any) -> Message:
    """Return a message that was sent to a contact, in a campaign of its own."""
    organization = contact.organization
    now = timezone.now()
    campaign = Campaign.objects.create(
        organization=organization,
        name=f"Campaign {next(_numbers)}",
        status=Campaign.Status.SENT,
        purpose=purpose,
        send_at=now,
        author_id=uuid.uuid4(),
    )
    submission = Submission.objects.create(
        organization=organization,
        campaign=campaign,
        number=1,
        pieces=b"",
        html="",
        text="",
        bound={},
        content_hash=bytes(32),
        audience={"": 1},
        audience_total=1,
        ceiling=1,
        submitted_by_id=uuid.uuid4(),
        submitted_at=now,
    )
    fields.setdefault("state", Message.State.SENT)
    return Message.objects.create(
        organization=organization,
        campaign=campaign,
        submission=submission,
        contact=contact,
        handed_over_at=now,
        **fields,
    )
