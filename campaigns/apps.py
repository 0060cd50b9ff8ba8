"""The campaigns app."""

from django.apps import AppConfig


class CampaignsConfig(AppConfig):
    name = "campaigns"

    def ready(self) -> None:
        from audit.facts import FACTS, Facts
        from campaigns.models import Approval, Submission

        for model in (Submission, Approval):
            FACTS[model._meta.label] = Facts(model)
