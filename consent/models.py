"""Facts about permission, each append-only: the state of now, or of any past day, is derived from them.

Nothing here is a flag. A fact holds when it took effect, when it was recorded, by whom, from what source and
with what evidence; a later fact ends or lifts an earlier one, and neither is ever rewritten (ADR 0005).
"""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q

from accounts.models import Organization
from audit.append_only import AppendOnly
from consent.purposes import PURPOSES
from contacts.models import Contact
from phi.fields import EncryptedTextField
from phi.ids import uuid7


class FormVersion(models.Model):
    """A version of an authorization form, with the elements of 45 CFR 164.508(c); frozen once published."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="form_versions")
    name = models.CharField(max_length=120)
    number = models.PositiveIntegerField()
    language = models.CharField(max_length=10, default="en")
    # 45 CFR 164.508(c)(1)(i): what information, specific and meaningful
    information = models.TextField(blank=True)
    #: The data classes (contacts/attributes.py) that `information` describes.
    information_classes = ArrayField(models.CharField(max_length=12), default=list)
    # (c)(1)(ii) who may use or disclose it, and (iii) to whom
    disclosers = ArrayField(models.CharField(max_length=200), default=list)
    recipients = ArrayField(models.CharField(max_length=200), default=list)
    # (c)(1)(iv) each purpose, as codes of consent/purposes.py
    purposes = ArrayField(models.CharField(max_length=20), default=list)
    # (c)(1)(v) when it ends: days after the signature, or an event
    expires_after_days = models.PositiveIntegerField(null=True, blank=True)
    expiry_event = models.CharField(max_length=200, blank=True)
    # (c)(2)(i) to (iii) the three statements
    statement_revoke = models.TextField(blank=True)
    statement_condition = models.TextField(blank=True)
    statement_redisclosure = models.TextField(blank=True)
    # (a)(3)(ii) remuneration, and by whom
    statement_remuneration = models.TextField(blank=True)
    payers = ArrayField(models.CharField(max_length=200), default=list, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    published_at = models.DateTimeField(null=True, blank=True)
    published_by_id = models.UUIDField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "name", "number", "language"], name="formversion_once"
            ),
            models.CheckConstraint(
                condition=Q(published_at__isnull=True, published_by_id__isnull=True)
                | Q(published_at__isnull=False, published_by_id__isnull=False),
                name="formversion_published_by_somebody",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name}, version {self.number} ({self.language})"


class Fact(AppendOnly):
    """What every fact keeps about itself."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+", db_index=False)
    effective_at = models.DateTimeField()
    recorded_at = models.DateTimeField()
    #: "user:<id>", "contact:<id>" or "system:<part>", as in the audit log.
    recorded_by = models.CharField(max_length=60)
    #: How it came: paper, phone, import, one_click, page, bounce, …
    source = models.CharField(max_length=20)
    #: Document number, words of the person, file and row: evidence is kept six years (45 CFR 164.530(j)).
    evidence = EncryptedTextField(evidence=True, blank=True)

    class Meta:
        abstract = True


class Authorization(Fact):
    """A person's signed permission (45 CFR 164.508): points at the frozen version that says what was agreed."""

    class Signer(models.TextChoices):
        SELF = "self", "the individual"
        REPRESENTATIVE = "representative", "a personal representative"

    contact = models.ForeignKey(
        Contact, models.PROTECT, related_name="authorizations", db_index=False
    )
    #: Not indexed: right after an import, without statistics, the planner took that index for each person.
    form_version = models.ForeignKey(
        FormVersion, models.PROTECT, related_name="authorizations", db_index=False
    )
    signed_on = models.DateField()
    #: The last day of force; empty when the form ends with an event.
    expires_on = models.DateField(null=True, blank=True)
    signer = models.CharField(max_length=14, choices=Signer, default=Signer.SELF)
    #: 164.508(c)(1)(vi): what lets a representative act.
    representative_authority = EncryptedTextField(evidence=True, blank=True)
    #: 164.508(c)(4): the day on which the individual got a copy; without it the authorization is not usable.
    copy_given_on = models.DateField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(expires_on__isnull=True) | Q(expires_on__gte=F("signed_on")),
                name="authorization_ends_after_it_begins",
            ),
        ]
        indexes = [models.Index(fields=["contact"], name="authorization_of_contact")]

    def __str__(self) -> str:
        return f"authorization {self.pk}"


class Revocation(Fact):
    """The end of an authorization: the person revoked it, its expiry event occurred, or it proved false."""

    class Kind(models.TextChoices):
        REVOKED = "revoked", "revoked by the individual"  # 164.508(b)(5)
        EVENT_OCCURRED = "event_occurred", "its expiry event occurred"  # 164.508(b)(2)(i)
        KNOWN_FALSE = "known_false", "known to be materially false"  # 164.508(b)(2)(v)

    kind = models.CharField(max_length=14, choices=Kind, default=Kind.REVOKED)
    contact = models.ForeignKey(Contact, models.PROTECT, related_name="revocations", db_index=False)
    authorization = models.ForeignKey(
        Authorization, models.PROTECT, related_name="revocations", db_index=False
    )

    class Meta:
        indexes = [
            models.Index(fields=["contact"], name="revocation_of_contact"),
            models.Index(fields=["authorization"], name="revocation_of_authorization"),
        ]

    def __str__(self) -> str:
        return f"revocation {self.pk}"


class Direction(models.TextChoices):
    """Which way a preference fact points."""

    OUT = "out", "stop"
    IN = "in", "again"


class OptOut(Fact):
    """A person's "stop" (or later "again"), for a scope; held against the contact and the address."""

    class Scope(models.TextChoices):
        ALL = "all", "everything but what is owed to them"
        COMMERCIAL = "commercial", "promotion"  # 15 USC 7704(a)(3)
        FUNDRAISING = "fundraising", "fundraising"  # 45 CFR 164.514(f)(2)
        CARE = "care", "health information"
        TRACKING = "tracking", "measuring opens and clicks"

    direction = models.CharField(max_length=3, choices=Direction, default=Direction.OUT)
    scope = models.CharField(max_length=12, choices=Scope)
    contact = models.ForeignKey(Contact, models.PROTECT, related_name="opt_outs", db_index=False)
    email_digest = models.BinaryField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["contact"], name="optout_of_contact"),
            models.Index(fields=["organization", "email_digest"], name="optout_of_address"),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.direction} {self.pk}"


class Suppression(Fact):
    """An address never to write to again (or, lifted, again): it bounced, complained, or somebody said so."""

    class Reason(models.TextChoices):
        HARD_BOUNCE = "hard_bounce", "the address does not exist"
        COMPLAINT = "complaint", "reported as spam"
        MANUAL = "manual", "blocked by staff"

    class Action(models.TextChoices):
        ADD = "add", "blocked"
        LIFT = "lift", "lifted"

    action = models.CharField(max_length=4, choices=Action, default=Action.ADD)
    reason = models.CharField(max_length=12, choices=Reason)
    email_digest = models.BinaryField()

    class Meta:
        indexes = [
            models.Index(fields=["organization", "email_digest"], name="suppression_of_address")
        ]

    def __str__(self) -> str:
        return f"suppression {self.pk}"


class ChannelPreference(Fact):
    """Reasonable alternative means, asked for and accommodated without reasons (45 CFR 164.522(b))."""

    contact = models.ForeignKey(
        Contact, models.PROTECT, related_name="channel_preferences", db_index=False
    )
    email_allowed = models.BooleanField()

    class Meta:
        indexes = [models.Index(fields=["contact"], name="channel_of_contact")]

    def __str__(self) -> str:
        return f"channel preference {self.pk}"


class Restriction(Fact):
    """A restriction on use that was agreed to, or ended (45 CFR 164.522(a))."""

    contact = models.ForeignKey(
        Contact, models.PROTECT, related_name="restrictions", db_index=False
    )
    in_force = models.BooleanField(default=True)
    #: The purposes it forbids; empty: all but what is owed.
    purposes = ArrayField(models.CharField(max_length=20), default=list, blank=True)

    class Meta:
        indexes = [models.Index(fields=["contact"], name="restriction_of_contact")]

    def __str__(self) -> str:
        return f"restriction {self.pk}"


class UnencryptedPreference(Fact):
    """A wish for unencrypted mail after a warning (78 FR 5634): recorded and shown, never opens a path in clear."""

    contact = models.ForeignKey(
        Contact, models.PROTECT, related_name="unencrypted_preferences", db_index=False
    )
    accepted = models.BooleanField()
    warning_version = models.CharField(max_length=40)

    class Meta:
        indexes = [models.Index(fields=["contact"], name="unencrypted_of_contact")]

    def __str__(self) -> str:
        return f"unencrypted preference {self.pk}"


#: Every fact table, for triggers, verification and erasure reports.
FACT_MODELS: tuple[type[Fact], ...] = (
    Authorization,
    Revocation,
    OptOut,
    Suppression,
    ChannelPreference,
    Restriction,
    UnencryptedPreference,
)

assert all(len(code) <= 20 for code in PURPOSES)  # noqa: S101 - the column's width
