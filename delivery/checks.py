"""System checks of delivery: routes are for development."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register


@register(Tags.security)
def routes_are_for_development(
    app_configs: Sequence[Any] | None, **kwargs: Any
) -> list[CheckMessage]:
    """E001: HIPAAMAIL_ROUTES sends mail elsewhere than to the recipients' servers."""
    if not settings.PRODUCTION or not settings.HIPAAMAIL_ROUTES or settings.HIPAAMAIL_ALLOW_ROUTES:
        return []
    return [
        Error(
            "HIPAAMAIL_ROUTES is set in production: mail would not go to the recipients' servers.",
            hint="Unset it, or set HIPAAMAIL_ALLOW_ROUTES=yes if a relay of yours is meant.",
            id="delivery.E001",
        )
    ]
