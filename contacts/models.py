"""Contacts, their searchable terms, segments, and imports."""

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models
from django.db.models import F, Q

from accounts.models import Organization
from files.models import StagedFile
from phi.fields import (
    EncryptedCharField,
    EncryptedDateField,
    EncryptedEmailField,
    EncryptedJSONField,
    PhiManager,
)
from phi.ids import uuid7


class Contact(models.Model):
    """A person (of a kind) whom an organization may write to. Nothing about them is in clear."""

    class Kind(models.TextChoices):
        PATIENT = "patient", "Patient or member"
        REPRESENTATIVE = "representative", "Personal representative"
        PROFESSIONAL = "professional", "Health professional"
        LEAD = "lead", "Lead or customer"

    class Standing(models.TextChoices):
        ACTIVE = "active", "active"
        DECEASED = "deceased", "deceased"
        MERGED = "merged", "merged into another contact"
        ERASED = "erased", "erased"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # No index of its own: in an organization that is new to the planner's statistics it would be taken for each
    # look-up by digest, and read all contacts each time.
    organization = models.ForeignKey(
        Organization, models.CASCADE, related_name="contacts", db_index=False
    )
    kind = models.CharField(max_length=16, choices=Kind, default=Kind.PATIENT)
    standing = models.CharField(max_length=10, choices=Standing, default=Standing.ACTIVE)
    merged_into = models.ForeignKey("self", models.PROTECT, null=True, blank=True)
    #: Where the record number comes from, e.g. "ehr"; with it, the record number is the identity.
    source = models.CharField(max_length=40, blank=True)
    record_number = EncryptedCharField(max_length=80, null=True)
    record_digest = models.BinaryField(null=True)
    email = EncryptedEmailField(max_length=320, null=True)
    #: Finds the address; not unique, since households share one.
    email_digest = models.BinaryField(null=True)
    #: Finds the destination without decrypting.
    domain_digest = models.BinaryField(null=True)
    first_name = EncryptedCharField(max_length=120, null=True)
    last_name = EncryptedCharField(max_length=120, null=True)
    date_of_birth = EncryptedDateField(null=True)
    sex = EncryptedCharField(max_length=20, null=True)
    state = EncryptedCharField(max_length=40, null=True)
    zip = EncryptedCharField(max_length=20, null=True)
    language = EncryptedCharField(max_length=20, null=True)
    #: Everything else: conditions, last visit, custom fields; keys are those of contacts/attributes.py.
    attributes = EncryptedJSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    erased_at = models.DateTimeField(null=True, blank=True)

    objects = PhiManager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["record_digest", "organization", "source"],
                condition=Q(record_digest__isnull=False),
                name="contact_once_by_record",
            ),
            models.UniqueConstraint(
                fields=["email_digest", "organization"],
                condition=Q(record_digest__isnull=True, standing="active"),
                name="contact_once_by_address",
            ),
            models.CheckConstraint(
                condition=Q(
                    email__isnull=True, email_digest__isnull=True, domain_digest__isnull=True
                )
                | Q(email__isnull=False, email_digest__isnull=False, domain_digest__isnull=False),
                name="contact_address_is_findable",
            ),
            models.CheckConstraint(
                condition=Q(merged_into__isnull=True) | Q(standing="merged"),
                name="contact_merged_says_so",
            ),
        ]
        indexes = [
            models.Index(fields=["email_digest", "organization"], name="contact_by_address"),
            models.Index(
                fields=["organization", "id"], condition=Q(standing="active"), name="contact_active"
            ),
        ]

    def __str__(self) -> str:
        return f"contact {self.pk}"


class CustomField(models.Model):
    """A field that an organization added, with the class of data that it holds."""

    class DataClass(models.TextChoices):
        CONTACT = "contact", "Contact"
        DEMOGRAPHIC = "demographic", "Demographic"
        TREATMENT = "treatment", "Treatment"
        PAYMENT = "payment", "Payment"
        #: Substance use (42 CFR 2), mental health, HIV, reproductive and genetic: its own rules.
        SENSITIVE = "sensitive", "Sensitive"

    class Type(models.TextChoices):
        TEXT = "text", "Text"
        CHOICE = "choice", "One of a few"
        CHOICES = "choices", "Several of a few"
        NUMBER = "number", "Whole number"
        DATE = "date", "Date"
        YES_NO = "yes_no", "Yes or no"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="custom_fields")
    key = models.SlugField(max_length=60)
    label = models.CharField(max_length=80)
    data_class = models.CharField(max_length=12, choices=DataClass, default=DataClass.TREATMENT)
    type = models.CharField(max_length=8, choices=Type, default=Type.TEXT)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "key"], name="customfield_once")
        ]

    def __str__(self) -> str:
        return self.key


class Term(models.Model):
    """The dictionary of blind terms: digest of (field, value) to a short number. No sequence: it would leak order."""

    pk = models.CompositePrimaryKey("organization_id", "number")
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+", db_index=False)
    number = models.IntegerField()
    digest = models.BinaryField()

    class Meta:
        constraints = [
            # The digest first: there are a hundred thousand in one organization, and one of each.
            models.UniqueConstraint(fields=["digest", "organization"], name="term_once"),
        ]

    def __str__(self) -> str:
        return f"term {self.number}"


class TermRow(models.Model):
    """An active contact's terms, apart from the contact: rebuilt by `manage.py reindex`, left out of dumps.

    A trigger deletes it when the contact is no longer active (migration 0002).
    """

    contact = models.OneToOneField(
        Contact, models.CASCADE, primary_key=True, related_name="term_row"
    )
    # No index of its own: it would be taken in place of that of the terms.
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+", db_index=False)
    terms = ArrayField(models.IntegerField())

    class Meta:
        indexes = [
            GinIndex(OpClass(F("terms"), name="gin__int_ops"), name="termrow_terms"),
        ]

    def __str__(self) -> str:
        return f"terms of {self.pk}"


class Tally(models.Model):
    """How many active contacts an organization has, kept by a trigger (migration 0002)."""

    organization = models.OneToOneField(
        Organization, models.CASCADE, primary_key=True, related_name="tally"
    )
    contacts = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.contacts} contacts"


class Segment(models.Model):
    """Saved criteria (docs/segments.md); the people who match are found anew each time."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="segments")
    name = models.CharField(max_length=120)
    criteria = EncryptedJSONField(default=dict)
    created_by_id = models.UUIDField()
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = PhiManager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "name"], name="segment_name_once")
        ]

    def __str__(self) -> str:
        return self.name


class WrongMove(Exception):
    """An import cannot go from the status that it has to the one that was asked for."""


class Import(models.Model):
    """One file of contacts on its way in: mapped, checked as a whole, applied in chunks that survive a crash."""

    class Status(models.TextChoices):
        NEW = "new", "new"
        CHECKED = "checked", "checked"
        APPLYING = "applying", "applying"
        DONE = "done", "done"
        REFUSED = "refused", "refused"

    #: From one status to the next; a mapping changed after the check sends an import back to new.
    MOVES: ClassVar[dict[str, set[str]]] = {
        Status.NEW: {Status.CHECKED, Status.REFUSED},
        Status.CHECKED: {Status.NEW, Status.CHECKED, Status.REFUSED, Status.APPLYING},
        Status.APPLYING: {Status.DONE},
        Status.DONE: set(),
        Status.REFUSED: set(),
    }

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="imports")
    file = models.ForeignKey(StagedFile, models.SET_NULL, null=True, related_name="+")
    rejected_file = models.ForeignKey(StagedFile, models.SET_NULL, null=True, related_name="+")
    source = models.CharField(max_length=40, blank=True)
    status = models.CharField(max_length=8, choices=Status, default=Status.NEW)
    #: How the file is read: codec and separator, found when it came in.
    encoding = models.CharField(max_length=12, blank=True)
    separator = models.CharField(max_length=1, blank=True)
    #: {column in the file: field key, or null to leave it out}. Sealed: in a file without a header it would be a row.
    mapping = EncryptedJSONField(default=dict)
    #: Fields to be made when it is applied: {key: {"label", "type", "data_class"}}.
    new_fields = EncryptedJSONField(default=dict)
    #: What the authorization dates stand for: {"form_version": id, "evidence": text}; sealed, since evidence may name people.
    options = EncryptedJSONField(default=dict)
    #: Why the file as a whole was refused: a code of contacts/importer.py.
    refusal = models.CharField(max_length=40, blank=True)
    #: What the check foresaw, numbers only: new, updated, unchanged, repeated, rejected, rescued; columns, warnings.
    plan = models.JSONField(default=dict)
    #: What is wrong with the first rows that are, never the values: [[row, field key, code, sentence], …].
    problems = models.JSONField(default=list)
    #: Of the rows that were applied; rows = rejected + created + updated + unchanged when it is done.
    rows = models.PositiveIntegerField(default=0)
    rejected = models.PositiveIntegerField(default=0)
    created = models.PositiveIntegerField(default=0)
    updated = models.PositiveIntegerField(default=0)
    unchanged = models.PositiveIntegerField(default=0)
    #: The next row to apply, moved in the chunk's own transaction.
    next_row = models.PositiveIntegerField(default=0)
    created_by_id = models.UUIDField()
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    objects = PhiManager()

    def __str__(self) -> str:
        return f"import {self.pk}"

    def move_to(self, status: str, *fields: str) -> None:
        """Move to a status and save the named fields, in the caller's transaction.

        Raises WrongMove for a move that is not declared, and when somebody else moved it first.
        """
        if status not in self.MOVES[self.status]:
            raise WrongMove(f"import {self.pk}: from {self.status} to {status}")
        moved = Import.objects.filter(pk=self.pk, status=self.status).update(status=status)
        if not moved:
            raise WrongMove(f"import {self.pk}: is no longer {self.status}")
        self.status = status
        self.save(update_fields=fields)
