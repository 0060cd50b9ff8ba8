"""Numbered system checks: the server does not start with PHI at risk."""

import base64
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

#: Keys that appear in examples; a key that anybody can read is no key.
KNOWN_KEYS = {bytes(32), b"k" * 32, b"\xff" * 32, bytes(range(32))}


@register(Tags.security)
def master_key_is_strong(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """E001 no key, E002 default key, E003 weak key."""
    keys = settings.MASTER_KEYS
    if not keys or b"" in keys:
        return [
            Error(
                "There is no master key.",
                hint="Set HIPAAMAIL_MASTER_KEY or HIPAAMAIL_MASTER_KEY_FILE to 32 random bytes in base64.",
                id="phi.E001",
            )
        ]
    errors = []
    if any(key in KNOWN_KEYS for key in keys):
        errors.append(
            Error("The master key is a well-known one.", hint="Make a random one.", id="phi.E002")
        )
    if any(len(key) != 32 or len(set(key)) < 16 for key in keys):
        errors.append(
            Error(
                "The master key is weak.",
                hint="It is 32 random bytes in base64, e.g. from `openssl rand -base64 32`.",
                id="phi.E003",
            )
        )
    return errors


@register(Tags.security)
def production_is_production(
    app_configs: Sequence[Any] | None, **kwargs: Any
) -> list[CheckMessage]:
    """E004 DEBUG, E005 embedded servers, E007 other keys, in production."""
    if not settings.PRODUCTION:
        return []
    found: list[CheckMessage] = []
    if settings.DEBUG:
        found.append(
            Error("DEBUG is on in production.", hint="Unset HIPAAMAIL_DEBUG.", id="phi.E004")
        )
    if settings.EMBEDDED_SERVERS:
        found.append(
            Error(
                "Production runs on the embedded servers, which have no TLS.",
                hint="Set DATABASE_URL and BROKER_URL to real servers.",
                id="phi.E005",
            )
        )
    for name, key in (
        ("HIPAAMAIL_AUDIT_KEY", settings.AUDIT_SIGNING_KEY),
        ("HIPAAMAIL_TOKEN_KEY", settings.TOKEN_KEY),
    ):
        if len(key) != 32 or key in KNOWN_KEYS:
            found.append(
                Error(
                    f"{name} is missing or weak.", hint="32 random bytes in base64.", id="phi.E007"
                )
            )
    if base64.b64encode(settings.TOKEN_KEY) == settings.SECRET_KEY.encode():
        found.append(Error("Two keys are the same.", hint="Make each its own.", id="phi.E008"))
    return found


@register(Tags.security, deploy=True)
def volumes_are_encrypted(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """W006: blind terms reveal frequencies and order to whoever holds a copy, so volumes are encrypted too."""
    if not settings.PRODUCTION or settings.ENCRYPTED_VOLUMES:
        return []
    return [
        Warning(
            "Nobody has confirmed that the database's volumes and backups are encrypted.",
            hint="Encrypt them, then set HIPAAMAIL_ENCRYPTED_VOLUMES=yes (docs/running.md).",
            id="phi.W006",
        )
    ]
