"""After a crash: what the journals of dead processes say about the claims they held (ADR 0009)."""

import datetime as dt
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable

from django.conf import settings
from django.db import transaction

from accounts.models import Organization, User
from audit.record import record
from campaigns.binding import transport_policy
from consent.locking import database_time
from delivery import journal
from delivery.events import EVENTS
from delivery.handover import give_back
from delivery.journal import Resolution
from delivery.models import Event, Message, Receipt, SendingIP

BY = "system:pipeline"
State = Message.State


def recover(sending_ip: SendingIP) -> dict[str, int]:
    """Settle the claims that dead processes left on an address; return how many by state.

    No line in the journal: queued again. A reply: what it said. A line without a reply: in doubt, for a
    person to resolve. A marked claim whose journal cannot be read is in doubt too, never sent again. A refusal
    after the content that is learnt here suppresses no address; the next message to it does.
    """
    settled: Counter[str] = Counter()
    directory = settings.JOURNAL_DIR
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    # By address: two organizations may share one on a small installation, and a journal is an address's.
    held = Message.objects.filter(
        sending_ip__address=sending_ip.address, state__in=Message.HELD
    ).select_related("sending_ip", "campaign__organization")
    # Before the orphans: a process that dies in between is left for the next time, and so is a journal that
    # another address's process looks at just now.
    present = journal.present(directory)
    for orphan in journal.orphans(directory):
        if orphan.ip != sending_ip.address:
            orphan.release()
            continue
        with transaction.atomic():
            claims = held.filter(journal_id=orphan.id).select_for_update(of=("self",))
            settled += _settle((one, orphan.state_of(one.pk, one.attempt)) for one in claims)
        orphan.retire()
    with transaction.atomic():
        lost = held.exclude(journal_id__in=present).select_for_update(
            of=("self",), skip_locked=True
        )
        settled += _settle((one, Resolution(one.pk, one.attempt, "in_doubt")) for one in lost)
    return dict(settled)


def _settle(found: Iterable[tuple[Message, Resolution]]) -> Counter[str]:
    """Give each message the state that was found, with receipt, event and audit entry."""
    now = database_time()
    settled: Counter[str] = Counter()
    receipts: dict[uuid.UUID, list[Receipt]] = defaultdict(list)
    events: dict[uuid.UUID, list[Event]] = defaultdict(list)
    for message, resolution in found:
        # Not marked means that no byte can have left, whatever became of the journal.
        if resolution.state == "queued" or message.state == State.CLAIMED:
            give_back([message.pk])
            settled["queued"] += 1
            continue
        _move(message, resolution, now)
        settled[resolution.state] += 1
        receipts[message.organization_id].append(_receipt(message, resolution, now))
        if resolution.state in EVENTS:
            events[message.organization_id].append(_event(message, resolution, now))
    for organization_id in receipts:
        facts = [
            *Receipt.objects.bulk_create(receipts[organization_id]),
            *Event.objects.bulk_create(events[organization_id]),
        ]
        record(
            "message.recorded",
            organization_id=organization_id,
            by=BY,
            count=len(receipts[organization_id]),
            facts=facts,
            detail={"recovered": True},
        )
    return settled


def _move(message: Message, resolution: Resolution, now: dt.datetime) -> None:
    columns: dict[str, object] = {
        "state": resolution.state,
        "journal_id": None,
        "code": resolution.code or None,
    }
    if resolution.state == State.DEFERRED:
        columns |= {"reason": "soft_network", "due_at": now}
    else:
        reason = "" if resolution.state == State.SENT else resolution.state
        columns |= {"reason": reason, "finished_at": now}
    Message.objects.filter(pk=message.pk).update(**columns)


def _receipt(message: Message, resolution: Resolution, now: dt.datetime) -> Receipt:
    """Return what can still be proved of the attempt: what the journal kept of the connection."""
    version, cipher, certificate, verified_by = (
        resolution.tls.split("/") if resolution.tls else ("", "", "", "")
    )
    return Receipt(
        organization_id=message.organization_id,
        message=message,
        attempt=message.attempt,
        state=resolution.state,
        sending_ip=message.sending_ip.address,
        tls_version=version,
        cipher=cipher,
        certificate=certificate,
        verified_by=verified_by,
        policy=transport_policy(message.campaign),
        code=resolution.code or None,
        peer={},
        handed_over_at=message.handed_over_at,
        replied_at=now,
    )


def _event(message: Message, resolution: Resolution, now: dt.datetime) -> Event:
    return Event(
        organization_id=message.organization_id,
        message=message,
        type=EVENTS[resolution.state],
        source="journal",
        occurred_at=now,
    )


@transaction.atomic
def resolve_doubt(
    organization: Organization, message_ids: list[uuid.UUID], *, arrived: bool, by: User
) -> int:
    """Settle an organization's messages in doubt, as a person found out; returns how many.

    None is ever sent again; ids of other organizations are passed over.
    """
    changed = Message.objects.filter(
        organization=organization, pk__in=message_ids, state=State.IN_DOUBT
    ).update(state=State.SENT if arrived else State.FAILED, reason="" if arrived else "not_arrived")
    if changed:
        record(
            "message.resolved",
            organization_id=organization.pk,
            by=by,
            count=changed,
            detail={"arrived": arrived},
        )
    return changed
