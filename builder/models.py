"""Templates that people edit, and revisions that are frozen."""

from django.db import models

from accounts.models import Organization
from audit.append_only import AppendOnly
from phi.ids import uuid7


class EmailTemplate(models.Model):
    """A design that is being worked on: a document of blocks (builder/blocks.py)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="email_templates")
    name = models.CharField(max_length=120)
    language = models.CharField(max_length=10, default="en")
    subject = models.CharField(max_length=200, blank=True)
    preheader = models.CharField(max_length=200, blank=True)
    document = models.JSONField()
    created_by_id = models.UUIDField()
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "name"], name="emailtemplate_name_once")
        ]

    def __str__(self) -> str:
        return self.name


class Revision(AppendOnly):
    """A template as it was at one moment; campaigns point at revisions, so later edits change no campaign."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.PROTECT, related_name="+")
    template = models.ForeignKey(EmailTemplate, models.PROTECT, related_name="revisions")
    number = models.PositiveIntegerField()
    language = models.CharField(max_length=10)
    subject = models.CharField(max_length=200)
    preheader = models.CharField(max_length=200, blank=True)
    document = models.JSONField()
    created_by_id = models.UUIDField()
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "template", "number"], name="revision_once"
            )
        ]

    def __str__(self) -> str:
        return f"revision {self.number} of {self.template_id}"
