"""Step 11, report: what came of a campaign, counted from the ledger and the evidence beside it.

The numbers form one chain: everybody whom the segment matched is in the ledger once, so the audience is what
was sent, held back, failed, is waiting, unclear or cancelled. Where that does not add up, the results say so.
"""

import datetime as dt
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from audit.snapshot import snapshot
from campaigns.models import Campaign
from consent.locking import database_time
from delivery.models import Event, Message
from reports import words

State = Message.State
#: States that are one of the chain's parts; the other open ones are "waiting".
CHAIN = (
    State.SENT,
    State.WITHHELD,
    State.FAILED,
    State.DEFERRED,
    State.IN_DOUBT,
    State.CANCELLED,
)
WAITING = (State.QUEUED, State.CLAIMED, State.HANDING_OVER)


class DoesNotAddUp(AssertionError):
    """The ledger of a campaign contradicts itself; the sentences say where."""


@dataclass(frozen=True, slots=True)
class Results:
    """What came of one campaign, exact, for the machine's own use: people get reports/campaign_document.py, which hides.

    `waiting`: on their way (queued, claimed, being handed over). `without_tls_receipt`: of those sent.
    `unsubscribed`, `bounced`, `complained`: those sent that had such an event later (what a server refuses at
    once has failed). `first_at`, `last_at`: hand-over of the first and last message that was sent.
    `problems`: where the numbers contradict each other.
    """

    campaign_id: uuid.UUID
    organization_id: uuid.UUID
    name: str
    purpose: str
    status: str
    audience: int
    sent: int
    withheld: int
    failed: int
    deferred: int
    in_doubt: int
    cancelled: int
    waiting: int
    withheld_by_reason: dict[str, int]
    failed_by_kind: dict[str, int]
    by_sending_ip: dict[str, int]
    by_tls_version: dict[str, int]
    by_verification: dict[str, int]
    without_tls_receipt: int
    unsubscribed: int
    bounced: int
    complained: int
    first_at: dt.datetime | None
    last_at: dt.datetime | None
    counted_at: dt.datetime
    problems: tuple[str, ...] = field(default=())

    def check(self) -> None:
        """Raise DoesNotAddUp where the numbers contradict each other."""
        if self.problems:
            raise DoesNotAddUp(" ".join(self.problems))

    @property
    def chain(self) -> dict[str, int]:
        """The parts of the audience by state; together they are the audience."""
        return {state.value: getattr(self, state.value) for state in CHAIN} | {
            "waiting": self.waiting
        }


def results(campaign: Campaign) -> Results:
    """Return what came of a campaign so far.

    Three statements over its part of the ledger, read at one moment; nothing is decrypted. It never raises for
    what it finds: see `problems` and `check()`.
    """
    with snapshot():
        lines = _lines(campaign)
        receipts = _receipts(campaign)
        events = _events(campaign)
        frozen = _frozen(campaign)
        now = database_time()
    states, reasons = Counter[str](), Counter[tuple[str, str]]()
    addresses = Counter[str]()
    for state, reason, address, number, _, _ in lines:
        states[state] += number
        reasons[state, reason] += number
        if state == State.SENT:
            addresses[address or "unknown"] += number
    versions, verified = Counter[str](), Counter[str]()
    for version, proof, number in receipts:
        versions[version] += number
        verified[proof] += number
    counts: dict[str, Any] = {state.value: states[state] for state in CHAIN}
    return Results(
        campaign_id=campaign.pk,
        organization_id=campaign.organization_id,
        name=campaign.name,
        purpose=campaign.purpose,
        status=campaign.status,
        audience=states.total(),
        **counts,
        waiting=sum(states[state] for state in WAITING),
        withheld_by_reason=_of_state(reasons, State.WITHHELD),
        failed_by_kind=_of_state(reasons, State.FAILED),
        by_sending_ip=dict(sorted(addresses.items())),
        by_tls_version=dict(versions.most_common()),
        by_verification=dict(verified.most_common()),
        without_tls_receipt=max(0, states[State.SENT] - versions.total()),
        unsubscribed=events[Event.Type.UNSUBSCRIBED],
        bounced=events[Event.Type.BOUNCED],
        complained=events[Event.Type.COMPLAINED],
        first_at=min((line[4] for line in lines if line[0] == State.SENT), default=None),
        last_at=max((line[5] for line in lines if line[0] == State.SENT), default=None),
        counted_at=now,
        problems=tuple(_problems(campaign, states, reasons, versions.total(), frozen)),
    )


def _of_state(reasons: Counter[tuple[str, str]], state: str) -> dict[str, int]:
    return {reason: number for (of, reason), number in reasons.most_common() if of == state}


def _problems(
    campaign: Campaign,
    states: Counter[str],
    reasons: Counter[tuple[str, str]],
    receipts: int,
    frozen: int | None,
) -> list[str]:
    problems = []
    known = sum(states[state] for state in (*CHAIN, *WAITING))
    if known != states.total():
        strange = words.listed(sorted(set(states) - set(State.values)))
        problems.append(
            f"{states.total() - known} messages are in states that nobody knows: {strange}."
        )
    if frozen is not None and frozen != states.total():
        problems.append(
            f"The ledger has {states.total()} messages; the log says that {frozen} were frozen."
        )
    if campaign.status == Campaign.Status.SENT and (
        left := sum(states[state] for state in Message.OPEN)
    ):
        problems.append(f"The campaign is finished, yet {left} messages are on their way.")
    if nameless := reasons[State.WITHHELD, ""]:
        problems.append(f"{nameless} messages are held back for no reason.")
    if receipts > states[State.SENT]:
        problems.append(
            f"There are {receipts} receipts for {states[State.SENT]} messages sent: something went out twice."
        )
    return problems


def _lines(campaign: Campaign) -> list[tuple[Any, ...]]:
    return _rows(
        """select m.state, m.reason, host(ip.address), count(*), min(m.handed_over_at), max(m.handed_over_at)
           from delivery_message m left join delivery_sendingip ip on ip.id = m.sending_ip_id
           where m.organization_id = %s and m.campaign_id = %s group by 1, 2, 3""",
        campaign,
    )


def _receipts(campaign: Campaign) -> list[tuple[Any, ...]]:
    # What was in doubt, and was found to have arrived, keeps the receipt of that attempt.
    return _rows(
        """select r.tls_version, r.verified_by, count(*)
           from delivery_message m
           join delivery_receipt r on r.message_id = m.id and r.state in ('sent', 'in_doubt') and r.tls_version <> ''
           where m.organization_id = %s and m.campaign_id = %s and m.state = 'sent' group by 1, 2""",
        campaign,
    )


def _events(campaign: Campaign) -> Counter[str]:
    rows = _rows(
        """select e.type, count(distinct e.message_id)
           from delivery_message m join delivery_event e on e.message_id = m.id
           where m.organization_id = %s and m.campaign_id = %s and m.state = 'sent'
             and e.type in ('unsubscribed', 'bounced', 'complained') group by 1""",
        campaign,
    )
    return Counter(dict(rows))


def _frozen(campaign: Campaign) -> int | None:
    """Return how many messages the log says were frozen into the ledger, None before that."""
    rows = _rows(
        """select count from audit_entry where organization_id = %s and target_id = %s
           and action = 'audience.frozen' order by id desc limit 1""",
        campaign,
    )
    return rows[0][0] if rows else None


def _rows(statement: str, campaign: Campaign) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, [campaign.organization_id, campaign.pk])
        return cursor.fetchall()
