"""Numbered system checks: the server does not start with PHI at risk."""

import base64
import binascii
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import ERROR, CheckMessage, Error, Tags, register, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import models

from phi.fields import Encrypted, PhiQuerySet

MAKE_ONE = "32 random bytes in base64, e.g. from `openssl rand -base64 32`."

#: Keys that appear in examples; a key that anybody can read is no key.
KNOWN_KEYS = frozenset(
    {bytes(32), b"\xff" * 32, b"k" * 32, bytes(range(32)), bytes(range(1, 33))}
    | {word.ljust(32, b"\0") for word in (b"secret", b"password", b"changeme", b"insecure")}
)


def is_weak(key: bytes) -> bool:
    """Say whether a key is no 32 random bytes, as far as one can see.

    Of 32 random bytes fewer than 20 different ones, only printable ones, or fewer than 16 different steps
    from one to the next come up less than once in 10^13 times; a phrase, a pattern or a repetition shows at
    least one of them.
    """
    steps = {(b - a) % 256 for a, b in zip(key, key[1:], strict=False)}
    printable = all(32 <= byte < 127 for byte in key)
    return len(key) != 32 or len(set(key)) < 20 or len(steps) < 16 or printable


@register(Tags.security)
def master_key_is_strong(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """E001 no key, E002 well-known key, E003 weak key."""
    keys = settings.MASTER_KEYS
    if not keys:
        return [
            Error(
                "There is no master key.",
                hint=f"Set HIPAAMAIL_MASTER_KEY or HIPAAMAIL_MASTER_KEY_FILE to {MAKE_ONE}",
                id="phi.E001",
            )
        ]
    if any(key in KNOWN_KEYS for key in keys):
        return [Error("A master key is a well-known one.", hint=MAKE_ONE, id="phi.E002")]
    if any(is_weak(key) for key in keys):
        return [
            Error("A master key is malformed or weak.", hint=f"It is {MAKE_ONE}", id="phi.E003")
        ]
    return []


@register(Tags.security)
def production_is_production(
    app_configs: Sequence[Any] | None, **kwargs: Any
) -> list[CheckMessage]:
    """E004 DEBUG, E005 embedded servers, E006 volumes; E009 for a mistyped environment, which would be none."""
    if settings.ENVIRONMENT not in {"development", "production"}:
        return [
            Error(
                "HIPAAMAIL_ENV is neither development nor production.",
                hint="Set it to production wherever there are real people's data.",
                id="phi.E009",
            )
        ]
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
    # Blind terms reveal frequencies and order to whoever holds a copy of the database (docs/threat-model.md).
    if not settings.ENCRYPTED_VOLUMES:
        found.append(
            Error(
                "Nobody has confirmed that the database's volumes and backups are encrypted.",
                hint="Encrypt them, then set HIPAAMAIL_ENCRYPTED_VOLUMES=yes (docs/running.md).",
                id="phi.E006",
            )
        )
    return found


@register(Tags.security)
def other_keys_are_strong(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """E007 weak keys of other kinds, E008 one key for two purposes, in production."""
    if not settings.PRODUCTION:
        return []
    found: list[CheckMessage] = []
    others = {
        "HIPAAMAIL_AUDIT_KEY": settings.AUDIT_SIGNING_KEY,
        "HIPAAMAIL_TOKEN_KEY": settings.TOKEN_KEY,
    }
    for name, key in others.items():
        if key in KNOWN_KEYS or is_weak(key):
            found.append(
                Error(f"{name} is missing or weak.", hint=f"It is {MAKE_ONE}", id="phi.E007")
            )
    keys = [*settings.MASTER_KEYS, *others.values(), _as_bytes(settings.SECRET_KEY)]
    if len(set(keys)) < len(keys):
        found.append(
            Error(
                "Two keys are the same.",
                hint="Make each its own: whoever learns one must not know another.",
                id="phi.E008",
            )
        )
    return found


@register(Tags.models)
def sealed_rows_can_be_sealed(
    app_configs: Sequence[Any] | None, **kwargs: Any
) -> list[CheckMessage]:
    """E010 id, E011 organization, E012 manager, E013 column: what an encrypted field asks of its model."""
    models_of = app_configs or apps.get_app_configs()
    return [
        Error(f"{model._meta.label}: {problem}", obj=model, id=number)
        for config in models_of
        for model in config.get_models()
        for problem, number in problems_of(model)
    ]


def problems_of(model: type[models.Model]) -> Iterator[tuple[str, str]]:
    """Yield (problem, number of the check) for a model with encrypted columns; nothing for another."""
    meta = model._meta
    columns = [f for f in meta.concrete_fields if isinstance(f, Encrypted)]
    if not columns:
        return
    made_here = meta.pk.has_default() and callable(meta.pk.default)
    if not isinstance(meta.pk, models.UUIDField) or not made_here:
        yield "its id must be a UUID made in Python, since values are sealed for it.", "phi.E010"
    if not _has_organization(model):
        yield "it needs organization_id, a field or phi.keys.PLATFORM.", "phi.E011"
    if not isinstance(model._default_manager.get_queryset(), PhiQuerySet):
        yield "its default manager must be a PhiManager.", "phi.E012"
    used = {f.name for f in columns if f.unique or f.db_index or f.has_db_default()}
    used |= _used(meta) & {f.name for f in columns}
    for name in sorted(used):
        yield f"{name} is encrypted: no index, constraint, order or database default.", "phi.E013"


def _has_organization(model: type[models.Model]) -> bool:
    if any(f.attname == "organization_id" for f in model._meta.concrete_fields):
        return not model._meta.get_field("organization_id").null
    return isinstance(getattr(model, "organization_id", None), uuid.UUID)


def _used(meta: Any) -> set[str]:
    names = {name.lstrip("-") for name in meta.ordering if isinstance(name, str)}
    for index in meta.indexes:
        names |= {name.lstrip("-") for name in index.fields} | set(index.include)
    for constraint in meta.constraints:
        names |= set(getattr(constraint, "fields", ()))
    return names


def _as_bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return text.encode()


def insist() -> None:
    """Refuse to serve when a security check finds an error; for what starts without `manage.py`.

    Raises ImproperlyConfigured with the numbers and hints of what is wrong.
    """
    found = run_checks(tags=[Tags.security])
    errors = sorted((m for m in found if m.is_serious(ERROR)), key=lambda m: m.id or "")
    if errors:
        raise ImproperlyConfigured("; ".join(f"{m.id}: {m.msg} {m.hint or ''}" for m in errors))
