"""The audit app."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class AuditConfig(AppConfig):
    name = "audit"

    def ready(self) -> None:
        from audit.grants import after_migrate

        post_migrate.connect(after_migrate, sender=self, dispatch_uid="audit.grants")
