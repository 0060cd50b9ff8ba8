"""Campaigns, what was handed in for approval, and what was decided about it."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from accounts.models import Organization, SendingDomain, TransportPolicy
from audit.append_only import AppendOnly
from builder.models import Revision
from consent.purposes import CHOICES
from contacts.models import Segment
from phi.fields import EncryptedJSONField, EncryptedTextField
from phi.ids import uuid7


class WrongMove(Exception):
    """The campaign is not in a state from which this can be done."""


class Sender(models.Model):
    """Who a message says it is from: an address at a sending domain, and a name."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="senders")
    domain = models.ForeignKey(SendingDomain, models.PROTECT, related_name="senders")
    local_part = models.CharField(max_length=64)
    display_name = models.CharField(max_length=100)
    reply_to = models.EmailField(blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "domain", "local_part"], name="sender_once"
            )
        ]

    def __str__(self) -> str:
        return self.address

    @property
    def address(self) -> str:
        """The From address."""
        return f"{self.local_part}@{self.domain.domain}"


class Campaign(models.Model):
    """One sending effort, and where it stands."""

    class Status(models.TextChoices):
        DRAFT = "draft", "Draft"
        IN_REVIEW = "in_review", "In review"
        APPROVED = "approved", "Approved"
        SCHEDULED = "scheduled", "Scheduled"
        SENDING = "sending", "Sending"
        PAUSED = "paused", "Paused"
        SENT = "sent", "Sent"
        CANCELLED = "cancelled", "Cancelled"

    #: Which state may follow which; a move that is not here raises.
    MOVES: ClassVar[dict[str, set[str]]] = {
        Status.DRAFT: {Status.IN_REVIEW, Status.CANCELLED},
        Status.IN_REVIEW: {Status.DRAFT, Status.APPROVED, Status.CANCELLED},
        Status.APPROVED: {Status.DRAFT, Status.SCHEDULED, Status.CANCELLED},
        Status.SCHEDULED: {Status.DRAFT, Status.APPROVED, Status.SENDING, Status.CANCELLED},
        Status.SENDING: {Status.PAUSED, Status.SENT, Status.CANCELLED},
        Status.PAUSED: {Status.SENDING, Status.CANCELLED},
        Status.SENT: set(),
        Status.CANCELLED: set(),
    }
    #: States in which what was approved can still be changed, which voids the approval.
    CHANGEABLE: ClassVar[frozenset[str]] = frozenset(
        {Status.DRAFT, Status.IN_REVIEW, Status.APPROVED, Status.SCHEDULED}
    )

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="campaigns")
    name = models.CharField(max_length=120)
    status = models.CharField(max_length=10, choices=Status, default=Status.DRAFT)
    # Purpose
    purpose = models.CharField(max_length=20, choices=CHOICES, blank=True)
    payer = models.CharField(max_length=200, blank=True)
    remuneration_cents = models.PositiveBigIntegerField(default=0)
    # Audience: empty means everyone
    segment = models.ForeignKey(Segment, models.PROTECT, null=True, blank=True, related_name="+")
    # Message
    revision = models.ForeignKey(Revision, models.PROTECT, null=True, blank=True, related_name="+")
    # Delivery
    sender = models.ForeignKey(Sender, models.PROTECT, null=True, blank=True, related_name="+")
    send_at = models.DateTimeField(null=True, blank=True)
    #: Nothing leaves after this; a late message is worse than none.
    latest_at = models.DateTimeField(null=True, blank=True)
    transport_policy = models.CharField(max_length=10, choices=TransportPolicy, blank=True)
    is_tracked = models.BooleanField(default=False)

    author_id = models.UUIDField()
    #: Everybody who made or changed what is approved: none of them may approve it.
    editor_ids = ArrayField(models.UUIDField(), default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    started_at = models.DateTimeField(null=True, blank=True)
    frozen_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    #: Why the campaign waits though it is due: a reason of the gate.
    held_reason = models.CharField(max_length=40, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "name"], name="campaign_name_once"),
            models.CheckConstraint(
                condition=~Q(status__in=["scheduled", "sending", "paused"])
                | Q(send_at__isnull=False, latest_at__isnull=False),
                name="campaign_scheduled_has_its_times",
            ),
        ]
        indexes = [
            models.Index(fields=["send_at"], condition=Q(status="scheduled"), name="campaign_due")
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Refuse a latest time that lies before the sending time."""
        if self.send_at and self.latest_at and self.latest_at <= self.send_at:
            raise ValidationError({"latest_at": "The latest time lies before the sending time."})

    def move_to(self, status: str, **columns: object) -> None:
        """Move to another state, if the row still stands where this instance thinks it does.

        Raises WrongMove for a move that is not declared, and when somebody else moved it meanwhile.
        """
        if status not in self.MOVES[self.status]:
            raise WrongMove(f"A campaign that is {self.status} cannot become {status}.")
        moved = Campaign.objects.filter(pk=self.pk, status=self.status).update(
            status=status, **columns
        )
        if not moved:
            raise WrongMove("Somebody else changed the campaign meanwhile; look at it again.")
        self.status = status
        for name, value in columns.items():
            setattr(self, name, value)

    def latest_submission(self) -> "Submission | None":
        """Return what was handed in last."""
        return self.submissions.order_by("-number").first()


class Submission(AppendOnly):
    """A campaign as it was handed in: the very bytes that will be sent, and everything that approval binds."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    campaign = models.ForeignKey(Campaign, models.PROTECT, related_name="submissions")
    number = models.PositiveIntegerField()
    #: builder.pieces.Pieces, serialised: sending fills these and never compiles again.
    pieces = models.BinaryField()
    #: As shown to the approver, tokens where the holes are.
    html = models.TextField()
    text = models.TextField()
    #: What else the hash covers (campaigns/binding.py): criteria resolved, purpose, payer, forms, sender, policies.
    bound = EncryptedJSONField(evidence=True)
    content_hash = models.BinaryField()
    #: {reason: people}; "" are those who would get it.
    audience = models.JSONField()
    audience_total = models.PositiveIntegerField()
    #: Most people who may get it; more, and it goes back to review.
    ceiling = models.PositiveIntegerField()
    submitted_by_id = models.UUIDField()
    submitted_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "campaign", "number"], name="submission_once"
            )
        ]

    def __str__(self) -> str:
        return f"submission {self.number} of {self.campaign_id}"


class Approval(AppendOnly):
    """One person's decision about a submission."""

    class Decision(models.TextChoices):
        APPROVED = "approved", "approved"
        RETURNED = "returned", "returned"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    submission = models.ForeignKey(Submission, models.PROTECT, related_name="approvals")
    decision = models.CharField(max_length=8, choices=Decision)
    #: The hash of what the person saw.
    content_hash = models.BinaryField()
    comment = EncryptedTextField(evidence=True, blank=True)
    decided_by_id = models.UUIDField()
    decided_at = models.DateTimeField()
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "submission", "decided_by_id"], name="approval_once_each"
            )
        ]

    def __str__(self) -> str:
        return f"{self.decision} {self.pk}"
