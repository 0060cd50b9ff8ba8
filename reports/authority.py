"""Under which authority: every message of a period held against the authorizations of its moment.

This repeats the gate's question after the fact, in a statement of its own, from the append-only facts as they
were recorded at the moment of each hand-over. So it finds a mistake of the gate, which a count of the gate's
own answers would not. 45 CFR 164.508(a)(3), (b)(5).
"""

import uuid
from collections import Counter
from typing import NamedTuple

from django.db import connection
from django.db.models import Q

from accounts.models import Organization
from campaigns.models import Campaign, Submission
from consent.purposes import PURPOSES
from phi.keys import Unreadable
from reports.period import Period

#: Purposes whose messages need an authorization.
NEED = sorted(code for code, purpose in PURPOSES.items() if purpose.needs_authorization)


class Use(NamedTuple):
    """Messages handed over for a purpose that needs an authorization.

    `form_version_id`: of the authorization in force at the moment of hand-over, the one signed last; None where
    there was none, and then `lacking` says what there was: "revoked", "ended" or "none".
    """

    purpose: str
    form_version_id: uuid.UUID | None
    lacking: str
    number: int


# The same conditions as the gate's (consent/gate.py), with the moment of hand-over in the place of now.
_USES = """
with cover as materialized (
    select * from unnest(%(submissions)s::uuid[], %(versions)s::uuid[]) as t(submission_id, form_version_id)
), handed as materialized (
    select m.id, m.contact_id, m.submission_id, m.campaign_id, m.state = 'sent' as sent, m.handed_over_at as mark,
        (m.handed_over_at at time zone %(zone)s)::date as day
    from delivery_message m
    where m.organization_id = %(organization)s and m.campaign_id = any(%(campaigns)s)
      and m.handed_over_at >= %(start)s and m.handed_over_at < %(end)s
), ended as materialized (
    select r.contact_id, a.form_version_id, r.authorization_id, r.kind, r.recorded_at,
        (r.effective_at at time zone %(zone)s)::date as day
    from consent_revocation r join consent_authorization a on a.id = r.authorization_id
    where r.organization_id = %(organization)s
), held as (
    select distinct on (h.id) h.id, a.form_version_id
    from handed h
    join consent_authorization a on a.contact_id = h.contact_id and a.organization_id = %(organization)s
    join cover v on v.submission_id = h.submission_id and v.form_version_id = a.form_version_id
    where a.recorded_at < h.mark and a.signed_on <= h.day and a.copy_given_on <= h.day
      and (a.expires_on is null or a.expires_on >= h.day)
      and not exists (
        select from ended e
        where e.contact_id = a.contact_id and e.form_version_id = a.form_version_id and e.recorded_at < h.mark
          and (e.authorization_id = a.id or (e.kind = 'revoked' and e.day >= a.signed_on)))
    order by h.id, a.signed_on desc, a.id desc
)
select h.campaign_id, held.form_version_id, case
    when held.id is not null then ''
    when exists (select from ended e where e.contact_id = h.contact_id and e.recorded_at < h.mark) then 'revoked'
    when exists (select from consent_authorization a
        where a.contact_id = h.contact_id and a.expires_on < h.day) then 'ended'
    else 'none' end as lacking, count(*)
from handed h left join held on held.id = h.id
where held.id is null or h.sent
group by 1, 2, 3
"""


def uses(organization: Organization, period: Period) -> tuple[list[Use], int]:
    """Return by purpose and form version what was sent, and how many submissions could not be read.

    Only the versions that the approved submission names count (they are part of what approval binds). A
    submission that cannot be read covers nothing, so its messages show as having no authorization. Besides
    what was sent, every mark without an authorization counts, whatever became of the message.
    """
    campaigns = dict(
        Campaign.objects.filter(organization=organization, purpose__in=NEED).values_list(
            "pk", "purpose"
        )
    )
    cover, unreadable = _cover(list(campaigns), period)
    params = _params(organization, period) | {
        "campaigns": list(campaigns),
        "submissions": [submission for submission, _ in cover],
        "versions": [version for _, version in cover],
    }
    numbers: Counter[tuple[str, uuid.UUID | None, str]] = Counter()
    with connection.cursor() as cursor:
        cursor.execute(_USES, params)
        for campaign_id, version, lacking, number in cursor.fetchall():
            numbers[campaigns[campaign_id], version, lacking] += number
    return [Use(*key, number) for key, number in numbers.items()], unreadable


def _cover(
    campaigns: list[uuid.UUID], period: Period
) -> tuple[list[tuple[uuid.UUID, uuid.UUID]], int]:
    """Return (submission, form version it names) of campaigns sent in the period, and how many are unreadable."""
    cover, unreadable = [], 0
    sent = Submission.objects.filter(
        Q(campaign__finished_at__isnull=True) | Q(campaign__finished_at__gte=period.start),
        campaign_id__in=campaigns,
        campaign__frozen_at__lt=period.end,
    )
    for submission in sent.only("organization_id", "bound"):
        try:
            versions = submission.bound["form_versions"]
        except Unreadable:
            unreadable += 1
            continue
        cover += [(submission.pk, uuid.UUID(version)) for version in versions]
    return cover, unreadable


class Standing(NamedTuple):
    """Authorizations under one form version: recorded and ended in the period, in force at its end.

    `revoked`: by the individual; `ended_otherwise`: the expiry event occurred, or it proved false. `expired`:
    its last day of force lies in the period, and nothing had ended it before.
    """

    form: str
    recorded: int
    without_copy: int
    revoked: int
    ended_otherwise: int
    expired: int
    in_force: int


# A revocation ends every authorization of the same form that was signed up to then, as for the gate.
_STANDING = """
with over as materialized (
    select a.id, min(r.recorded_at) as recorded_at
    from consent_revocation r
    join consent_authorization b on b.id = r.authorization_id
    join consent_authorization a on a.contact_id = b.contact_id and a.form_version_id = b.form_version_id
    where r.organization_id = %(organization)s and r.recorded_at < %(end)s
      and (a.id = b.id or (r.kind = 'revoked' and (r.effective_at at time zone %(zone)s)::date >= a.signed_on))
    group by 1
), ended as (
    select a.form_version_id, count(*) filter (where r.kind = 'revoked') as revoked,
        count(*) filter (where r.kind <> 'revoked') as otherwise
    from consent_revocation r join consent_authorization a on a.id = r.authorization_id
    where r.organization_id = %(organization)s and r.recorded_at >= %(start)s and r.recorded_at < %(end)s
    group by 1
), counted as (
    select a.form_version_id,
        count(*) filter (where a.recorded_at >= %(start)s) as recorded,
        count(*) filter (where a.recorded_at >= %(start)s and a.copy_given_on is null) as without_copy,
        count(*) filter (where a.expires_on between %(first)s and %(last)s
            and (over.id is null or (over.recorded_at at time zone %(zone)s)::date > a.expires_on)) as expired,
        count(*) filter (where a.copy_given_on <= %(last)s and over.id is null
            and (a.expires_on is null or a.expires_on >= %(last)s)) as in_force
    from consent_authorization a left join over on over.id = a.id
    where a.organization_id = %(organization)s and a.recorded_at < %(end)s
    group by 1
)
select v.name, v.number, v.language, c.recorded, c.without_copy, coalesce(e.revoked, 0), coalesce(e.otherwise, 0),
    c.expired, c.in_force
from counted c join consent_formversion v on v.id = c.form_version_id
left join ended e on e.form_version_id = c.form_version_id
order by v.name, v.number, v.language
"""


def standing(organization: Organization, period: Period) -> list[Standing]:
    """Return for each form version what became of its authorizations in the period."""
    with connection.cursor() as cursor:
        cursor.execute(
            _STANDING,
            {
                **_params(organization, period),
                "first": period.first_day,
                "last": period.last_day,
            },
        )
        return [
            Standing(f"{name}, version {number} ({language})", *counts)
            for name, number, language, *counts in cursor.fetchall()
        ]


def _params(organization: Organization, period: Period) -> dict[str, object]:
    return {
        "organization": organization.pk,
        "start": period.start,
        "end": period.end,
        "zone": organization.time_zone,
    }
