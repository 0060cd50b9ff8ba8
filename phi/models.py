"""Data keys: one set for each organization, kept wrapped by the master key."""

from django.db import models


class DataKey(models.Model):
    """A key that seals values of one organization, itself sealed by the master key.

    A destroyed key keeps its row without the key, so that what it sealed is known to be unreadable and
    the destruction can be shown (NIST SP 800-88r2).
    """

    class Purpose(models.TextChoices):
        #: Rotated: the newest seals, all that are not destroyed open.
        DATA = "data", "data"
        #: Seals evidence in append-only rows, which cannot be sealed again: kept, never rotated.
        EVIDENCE = "evidence", "evidence"
        #: Makes blind digests; another key would make every digest another one.
        DIGEST = "digest", "digest"

    id = models.AutoField(primary_key=True)
    organization_id = models.UUIDField()
    purpose = models.CharField(max_length=8, choices=Purpose)
    wrapped = models.BinaryField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    destroyed_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["organization_id", "purpose", "-id"], name="datakey_newest")
        ]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(wrapped__isnull=True, destroyed_at__isnull=False)
                | models.Q(wrapped__isnull=False, destroyed_at__isnull=True),
                name="datakey_destroyed_is_gone",
            )
        ]

    def __str__(self) -> str:
        return f"{self.purpose} key {self.pk}"
