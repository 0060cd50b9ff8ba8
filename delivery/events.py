"""Step 10, event: delivered, deferred, bounced, unsubscribed: what the world said, recorded in sets.

One transaction holds the ledger's new states, the receipts, the events and the audit entry that vouches for
them. A hard bounce suppresses its address in the same transaction.
"""

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Sequence

from django.conf import settings
from django.db import connection, transaction

from accounts.models import Organization
from audit.record import record
from campaigns.models import Campaign
from consent.locking import database_time, lock
from consent.stop import suppress
from contacts.models import Contact
from delivery import mx, replies
from delivery.models import Destination, Event, Message, Receipt, SendingIP
from delivery.wire import Attempt
from phi.digest import address_digest
from phi.ids import uuid7

BY = "system:pipeline"
#: What the world said, by the state that a message came to.
EVENTS = {
    "sent": Event.Type.DELIVERED,
    "deferred": Event.Type.DEFERRED,
    "failed": Event.Type.BOUNCED,
}
FIRST_RETRY_SECONDS = 300
#: After so many connections that failed or replies that were lost, a destination rests for so long.
FAILURES_IN_A_ROW = 3
CLOSED_FOR = dt.timedelta(minutes=5)


@transaction.atomic
def record_attempts(
    campaign: Campaign, sending_ip: SendingIP, policy: str, attempts: Sequence[Attempt]
) -> None:
    """Record what became of a set of messages of one campaign."""
    if not attempts:
        return
    now = database_time()
    rows = [_row(campaign, attempt, now) for attempt in attempts]
    _move(rows, now)
    marks = dict(
        Message.objects.filter(pk__in=[a.letter.message_id for a in attempts]).values_list(
            "pk", "handed_over_at"
        )
    )
    receipts = Receipt.objects.bulk_create(
        _receipt(campaign, sending_ip, policy, attempt, row, marks, now)
        for attempt, row in zip(attempts, rows, strict=True)
    )
    events = Event.objects.bulk_create(
        Event(
            id=uuid7(),
            organization_id=campaign.organization_id,
            message_id=row["id"],
            type=EVENTS[row["state"]],
            kind=row["kind"],
            source="smtp",
            occurred_at=now,
        )
        for row in rows
        if row["state"] in EVENTS and row["reason"] != "no_tls"
    )
    record(
        "message.recorded",
        organization_id=campaign.organization_id,
        by=BY,
        target=campaign,
        count=len(rows),
        facts=[*receipts, *events],
        detail=dict(Counter(row["state"] for row in rows)),
    )
    _learn(attempts, now)
    _suppress(campaign.organization, attempts, rows)


def _row(campaign: Campaign, attempt: Attempt, now: dt.datetime) -> dict:
    """Return the message's next state: columns by name."""
    state, reason, due_at, kind = attempt.ending, attempt.reason, None, ""
    reply = attempt.reply
    if state in {"deferred", "failed"} and reply is not None:
        verdict = replies.classify(reply, mx.operator(attempt.mx) if attempt.mx else None)
        kind = str(verdict.kind)
        reason = reason or kind
    if state == "deferred":
        scale = settings.RETRY_FIRST_SECONDS / FIRST_RETRY_SECONDS
        due_at = now + replies.retry_after(attempt.letter.attempt, scale=scale)
        if due_at > campaign.latest_at:
            # Never after its deadline: it would be tried too late, so it has failed now.
            state, reason, due_at = "failed", "expired", None
    return {
        "id": attempt.letter.message_id,
        "state": state,
        "reason": reason or ("in_doubt" if state == "in_doubt" else ""),
        "code": reply.code if reply is not None else None,
        "due_at": due_at,
        "kind": kind,
        "suppress": state == "failed" and kind != "" and verdict.suppress_after == 1,
    }


def _move(rows: list[dict], now: dt.datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """update delivery_message m set state = r.state, reason = r.reason, code = r.code,
                 due_at = coalesce(r.due_at, m.due_at), journal_id = null,
                 finished_at = case when r.due_at is null then %s end
               from unnest(%s::uuid[], %s::text[], %s::text[], %s::smallint[], %s::timestamptz[])
                 as r(id, state, reason, code, due_at)
               where m.id = r.id and m.state = 'handing_over'""",
            [
                now,
                *(
                    [row[name] for row in rows]
                    for name in ("id", "state", "reason", "code", "due_at")
                ),
            ],
        )


def _receipt(
    campaign: Campaign,
    sending_ip: SendingIP,
    policy: str,
    attempt: Attempt,
    row: dict,
    marks: dict,
    now: dt.datetime,
) -> Receipt:
    tls, reply = attempt.tls, attempt.reply
    return Receipt(
        id=uuid7(),
        organization_id=campaign.organization_id,
        message_id=row["id"],
        attempt=attempt.letter.attempt,
        state=row["state"],
        sending_ip=sending_ip.address,
        tls_version=tls.version if tls else "",
        cipher=tls.cipher if tls else "",
        certificate=tls.peer_certificate_sha256 if tls else "",
        verified_by=tls.verified_by if tls else "",
        policy=policy,
        code=row["code"],
        enhanced=reply.enhanced if reply else "",
        peer={
            "mx": attempt.mx,
            "peer_ip": tls.peer_ip if tls else "",
            "reply": reply.text if reply else "",
        },
        handed_over_at=marks.get(row["id"]),
        replied_at=now,
    )


def _learn(attempts: Sequence[Attempt], now: dt.datetime) -> None:
    """Remember of each destination whether it offers TLS and whether it answers.

    Three failures in a row close it for a while, so that a dead server does not hold up the others' mail.
    """
    places = dict(
        Message.objects.filter(pk__in=[one.letter.message_id for one in attempts]).values_list(
            "pk", "destination_id"
        )
    )
    by_place: dict[object, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        by_place[places[attempt.letter.message_id]].append(attempt)
    for place in Destination.objects.filter(pk__in=by_place).order_by("pk").select_for_update():
        before = (place.tls, place.failures, place.closed_until)
        for attempt in by_place[place.pk]:
            _note(place, attempt, now)
        if (place.tls, place.failures, place.closed_until) != before:
            place.save(update_fields=["tls", "tls_seen_at", "failures", "closed_until"])


def _note(place: Destination, attempt: Attempt, now: dt.datetime) -> None:
    if attempt.reason == "no_source":
        # Our own fault: it says nothing of the destination.
        return
    if attempt.tls is not None or attempt.reason == "no_tls":
        tls = Destination.Tls.ABSENT if attempt.tls is None else Destination.Tls.OFFERED
        place.tls, place.tls_seen_at = tls, now
    if attempt.ending == "in_doubt" or (attempt.tls is None and attempt.ending == "deferred"):
        place.failures += 1
        if place.failures >= FAILURES_IN_A_ROW:
            place.closed_until = now + CLOSED_FOR
    elif attempt.tls is not None:
        place.failures, place.closed_until = 0, None


def _suppress(organization: Organization, attempts: Sequence[Attempt], rows: list[dict]) -> None:
    """Suppress the addresses that do not exist: those written to, whatever the person has by now."""
    digests = {
        address_digest(organization.pk, attempt.letter.rcpt)
        for attempt, row in zip(attempts, rows, strict=True)
        if row["suppress"]
    }
    people = Contact.objects.filter(organization=organization, email_digest__in=digests)
    # Everybody at once, in id order as hand_over takes them; address by address they would wait in a circle.
    lock(organization.pk, people.values_list("pk", flat=True))
    for digest in sorted(digests):
        suppress(organization, digest, "hard_bounce", source="bounce", by=BY)
