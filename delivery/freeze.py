"""Step 5, freeze: the recipients enter the ledger, one row each.

One statement writes the whole audience, those held back included, with the reason for each: what a campaign
did is complete in the ledger. Nothing is decrypted but one address for each domain that is new to us.
"""

import datetime as dt
import logging
import uuid

from django.db import OperationalError, connection, transaction

from accounts.models import Organization
from audit.record import record
from campaigns import audience as audiences
from campaigns import launch
from campaigns.models import Campaign, Submission
from consent import gate
from consent.locking import database_time
from consent.purposes import PURPOSES
from contacts import addresses
from contacts.models import Contact
from contacts.problems import Unacceptable
from contacts.segments import Sql
from delivery.models import Destination, SendingIP, Stream
from phi.ids import UUID7_SQL
from phi.keys import Unreadable
from phi.redact import told

BY = "system:pipeline"
log = logging.getLogger(__name__)
Status = Campaign.Status


def launch_due() -> int:
    """Begin every campaign whose time has come; return how many began.

    One that may not begin says why in `held_reason` and waits for a person.
    """
    due = Campaign.objects.filter(status=Status.SCHEDULED, send_at__lte=database_time())
    began = 0
    for campaign in due.order_by("send_at"):
        try:
            began += begin(campaign.pk)
        except OperationalError:
            # The database is gone, or is to be asked again: that is no campaign's fault.
            raise
        except Exception as error:  # noqa: BLE001
            # What does not open, asks for what is not there any more, or raises whatever it may: it holds its own
            # campaign and no other organization's.
            log.error("campaign %s is held: %s", campaign.pk, told(error))
            _note(campaign, "broken")
    return began


@transaction.atomic
def begin(campaign_id: uuid.UUID) -> bool:
    """Check a due campaign once more and freeze its audience; False when it is not due or may not begin."""
    campaign = (
        Campaign.objects.select_for_update(of=("self",), skip_locked=True)
        .select_related("organization", "segment", "revision", "sender__domain")
        .filter(pk=campaign_id, status=Status.SCHEDULED)
        .first()
    )
    if campaign is None:
        return False
    now = database_time()
    submission = campaign.latest_submission()
    tags = tuple(submission.bound["tags"])
    question = audiences.ask_for(
        campaign,
        tags,
        approved=launch.is_approved(campaign, submission, now),
        stream_open=is_open(campaign),
        sender_ready=sender_ready(campaign),
    )
    if campaign.latest_at < now:
        return _hold(campaign, Status.APPROVED, "too_late")
    if question.approved is False:
        return _hold(campaign, Status.DRAFT, "campaign_not_approved")
    if reason := gate.campaign_reason(question, today=gate.today(campaign.organization)):
        _note(campaign, reason)
        return False
    pool = addresses_of(campaign)
    if not pool:
        _note(campaign, "no_sending_address")
        return False
    point = transaction.savepoint()
    reachable = freeze(campaign, submission, question, pool)
    if reachable > submission.ceiling:
        # Approved for fewer people (ADR 0015): somebody looks again.
        transaction.savepoint_rollback(point)
        return _hold(campaign, Status.DRAFT, "audience_grew")
    campaign.move_to(Status.SENDING, started_at=now, frozen_at=now, held_reason="")
    record(
        "campaign.started",
        organization_id=campaign.organization_id,
        by=BY,
        target=campaign,
        count=reachable,
    )
    return True


def freeze(
    campaign: Campaign, submission: Submission, question: gate.Ask, pool: list[SendingIP]
) -> int:
    """Write the audience into the ledger and return how many wait to be sent; again, it adds nothing."""
    contacts = audiences.contacts_of(campaign)
    learn_destinations(campaign.organization, contacts)
    decided = gate.first_of_address(gate.reasons(question, contacts))
    with connection.cursor() as cursor:
        cursor.execute(
            f"""insert into delivery_message (id, organization_id, campaign_id, submission_id, contact_id, step,
                    destination_id, sending_ip_id, state, reason, finished_at, due_at, attempt)
                select {UUID7_SQL}, %s, %s, %s, g.contact_id, 0, d.id,
                    case when g.reason is null then (%s::uuid[])[1 + (row_number() over (
                        partition by g.reason is null order by g.contact_id)) %% %s] end,
                    case when g.reason is null then 'queued' else 'withheld' end, coalesce(g.reason, ''),
                    case when g.reason is not null then clock_timestamp() end, %s, 0
                from ({decided.text}) g
                left join delivery_destination d on d.organization_id = %s and d.domain_digest = g.domain_digest
                on conflict do nothing""",
            [
                campaign.organization_id,
                campaign.pk,
                submission.pk,
                [address.pk for address in pool],
                len(pool),
                campaign.send_at,
                *decided.params,
                campaign.organization_id,
            ],
        )
        cursor.execute(
            "select count(*), count(*) filter (where state = 'queued') from delivery_message where campaign_id = %s",
            [campaign.pk],
        )
        total, reachable = cursor.fetchone()
    record(
        "audience.frozen",
        organization_id=campaign.organization_id,
        by=BY,
        target=campaign,
        count=total,
        detail={"reachable": reachable},
    )
    return reachable


def learn_destinations(organization: Organization, contacts: Sql) -> None:
    """Make a Destination for each recipient domain not met before, by opening one address of each."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""select distinct on (c.domain_digest) c.id from contacts_contact c
                where c.organization_id = %s and c.domain_digest is not null and c.id in ({contacts.text})
                  and not exists (select 1 from delivery_destination d
                    where d.organization_id = c.organization_id and d.domain_digest = c.domain_digest)""",
            [organization.pk, *contacts.params],
        )
        ids = [row[0] for row in cursor.fetchall()]
    found = Contact.objects.filter(organization=organization, pk__in=ids)
    Destination.objects.bulk_create(
        (
            Destination(
                organization=organization,
                domain_digest=bytes(contact.domain_digest),
                domain=domain,
            )
            for contact in found
            if (domain := _domain(contact))
        ),
        ignore_conflicts=True,
        batch_size=1000,
    )


def _domain(contact: Contact) -> str:
    """Return the domain of a contact's address; "" when it does not open, which holds that message at its turn."""
    try:
        return contact.email.rpartition("@")[2]
    except Unreadable as error:
        log.error("contact %s: %s", contact.pk, error)
        return ""


def kind_of(campaign: Campaign) -> str:
    """Return the kind of stream that carries the campaign: promotion never shares one with what is owed."""
    owed = not PURPOSES[campaign.purpose].blocked_by
    return Stream.Kind.TRANSACTIONAL if owed else Stream.Kind.MARKETING


def is_open(campaign: Campaign) -> bool:
    """Say whether the campaign's stream exists and is not paused."""
    return Stream.objects.filter(
        organization_id=campaign.organization_id, kind=kind_of(campaign), is_open=True
    ).exists()


def addresses_of(campaign: Campaign) -> list[SendingIP]:
    """Return the open sending addresses of the campaign's stream, in a fixed order."""
    return list(
        SendingIP.objects.filter(
            organization_id=campaign.organization_id,
            pool__stream__kind=kind_of(campaign),
            is_open=True,
        ).order_by("address")
    )


def sender_ready(campaign: Campaign) -> bool:
    """Say whether the sending domain is the organization's own, verified, and has a signing key (check 3).

    And whether the addresses that the message shows are addresses, so that none writes a header of its own.
    """
    sender, domain = campaign.sender, campaign.sender.domain
    shown = [sender.address, *filter(None, [sender.reply_to])]
    return (
        domain.organization_id == campaign.organization_id
        and domain.verified_at is not None
        and domain.dkim_keys.filter(retired_at__isnull=True, used_from__isnull=False).exists()
        and all(map(_is_address, shown))
    )


def _is_address(text: str) -> bool:
    try:
        return addresses.check(text).sendable.isascii()
    except Unacceptable:
        return False


def tidy(now: dt.datetime | None = None) -> None:
    """Settle what waits in campaigns that were cancelled or whose time is over, and finish the finished ones."""
    now = now or database_time()
    with connection.cursor() as cursor:
        cursor.execute(
            """update delivery_message m set state = 'cancelled', reason = 'cancelled', finished_at = %s
               from campaigns_campaign c where c.id = m.campaign_id and c.status = 'cancelled'
                 and m.state in ('queued', 'deferred')""",
            [now],
        )
        cursor.execute(
            """update delivery_message m set finished_at = %s,
                 state = case m.state when 'queued' then 'withheld' else 'failed' end,
                 reason = case m.state when 'queued' then 'too_late' else 'expired' end
               from campaigns_campaign c where c.id = m.campaign_id and c.status in ('sending', 'paused')
                 and c.latest_at < %s and m.state in ('queued', 'deferred')""",
            [now, now],
        )
        cursor.execute(
            """select c.id from campaigns_campaign c where c.status = 'sending' and c.frozen_at is not null
                 and not exists (select 1 from delivery_message m where m.campaign_id = c.id
                   and m.state in ('queued', 'claimed', 'handing_over', 'deferred'))"""
        )
        finished = [row[0] for row in cursor.fetchall()]
    for campaign_id in finished:
        _finish(campaign_id, now)


@transaction.atomic
def _finish(campaign_id: uuid.UUID, now: dt.datetime) -> None:
    campaign = Campaign.objects.select_for_update().get(pk=campaign_id)
    if campaign.status == Status.SENDING:
        campaign.move_to(Status.SENT, finished_at=now)
        record(
            "campaign.finished", organization_id=campaign.organization_id, by=BY, target=campaign
        )


def _hold(campaign: Campaign, status: str, reason: str) -> bool:
    campaign.move_to(status, held_reason=reason)
    record(
        "campaign.returned",
        organization_id=campaign.organization_id,
        by=BY,
        target=campaign,
        detail={"reason": reason},
    )
    return False


def _note(campaign: Campaign, reason: str) -> None:
    if campaign.held_reason != reason:
        Campaign.objects.filter(pk=campaign.pk).update(held_reason=reason)
