"""Step 8, compose: holes filled, headers added, DKIM signed: one message.

Nothing is compiled here: the pieces are those that were approved. A message is a join of bytes, one body hash
and one signature (ADR 0011).
"""

import email.utils
import hashlib
import logging
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from builder import headers
from builder.pieces import Pieces, fill
from builder.registry import Value, values_for
from builder.tags import CannotFill, MissingValue
from campaigns.models import Campaign, Submission
from contacts.models import Contact
from delivery import dkim, unsubscribe, verp
from delivery.models import Message
from phi.keys import Unreadable

log = logging.getLogger(__name__)


class NoAddress(Exception):
    """The person has no address any more."""


@dataclass(frozen=True, slots=True)
class Letterhead:
    """What all messages of a campaign share, made once for each slice of work."""

    pieces: Pieces
    tags: tuple[str, ...]
    sender: bytes
    reply_to: bytes
    list_id: bytes
    feedback_id: bytes
    domain: str
    bounce_domain: str
    selector: str
    key: Any


@dataclass(frozen=True, slots=True)
class Letter:
    """One message, ready for the wire: envelope, bytes, and the values that were filled in."""

    message_id: uuid.UUID
    attempt: int
    envelope_from: str
    rcpt: str
    data: bytes
    values: dict[str, Any]


def letterhead(campaign: Campaign, submission: Submission) -> Letterhead:
    """Return what the campaign's messages share: approved pieces, sender, signing key.

    Raises DkimKey.DoesNotExist when the domain has no key: an unsigned message never leaves.
    """
    sender, domain = campaign.sender, campaign.sender.domain
    signing = domain.dkim_keys.filter(retired_at__isnull=True, used_from__isnull=False).latest(
        "used_from"
    )
    pieces = Pieces.from_bytes(bytes(submission.pieces))
    address = f" <{sender.address}>".encode()
    return Letterhead(
        pieces=pieces,
        tags=pieces.tags,
        sender=headers.phrase(sender.display_name, name="From") + address,
        reply_to=sender.reply_to.encode(),
        # One list for each organization's stream; never a topic (compliance: List-Id may reveal one).
        list_id=f"<news.{domain.domain}>".encode(),
        feedback_id=f"{campaign.pk.hex[-8:]}:{campaign.organization_id.hex[-8:]}".encode(),
        domain=domain.domain,
        bounce_domain=domain.bounce_domain,
        selector=signing.selector,
        key=dkim.load_key(signing.private_pem.encode()),
    )


def compose(
    head: Letterhead, messages: Iterable[Message]
) -> tuple[dict[uuid.UUID, Letter], dict[uuid.UUID, str]]:
    """Compose what can be composed; return letters and, for the rest, the reason, each by message id."""
    letters, faulty = {}, {}
    for message in messages:
        try:
            letters[message.pk] = letter(head, message, message.contact)
        except MissingValue as error:
            log.warning("message %s is withheld: %s", message.pk, error)
            faulty[message.pk] = "missing_value"
        except CannotFill as error:
            log.warning("message %s is withheld: %s", message.pk, error)
            faulty[message.pk] = "unusable_value"
        except dkim.BadHeaders as error:
            log.error("message %s is withheld: %s", message.pk, error)
            faulty[message.pk] = "unusable_value"
        except NoAddress:
            faulty[message.pk] = "no_address"
        except Unreadable as error:
            log.error("message %s is withheld: %s", message.pk, error)
            faulty[message.pk] = "unreadable"
    return letters, faulty


def letter(head: Letterhead, message: Message, contact: Contact) -> Letter:
    """Compose one message.

    Raises builder.tags.CannotFill when a tag has neither value nor fallback, or a value that may not stand
    there, NoAddress, and phi.keys.Unreadable when a value does not open; each holds this message and no other.
    """
    values: dict[str, Value] = values_for(contact, head.tags)
    stop = unsubscribe.url(message.pk)
    filled = fill(head.pieces, {**values, "unsubscribe_url": stop})
    rcpt = contact.email
    if rcpt is None:
        raise NoAddress
    lines: list[tuple[bytes, bytes]] = [
        (b"From", head.sender),
        (b"To", b"<" + rcpt.encode() + b">"),
        (b"Subject", filled.subject),
        (b"Date", email.utils.formatdate(usegmt=True).encode()),
        # Random, so that it says nothing of us or of the person (RFC 5322, 3.6.4).
        (b"Message-ID", f"<{uuid.uuid4().hex}@{head.domain}>".encode()),
        (b"MIME-Version", b"1.0"),
        (b"Content-Type", filled.content_type),
        (b"List-Id", head.list_id),
        # RFC 8058: one https address and the exact word, both signed.
        (b"List-Unsubscribe", f"<{stop}>".encode()),
        (b"List-Unsubscribe-Post", b"List-Unsubscribe=One-Click"),
        (b"Feedback-ID", head.feedback_id),
    ]
    if head.reply_to:
        lines.insert(1, (b"Reply-To", head.reply_to))
    signature = dkim.sign(
        lines,
        body_sha256=hashlib.sha256(filled.body).digest(),
        domain=head.domain,
        selector=head.selector,
        key=head.key,
    )
    data = b"".join(
        [
            signature,
            *(name + b": " + value + b"\r\n" for name, value in lines),
            b"\r\n",
            filled.body,
        ]
    )
    return Letter(
        message_id=message.pk,
        attempt=message.attempt,
        envelope_from=verp.envelope_sender(message.pk, settings.TOKEN_KEY, head.bounce_domain),
        rcpt=rcpt,
        data=data,
        values={name: value for name, value in values.items() if value is not None},
    )
