"""Organizations, users, memberships, second factors."""

import zoneinfo
from collections.abc import Iterator
from typing import ClassVar

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Lower
from django.utils.crypto import salted_hmac
from django_otp.models import Device, DeviceManager, ThrottlingMixin

from phi.fields import EncryptedBinaryField, PhiQuerySet
from phi.ids import uuid7
from phi.keys import PLATFORM


class Role(models.TextChoices):
    """Who somebody is in an organization; what each may do stands in accounts/roles.py."""

    MARKETER = "marketer", "Marketer"
    APPROVER = "approver", "Approver"
    PRIVACY_OFFICER = "privacy_officer", "Privacy officer"
    ADMINISTRATOR = "administrator", "Administrator"
    AUDITOR = "auditor", "Auditor"
    VIEWER = "viewer", "Viewer"


class TransportPolicy(models.TextChoices):
    """How a message may travel (docs/adr/0010); none of them allows plain text."""

    TLS = "tls", "TLS, or held back"
    VERIFIED = "verified", "Verified TLS, or held back"


def known_time_zone(name: str) -> None:
    """Raise ValidationError unless the name is a time zone of the IANA database."""
    if name not in zoneinfo.available_timezones():
        raise ValidationError("Not a time zone of the IANA database.")


class Organization(models.Model):
    """A hospital, practice group, health plan or pharmacy: the tenant that everything else belongs to."""

    class Kind(models.TextChoices):
        COVERED = "covered", "Covered entity"
        BUSINESS_ASSOCIATE = "business_associate", "Business associate"
        NOT_COVERED = "not_covered", "Not covered by HIPAA"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=120)
    slug = models.SlugField(unique=True)
    kind = models.CharField(max_length=20, choices=Kind, default=Kind.COVERED)
    time_zone = models.CharField(max_length=64, default="UTC", validators=[known_time_zone])
    #: Street address that every commercial message shows (16 CFR 316.2(p)).
    postal_address = models.CharField(max_length=300)
    accent = models.CharField(max_length=7, default="#0e5a5a")
    is_active = models.BooleanField(default=True)
    #: The kill switch: while set, nothing leaves.
    sending_stopped_at = models.DateTimeField(null=True, blank=True)
    #: Last day of the agreement with whoever operates this installation (164.504(e)); empty: operated by itself.
    agreement_ends_on = models.DateField(null=True, blank=True)
    approvals_required = models.PositiveSmallIntegerField(default=1)
    #: How far the audience may grow after approval before the campaign goes back to review.
    audience_margin_percent = models.PositiveSmallIntegerField(default=10)
    transport_policy = models.CharField(
        max_length=10, choices=TransportPolicy, default=TransportPolicy.TLS
    )
    tracking_allowed = models.BooleanField(default=False)
    #: The privacy officer's choice that treatment-class fields become searchable terms.
    treatment_terms = models.BooleanField(default=False)
    #: Counts below this are not shown.
    small_cell = models.PositiveSmallIntegerField(default=11)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        """The time zone in which this organization's dates are whole days."""
        return zoneinfo.ZoneInfo(self.time_zone)


class SendingDomain(models.Model):
    """A domain that an organization sends from, and whether its DNS records were seen to be right."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="sending_domains")
    #: A-label.
    domain = models.CharField(max_length=253)
    #: Where bounces go: envelope senders are below it.
    bounce_domain = models.CharField(max_length=253)
    verified_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "domain"], name="sendingdomain_once")
        ]

    def __str__(self) -> str:
        return self.domain


class UserManager(BaseUserManager):
    """Makes users whose name is their email address."""

    def create_user(self, email: str, password: str | None = None, **fields: object) -> "User":
        """Save and return a user; without a password nobody can sign in as them."""
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user


class User(AbstractBaseUser):
    """A member of staff."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.EmailField(unique=True)
    name = models.CharField(max_length=120)
    is_active = models.BooleanField(default=True)
    #: Part of every session; counted up, it ends them all (accounts/organizations.py).
    session_number = models.PositiveIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = UserManager()
    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["name"]

    class Meta:
        constraints = [
            # Two ways of writing one address would be two people who share a mailbox.
            models.CheckConstraint(
                condition=models.Q(email=Lower("email")), name="user_email_is_lower_case"
            )
        ]

    def __str__(self) -> str:
        return self.name

    def roles_in(self, organization: Organization) -> set[str]:
        """Return the roles that the user has in an organization."""
        return set(
            self.memberships.filter(organization=organization).values_list("role", flat=True)
        )

    def get_session_auth_hash(self) -> str:
        """Return what a session must hold to go on: another password or session number ends it."""
        return self._session_hash(settings.SECRET_KEY)

    def get_session_auth_fallback_hash(self) -> Iterator[str]:
        """Yield the same under earlier secret keys, so that a new secret key signs nobody out."""
        for secret in settings.SECRET_KEY_FALLBACKS:
            yield self._session_hash(secret)

    def _session_hash(self, secret: str) -> str:
        value = f"{self.session_number}|{self.password}"
        return salted_hmac("accounts.session", value, secret=secret, algorithm="sha256").hexdigest()

    def has_perm(self, perm: str, obj: object = None) -> bool:
        """Say whether a role allows `perm` in `obj`, an organization or something that has one."""
        from accounts.roles import allows

        return self.is_active and allows(self, perm, obj)

    def has_perms(self, perms: list[str], obj: object = None) -> bool:
        """Say whether all of them are allowed."""
        return all(self.has_perm(perm, obj) for perm in perms)


class Membership(models.Model):
    """A role that a user has in an organization; several make the union."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=20, choices=Role)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "user", "role"], name="membership_once"
            ),
            models.CheckConstraint(
                condition=models.Q(role__in=Role.values), name="membership_role_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.role} {self.user_id}"


class TOTPDevice(ThrottlingMixin, Device):
    """A time-based one-time password (RFC 6238) whose seed is encrypted; django-otp's own keeps it in clear."""

    #: Second factors belong to a person, not to an organization.
    organization_id = PLATFORM

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    seed = EncryptedBinaryField()
    #: The last time step that was used: each code works once.
    last_step = models.BigIntegerField(default=-1)

    objects = DeviceManager.from_queryset(PhiQuerySet)()

    @property
    def persistent_id(self) -> str:
        """What a session keeps of the device; django-otp reads the id back as a whole number."""
        return f"{self.model_label()}/{self.pk.int}"

    def get_throttle_factor(self) -> int:
        """Seconds that the first failure costs; doubles with each (SP 800-63B-4, 3.2.2)."""
        return 1

    def verify_token(self, token: str) -> bool:
        """Say whether the code is right now, give or take one step, and was not used before."""
        from accounts.otp import verify

        return verify(self, token)


class RecoveryCode(models.Model):
    """A code that stands in once for a lost second factor; only a keyed hash of it is kept."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, models.CASCADE, related_name="recovery_codes")
    hashed = models.BinaryField()
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"recovery code {self.pk}"
