"""Each outside package comes in through one door, and each page that needs no sign-in is on a list."""

from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Any

from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.urls import URLPattern, get_resolver
from django.utils.module_loading import import_string

from tests.test_layers import LAYERS, OUTER_APPS, ROOT, imports_of, modules

#: Package → where it may be imported.
DOORS = {
    "encrypted_model_fields": ["phi/fields.py"],
    "mjml": ["builder/compile.py"],
    "bleach": ["builder/clean.py"],
    "weasyprint": ["files/pdf.py"],
    "smtplib": ["delivery/smtp.py"],
    "aiosmtplib": ["delivery/smtp.py"],
    "dns": ["delivery/mx.py"],
    "celery": ["*/tasks.py", "hipaamail/celery.py"],
    "django_otp": ["accounts/*.py"],
    "rest_framework": ["api/*.py", "accounts/permissions.py"],
    # The demo receives mail and verifies signatures, as the world does; the product does neither with these.
    "aiosmtpd": ["demo/*.py"],
    "dkim": ["demo/*.py"],
}

#: Pages without sign-in, by their full name, and why.
OPEN_TO_THE_WORLD = {
    "healthz": "load balancers ask; it tells nothing but ok",
    "delivery:unsubscribe": "RFC 8058: one click, no sign-in; the token is the key",
    "delivery:accent": "the colour of the page above; six digits in, one line of CSS out",
}


def pages(patterns: list[Any], namespace: str = "") -> Iterator[tuple[str, URLPattern]]:
    """Yield (full name, page) of every address."""
    for entry in patterns:
        if isinstance(entry, URLPattern):
            yield f"{namespace}{entry.name}", entry
        else:
            inner = f"{namespace}{entry.namespace}:" if entry.namespace else namespace
            yield from pages(entry.url_patterns, inner)


def every_page() -> dict[str, URLPattern]:
    """Return all pages of the site by name."""
    return dict(pages(get_resolver().url_patterns))


def is_open(page: URLPattern) -> bool:
    """Say whether LoginRequiredMiddleware lets everybody through to it."""
    return not getattr(page.callback, "login_required", True)


def test_each_package_comes_in_through_its_door():
    elsewhere = [
        f"{path.relative_to(ROOT)} imports {name}"
        for app in [*LAYERS, *OUTER_APPS]
        for path in modules(app)
        for name in imports_of(path)
        if name in DOORS
        if not any(fnmatch(str(path.relative_to(ROOT)), door) for door in DOORS[name])
    ]

    assert elsewhere == []


def test_a_door_without_a_wildcard_is_there_or_its_package_is_not_used():
    used = {name for app in LAYERS for path in modules(app) for name in imports_of(path)}
    missing = [
        door
        for name, doors in DOORS.items()
        if name in used
        for door in doors
        if "*" not in door and not (ROOT / door).exists()
    ]

    assert missing == []


def test_every_page_has_a_name_of_its_own():
    names = [name for name, _ in pages(get_resolver().url_patterns)]

    assert sorted(names) == sorted(set(names))
    assert not [name for name in names if name.endswith("None")]


def test_only_the_listed_pages_open_without_a_sign_in():
    assert {name for name, page in every_page().items() if is_open(page)} == set(OPEN_TO_THE_WORLD)


def test_everything_else_asks_for_a_sign_in(settings):
    loaded = [import_string(name) for name in settings.MIDDLEWARE]
    assert any(isinstance(m, type) and issubclass(m, LoginRequiredMiddleware) for m in loaded)
    assert settings.REST_FRAMEWORK["DEFAULT_PERMISSION_CLASSES"] == [
        "accounts.permissions.SignedInAndVerified"
    ]
