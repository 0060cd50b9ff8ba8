"""The builder app."""

from django.apps import AppConfig


class BuilderConfig(AppConfig):
    name = "builder"

    def ready(self) -> None:
        from audit.facts import FACTS, Facts
        from builder.models import Revision

        FACTS[Revision._meta.label] = Facts(Revision)
