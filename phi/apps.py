"""The phi app: registers its system checks."""

from django.apps import AppConfig


class PhiConfig(AppConfig):
    name = "phi"

    def ready(self) -> None:
        from phi import checks  # noqa: F401
