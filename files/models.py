"""Staged files: encrypted in chunks, gone after a while."""

from django.db import models

from accounts.models import Organization
from phi.fields import EncryptedBinaryField, EncryptedCharField, PhiManager
from phi.ids import uuid7


class StagedFile(models.Model):
    """An upload, rejected rows, a draft or an export; it expires, and is never on disk in clear."""

    class Kind(models.TextChoices):
        UPLOAD = "upload", "upload"
        REJECTED = "rejected", "rejected rows"
        REPORT = "report", "report"
        EXPORT = "export", "export"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="staged_files")
    kind = models.CharField(max_length=8, choices=Kind)
    #: As the person named it; a name can hold a name.
    name = EncryptedCharField(max_length=200)
    content_type = models.CharField(max_length=100)
    #: Bytes.
    size = models.PositiveBigIntegerField(default=0)
    #: SHA-256 of the whole, sealed: whoever can write to the table cannot make another one fit.
    sha256 = EncryptedBinaryField(null=True)
    created_by = models.CharField(max_length=60)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(db_index=True)

    objects = PhiManager()

    def __str__(self) -> str:
        return f"file {self.pk}"


class Chunk(models.Model):
    """A piece of a staged file."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    organization = models.ForeignKey(Organization, models.CASCADE, related_name="+")
    file = models.ForeignKey(StagedFile, models.CASCADE, related_name="chunks")
    number = models.PositiveIntegerField()
    data = EncryptedBinaryField()

    objects = PhiManager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "file", "number"], name="chunk_once")
        ]

    def __str__(self) -> str:
        return f"chunk {self.number} of {self.file_id}"
