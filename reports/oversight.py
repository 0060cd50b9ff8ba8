"""Who did what: access to protected health information, approvals, refusals, keys, and whether the log is whole.

All but the approvals is read from the audit log, of the organization alone. 45 CFR 164.308(a)(1)(ii)(D),
164.312(a)(1), (b), (c)(2).
"""

import datetime as dt
import re
import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from django.conf import settings
from django.db import connection

from accounts.models import Membership, Organization, User
from audit.models import Block
from audit.verify import Verification, verify
from campaigns.models import Approval, Campaign, Submission
from reports.period import Period
from reports.words import ACCESS, ROLES, listed

#: What is a key event: making, changing, destroying what opens data or lets a machine in.
KEY_ACTIONS = ("key.created", "key.rotated", "key.destroyed", "token.created", "token.revoked")
DENIALS = ("access.denied", "session.refused")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


class Access(NamedTuple):
    """How often somebody looked at people's data, by action; `records`: contacts seen, by their own count."""

    actor: str
    times: dict[str, int]
    records: int


def access(organization: Organization, period: Period) -> list[Access]:
    """Return who looked at people's data in the period, most often first."""
    with connection.cursor() as cursor:
        cursor.execute(
            """select actor, action, count(*), sum(coalesce(count, 1)) from audit_entry
               where organization_id = %(organization)s and at >= %(start)s and at < %(end)s
                 and action = any(%(actions)s) group by 1, 2""",
            {**_params(organization, period), "actions": list(ACCESS)},
        )
        rows = cursor.fetchall()
    times: dict[str, dict[str, int]] = defaultdict(dict)
    records: dict[str, int] = defaultdict(int)
    for actor, action, number, seen in rows:
        times[actor][action] = number
        records[actor] += int(seen) if action == "contact.viewed" else 0
    found = [Access(actor, by_action, records[actor]) for actor, by_action in times.items()]
    return sorted(found, key=lambda one: (-sum(one.times.values()), one.actor))


class Denial(NamedTuple):
    """Something that was refused, why, how often, and to how many."""

    action: str
    reason: str
    number: int
    actors: int


def denials(organization: Organization, period: Period) -> list[Denial]:
    """Return what was refused in the period, most often first."""
    with connection.cursor() as cursor:
        cursor.execute(
            """select action, coalesce(detail->>'reason', ''), count(*), count(distinct actor) from audit_entry
               where organization_id = %(organization)s and at >= %(start)s and at < %(end)s
                 and action = any(%(actions)s) group by 1, 2 order by 3 desc, 1, 2""",
            {**_params(organization, period), "actions": list(DENIALS)},
        )
        return [Denial._make(row) for row in cursor.fetchall()]


class KeyEvent(NamedTuple):
    """What was done to keys, how often, by whom, and when last."""

    action: str
    number: int
    actors: list[str]
    last_at: dt.datetime


def key_events(organization: Organization, period: Period) -> list[KeyEvent]:
    """Return what was done to keys in the period."""
    with connection.cursor() as cursor:
        cursor.execute(
            """select action, count(*), array_agg(distinct actor order by actor), max(at) from audit_entry
               where organization_id = %(organization)s and at >= %(start)s and at < %(end)s
                 and action = any(%(actions)s) group by 1 order by 1""",
            {**_params(organization, period), "actions": list(KEY_ACTIONS)},
        )
        return [KeyEvent._make(row) for row in cursor.fetchall()]


@dataclass(frozen=True, slots=True)
class Decided:
    """A submission under which messages were handed over, and who stands behind it.

    `approvals`: (who, when, until when) of those who approved these very bytes before the first message left
    and whose approval held when the last one did. `others`: how many of them are neither the author nor who
    handed it in.
    """

    campaign: Campaign
    submission: Submission
    first_at: dt.datetime
    last_at: dt.datetime
    approvals: tuple[Approval, ...]

    @property
    def others(self) -> int:
        """How many second persons approved."""
        own = {self.campaign.author_id, self.submission.submitted_by_id}
        return len({one.decided_by_id for one in self.approvals} - own)


def decided(
    organization: Organization, handed: dict[uuid.UUID, tuple[dt.datetime, dt.datetime]]
) -> list[Decided]:
    """Return the submissions under which messages left in the period, in the order in which they began.

    `handed`: for each submission the first and last hand-over in the period.
    """
    submissions = (
        Submission.objects.filter(organization=organization, pk__in=handed)
        .select_related("campaign")
        .only(
            *("number", "content_hash", "submitted_by_id", "submitted_at", "organization_id"),
            *("campaign__name", "campaign__purpose", "campaign__author_id"),
        )
        .prefetch_related("approvals")
    )
    found = []
    for submission in submissions:
        first_at, last_at = handed[submission.pk]
        decisions = list(submission.approvals.all())
        returned = any(one.decision == Approval.Decision.RETURNED for one in decisions)
        approvals = [
            one
            for one in decisions
            if not returned
            and bytes(one.content_hash) == bytes(submission.content_hash)
            and one.decided_at <= first_at
            and one.expires_at > last_at
        ]
        found.append(Decided(submission.campaign, submission, first_at, last_at, tuple(approvals)))
    return sorted(found, key=lambda one: (one.first_at, one.submission.pk))


@dataclass(frozen=True, slots=True)
class Log:
    """The organization's entries of the period, and what verifying the whole log found.

    `counts`: findings by code; ids stay out, since the log holds other organizations' entries as well.
    """

    entries: int
    sealed: int
    verified_at: dt.datetime
    ok: bool
    counts: dict[str, int]
    block: int | None
    root: str
    sealed_at: dt.datetime | None
    kept_at: str


def log(organization: Organization, period: Period, verification: Verification | None) -> Log:
    """Verify the log, unless the caller just did, and return what it says."""
    verification = verification or verify()
    with connection.cursor() as cursor:
        cursor.execute(
            """select count(*), count(m.entry_id) from audit_entry e
               left join audit_membership m on m.entry_id = e.id
               where e.organization_id = %(organization)s and e.at >= %(start)s and e.at < %(end)s""",
            _params(organization, period),
        )
        entries, sealed = cursor.fetchone()
    last = Block.objects.order_by("-number").first()
    return Log(
        entries=entries,
        sealed=sealed,
        verified_at=verification.verified_at,
        ok=verification.ok,
        counts=dict(verification.counts),
        block=None if last is None else last.number,
        root="" if last is None else bytes(last.root).hex(),
        sealed_at=None if last is None else last.sealed_at,
        kept_at=str(settings.AUDIT_HEADS),
    )


def names(organization: Organization, actors: Iterable[str]) -> dict[str, str]:
    """Return what to call the actors of log entries: staff by name and role, others by what they are."""
    actors = set(actors)
    ids = {actor: actor.partition(":")[2] for actor in actors}
    users = {
        str(user.pk): user.name
        for user in User.objects.filter(pk__in=[pk for pk in ids.values() if _UUID.fullmatch(pk)])
    }
    roles: dict[str, list[str]] = defaultdict(list)
    for user_id, role in (
        Membership.objects.filter(organization=organization, user_id__in=users)
        .order_by("role")
        .values_list("user_id", "role")
    ):
        roles[str(user_id)].append(ROLES.get(role, role).lower())
    return {actor: _name(actor, ids[actor], users, roles) for actor in actors}


def _name(actor: str, pk: str, users: dict[str, str], roles: dict[str, list[str]]) -> str:
    kind = actor.partition(":")[0]
    if kind == "user":
        if pk not in users:
            return f"Unknown user {pk[:8]}"
        return f"{users[pk]}, {listed(roles[pk]) or 'no role here now'}"
    if kind == "contact":
        return "A recipient"
    if kind == "system":
        return f"The system ({pk.replace('_', ' ')})"
    return f"{kind.replace('_', ' ').capitalize()} {pk[:8]}"


def _params(organization: Organization, period: Period) -> dict[str, object]:
    return {"organization": organization.pk, "start": period.start, "end": period.end}
