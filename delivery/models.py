"""The ledger of messages, what is known of where they go, and the addresses they leave from."""

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from accounts.models import Organization, SendingDomain
from audit.append_only import AppendOnly
from campaigns.models import Campaign, Submission
from contacts.models import Contact
from phi.fields import EncryptedCharField, EncryptedJSONField, EncryptedTextField, PhiManager
from phi.ids import uuid7


class Stream(models.Model):
    """A kind of mail that keeps its reputation apart from the others."""

    class Kind(models.TextChoices):
        MARKETING = "marketing", "Marketing"
        TRANSACTIONAL = "transactional", "Transactional"
        STAFF = "staff", "Staff"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="streams")
    kind = models.CharField(max_length=13, choices=Kind)
    is_open = models.BooleanField(default=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization", "kind"], name="stream_once")]

    def __str__(self) -> str:
        return self.kind


class IPPool(models.Model):
    """Dedicated addresses that serve one stream together."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    stream = models.ForeignKey(Stream, models.PROTECT, related_name="pools")
    name = models.CharField(max_length=60)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "name"], name="ippool_name_once")
        ]

    def __str__(self) -> str:
        return self.name


class SendingIP(models.Model):
    """A dedicated address: a queue of its own, connections bound to it (ADR 0012)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="sending_ips")
    pool = models.ForeignKey(IPPool, models.PROTECT, related_name="addresses")
    address = models.GenericIPAddressField()
    #: The name it greets with; its PTR and this name's address record agree (RFC 5321, 4.1.1.1).
    helo = models.CharField(max_length=253)
    is_open = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "address"], name="sendingip_once")
        ]

    def __str__(self) -> str:
        return self.address


class DkimKey(models.Model):
    """A signing key of a sending domain; the newest that is in use signs, others are published or to be."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    domain = models.ForeignKey(SendingDomain, models.PROTECT, related_name="dkim_keys")
    selector = models.CharField(max_length=63)
    private_pem = EncryptedTextField()
    #: The TXT record to publish.
    public_txt = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)
    #: Set once its record is published: signing with a key that nobody can look up fails everywhere.
    used_from = models.DateTimeField(null=True, blank=True)
    retired_at = models.DateTimeField(null=True, blank=True)

    objects = PhiManager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "domain", "selector"], name="dkimkey_selector_once"
            )
        ]

    def __str__(self) -> str:
        return self.selector


class Destination(models.Model):
    """A recipient domain as an organization knows it: found by digest, so that nothing is decrypted to plan."""

    class Tls(models.TextChoices):
        UNKNOWN = "unknown", "not seen yet"
        OFFERED = "offered", "offers TLS"
        ABSENT = "absent", "offers no TLS"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    domain_digest = models.BinaryField()
    #: A-label.
    domain = EncryptedCharField(max_length=253)
    tls = models.CharField(max_length=7, choices=Tls, default=Tls.UNKNOWN)
    tls_seen_at = models.DateTimeField(null=True, blank=True)
    #: Set while its servers don't answer or ask us to slow down.
    closed_until = models.DateTimeField(null=True, blank=True)
    failures = models.PositiveIntegerField(default=0)

    objects = PhiManager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "domain_digest"], name="destination_once"
            )
        ]

    def __str__(self) -> str:
        return f"destination {self.pk}"


class Message(models.Model):
    """One copy to one person: a row of the ledger, handed over at most once."""

    class State(models.TextChoices):
        QUEUED = "queued", "waiting"
        CLAIMED = "claimed", "being prepared"
        HANDING_OVER = "handing_over", "on the wire"
        SENT = "sent", "accepted by the recipient's server"
        DEFERRED = "deferred", "to be tried again"
        WITHHELD = "withheld", "not sent, for a reason"
        FAILED = "failed", "refused by the recipient's server"
        IN_DOUBT = "in_doubt", "unclear whether it arrived"
        CANCELLED = "cancelled", "cancelled"

    #: States in which a process holds it, or held it when it died.
    HELD: ClassVar[tuple[str, ...]] = (State.CLAIMED, State.HANDING_OVER)
    #: States in which a message is still on its way; a campaign with none of them is finished.
    OPEN: ClassVar[tuple[str, ...]] = (
        State.QUEUED,
        State.CLAIMED,
        State.HANDING_OVER,
        State.DEFERRED,
    )
    #: States from which it may be claimed.
    CLAIMABLE: ClassVar[tuple[str, ...]] = (State.QUEUED, State.DEFERRED)

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+", db_index=False)
    campaign = models.ForeignKey(Campaign, models.PROTECT, related_name="messages", db_index=False)
    submission = models.ForeignKey(Submission, models.PROTECT, related_name="+", db_index=False)
    contact = models.ForeignKey(Contact, models.PROTECT, related_name="messages", db_index=False)
    step = models.PositiveSmallIntegerField(default=0)
    destination = models.ForeignKey(
        Destination, models.PROTECT, null=True, related_name="+", db_index=False
    )
    sending_ip = models.ForeignKey(
        SendingIP, models.PROTECT, null=True, related_name="+", db_index=False
    )
    state = models.CharField(max_length=12, choices=State, default=State.QUEUED)
    #: Why it is in that state: a reason of the gate or of compose, a kind of delivery/replies.py, or delivery's own word.
    reason = models.CharField(max_length=40, blank=True)
    #: SMTP code of the last reply.
    code = models.PositiveSmallIntegerField(null=True)
    due_at = models.DateTimeField(db_default=Now())
    attempt = models.PositiveSmallIntegerField(default=0)
    claimed_at = models.DateTimeField(null=True)
    #: The journal of the process that holds it (delivery/journal.py).
    journal_id = models.UUIDField(null=True)
    #: The mark: no revocation that was committed before it can have been missed (ADR 0007).
    handed_over_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    #: The merge values as sent, so that "what exactly did we send" can be answered; emptied after a while.
    values = EncryptedJSONField(null=True)

    objects = PhiManager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "campaign", "contact", "step"], name="message_once"
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["claimed", "handing_over"]) | Q(journal_id__isnull=False),
                name="message_held_has_a_journal",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["handing_over", "sent"]) | Q(handed_over_at__isnull=False),
                name="message_sent_was_handed_over",
            ),
            models.CheckConstraint(
                condition=~Q(state="withheld") | ~Q(reason=""), name="message_withheld_says_why"
            ),
        ]
        indexes = [
            models.Index(
                fields=["sending_ip", "due_at"],
                condition=Q(state__in=["queued", "deferred"]),
                name="message_due",
            ),
            models.Index(
                fields=["journal_id"],
                condition=Q(state__in=["claimed", "handing_over"]),
                name="message_held",
            ),
            models.Index(fields=["campaign", "state"], name="message_of_campaign"),
            models.Index(fields=["contact"], name="message_of_contact"),
        ]

    def __str__(self) -> str:
        return f"message {self.pk}"


class Receipt(AppendOnly):
    """What our hop can prove of one attempt: who took it, over which TLS, with what reply."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+", db_index=False)
    message = models.ForeignKey(Message, models.PROTECT, related_name="receipts", db_index=False)
    attempt = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=12)
    sending_ip = models.GenericIPAddressField(null=True)
    tls_version = models.CharField(max_length=10, blank=True)
    cipher = models.CharField(max_length=60, blank=True)
    #: SHA-256 of the peer's certificate, hexadecimal.
    certificate = models.CharField(max_length=64, blank=True)
    #: How the peer was verified: "none" (encrypted, not authenticated) or "pkix".
    verified_by = models.CharField(max_length=10, blank=True)
    policy = models.CharField(max_length=10)
    code = models.PositiveSmallIntegerField(null=True)
    enhanced = models.CharField(max_length=12, blank=True)
    #: {"mx", "peer_ip", "reply"}: they name the recipient's domain, and may quote an address.
    peer = EncryptedJSONField(evidence=True)
    handed_over_at = models.DateTimeField(null=True)
    replied_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["message"], name="receipt_of_message")]

    def __str__(self) -> str:
        return f"receipt {self.pk}"


class Event(AppendOnly):
    """What the world said about a message."""

    class Type(models.TextChoices):
        DELIVERED = "delivered", "accepted by the receiving server"
        DEFERRED = "deferred", "the receiving server asked to wait"
        BOUNCED = "bounced", "the receiving server refused it"
        COMPLAINED = "complained", "reported as spam"
        OPENED = "opened", "opened"
        CLICKED = "clicked", "a link was followed"
        UNSUBSCRIBED = "unsubscribed", "the person said stop"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+", db_index=False)
    message = models.ForeignKey(Message, models.PROTECT, related_name="events", db_index=False)
    type = models.CharField(max_length=12, choices=Type)
    #: hard_recipient, soft_mailbox, … of delivery/replies.py
    kind = models.CharField(max_length=20, blank=True)
    source = models.CharField(max_length=20)
    occurred_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["message"], name="event_of_message")]

    def __str__(self) -> str:
        return f"{self.type} {self.pk}"
