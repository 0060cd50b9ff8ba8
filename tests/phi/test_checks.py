"""The numbered checks: what each refuses, and that the rest is let through."""

import hashlib
import os
import uuid

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.test.utils import isolate_apps
from hypothesis import given
from hypothesis import strategies as st

from phi import checks
from phi.fields import EncryptedCharField, PhiManager
from phi.ids import uuid7
from phi.keys import PLATFORM


def strong(name):
    return hashlib.sha256(name.encode()).digest()


@pytest.fixture
def production(settings):
    """Settings of a production that is set up right."""
    settings.ENVIRONMENT, settings.PRODUCTION, settings.DEBUG = "production", True, False
    settings.EMBEDDED_SERVERS, settings.ENCRYPTED_VOLUMES = False, True
    settings.HIPAAMAIL_ROUTES = ""
    settings.MASTER_KEYS = [strong("master")]
    settings.AUDIT_SIGNING_KEY, settings.TOKEN_KEY = strong("audit"), strong("token")
    settings.SECRET_KEY = "a secret key of the tests, long enough to be one"
    return settings


def found():
    return [m.id for m in run_checks(tags=["security"]) if m.id.startswith("phi.")]


def test_a_production_that_is_set_up_right_starts(production):
    assert found() == []


def test_development_needs_a_master_key_and_nothing_else(settings):
    settings.MASTER_KEYS = [strong("master")]
    settings.TOKEN_KEY = settings.AUDIT_SIGNING_KEY = b""
    settings.EMBEDDED_SERVERS, settings.DEBUG = True, True

    assert found() == []


def test_no_master_key_is_refused(settings):
    settings.MASTER_KEYS = []

    assert found() == ["phi.E001"]


@pytest.mark.parametrize(
    "key", [bytes(32), b"k" * 32, bytes(range(32)), b"changeme".ljust(32, b"\0")]
)
def test_a_well_known_master_key_is_refused(settings, key):
    settings.MASTER_KEYS = [strong("master"), key]

    assert found() == ["phi.E002"]


@pytest.mark.parametrize(
    "key",
    [
        b"",
        strong("short")[:31],
        strong("long") + b"\0",
        b"correct horse battery staple 1 2",
        b"0123456789abcdef" * 2,
        bytes(range(100, 132)),
        bytes(range(0, 96, 3)),
        strong("half")[:16] + bytes(16),
        bytes.fromhex("00ff" * 16),
        strong("eight")[:8] * 4,
    ],
    ids=repr,
)
def test_a_weak_master_key_is_refused(settings, key):
    settings.MASTER_KEYS = [key]

    assert found() == ["phi.E003"]


def test_random_keys_are_not_called_weak():
    assert [key for key in (os.urandom(32) for _ in range(3000)) if checks.is_weak(key)] == []


@given(
    st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), min_size=32, max_size=32)
)
def test_any_phrase_is_called_weak(phrase):
    assert checks.is_weak(phrase.encode())


@pytest.mark.parametrize(
    ("name", "value", "number"),
    [
        ("DEBUG", True, "phi.E004"),
        ("EMBEDDED_SERVERS", True, "phi.E005"),
        ("ENCRYPTED_VOLUMES", False, "phi.E006"),
        ("AUDIT_SIGNING_KEY", b"", "phi.E007"),
        ("AUDIT_SIGNING_KEY", b"k" * 32, "phi.E007"),
        ("TOKEN_KEY", b"", "phi.E007"),
        ("TOKEN_KEY", b"correct horse battery staple 1 2", "phi.E007"),
        ("TOKEN_KEY", strong("audit"), "phi.E008"),
        ("AUDIT_SIGNING_KEY", strong("master"), "phi.E008"),
        ("ENVIRONMENT", "prod", "phi.E009"),
    ],
)
def test_a_production_that_is_not_set_up_right_does_not_start(production, name, value, number):
    setattr(production, name, value)

    assert found() == [number]


def test_a_secret_key_that_is_another_key_in_base64_is_refused(production):
    import base64

    production.SECRET_KEY = base64.b64encode(strong("token")).decode()

    assert found() == ["phi.E008"]


def test_a_mistyped_environment_is_refused_in_development_too(settings):
    settings.ENVIRONMENT = "Production"

    assert found() == ["phi.E009"]


def test_every_message_has_a_hint_and_shows_no_key(production):
    production.MASTER_KEYS = [b"correct horse battery staple 1 2"]
    production.DEBUG = production.EMBEDDED_SERVERS = True
    messages = [m for m in run_checks(tags=["security"]) if m.id.startswith("phi.")]

    assert len(messages) == 3
    assert all(m.hint for m in messages)
    assert "horse" not in str(messages)


def test_a_server_that_starts_without_a_command_is_refused_too(production):
    checks.insist()
    production.MASTER_KEYS = []
    production.DEBUG = True

    with pytest.raises(ImproperlyConfigured, match=r"phi\.E001.*phi\.E004"):
        checks.insist()


# --- models


class Sound(models.Model):
    """What a model with an encrypted column looks like; the others below each lack one thing."""

    id = models.UUIDField(primary_key=True, default=uuid7)
    organization_id = PLATFORM
    name = EncryptedCharField(max_length=20)
    objects = PhiManager()

    class Meta:
        abstract = True
        app_label = "phi"


def numbers(model):
    return [number for _, number in checks.problems_of(model)]


@isolate_apps("phi")
def test_a_sound_model_passes():
    class Passes(Sound):
        class Meta:
            app_label = "phi"

    class Tenant(Sound):
        organization_id = models.UUIDField()

        class Meta:
            app_label = "phi"

    class Clear(models.Model):
        class Meta:
            app_label = "phi"

    assert [numbers(model) for model in (Passes, Tenant, Clear)] == [[], [], []]


@pytest.mark.parametrize(
    "pk",
    [
        models.AutoField(primary_key=True),
        models.UUIDField(primary_key=True),
        models.UUIDField(primary_key=True, default=uuid.UUID(int=1)),
        models.CharField(primary_key=True, max_length=9, default=uuid7),
    ],
    ids=lambda field: type(field).__name__,
)
def test_an_id_that_is_not_made_in_python_is_refused(pk):
    with isolate_apps("phi"):
        fields = {"id": pk, "__module__": __name__, "Meta": type("Meta", (), {"app_label": "phi"})}
        model = type("NoId", (Sound,), fields)

    assert numbers(model) == ["phi.E010"]


@pytest.mark.parametrize(
    "value", [None, "text", models.UUIDField(null=True)], ids=["none", "text", "null"]
)
def test_a_model_without_organization_is_refused(value):
    with isolate_apps("phi"):
        fields = {
            "organization_id": value,
            "__module__": __name__,
            "Meta": type("Meta", (), {"app_label": "phi"}),
        }
        model = type("NoOrganization", (Sound,), fields)

    assert numbers(model) == ["phi.E011"]


@isolate_apps("phi")
def test_a_plain_manager_is_refused():
    class Plain(Sound):
        objects = models.Manager()

        class Meta:
            app_label = "phi"

    assert numbers(Plain) == ["phi.E012"]


@isolate_apps("phi")
def test_an_encrypted_column_in_an_index_a_constraint_or_an_order_is_refused():
    class Indexed(Sound):
        class Meta:
            app_label = "phi"
            indexes = [models.Index(fields=["-name"], name="i")]

    class Unique(Sound):
        class Meta:
            app_label = "phi"
            constraints = [models.UniqueConstraint(fields=["name"], name="u")]

    class Ordered(Sound):
        class Meta:
            app_label = "phi"
            ordering = ["-name"]

    class Directly(Sound):
        name = EncryptedCharField(max_length=20, unique=True)

        class Meta:
            app_label = "phi"

    class Defaulted(Sound):
        name = EncryptedCharField(max_length=20, db_default="Ann")

        class Meta:
            app_label = "phi"

    for model in (Indexed, Unique, Ordered, Directly, Defaulted):
        assert numbers(model) == ["phi.E013"], model


def test_the_models_of_this_project_pass():
    assert [m for m in run_checks(tags=["models"]) if m.id.startswith("phi.")] == []
