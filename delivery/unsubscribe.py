"""Stop by a link: the token that names a message, and what it may do.

A token never ends. The law wants the link to work for 30 days after the message (15 USC 7704(a)(3)(A)(ii)),
but nothing is gained by refusing a later stop, so there is no date in it and nothing to look up. It holds
for one message only, hence for one person and one organization, and it can stop, take back that very stop
for a day, and nothing else.
"""

import base64
import datetime as dt
import hashlib
import hmac
import re
from uuid import UUID

from django.conf import settings
from django.db import transaction

from audit.record import record
from consent import stop as consent
from consent.locking import database_time, lock
from consent.models import Direction, OptOut
from consent.purposes import PURPOSES, Purpose
from contacts.models import Contact
from delivery.models import Event, Message

#: Where the pages are below the public address.
PATH = "/u/"
#: How a stop came: by RFC 8058, or by a person on the page.
ONE_CLICK, PAGE = "one_click", "page"
#: So long may a stop made by mistake be taken back by the link that made it; later, a person asks us.
TAKE_BACK = dt.timedelta(days=1)

_DIGEST_BYTES = 16
_LABEL = b"unsubscribe|"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_NOTHING = bytes(16 + _DIGEST_BYTES)


def token(message_id: UUID) -> str:
    """Return the token of a message: 43 characters of base64url (RFC 4648, 5) without padding.

    16 bytes of id and 16 of HMAC-SHA256 under TOKEN_KEY: hard to forge (RFC 8058, 3.1), and it names no
    person. Raises ValueError when there is no key.
    """
    raw = message_id.bytes
    return _written(raw + _digest(settings.TOKEN_KEY, raw))


def read(token: str) -> UUID | None:
    """Return the id of the message that a token names, or None for whatever we did not make.

    A text that is no token at all costs as much as a forged one. Tokens made under an earlier key
    (TOKEN_KEY_FALLBACKS) are still good, so that changing the key breaks no link that is out.
    """
    raw = _raw(token)
    known = _NOTHING if raw is None else raw
    keys = (settings.TOKEN_KEY, *settings.TOKEN_KEY_FALLBACKS)
    # All keys are tried, whichever fits.
    fits = [hmac.compare_digest(known[16:], _digest(key, known[:16])) for key in keys]
    return UUID(bytes=raw[:16]) if raw is not None and any(fits) else None


def url(message_id: UUID) -> str:
    """Return the address for the List-Unsubscribe header (RFC 2369, 8058) and for the link in the text."""
    return settings.PUBLIC_URL.rstrip("/") + PATH + token(message_id)


@transaction.atomic
def stop(message: Message, *, source: str) -> OptOut:
    """Record that the recipient of a message says stop, and return the fact; in force when this commits.

    What stops is what messages of this purpose call for (`stop_scope`); `source` is ONE_CLICK or PAGE.
    Saying it again changes nothing. Whoever hands messages over to this person at this moment is waited for,
    or waits (ADR 0007).
    """
    if source not in (ONE_CLICK, PAGE):
        raise ValueError("A stop by a link comes by one click or from the page.")
    people = _locked_people(message)
    scope = purpose_of(message).stop_scope
    facts = [consent.opt_out(who, scope, source=source, by=message.contact) for who in people]
    _note(message, facts[0], source)
    return facts[0]


@transaction.atomic
def take_back(message: Message) -> bool:
    """Record that the recipient wants these messages again after all; say whether that could be done here.

    It can while `can_take_back()` says so. The later, affirmative wish counts (15 USC 7704(a)(4)(B)).
    """
    people = _locked_people(message)
    if not can_take_back(message):
        return False
    scope = purpose_of(message).stop_scope
    evidence = f"Asked for it again on the page of message {message.pk}"
    for who in people:
        if _standing_stop(who, scope) is not None:
            consent.opt_in(who, scope, source=PAGE, evidence=evidence, by=message.contact)
    return True


def is_stopped(message: Message) -> bool:
    """Say whether the recipient has said stop to what this message is, by whatever way."""
    purpose = purpose_of(message)
    scopes = {*purpose.blocked_by, purpose.stop_scope}
    return any(_standing_stop(message.contact, scope) is not None for scope in scopes)


def can_take_back(message: Message) -> bool:
    """Say whether the stop in force was made by this very link, less than a day ago.

    So a forwarded old mail lifts nobody's stop, and a stop by telephone or on paper is never lifted here.
    """
    fact = _standing_stop(message.contact, purpose_of(message).stop_scope)
    return (
        fact is not None
        and fact.source in (ONE_CLICK, PAGE)
        and fact.effective_at > database_time() - TAKE_BACK
        and _noted(message, fact)
    )


def purpose_of(message: Message) -> Purpose:
    """Return the purpose that a message was sent for."""
    return PURPOSES[message.campaign.purpose]


def _locked_people(message: Message) -> list[Contact]:
    """Lock and return the recipient, and whom that record was merged into since: they are one person."""
    people = [message.contact]
    while (other := people[-1].merged_into) is not None and other not in people:
        people.append(other)
    lock(message.organization_id, [who.pk for who in people])
    return people


def _standing_stop(contact: Contact, scope: str) -> OptOut | None:
    latest = (
        OptOut.objects.filter(contact=contact, scope=scope)
        .order_by("-effective_at", "-recorded_at")
        .first()
    )
    return latest if latest is not None and latest.direction == Direction.OUT else None


def _noted(message: Message, fact: OptOut) -> bool:
    return message.events.filter(
        type=Event.Type.UNSUBSCRIBED, occurred_at__gte=fact.effective_at
    ).exists()


def _note(message: Message, fact: OptOut, source: str) -> None:
    """Write once for each stop that this message is what brought it (or brought it once more)."""
    if _noted(message, fact):
        return
    event = Event.objects.create(
        organization_id=message.organization_id,
        message=message,
        type=Event.Type.UNSUBSCRIBED,
        source=source,
        occurred_at=max(database_time(), fact.effective_at),
    )
    record(
        "event.received",
        organization_id=message.organization_id,
        by=message.contact,
        target=message,
        facts=[event],
        detail={"type": str(event.type), "source": source},
    )


def _digest(key: bytes, raw: bytes) -> bytes:
    if len(key) < 16:
        raise ValueError("TOKEN_KEY needs at least 16 bytes.")
    return hmac.digest(key, _LABEL + raw, hashlib.sha256)[:_DIGEST_BYTES]


def _written(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def _raw(token: str) -> bytes | None:
    if not _TOKEN.fullmatch(token):
        return None
    raw = base64.urlsafe_b64decode(token + "=")
    # The last character holds two bits that mean nothing: one spelling per token.
    return raw if _written(raw) == token else None
