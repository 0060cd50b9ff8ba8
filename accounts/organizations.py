"""Organizations and who works in them: every change of a role is an entry in the log and ends sessions."""

from typing import Any

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from accounts.models import Membership, Organization, Role, User
from audit.record import record
from phi.keys import PLATFORM, create_keys

#: An organization always has one of each: without an approver nothing could be sent, without an
#: administrator nobody could be given a role.
NEVER_WITHOUT = (Role.APPROVER, Role.ADMINISTRATOR)


class LastOfRole(Exception):
    """Nobody else has the role, and the organization cannot be without."""

    def __init__(self, role: str) -> None:
        super().__init__(f"Nobody else is {Role(role).label.lower()} here.")
        self.role = role


@transaction.atomic
def create(
    *, name: str, slug: str, postal_address: str, by: User | str, **fields: Any
) -> Organization:
    """Save and return a new organization with keys of its own.

    `fields` are further fields of Organization. Raises ValidationError for a value that one of them refuses.
    """
    organization = Organization(name=name, slug=slug, postal_address=postal_address, **fields)
    organization.full_clean()
    organization.save()
    create_keys(organization.pk)
    record("organization.created", organization_id=organization.pk, by=by, target=organization)
    record("key.created", organization_id=organization.pk, by=by, target=organization)
    return organization


@transaction.atomic
def stop_sending(organization: Organization, *, by: User | str) -> None:
    """The kill switch: from this commit on nothing more is handed over, whatever is scheduled or on its way."""
    Organization.objects.filter(pk=organization.pk, sending_stopped_at__isnull=True).update(
        sending_stopped_at=Now()
    )
    organization.refresh_from_db()
    record("sending.stopped", organization_id=organization.pk, by=by, target=organization)


@transaction.atomic
def allow_sending(organization: Organization, *, by: User | str) -> None:
    """Let the organization send again; campaigns that were paused meanwhile stay so until somebody resumes them."""
    Organization.objects.filter(pk=organization.pk).update(sending_stopped_at=None)
    organization.refresh_from_db()
    record("sending.resumed", organization_id=organization.pk, by=by, target=organization)


@transaction.atomic
def add_member(organization: Organization, user: User, role: str, *, by: User | str) -> Membership:
    """Give a user a role in an organization and return it; a role that they have already stays as it is.

    Raises ValueError for a role that is none.
    """
    _lock(organization)
    membership, created = Membership.objects.get_or_create(
        organization=organization, user=user, role=Role(role)
    )
    if created:
        _changed("role.granted", organization, user, membership.role, by)
    return membership


@transaction.atomic
def remove_member(organization: Organization, user: User, role: str, *, by: User | str) -> None:
    """Take a role from a user; one that they do not have changes nothing.

    Raises LastOfRole when it would leave the organization without an active approver or administrator.
    """
    _lock(organization)
    found = Membership.objects.filter(organization=organization, user=user, role=Role(role))
    if not found.exists():
        return
    _keep_one(organization.pk, role, leaving=user)
    found.delete()
    _changed("role.revoked", organization, user, role, by)


@transaction.atomic
def deactivate(user: User, *, by: User | str) -> None:
    """End a user's access everywhere, at once; what they did stays on record.

    Raises LastOfRole as `remove_member()` does.
    """
    held = list(user.memberships.order_by("organization_id"))
    for organization_id in dict.fromkeys(membership.organization_id for membership in held):
        _lock(Organization(pk=organization_id))
    for membership in held:
        _keep_one(membership.organization_id, membership.role, leaving=user)
    if User.objects.filter(pk=user.pk, is_active=True).update(is_active=False):
        user.is_active = False
        end_sessions(user)
        record("user.deactivated", organization_id=PLATFORM, by=by, target=user)


def end_sessions(user: User) -> None:
    """Sign the user out of every session: each carries the number that this counts up."""
    User.objects.filter(pk=user.pk).update(session_number=F("session_number") + 1)
    user.refresh_from_db(fields=["session_number"])


def _lock(organization: Organization) -> None:
    # Two people who take each other's role at the same moment: the second sees what the first did.
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)


def _keep_one(organization_id: Any, role: str, *, leaving: User) -> None:
    if role not in NEVER_WITHOUT or not leaving.is_active:
        return
    others = Membership.objects.filter(
        organization_id=organization_id, role=role, user__is_active=True
    ).exclude(user=leaving)
    if not others.exists():
        raise LastOfRole(role)


def _changed(
    action: str, organization: Organization, user: User, role: str, by: User | str
) -> None:
    end_sessions(user)
    record(action, organization_id=organization.pk, by=by, target=user, detail={"role": str(role)})
