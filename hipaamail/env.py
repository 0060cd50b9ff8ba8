"""Settings from the environment: typed, loud when malformed, secrets also from files."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured


def text(name: str, default: str = "") -> str:
    """Return the variable as text."""
    return os.environ.get(name, default)


def flag(name: str, default: bool = False) -> bool:
    """Return the variable as a boolean; anything but yes and no words raises."""
    value = os.environ.get(name)
    if value is None or value == "":
        return default
    if value.lower() in {"1", "true", "yes", "on"}:
        return True
    if value.lower() in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name} must be yes or no.")


def number(name: str, default: int) -> int:
    """Return the variable as an integer."""
    value = os.environ.get(name, "")
    try:
        return int(value) if value else default
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number.") from None


def words(name: str, default: str = "") -> list[str]:
    """Return a comma-separated variable as a list without blanks."""
    return [word.strip() for word in os.environ.get(name, default).split(",") if word.strip()]


def secret(name: str) -> str:
    """Return a secret from `NAME`, or from the file that `NAME_FILE` names; empty when neither is set."""
    path = os.environ.get(f"{name}_FILE")
    if path:
        try:
            return Path(path).read_text().strip()
        except OSError as error:
            raise ImproperlyConfigured(f"{name}_FILE cannot be read: {error.strerror}.") from None
    return os.environ.get(name, "")


def database(url: str) -> dict[str, Any]:
    """Turn `postgres://user:password@host:port/name?option=value` into a Django database entry.

    The host may be a percent-encoded socket directory. Options are libpq's (`sslmode`, …).
    """
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured("DATABASE_URL must begin with postgres://")
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    host = options.pop("host", None) or unquote(parts.hostname or "")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": str(parts.port or options.pop("port", "")),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": options,
    }
