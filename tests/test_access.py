"""Who reaches which page: every address by every role, and never another organization's rows.

A page that is not open to the world names its permission: its view has an attribute `permission`, one of
accounts/roles.py. The tests go by the resolver and the role table, so a new page is covered by being there.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.test import Client
from django.urls import URLPattern, clear_url_caches, path, reverse, set_urlconf

from accounts import otp
from accounts.models import Organization, Role, TOTPDevice, User
from accounts.roles import MAY
from contacts.models import Contact
from phi.ids import uuid7
from tests.factories import BY, make_contact, make_organization, make_user
from tests.test_doors import every_page, is_open

#: Page → arguments that make an address of an organization's row, for pages that take some.
#: A page without an entry here gets the row's id as each of its arguments, from ROWS.
ARGUMENTS: dict[str, Callable[[Organization], dict[str, Any]]] = {
    "delivery:unsubscribe": lambda organization: {"token": "no-token"},
    "delivery:accent": lambda organization: {"colour": "0e5a5a"},
}
#: Namespace → factory of a row whose id stands in the addresses of its pages.
ROWS: dict[str, Callable[[Organization], Any]] = {"contacts": make_contact}


@dataclass(frozen=True)
class Page:
    """One address of the site."""

    name: str
    pattern: URLPattern

    @property
    def permission(self) -> str:
        return getattr(self.pattern.callback, "permission", "")

    @property
    def takes(self) -> list[str]:
        return list(self.pattern.pattern.converters)

    def address(self, organization: Organization) -> str:
        """Return the page's address for a row of the organization."""
        if self.name in ARGUMENTS:
            return reverse(self.name, kwargs=ARGUMENTS[self.name](organization))
        if not self.takes:
            return reverse(self.name)
        row = ROWS[self.name.partition(":")[0]](organization)
        return reverse(self.name, kwargs=dict.fromkeys(self.takes, row.pk))


def all_pages() -> list[Page]:
    return [Page(name, pattern) for name, pattern in every_page().items()]


def staff_pages() -> list[Page]:
    return [page for page in all_pages() if not is_open(page.pattern)]


def signed_in(user: User) -> Client:
    """Return a browser in which the user has signed in with a second factor."""
    device = otp.enrol(user, by=BY)
    TOTPDevice.objects.filter(pk=device.pk).update(confirmed=True)
    client = Client(raise_request_exception=False)
    client.force_login(user)
    session = client.session
    session["otp_device_id"] = device.persistent_id
    session.save()
    return client


def wrongly_reached(organization: Organization) -> list[str]:
    """Return what a role reaches against the table, or does not reach in spite of it."""
    wrong = []
    for role in Role:
        client = signed_in(make_user(role, organization))
        for page in staff_pages():
            status = client.get(page.address(organization)).status_code
            # A page may answer 405 to a GET: what matters is that the role is let in or refused.
            if (status == 403) == (role in MAY[page.permission]) or status in {302, 404, 500}:
                wrong.append(f"{page.name} as {role}: {status}")
    return wrong


def leaking(organization: Organization, other: Organization) -> list[str]:
    """Return the pages that do not answer 404 for a row of another organization, or for none."""
    leaks = []
    for role in Role:
        client = signed_in(make_user(role, organization))
        for page in staff_pages():
            if not page.takes or role not in MAY[page.permission]:
                continue
            nowhere = reverse(page.name, kwargs={name: uuid7() for name in page.takes})
            for address in (page.address(other), nowhere):
                answers = {client.get(address).status_code, client.post(address).status_code}
                if not answers <= {404, 405} or 404 not in answers:
                    leaks.append(f"{page.name} as {role}: {answers}")
    return leaks


def open_to_strangers() -> list[str]:
    """Return the staff pages that somebody without a sign-in, or without a second factor, reaches."""
    organization = make_organization()
    once = Client(raise_request_exception=False)
    once.force_login(make_user(Role.PRIVACY_OFFICER, organization))
    return [
        f"{page.name}: {answer.status_code}"
        for page in staff_pages()
        for client in (Client(raise_request_exception=False), once)
        if (answer := client.get(page.address(organization))).status_code not in {302, 401, 403}
    ]


def test_every_staff_page_names_a_permission_of_the_role_table():
    assert [page.name for page in staff_pages() if page.permission not in MAY] == []


def test_every_page_with_arguments_can_be_addressed():
    unknown = [
        page.name
        for page in all_pages()
        if page.takes and page.name not in ARGUMENTS and page.name.partition(":")[0] not in ROWS
    ]

    assert unknown == []


def test_every_role_reaches_what_the_table_says(organization):
    assert wrongly_reached(organization) == []


def test_rows_of_another_organization_are_not_found(organization, other_organization):
    assert leaking(organization, other_organization) == []


def test_staff_pages_are_closed_to_strangers(db):
    assert open_to_strangers() == []


@pytest.mark.parametrize("role", [None, *Role], ids=str)
def test_open_pages_answer_everybody_the_same(organization, role):
    stranger, client = Client(), Client()
    if role is not None:
        client = signed_in(make_user(role, organization))
    for page in all_pages():
        if is_open(page.pattern):
            address = page.address(organization)
            known, unknown = client.get(address), stranger.get(address)
            assert known.status_code == unknown.status_code != 302
            assert known.content == unknown.content
            assert not known.cookies


# --- the tests above, tried on pages that are right and on pages that are not


def right(request: HttpRequest, pk: uuid.UUID | None = None) -> HttpResponse:
    """A page as it should be."""
    mine = Organization.objects.filter(memberships__user=request.user).distinct()
    scope: Any = mine.first()
    if pk is not None:
        scope = get_object_or_404(Contact, pk=pk, organization__in=mine)
    if not request.user.is_verified() or not request.user.has_perm("contacts.view_contact", scope):
        raise PermissionDenied
    return HttpResponse("ok")


def anybody(request: HttpRequest, pk: uuid.UUID | None = None) -> HttpResponse:
    """A page that asks for no permission and no organization."""
    if pk is not None:
        get_object_or_404(Contact, pk=pk)
    return HttpResponse("ok")


right.permission = anybody.permission = "contacts.view_contact"


@pytest.fixture
def site(settings):
    """Return a function that puts pages in place of the site's."""

    def serve(view):
        patterns = [path("list", view, name="list"), path("<uuid:pk>", view, name="one")]
        urls = type("Urls", (), {"urlpatterns": patterns})
        settings.ROOT_URLCONF = urls
        set_urlconf(urls)
        clear_url_caches()
        ROWS["one"] = make_contact

    yield serve
    ROWS.pop("one", None)
    set_urlconf(None)
    clear_url_caches()


def test_pages_that_are_right_pass(site, organization, other_organization):
    site(right)

    assert [page.name for page in staff_pages()] == ["list", "one"]
    assert wrongly_reached(organization) == []
    assert leaking(organization, other_organization) == []
    assert open_to_strangers() == []


def test_pages_that_are_open_to_any_role_or_organization_are_seen(
    site, organization, other_organization
):
    site(anybody)

    assert "list as auditor: 200" in wrongly_reached(organization)
    assert "one as viewer: 200" in wrongly_reached(organization)
    assert leaking(organization, other_organization)
    assert open_to_strangers() == ["list: 200", "one: 200"]
