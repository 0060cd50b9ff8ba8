"""Step 7, gate: may we write to this person, for this purpose, now?

One ordered list of reasons; the first that hits wins, and only an empty answer lets a message pass. What is
true of a whole campaign comes in as an `Ask`; what is true of a person is one SQL expression, used over an
audience and over a set at hand-over alike. Whatever raises, holds the message: nothing here catches.
Numbers in comments are those of docs/hipaa.md.
"""

import datetime as dt
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from django.db import connection

from accounts.models import Organization
from consent.locking import database_time
from consent.models import FormVersion
from consent.purposes import PURPOSES, Purpose, Remuneration
from contacts import terms
from contacts.segments import Sql

#: Why a message may not go, in the order in which the checks are made: code to plain sentence.
REASONS: dict[str, str] = {
    # 1 organization, 2 campaign, 3 sender, 9 class and basis, 11 minimum necessary: true of the whole campaign
    "organization_stopped": "Sending is stopped for the whole organization.",
    "agreement_ended": "The business associate agreement has ended.",
    "stream_paused": "The stream is paused.",
    "campaign_not_approved": "The campaign is not approved as it stands.",
    "sender_not_ready": "The sending domain or the postal address is not set up.",
    "purpose_refused": "The purpose does not fit who pays or which data is used, or asks for facts not held.",
    # 4 the person and the address
    "deceased": "The person has died.",
    "merged": "The record was merged into another.",
    "erased": "The person's data was erased.",
    "no_address": "There is no email address.",
    "not_indexed": "The facts that the checks need are not known yet.",
    # 5 channel and restriction
    "no_email_wanted": "The person asked not to be emailed.",
    "restricted": "A restriction that was agreed to forbids it.",
    # 6 suppressions and opt-outs
    "suppressed": "The address bounced, complained, or was blocked.",
    "opted_out": "The person said stop.",
    # 8 prohibited data
    "substance_use_record": "A substance use record needs a consent of its own (42 CFR Part 2).",
    # 10 authorization
    "authorization_revoked": "The authorization was revoked, or its end has come.",
    "authorization_expired": "The authorization has expired.",
    "authorization_not_usable": "The authorization lacks something: its copy, or its date has not come.",
    "authorization_other": "The authorization on file does not cover this message.",
    "no_authorization": "There is no authorization.",
    # 16 once
    "same_address": "Another person with the same address gets the message.",
}


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked of the gate: everything about a campaign that decides, and nothing about a person.

    `approved`, `stream_open`, `sender_ready`: None where the question does not arise yet (a draft's audience).
    `data_classes`: the classes of data that the segment and the merge tags use.
    """

    organization: Organization
    purpose: str
    payer: str = ""
    remuneration_cents: int = 0
    data_classes: frozenset[str] = frozenset()
    approved: bool | None = None
    stream_open: bool | None = None
    sender_ready: bool | None = None
    versions: tuple[uuid.UUID, ...] = field(default=())

    @property
    def rule(self) -> Purpose:
        """The purpose's row of the table."""
        return PURPOSES[self.purpose]


def ask(organization: Organization, purpose: str, **facts: object) -> Ask:
    """Return an Ask with the form versions that cover it already looked up.

    Raises KeyError for a purpose that the table does not have: default deny.
    """
    question = Ask(organization, PURPOSES[purpose].code, **facts)  # type: ignore[arg-type]
    if question.rule.needs_authorization:
        return replace(question, versions=covering_versions(question))
    return question


def covering_versions(question: Ask) -> tuple[uuid.UUID, ...]:
    """Return the published form versions under which this message may go, decided once, in Python.

    45 CFR 164.508(c)(1): the purpose, the information, whom it is disclosed to; (a)(3)(ii): who pays.
    """
    return tuple(
        sorted(
            version.pk
            for version in FormVersion.objects.filter(
                organization=question.organization, published_at__isnull=False
            )
            if _covers(version, question)
        )
    )


def _covers(version: FormVersion, question: Ask) -> bool:
    if question.purpose not in version.purposes:
        return False
    if not question.data_classes <= set(version.information_classes):
        return False
    if question.rule.remuneration is Remuneration.REQUIRED:
        return bool(version.statement_remuneration) and question.payer in version.payers
    return True


def campaign_reason(question: Ask, *, today: dt.date) -> str:
    """Return the reason that stops the whole campaign, or "" (checks 1, 2, 3 and 9)."""
    rule, organization = question.rule, question.organization
    paid = question.remuneration_cents > 0 or bool(question.payer)
    if not organization.is_active or organization.sending_stopped_at is not None:
        return "organization_stopped"
    if organization.agreement_ends_on is not None and organization.agreement_ends_on < today:
        return "agreement_ended"
    if question.stream_open is False:
        return "stream_paused"
    if question.approved is False:
        return "campaign_not_approved"
    if question.sender_ready is False or not organization.postal_address.strip():
        return "sender_not_ready"
    if not rule.available:
        return "purpose_refused"
    if rule.data_classes is not None and not question.data_classes <= rule.data_classes:
        return "purpose_refused"
    if rule.remuneration is Remuneration.NONE and paid:
        return "purpose_refused"
    if rule.remuneration is Remuneration.REQUIRED and not (
        question.payer and question.remuneration_cents > 0
    ):
        return "purpose_refused"
    return ""


def today(organization: Organization) -> dt.date:
    """Return the day that it is now where the organization is: its dates are whole days there."""
    return database_time().astimezone(organization.zone).date()


def reasons(question: Ask, contacts: Sql) -> Sql:
    """Return a query of (contact_id, email_digest, domain_digest, reason); reason is null where we may write.

    `contacts` selects contact ids. Only contacts of the Ask's organization are looked at: what `contacts`
    yields of another organization falls out.
    """
    rule = question.rule
    named = {
        "org": question.organization.pk,
        "purpose": question.purpose,
        "scopes": sorted(rule.blocked_by),
        "owed": not rule.blocked_by,
        "versions": list(question.versions),
        "part2": "0" if rule.part2 else terms.query_part2(question.organization),
        "authorize": rule.needs_authorization,
    }
    return _bind(_REASONS, named, contacts)


def _bind(template: str, named: Mapping[str, object], contacts: Sql) -> Sql:
    """Return the template with its `<name>` marks as parameters in order, and `contacts` in its place."""
    params: list[object] = []

    def put(mark: re.Match[str]) -> str:
        if mark[1] == "contacts":
            params.extend(contacts.params)
            return contacts.text
        params.append(named[mark[1]])
        return "%s"

    return Sql(re.sub(r"<(\w+)>", put, template), params)


def decide(question: Ask, contact_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, str]:
    """Return for each contact the reason why not, or "" where we may write.

    An id that does not belong to the organization is not in the answer; the caller holds what has none.
    """
    ids = list(contact_ids)
    query = reasons(question, Sql("select unnest(%s::uuid[])", [ids]))
    with connection.cursor() as cursor:
        cursor.execute(query.text, query.params)
        return {row[0]: row[3] or "" for row in cursor.fetchall()}


def decide_locked(question: Ask, contact_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, str]:
    """Decide with the contact rows locked FOR SHARE until the transaction ends (ADR 0007).

    Whoever records a revocation, opt-out or restriction locks the same rows FOR UPDATE first, so it is either
    seen here or waits until what was decided here is marked. Must be called inside a transaction.
    """
    ids = sorted(contact_ids)
    with connection.cursor() as cursor:
        cursor.execute(
            "select id from contacts_contact where organization_id = %s and id = any(%s) order by id for share",
            [question.organization.pk, ids],
        )
        locked = [row[0] for row in cursor.fetchall()]
    # A statement of its own: its snapshot is younger than the locks, so it sees what they waited for.
    return decide(question, locked)


def count(question: Ask, contacts: Sql) -> dict[str, int]:
    """Return how many of `contacts` fall under each reason; "" counts those we may write to.

    Of several people at one address only the first is written to; the others count as `same_address`.
    """
    query = first_of_address(reasons(question, contacts))
    with connection.cursor() as cursor:
        cursor.execute(
            f"select coalesce(reason, ''), count(*) from ({query.text}) g group by 1", query.params
        )
        return dict(cursor.fetchall())


def first_of_address(decided: Sql) -> Sql:
    """Return the same query with `same_address` for all but the first person of an address whom we may write to."""
    # Materialized: the reason stands twice here, and the planner would work it out twice for each person.
    return Sql(
        f"""with decided as materialized ({decided.text})
        select contact_id, email_digest, domain_digest,
            case when reason is null and row_number() over (
                partition by email_digest, (reason is null) order by contact_id) > 1
            then 'same_address' else reason end as reason
        from decided""",
        decided.params,
    )


#: Of what imports say about one person and form only the latest counts: a later row, or a corrected file.
_AUTHORIZED = """exists (
    select 1 from consent_authorization a
    where a.contact_id = c.id and a.organization_id = c.organization_id
      and a.form_version_id = any(<versions>::uuid[])
      and a.signed_on <= day.today and a.copy_given_on <= day.today
      and (a.expires_on is null or a.expires_on >= day.today)
      and not (a.source = 'import' and exists (
        select 1 from consent_authorization n
        where n.contact_id = a.contact_id and n.form_version_id = a.form_version_id
          and n.source = 'import' and (n.recorded_at, n.id) > (a.recorded_at, a.id)))
      and not {ended})"""

#: An authorization ends by its own revocation, and by a later one of the same form: an old paper imported
#: again after a revocation revives nothing.
_ENDED = """exists (
    select 1 from consent_revocation r join consent_authorization ra on ra.id = r.authorization_id
    where r.contact_id = a.contact_id and ra.form_version_id = a.form_version_id
      and (r.authorization_id = a.id or (r.kind = 'revoked'
           and (r.effective_at at time zone day.zone)::date >= a.signed_on)))"""

#: The facts of every day up to now count; negative ones count even if their time is ahead of ours.
_REASONS = f"""
select c.id as contact_id, c.email_digest, c.domain_digest, case
  when c.standing <> 'active' then c.standing
  when c.email_digest is null then 'no_address'
  when t.contact_id is null then 'not_indexed'
  when (select not p.email_allowed from consent_channelpreference p where p.contact_id = c.id
        order by p.effective_at desc, p.recorded_at desc, p.id desc limit 1) then 'no_email_wanted'
  when not <owed> and (
        select r.in_force from consent_restriction r
        where r.contact_id = c.id and (r.purposes = '{{}}' or <purpose> = any(r.purposes))
        order by r.effective_at desc, r.recorded_at desc, r.id desc limit 1) then 'restricted'
  when exists (
        select 1 from consent_suppression s
        where s.organization_id = c.organization_id and s.email_digest = c.email_digest and s.action = 'add'
          and (s.reason <> 'complaint' or not <owed>)
          and not exists (
            select 1 from consent_suppression l
            where l.organization_id = s.organization_id and l.email_digest = s.email_digest
              and l.action = 'lift' and l.reason = s.reason and l.recorded_at > s.recorded_at))
    then 'suppressed'
  when exists (
        select 1 from consent_optout o
        where o.organization_id = c.organization_id
          and (o.contact_id = c.id or o.email_digest = c.email_digest)
          and o.direction = 'out' and o.scope = any(<scopes>::text[])
          and not exists (
            select 1 from consent_optout i
            where i.contact_id = c.id and i.direction = 'in' and i.scope = o.scope
              and (i.effective_at, i.recorded_at) > (o.effective_at, o.recorded_at)))
    then 'opted_out'
  when t.terms @@ <part2>::query_int then 'substance_use_record'
  when <authorize> and not {_AUTHORIZED.format(ended=_ENDED)} then coalesce((
        select case
          when a.form_version_id <> all(<versions>::uuid[]) then 'authorization_other'
          when {_ENDED} then 'authorization_revoked'
          when a.expires_on < day.today then 'authorization_expired'
          else 'authorization_not_usable' end
        from consent_authorization a where a.contact_id = c.id
        order by (a.form_version_id = any(<versions>::uuid[])) desc, a.recorded_at desc, a.id desc limit 1),
      'no_authorization')
  end as reason
from contacts_contact c
join accounts_organization org on org.id = c.organization_id
cross join lateral (
    select org.time_zone as zone, (statement_timestamp() at time zone org.time_zone)::date as today) day
left join contacts_termrow t on t.contact_id = c.id
where c.organization_id = <org> and c.id in (<contacts>)
"""
