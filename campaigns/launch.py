"""Handing in, approving, scheduling, starting, pausing, cancelling: a row changes, and the pipeline follows.

Approval binds (ADR 0015): it is given to the hash of the stored bytes and of everything beside them, by
somebody other than the author, for an audience of at most the ceiling, for fourteen days.
"""

import datetime as dt

from django.db import transaction

from accounts.models import User
from audit.record import denied, record
from campaigns import audience as audiences
from campaigns.binding import bound_facts, compiled, content_hash, still_binds
from campaigns.models import Approval, Campaign, Submission
from consent import gate
from consent.locking import database_time

APPROVAL_LASTS = dt.timedelta(days=14)
#: How long after the sending time messages may still leave, where nobody chose a latest time.
LATEST_AFTER_SEND = dt.timedelta(hours=72)

Status = Campaign.Status


class Refused(Exception):
    """It may not be done; the sentence says why and what to do, `code` names the reason."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


@transaction.atomic
def submit(campaign: Campaign, *, by: User) -> Submission:
    """Hand a draft in for approval: compile it once, count its audience, and fix what approval will bind.

    Raises Refused when something is missing or the gate stops the whole campaign, and
    builder.compile.Invalid when the message has problems.
    """
    campaign = _locked(campaign)
    _allow(campaign, by, "campaigns.submit_campaign")
    _refuse_unless(campaign.status == Status.DRAFT, "not_a_draft", "Only a draft can be handed in.")
    for name in ("purpose", "revision", "sender"):
        _refuse_unless(getattr(campaign, name), f"{name}_missing", f"Choose a {name} first.")
    built = compiled(campaign)
    counted = audiences.count(campaign, audiences.tags_of(built))
    _refuse_unless(
        not counted.campaign_reason,
        counted.campaign_reason,
        gate.REASONS.get(counted.campaign_reason, ""),
    )
    _refuse_unless(counted.reachable > 0, "nobody_reachable", "Nobody would get this message.")
    bound = bound_facts(campaign, built.pieces)
    pieces = built.pieces.to_bytes()
    last = campaign.latest_submission()
    submission = Submission.objects.create(
        organization_id=campaign.organization_id,
        campaign=campaign,
        number=1 if last is None else last.number + 1,
        pieces=pieces,
        html=built.html,
        text=built.text,
        bound=bound,
        content_hash=content_hash(bound, pieces),
        audience=counted.reasons,
        audience_total=counted.total,
        ceiling=ceiling(counted.reachable, campaign.organization.audience_margin_percent),
        submitted_by_id=by.pk,
        submitted_at=database_time(),
    )
    campaign.move_to(Status.IN_REVIEW)
    record(
        "campaign.submitted",
        organization_id=campaign.organization_id,
        by=by,
        target=campaign,
        count=counted.reachable,
        facts=[submission],
    )
    return submission


def ceiling(reachable: int, margin_percent: int) -> int:
    """Return the most people who may get what was approved for `reachable` people."""
    # Rounded up, so that a small audience may grow by one person.
    return reachable - (-reachable * margin_percent // 100)


@transaction.atomic
def approve(campaign: Campaign, *, by: User, seen_hash: bytes, comment: str = "") -> Approval:
    """Approve what was handed in, as its hash says it was seen.

    With the last approval that is needed, a campaign whose time lies ahead is scheduled; one whose time has
    passed sends nothing until a new time is picked.
    Raises Refused for whoever wrote or changed it, for who is no approver here, a second decision of one person, a wrong hash,
    and content that changed.
    """
    campaign = _locked(campaign)
    now = database_time()
    submission = _in_review(campaign)
    if by.pk in {*campaign.editor_ids, submission.submitted_by_id}:
        _deny(campaign, by, "own_work", "Somebody else must approve what you wrote or handed in.")
    _allow(campaign, by, "campaigns.approve_campaign")
    _refuse_unless(
        bytes(submission.content_hash) == bytes(seen_hash) and still_binds(campaign, submission),
        "changed",
        "It changed since you looked at it. Look at it again.",
    )
    approval = _decide(campaign, submission, Approval.Decision.APPROVED, comment, by=by, now=now)
    if approvals_of(submission, now) < needed(campaign):
        return approval
    campaign.move_to(Status.APPROVED)
    if campaign.send_at is not None and campaign.send_at > now:
        schedule(campaign, at=campaign.send_at, by=by)
    return approval


@transaction.atomic
def send_back(campaign: Campaign, *, by: User, comment: str) -> Approval:
    """Return a campaign to its author with a comment."""
    campaign = _locked(campaign)
    _allow(campaign, by, "campaigns.approve_campaign")
    submission = _in_review(campaign)
    _refuse_unless(comment.strip(), "comment_missing", "Say what should be changed.")
    approval = _decide(
        campaign, submission, Approval.Decision.RETURNED, comment, by=by, now=database_time()
    )
    campaign.move_to(Status.DRAFT)
    return approval


@transaction.atomic
def schedule(
    campaign: Campaign, *, at: dt.datetime, latest_at: dt.datetime | None = None, by: User
) -> Campaign:
    """Set when an approved campaign leaves; a time in the past is refused, now is a minute's grace."""
    campaign = _locked(campaign)
    _allow(campaign, by, "campaigns.send_campaign")
    now = database_time()
    _refuse_unless(
        at >= now - dt.timedelta(minutes=1), "time_passed", "Pick a time that lies ahead."
    )
    submission = campaign.latest_submission()
    _refuse_unless(
        # At that time the approval must still stand.
        submission is not None and is_approved(campaign, submission, max(now, at)),
        "not_approved",
        "It must be approved first, not more than fourteen days before it leaves.",
    )
    ends = latest_at or campaign.latest_at
    if latest_at is None and campaign.latest_at and campaign.send_at:
        # The latest time keeps its distance when the sending time moves.
        ends = at + (campaign.latest_at - campaign.send_at)
    ends = ends or at + LATEST_AFTER_SEND
    _refuse_unless(ends > at, "deadline_passed", "The latest time lies before the sending time.")
    if campaign.status == Status.SCHEDULED:
        campaign.move_to(Status.APPROVED)
    campaign.move_to(Status.SCHEDULED, send_at=at, latest_at=ends, held_reason="")
    record(
        "campaign.scheduled",
        organization_id=campaign.organization_id,
        by=by,
        target=campaign,
        detail={"send_at": at},
    )
    return campaign


@transaction.atomic
def withdraw(campaign: Campaign, *, by: User) -> Campaign:
    """Take a campaign back to draft before it starts; what was approved no longer counts."""
    return _move(campaign, Status.DRAFT, "campaign.voided", by=by)


@transaction.atomic
def pause(campaign: Campaign, *, by: User) -> Campaign:
    """Stop a sending campaign; what is already on the wire arrives, nothing else is handed over."""
    return _move(campaign, Status.PAUSED, "campaign.paused", by=by)


@transaction.atomic
def resume(campaign: Campaign, *, by: User) -> Campaign:
    """Let a paused campaign go on."""
    return _move(campaign, Status.SENDING, "campaign.resumed", by=by, held_reason="")


@transaction.atomic
def cancel(campaign: Campaign, *, by: User) -> Campaign:
    """End a campaign for good; the pipeline cancels what still waits."""
    return _move(
        campaign, Status.CANCELLED, "campaign.cancelled", by=by, finished_at=database_time()
    )


@transaction.atomic
def hold(campaign: Campaign, reason: str) -> None:
    """Pause a sending campaign that the gate stops as a whole; `held_reason` says why."""
    campaign = _locked(campaign)
    if campaign.status == Status.SENDING:
        campaign.move_to(Status.PAUSED, held_reason=reason)
        record(
            "campaign.paused",
            organization_id=campaign.organization_id,
            by="system:pipeline",
            target=campaign,
            detail={"reason": reason},
        )


def is_approved(campaign: Campaign, submission: Submission, now: dt.datetime) -> bool:
    """Say whether a submission has the approvals it needs, unexpired, and still is what would be sent."""
    return approvals_of(submission, now) >= needed(campaign) and still_binds(campaign, submission)


def approvals_of(submission: Submission, now: dt.datetime) -> int:
    """Count the approvals of a submission that are in force; none if somebody returned it."""
    decisions = list(submission.approvals.all())
    if any(one.decision == Approval.Decision.RETURNED for one in decisions):
        return 0
    return sum(
        one.expires_at > now and bytes(one.content_hash) == bytes(submission.content_hash)
        for one in decisions
    )


def needed(campaign: Campaign) -> int:
    """Return how many approvals a submission needs: never fewer than one."""
    return max(1, campaign.organization.approvals_required)


def _decide(
    campaign: Campaign,
    submission: Submission,
    decision: str,
    comment: str,
    *,
    by: User,
    now: dt.datetime,
) -> Approval:
    _refuse_unless(
        not submission.approvals.filter(decided_by_id=by.pk).exists(),
        "decided_already",
        "You have decided about this already.",
    )
    approval = Approval.objects.create(
        organization_id=campaign.organization_id,
        submission=submission,
        decision=decision,
        content_hash=submission.content_hash,
        comment=comment,
        decided_by_id=by.pk,
        decided_at=now,
        expires_at=now + APPROVAL_LASTS,
    )
    record(
        f"campaign.{decision}",
        organization_id=campaign.organization_id,
        by=by,
        target=campaign,
        facts=[approval],
    )
    return approval


def _in_review(campaign: Campaign) -> Submission:
    submission = campaign.latest_submission()
    if campaign.status != Status.IN_REVIEW or submission is None:
        raise Refused("not_in_review", "It is not waiting for approval.")
    return submission


def _move(campaign: Campaign, status: str, action: str, *, by: User, **columns: object) -> Campaign:
    campaign = _locked(campaign)
    _allow(campaign, by, "campaigns.send_campaign")
    campaign.move_to(status, **columns)
    record(action, organization_id=campaign.organization_id, by=by, target=campaign)
    return campaign


def _allow(campaign: Campaign, by: User, perm: str) -> None:
    """Refuse who may not do this in the campaign's organization; views ask too, but this door is locked itself."""
    if not by.has_perm(perm, campaign):
        _deny(campaign, by, "not_allowed", "Your role does not allow this.")


def _deny(campaign: Campaign, by: User, reason: str, sentence: str) -> None:
    denied(
        "access.denied",
        organization_id=campaign.organization_id,
        by=by,
        target=campaign,
        reason=reason,
    )
    raise Refused(reason, sentence)


def _locked(campaign: Campaign) -> Campaign:
    return (
        Campaign.objects.select_for_update(of=("self",))
        .select_related("organization", "segment", "revision", "sender__domain")
        .get(pk=campaign.pk, organization_id=campaign.organization_id)
    )


def _refuse_unless(condition: object, code: str, sentence: str) -> None:
    if not condition:
        raise Refused(code, sentence)
