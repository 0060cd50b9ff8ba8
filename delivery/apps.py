"""The delivery app."""

from django.apps import AppConfig


class DeliveryConfig(AppConfig):
    name = "delivery"

    def ready(self) -> None:
        from audit.facts import FACTS, Facts
        from contacts.erase import ERASERS
        from delivery import checks  # noqa: F401
        from delivery.models import Event, Receipt
        from delivery.retention import erase_values

        for model in (Receipt, Event):
            FACTS[model._meta.label] = Facts(model)
        ERASERS["delivery"] = erase_values
