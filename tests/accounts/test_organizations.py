"""Organizations and memberships: on record, never without an approver, and effective at once."""

import threading
import time

import pytest
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import ValidationError
from django.db import connection
from django.http import HttpRequest

from accounts import organizations
from accounts.models import Membership, Organization, Role, User
from accounts.organizations import LastOfRole
from audit.models import Entry
from phi.models import DataKey
from tests.factories import BY, make_organization, make_user


def entries(action):
    return list(Entry.objects.filter(action=action).order_by("id"))


def signed_in(user):
    """A request with a session of the user, as sign-in leaves it."""
    request = HttpRequest()
    request.session = SessionStore()
    request.session[SESSION_KEY] = str(user.pk)
    request.session[BACKEND_SESSION_KEY] = "accounts.roles.RoleBackend"
    request.session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    return request


def test_a_new_organization_has_keys_and_an_entry(db, alice):
    made = organizations.create(
        name="Bay Clinic",
        slug="bay",
        postal_address="1 Bay St",
        time_zone="America/Chicago",
        by=alice,
    )

    assert Organization.objects.get(slug="bay").time_zone == "America/Chicago"
    assert DataKey.objects.filter(organization_id=made.pk).count() == 3
    entry = [e for e in entries("organization.created") if e.organization_id == made.pk]
    assert [(e.actor, e.target_id) for e in entry] == [(f"user:{alice.pk}", made.pk)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"time_zone": "Mars/Base"},
        {"slug": "has space"},
        {"name": ""},
        {"postal_address": ""},
        {"kind": "x"},
    ],
)
def test_a_wrong_field_is_refused_and_nothing_is_made(db, wrong):
    fields = {"name": "Bay", "slug": "bay", "postal_address": "1 Bay St", **wrong}
    with pytest.raises(ValidationError):
        organizations.create(**fields, by=BY)

    assert not Organization.objects.exists()
    assert not DataKey.objects.exists()
    assert not Entry.objects.exists()


def test_two_organizations_cannot_share_a_short_name(organization):
    with pytest.raises(ValidationError):
        make_organization(slug="lakeside")


def test_a_role_is_given_once_and_on_record(organization, alice, bob):
    first = organizations.add_member(organization, alice, "auditor", by=bob)
    again = organizations.add_member(organization, alice, Role.AUDITOR, by=bob)

    assert first == again
    assert alice.roles_in(organization) == {"marketer", "auditor"}
    entry = entries("role.granted")[-1]
    assert (entry.actor, entry.target_id, entry.detail) == (
        f"user:{bob.pk}",
        alice.pk,
        {"role": "auditor"},
    )
    assert len([e for e in entries("role.granted") if e.target_id == alice.pk]) == 2


def test_a_role_that_is_none_is_refused(organization, alice):
    for role in ("superuser", "", "Marketer"):
        with pytest.raises(ValueError):  # noqa: PT011
            organizations.add_member(organization, alice, role, by=BY)

    assert alice.roles_in(organization) == {"marketer"}


def test_a_role_is_taken_and_on_record(organization, alice, bob):
    organizations.remove_member(organization, alice, "marketer", by=bob)

    assert alice.roles_in(organization) == set()
    assert [(e.target_id, e.detail) for e in entries("role.revoked")] == [
        (alice.pk, {"role": "marketer"})
    ]
    assert not alice.has_perm("campaigns.view_campaign", organization)


def test_taking_a_role_that_is_not_there_changes_nothing(organization, alice):
    before = User.objects.get(pk=alice.pk).session_number
    organizations.remove_member(organization, alice, "approver", by=BY)

    assert entries("role.revoked") == []
    assert User.objects.get(pk=alice.pk).session_number == before


@pytest.mark.parametrize("role", ["approver", "administrator"])
def test_the_last_approver_and_the_last_administrator_stay(organization, role):
    user = make_user(role, organization)
    make_user(role, make_organization())
    inactive = make_user(role, organization)
    organizations.deactivate(inactive, by=BY)

    for attempt in (
        lambda: organizations.remove_member(organization, user, role, by=BY),
        lambda: organizations.deactivate(user, by=BY),
    ):
        with pytest.raises(LastOfRole, match="Nobody else"):
            attempt()
    assert user.roles_in(organization) == {role}
    assert User.objects.get(pk=user.pk).is_active
    assert entries("role.revoked") == []

    organizations.add_member(organization, make_user(), role, by=BY)
    organizations.remove_member(organization, user, role, by=BY)
    assert user.roles_in(organization) == set()


@pytest.mark.parametrize("role", ["marketer", "privacy_officer", "auditor", "viewer"])
def test_the_last_of_another_role_may_go(organization, role):
    user = make_user(role, organization)
    organizations.remove_member(organization, user, role, by=BY)

    assert user.roles_in(organization) == set()


def test_an_inactive_user_may_lose_any_role(organization):
    make_user("approver", organization)
    user = make_user("approver", organization)
    organizations.deactivate(user, by=BY)
    organizations.remove_member(organization, user, "approver", by=BY)

    assert user.roles_in(organization) == set()


@pytest.mark.django_db(transaction=True)
def test_two_administrators_who_take_each_others_role_leave_one(monkeypatch):
    keep_one = organizations._keep_one

    def slowly(*args, **kwargs):
        keep_one(*args, **kwargs)
        time.sleep(0.3)

    monkeypatch.setattr(organizations, "_keep_one", slowly)
    organization = make_organization()
    users = [make_user("administrator", organization) for _ in range(2)]
    outcomes, start = [], threading.Barrier(2)

    def take(user, by):
        start.wait(5)
        try:
            organizations.remove_member(organization, user, "administrator", by=by)
            outcomes.append("taken")
        except LastOfRole:
            outcomes.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=take, args=(users[n], users[1 - n])) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == ["refused", "taken"]
    assert Membership.objects.filter(role="administrator").count() == 1


def test_a_deactivated_user_is_out_at_once_and_on_record(organization, alice):
    request = signed_in(alice)
    assert get_user(request) == alice
    organizations.deactivate(alice, by=BY)

    assert not get_user(signed_in(alice)).is_authenticated
    assert not get_user(request).is_authenticated
    assert [e.target_id for e in entries("user.deactivated")] == [alice.pk]
    organizations.deactivate(alice, by=BY)
    assert len(entries("user.deactivated")) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda o, u: organizations.add_member(o, u, "viewer", by=BY),
        lambda o, u: organizations.remove_member(o, u, "marketer", by=BY),
        lambda o, u: organizations.end_sessions(u),
        lambda o, u: (u.set_password("another password of the tests"), u.save()),
    ],
    ids=["role given", "role taken", "ended", "password"],
)
def test_a_change_ends_the_users_sessions_and_nobody_elses(organization, alice, bob, change):
    hers, his = signed_in(alice), signed_in(bob)
    assert get_user(hers) == alice
    change(organization, alice)

    assert not get_user(hers).is_authenticated
    assert SESSION_KEY not in hers.session
    assert get_user(his) == bob
    alice.refresh_from_db()
    assert get_user(signed_in(alice)) == alice


def test_a_new_secret_key_signs_nobody_out_while_the_old_one_is_a_fallback(alice, settings):
    request = signed_in(alice)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another secret key of the tests, long enough"

    assert get_user(request) == alice
    settings.SECRET_KEY_FALLBACKS = []
    request.session[HASH_SESSION_KEY] = "0" * 64
    assert not get_user(request).is_authenticated


def test_the_session_number_is_part_of_the_hash_and_cannot_be_moved_into_the_password(alice):
    first = alice.get_session_auth_hash()
    alice.session_number += 1

    assert alice.get_session_auth_hash() != first


def test_the_kill_switch_stops_the_organization_and_is_on_record(organization, other_organization):
    organizations.stop_sending(organization, by="system:tests")
    first = organization.sending_stopped_at
    organizations.stop_sending(organization, by="system:tests")
    other_organization.refresh_from_db()

    assert organization.sending_stopped_at == first is not None
    assert other_organization.sending_stopped_at is None
    assert Entry.objects.filter(action="sending.stopped").count() == 2

    organizations.allow_sending(organization, by="system:tests")
    assert organization.sending_stopped_at is None
