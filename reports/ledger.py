"""What the ledger says about a period: sent, held back, failed, unclear; over which TLS; what came back.

Every message has one moment: when it was handed over for what was sent or may have been, else when its case
was closed. So the numbers of adjoining periods add up to those of the whole. Each question is one statement;
nothing is decrypted, and no row of a person enters Python.
"""

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from django.db import connection

from accounts.models import Organization
from delivery.models import Message
from reports.period import Period

State = Message.State
OPEN = frozenset(state.value for state in map(State, Message.OPEN))
#: A message's moment. Whoever is held back at freezing has no time of its own.
MOMENT = """case when m.state in ('sent', 'in_doubt') then coalesce(m.handed_over_at, m.finished_at)
    else coalesce(m.finished_at, c.frozen_at, m.due_at) end"""


class Line(NamedTuple):
    """Messages of one kind. `counted`: their moment lies in the period (or they are still open).

    Lines that are not counted were handed over in the period, but their case was closed after it. `first_at`,
    `last_at`: the first and last hand-over that lies in the period.
    """

    campaign_id: uuid.UUID
    submission_id: uuid.UUID
    purpose: str
    state: str
    reason: str
    sending_ip: str
    counted: bool
    number: int
    first_at: dt.datetime | None
    last_at: dt.datetime | None


_LINES = f"""
select campaign_id, submission_id, purpose, state, reason, host(address), counted, count(*),
    min(mark) filter (where mark >= %(start)s and mark < %(end)s),
    max(mark) filter (where mark >= %(start)s and mark < %(end)s)
from (
    select m.campaign_id, m.submission_id, c.purpose, m.state, m.reason, m.sending_ip_id, m.handed_over_at as mark,
        m.state = any(%(open)s) or ({MOMENT} >= %(start)s and {MOMENT} < %(end)s) as counted
    from delivery_message m join campaigns_campaign c on c.id = m.campaign_id
    where m.organization_id = %(organization)s and coalesce(c.frozen_at, m.due_at) < %(end)s and (
        m.state = any(%(open)s)
        or ({MOMENT} >= %(start)s and {MOMENT} < %(end)s)
        or (m.handed_over_at >= %(start)s and m.handed_over_at < %(end)s))
) lines
left join delivery_sendingip ip on ip.id = lines.sending_ip_id
group by 1, 2, 3, 4, 5, 6, 7
"""  # noqa: S608 - our own expression


@dataclass(frozen=True, slots=True)
class Ledger:
    """All lines of a period."""

    lines: tuple[Line, ...]

    def sums(
        self, by: Callable[[Line], str], states: Iterable[str], *, counted: bool = True
    ) -> Counter[str]:
        """Return how many messages in these states there are by what `by` says of a line."""
        wanted, sums = frozenset(states), Counter[str]()
        for line in self.lines:
            if line.state in wanted and line.counted is counted:
                sums[by(line)] += line.number
        return sums

    def total(self, *states: str) -> int:
        """Return how many messages in these states there are."""
        return self.sums(lambda line: line.state, states).total()

    def handed_over(self) -> dict[uuid.UUID, tuple[dt.datetime, dt.datetime]]:
        """Return for each submission the first and the last hand-over in the period, whatever came of them."""
        marks: dict[uuid.UUID, list[dt.datetime]] = {}
        for line in self.lines:
            if line.first_at is not None and line.last_at is not None:
                marks.setdefault(line.submission_id, []).extend((line.first_at, line.last_at))
        return {submission: (min(found), max(found)) for submission, found in marks.items()}

    @property
    def unknown_states(self) -> list[str]:
        """States that this version does not know: their messages would be missing from every table."""
        return sorted({line.state for line in self.lines} - set(State.values))


def read(organization: Organization, period: Period) -> Ledger:
    """Return what the ledger says of an organization's period."""
    with connection.cursor() as cursor:
        cursor.execute(_LINES, _params(organization, period))
        return Ledger(tuple(Line._make(row) for row in cursor.fetchall()))


class Encryption(NamedTuple):
    """Receipts of one kind, and how many sent messages have one; all empty for messages without a receipt."""

    tls_version: str
    cipher: str
    verified_by: str
    number: int


# A message in doubt that somebody found to have arrived keeps the receipt of the attempt that was in doubt.
_ENCRYPTION = """
select coalesce(r.tls_version, ''), coalesce(r.cipher, ''), coalesce(r.verified_by, ''), count(*)
from delivery_message m
left join delivery_receipt r on r.message_id = m.id and r.state in ('sent', 'in_doubt') and r.tls_version <> ''
where m.organization_id = %(organization)s and m.state = 'sent'
  and m.handed_over_at >= %(start)s and m.handed_over_at < %(end)s
group by 1, 2, 3
"""


def encryption(organization: Organization, period: Period) -> list[Encryption]:
    """Return by TLS version, cipher and verification how many receipts the sent messages have."""
    with connection.cursor() as cursor:
        cursor.execute(_ENCRYPTION, _params(organization, period))
        return [Encryption._make(row) for row in cursor.fetchall()]


def events(organization: Organization, period: Period) -> Counter[tuple[str, str]]:
    """Return how many events of the period there are by type and kind."""
    with connection.cursor() as cursor:
        cursor.execute(
            """select type, kind, count(*) from delivery_event
               where organization_id = %(organization)s and occurred_at >= %(start)s and occurred_at < %(end)s
               group by 1, 2""",
            _params(organization, period),
        )
        return Counter({(kind, detail): number for kind, detail, number in cursor.fetchall()})


_LOST = """
select count(*) from campaigns_campaign c
join lateral (select e.count from audit_entry e
    where e.target_id = c.id and e.action = 'audience.frozen' order by e.id desc limit 1) frozen on true
where c.organization_id = %(organization)s and c.frozen_at >= %(start)s and c.frozen_at < %(end)s
  and frozen.count <> (select count(*) from delivery_message m where m.campaign_id = c.id)
"""


def incomplete_campaigns(organization: Organization, period: Period) -> int:
    """Return how many campaigns frozen in the period have another number of rows than the log says."""
    with connection.cursor() as cursor:
        cursor.execute(_LOST, _params(organization, period))
        return cursor.fetchone()[0]


def _params(organization: Organization, period: Period) -> dict[str, object]:
    return {
        "organization": organization.pk,
        "start": period.start,
        "end": period.end,
        "open": sorted(OPEN),
    }
