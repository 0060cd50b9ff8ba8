"""The role table: what each role may do, as Django permissions."""

from typing import Any

from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.hashers import make_password
from django.db import models
from django.http import HttpRequest

from accounts.models import Organization, Role, User

M, A, P = Role.MARKETER, Role.APPROVER, Role.PRIVACY_OFFICER
D, U, V = Role.ADMINISTRATOR, Role.AUDITOR, Role.VIEWER

#: permission: the roles that have it. What is not here, nobody may do.
MAY: dict[str, frozenset[Role]] = {
    "contacts.import_contact": frozenset({M}),
    "contacts.view_contact": frozenset({M, P}),
    "contacts.erase_contact": frozenset({P}),
    "contacts.view_segment": frozenset({M, A, P}),
    "contacts.change_segment": frozenset({M}),
    "contacts.change_customfield": frozenset({P, D}),
    "consent.view_authorization": frozenset({M, P, U}),
    "consent.record_authorization": frozenset({P}),
    "consent.record_revocation": frozenset({P}),
    "consent.record_optout": frozenset({M, P}),
    "consent.publish_formversion": frozenset({P}),
    "builder.view_emailtemplate": frozenset({M, A}),
    "builder.change_emailtemplate": frozenset({M}),
    "campaigns.view_campaign": frozenset({M, A, P, U}),
    "campaigns.change_campaign": frozenset({M}),
    "campaigns.submit_campaign": frozenset({M}),
    "campaigns.approve_campaign": frozenset({A}),
    "campaigns.send_campaign": frozenset({M, A}),
    "delivery.view_message": frozenset({P, D}),
    "delivery.resolve_message": frozenset({P, D}),
    "delivery.change_stream": frozenset({D}),
    "reports.view_results": frozenset({M, A, P, D, U, V}),
    "reports.make_compliancereport": frozenset({P, D, U}),
    "audit.view_entry": frozenset({P, D, U}),
    "accounts.change_user": frozenset({D}),
    "accounts.change_organization": frozenset({P, D}),
    "phi.rotate_datakey": frozenset({D}),
}


def allows(user: User, perm: str, obj: Any = None) -> bool:
    """Say whether one of the user's roles has the permission in `obj`'s organization.

    `obj`: an Organization, or a row with `organization_id`. Without it the answer is no: a role is
    always a role somewhere. An inactive user, an unknown permission and another organization answer no.
    """
    if not user.is_active or perm not in MAY or obj is None:
        return False
    organization_id = obj.pk if isinstance(obj, Organization) else obj.organization_id
    return user.memberships.filter(
        organization_id=organization_id, role__in=MAY[perm], organization__is_active=True
    ).exists()


class RoleBackend(BaseBackend):
    """Signs staff in by email and password, and answers for their permissions."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> User | None:
        """Return the user, or None; an unknown name takes as long as a wrong password."""
        email = (username or kwargs.get("email") or "").strip().lower()
        password = password or ""
        user = User.objects.filter(email=email).first() if "\0" not in email else None
        if user is None:
            make_password(password)
            return None
        return user if user.check_password(password) and user.is_active else None

    def get_user(self, user_id: Any) -> User | None:
        """Return the active user of a session."""
        return User.objects.filter(pk=user_id, is_active=True).first()

    def has_perm(self, user_obj: User, perm: str, obj: models.Model | None = None) -> bool:
        """Say whether a role allows it; see `allows`."""
        return allows(user_obj, perm, obj)
