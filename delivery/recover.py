"""After a crash: what the journals of dead processes say about the claims they held (ADR 0009)."""

import uuid
from collections import Counter

from django.conf import settings
from django.db import transaction

from audit.record import record
from delivery import journal
from delivery.handover import give_back
from delivery.models import Message, SendingIP

BY = "system:pipeline"
State = Message.State
_HELD = (State.CLAIMED, State.HANDING_OVER)


def recover(sending_ip: SendingIP) -> dict[str, int]:
    """Settle the claims that dead processes left on an address; return how many by state.

    No line in the journal: queued again. A reply: what it said. A line without a reply: in doubt, for a
    person to resolve. A marked claim whose journal cannot be read is in doubt too, never sent again.
    """
    settled: Counter[str] = Counter()
    directory = settings.JOURNAL_DIR
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    # By address: two organizations may share one on a small installation, and a journal is an address's.
    held = Message.objects.filter(sending_ip__address=sending_ip.address, state__in=_HELD)
    # Before the orphans: a process that dies in between is left for the next time.
    living = journal.living(directory)
    for orphan in journal.orphans(directory):
        if orphan.ip != sending_ip.address:
            orphan.release()
            continue
        with transaction.atomic():
            for message in held.filter(journal_id=orphan.id).select_for_update():
                found = orphan.state_of(message.pk, message.attempt)
                settled[_settle(message, found.state, found.code)] += 1
        orphan.retire()
    with transaction.atomic():
        for message in held.exclude(journal_id__in=living).select_for_update(skip_locked=True):
            # Not marked means that no byte can have left, whatever became of the journal.
            lost = "in_doubt" if message.state == State.HANDING_OVER else "queued"
            settled[_settle(message, lost, 0)] += 1
        if settled:
            record(
                "message.recorded",
                organization_id=sending_ip.organization_id,
                by=BY,
                target=sending_ip,
                count=sum(settled.values()),
                detail={**settled, "recovered": True},
            )
    return dict(settled)


def _settle(message: Message, state: str, code: int) -> str:
    if state == "queued" or message.state == State.CLAIMED:
        give_back([message.pk])
        return "queued"
    columns: dict[str, object] = {"state": state, "journal_id": None, "code": code or None}
    if state == State.DEFERRED:
        columns["reason"] = "soft_network"
    else:
        columns["finished_at"] = message.handed_over_at
        columns["reason"] = "" if state == State.SENT else state
    Message.objects.filter(pk=message.pk).update(**columns)
    return state


@transaction.atomic
def resolve_doubt(message_ids: list[uuid.UUID], *, arrived: bool, by: object) -> int:
    """Settle messages in doubt, as a person found out; returns how many. None is ever sent again."""
    doubtful = Message.objects.select_for_update().filter(pk__in=message_ids, state=State.IN_DOUBT)
    by_organization = Counter(doubtful.values_list("organization_id", flat=True))
    state = State.SENT if arrived else State.FAILED
    changed = doubtful.update(state=state, reason="" if arrived else "not_arrived")
    for organization_id, count in by_organization.items():
        record(
            "message.resolved",
            organization_id=organization_id,
            by=by,
            count=count,
            detail={"arrived": arrived},
        )
    return changed
