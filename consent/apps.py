"""The consent app: brings its columns to the importer and its facts to the audit log's verification."""

from django.apps import AppConfig


class ConsentConfig(AppConfig):
    name = "consent"

    def ready(self) -> None:
        from audit.facts import FACTS, Facts
        from consent import importing
        from consent.models import FACT_MODELS, FormVersion

        for model in FACT_MODELS:
            FACTS[model._meta.label] = Facts(model)
        FACTS[FormVersion._meta.label] = Facts(FormVersion, when="published_at")
        importing.install()
