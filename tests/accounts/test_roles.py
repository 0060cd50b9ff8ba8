"""The role table: what each role may do, where, and that nothing else is allowed."""

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.hashers import MD5PasswordHasher

from accounts import organizations
from accounts.models import Role, User
from accounts.roles import MAY, RoleBackend, allows
from tests.factories import BY, make_contact, make_organization, make_user

PASSWORD = "a password of the tests"

#: The table of accounts/roles.py once more, by role: a change of who may do what is made twice.
EXPECTED = {
    Role.MARKETER: {
        "contacts.import_contact",
        "contacts.view_contact",
        "contacts.view_segment",
        "contacts.change_segment",
        "consent.view_authorization",
        "consent.record_optout",
        "builder.view_emailtemplate",
        "builder.change_emailtemplate",
        "campaigns.view_campaign",
        "campaigns.change_campaign",
        "campaigns.submit_campaign",
        "campaigns.send_campaign",
        "reports.view_results",
    },
    Role.APPROVER: {
        "contacts.view_segment",
        "builder.view_emailtemplate",
        "campaigns.view_campaign",
        "campaigns.approve_campaign",
        "campaigns.send_campaign",
        "reports.view_results",
    },
    Role.PRIVACY_OFFICER: {
        "contacts.view_contact",
        "contacts.erase_contact",
        "contacts.view_segment",
        "contacts.change_customfield",
        "consent.view_authorization",
        "consent.record_authorization",
        "consent.record_revocation",
        "consent.record_optout",
        "consent.publish_formversion",
        "campaigns.view_campaign",
        "delivery.view_message",
        "delivery.resolve_message",
        "reports.view_results",
        "reports.make_compliancereport",
        "audit.view_entry",
        "accounts.change_organization",
    },
    Role.ADMINISTRATOR: {
        "contacts.change_customfield",
        "delivery.view_message",
        "delivery.resolve_message",
        "delivery.change_stream",
        "reports.view_results",
        "reports.make_compliancereport",
        "audit.view_entry",
        "accounts.change_user",
        "accounts.change_organization",
        "phi.rotate_datakey",
    },
    Role.AUDITOR: {
        "consent.view_authorization",
        "campaigns.view_campaign",
        "reports.view_results",
        "reports.make_compliancereport",
        "audit.view_entry",
    },
    Role.VIEWER: {"reports.view_results"},
}


@pytest.mark.parametrize("role", Role)
def test_a_role_allows_what_the_table_says_and_nothing_else(organization, role):
    user = make_user(role, organization)

    assert {perm for perm in MAY if user.has_perm(perm, organization)} == EXPECTED[role]


def test_no_role_both_submits_and_approves():
    assert all(
        not EXPECTED[role] >= {"campaigns.submit_campaign", "campaigns.approve_campaign"}
        for role in Role
    )


def test_read_only_roles_change_nothing():
    verbs = {
        perm.split(".")[1].split("_")[0]
        for r in (Role.AUDITOR, Role.VIEWER)
        for perm in EXPECTED[r]
    }

    assert verbs == {"view", "make"}


def test_a_viewer_sees_nobody():
    assert EXPECTED[Role.VIEWER] & {"contacts.view_contact", "delivery.view_message"} == set()


def test_several_roles_make_the_union(organization):
    user = make_user(Role.VIEWER, organization)
    organizations.add_member(organization, user, Role.AUDITOR, by=BY)

    assert user.has_perms(["audit.view_entry", "reports.view_results"], organization)
    assert not user.has_perms(["audit.view_entry", "campaigns.change_campaign"], organization)


@pytest.mark.parametrize("role", Role)
def test_a_role_counts_in_its_own_organization_only(organization, other_organization, role):
    user = make_user(role, organization)

    assert [perm for perm in MAY if user.has_perm(perm, other_organization)] == []
    assert [perm for perm in MAY if user.has_perm(perm, make_contact(other_organization))] == []
    assert [perm for perm in MAY if user.has_perm(perm)] == []


def test_a_row_counts_by_its_organization(organization, alice):
    assert alice.has_perm("contacts.view_contact", make_contact(organization))


def test_a_role_in_two_organizations_is_a_role_in_each(organization, other_organization, alice):
    organizations.add_member(other_organization, alice, Role.VIEWER, by=BY)

    assert alice.has_perm("campaigns.change_campaign", organization)
    assert not alice.has_perm("campaigns.change_campaign", other_organization)
    assert alice.has_perm("reports.view_results", other_organization)


@pytest.mark.parametrize("perm", ["", "campaigns", "campaigns.delete_campaign", "*", "campaigns.*"])
def test_an_unknown_permission_is_nobodys(organization, alice, perm):
    assert not alice.has_perm(perm, organization)


def test_an_inactive_user_may_do_nothing(organization, alice):
    alice.is_active = False

    assert not alice.has_perm("campaigns.view_campaign", organization)
    assert not allows(alice, "campaigns.view_campaign", organization)


def test_in_an_inactive_organization_nobody_may_do_anything(organization, alice):
    organization.is_active = False
    organization.save()

    assert not alice.has_perm("campaigns.view_campaign", organization)


def test_nobody_is_more_than_their_roles(organization):
    user = make_user("viewer", organization)
    user.is_superuser = user.is_staff = True

    assert not user.has_perm("campaigns.change_campaign", organization)


# --- signing in


@pytest.fixture
def known(organization):
    """A user with a password."""
    return make_user("viewer", organization, email="vera@staff.example", password=PASSWORD)


@pytest.mark.parametrize(
    "name", ["vera@staff.example", "Vera@Staff.Example", " vera@staff.example "]
)
def test_the_right_password_signs_in_however_the_address_is_written(known, name):
    assert authenticate(username=name, password=PASSWORD) == known
    assert authenticate(email=name, password=PASSWORD) == known


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("vera@staff.example", "another password"),
        ("vera@staff.example", ""),
        ("vera@staff.example", None),
        ("vera@staff.example", PASSWORD.upper()),
        ("nobody@staff.example", PASSWORD),
        ("nobody@staff.example", None),
        ("\0", PASSWORD),
        ("", ""),
        (None, None),
    ],
)
def test_anything_else_does_not(known, name, password):
    assert RoleBackend().authenticate(None, username=name, password=password) is None


def test_a_user_without_a_password_cannot_sign_in(organization):
    make_user("viewer", organization, email="new@staff.example")

    assert authenticate(username="new@staff.example", password="") is None


def test_an_inactive_user_cannot_sign_in_nor_go_on(known):
    User.objects.update(is_active=False)

    assert authenticate(username=known.email, password=PASSWORD) is None
    assert RoleBackend().get_user(known.pk) is None


@pytest.mark.parametrize(
    "who", ["unknown", "wrong password", "no password given", "inactive", "unusable"]
)
def test_every_refusal_costs_one_hash(known, monkeypatch, who):
    """So that the time of an answer does not tell who has an account."""
    hashes = []
    real = MD5PasswordHasher.encode
    make_user(email="new@staff.example")
    if who == "inactive":
        User.objects.filter(pk=known.pk).update(is_active=False)
    monkeypatch.setattr(
        MD5PasswordHasher,
        "encode",
        lambda *args, **kwargs: hashes.append(1) or real(*args, **kwargs),
    )
    name, password = {
        "unknown": ("nobody@staff.example", "x"),
        "wrong password": (known.email, "x"),
        "no password given": ("nobody@staff.example", None),
        "inactive": (known.email, PASSWORD),
        "unusable": ("new@staff.example", "x"),
    }[who]

    assert RoleBackend().authenticate(None, username=name, password=password) is None
    assert len(hashes) == 1


def test_an_address_is_one_persons_however_it_is_written(known):
    from django.db import IntegrityError, transaction

    for email in ("vera@staff.example", "Vera@Staff.Example"):
        with pytest.raises(IntegrityError), transaction.atomic():
            User(email=email, name="Other").save()
    with pytest.raises(IntegrityError), transaction.atomic():
        make_user(email="VERA@staff.example")

    assert User.objects.filter(email__iexact=known.email).count() == 1


def test_users_of_an_organization_are_found_by_role(organization, alice, bob):
    assert alice.roles_in(organization) == {"marketer"}
    assert alice.roles_in(make_organization()) == set()
