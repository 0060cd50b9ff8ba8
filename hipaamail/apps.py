"""The wiring as a Django app, for its management commands and checks."""

from django.apps import AppConfig


class WiringConfig(AppConfig):
    name = "hipaamail"
