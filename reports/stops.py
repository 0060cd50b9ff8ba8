"""Against whose word: every hand-over of a period held against the stops that were in force at its moment.

Like reports/authority.py this asks anew, from the append-only facts. A stop is an opt-out, a restriction that
was agreed to, the wish for no email, or a suppressed address; it holds from the moment at which it was
recorded, and no message may be marked for hand-over after it. 45 CFR 164.522; 15 USC 7704(a)(4)(A).
"""

from typing import NamedTuple

from django.db import connection

from accounts.models import Organization
from consent.purposes import PURPOSES
from reports.period import Period

#: (purpose, scope of an opt-out that stops it).
BLOCKED_BY = sorted((code, scope) for code, rule in PURPOSES.items() for scope in rule.blocked_by)
#: Purposes of what is owed to the person: no opt-out and no restriction stops them.
OWED = sorted(code for code, purpose in PURPOSES.items() if not purpose.blocked_by)


class Stop(NamedTuple):
    """What one kind of stop did in the period.

    `number`: recorded in it. `median_ms`, `slowest_ms`: from the moment it took effect to the moment it was
    recorded, and so in force for the machine. `against`: messages handed over in the period while one of
    this kind, whenever recorded, was in force.
    """

    kind: str
    number: int
    median_ms: int | None
    slowest_ms: int | None
    against: int


# A stop holds from when it was recorded to when the first later word of the person was.
_STOPS = """
with fact as materialized (
    select 'opt_out:' || o.scope as kind, o.contact_id, o.effective_at, o.recorded_at,
        coalesce(b.purposes, '{}') as purposes,
        (select min(i.recorded_at) from consent_optout i
         where i.contact_id = o.contact_id and i.direction = 'in' and i.scope = o.scope
           and (i.effective_at, i.recorded_at) > (o.effective_at, o.recorded_at)) as lifted_at
    from consent_optout o
    left join (select scope, array_agg(purpose) as purposes
          from unnest(%(purposes)s::text[], %(scopes)s::text[]) as t(purpose, scope) group by 1) b using (scope)
    where o.organization_id = %(organization)s and o.direction = 'out'
  union all
    select 'restriction', contact_id, effective_at, recorded_at, purposes, lifted_at
    from (select contact_id, in_force, effective_at, recorded_at,
            array(select purpose from unnest(case when r.purposes = '{}' then %(all)s::text[] else r.purposes end)
                as t(purpose) where purpose <> all(%(owed)s::text[])) as purposes,
            min(recorded_at) over later as lifted_at
          from consent_restriction r where organization_id = %(organization)s
          window later as (partition by contact_id order by effective_at, recorded_at, id
            rows between 1 following and unbounded following)) r
    where in_force
  union all
    select 'no_email', contact_id, effective_at, recorded_at, %(all)s::text[], lifted_at
    from (select contact_id, email_allowed, effective_at, recorded_at, min(recorded_at) over later as lifted_at
          from consent_channelpreference where organization_id = %(organization)s
          window later as (partition by contact_id order by effective_at, recorded_at, id
            rows between 1 following and unbounded following)) p
    where not email_allowed
), against as (
    select f.kind, count(distinct m.id) as number
    from fact f
    join delivery_message m on m.contact_id = f.contact_id and m.organization_id = %(organization)s
    join campaigns_campaign c on c.id = m.campaign_id
    where c.purpose = any(f.purposes) and m.handed_over_at >= %(start)s and m.handed_over_at < %(end)s
      and m.handed_over_at > f.recorded_at and (f.lifted_at is null or m.handed_over_at < f.lifted_at)
    group by 1
), recorded as (
    select kind, effective_at, recorded_at from fact
  union all
    select 'revocation', effective_at, recorded_at from consent_revocation
    where organization_id = %(organization)s and kind = 'revoked'
), speed as (
    select kind, count(*) as number, percentile_cont(0.5) within group (order by ms) as median, max(ms) as slowest
    from (select kind, greatest(0, extract(epoch from recorded_at - effective_at) * 1000) as ms from recorded
          where recorded_at >= %(start)s and recorded_at < %(end)s) waits
    group by 1
)
select coalesce(s.kind, a.kind), coalesce(s.number, 0), round(s.median::numeric), round(s.slowest),
    coalesce(a.number, 0)
from speed s full join against a on a.kind = s.kind order by 1
"""


def stops(organization: Organization, period: Period) -> list[Stop]:
    """Return what was recorded of people who said stop, by kind, and what was handed over in spite of it."""
    with connection.cursor() as cursor:
        cursor.execute(_STOPS, _params(organization, period))
        return [
            Stop(kind, number, _whole(median), _whole(slowest), against)
            for kind, number, median, slowest, against in cursor.fetchall()
        ]


def _whole(value: object) -> int | None:
    return None if value is None else int(value)  # type: ignore[call-overload]


# What is held against an address, not a person: a suppression, or the opt-out of somebody else who has it.
# The ledger keeps no address, so it is today's of the contact, unless the contact changed since.
_ADDRESS_STOPS = """
with held as materialized (
    select s.email_digest, null::uuid as contact_id, null::text as scope, s.effective_at, s.recorded_at,
        case s.reason when 'complaint' then %(owed)s::text[] else '{}'::text[] end as not_for,
        (select min(l.recorded_at) from consent_suppression l
         where l.organization_id = s.organization_id and l.email_digest = s.email_digest and l.action = 'lift'
           and l.reason = s.reason and l.recorded_at > s.recorded_at) as lifted_at
    from consent_suppression s where s.organization_id = %(organization)s and s.action = 'add'
  union all
    select o.email_digest, o.contact_id, o.scope, o.effective_at, o.recorded_at,
        array(select unnest(%(all)s::text[]) except
              select purpose from unnest(%(purposes)s::text[], %(scopes)s::text[]) as t(purpose, scope)
              where t.scope = o.scope), null
    from consent_optout o
    where o.organization_id = %(organization)s and o.direction = 'out' and o.email_digest is not null
)
select count(distinct m.id) filter (where p.updated_at <= m.handed_over_at),
    count(distinct m.id) filter (where p.updated_at > m.handed_over_at)
from held h
join contacts_contact p on p.organization_id = %(organization)s and p.email_digest = h.email_digest
join delivery_message m on m.contact_id = p.id and m.organization_id = %(organization)s
join campaigns_campaign c on c.id = m.campaign_id
where m.handed_over_at >= %(start)s and m.handed_over_at < %(end)s and m.handed_over_at > h.recorded_at
  and (h.lifted_at is null or m.handed_over_at < h.lifted_at)
  and h.contact_id is distinct from p.id and c.purpose <> all(h.not_for)
  and not exists (select from consent_optout i
    where i.contact_id = p.id and i.direction = 'in' and i.scope = h.scope and i.recorded_at < m.handed_over_at
      and (i.effective_at, i.recorded_at) > (h.effective_at, h.recorded_at))
"""


def address_stops(organization: Organization, period: Period) -> tuple[int, int]:
    """Return how many messages went to an address that was blocked, and how many may have.

    The second number is of people whose record changed since: the address may be a new one.
    """
    with connection.cursor() as cursor:
        cursor.execute(_ADDRESS_STOPS, _params(organization, period))
        return cursor.fetchone()


class Wish(NamedTuple):
    """Opt-outs (or, `direction` "in", opt-ins) recorded in the period."""

    scope: str
    direction: str
    source: str
    number: int


def wishes(organization: Organization, period: Period) -> list[Wish]:
    """Return how many opt-outs and opt-ins were recorded, by scope, direction and the way they came."""
    with connection.cursor() as cursor:
        cursor.execute(
            """select scope, direction, source, count(*) from consent_optout
               where organization_id = %(organization)s and recorded_at >= %(start)s and recorded_at < %(end)s
               group by 1, 2, 3 order by 1, 2 desc, 4 desc, 3""",
            _params(organization, period),
        )
        return [Wish._make(row) for row in cursor.fetchall()]


def suppressions(organization: Organization, period: Period) -> dict[tuple[str, str], int]:
    """Return how many addresses were suppressed (action "add") or released ("lift"), by action and reason."""
    with connection.cursor() as cursor:
        cursor.execute(
            """select action, reason, count(*) from consent_suppression
               where organization_id = %(organization)s and recorded_at >= %(start)s and recorded_at < %(end)s
               group by 1, 2""",
            _params(organization, period),
        )
        return {(action, reason): number for action, reason, number in cursor.fetchall()}


def _params(organization: Organization, period: Period) -> dict[str, object]:
    return {
        "organization": organization.pk,
        "start": period.start,
        "end": period.end,
        "purposes": [purpose for purpose, _ in BLOCKED_BY],
        "scopes": [scope for _, scope in BLOCKED_BY],
        "all": sorted(PURPOSES),
        "owed": OWED,
    }
