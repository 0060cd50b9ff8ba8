"""Makes what tests need, through the doors that the product uses; every name is invented."""

import itertools
from typing import Any

from accounts import organizations
from accounts.models import Organization, User
from contacts.models import Contact
from phi.digest import address_digest, digest, normal_address

_numbers = itertools.count(1)

BY = "system:tests"


def make_organization(**fields: Any) -> Organization:
    """Return an organization with its keys."""
    number = next(_numbers)
    fields.setdefault("name", f"Clinic {number}")
    fields.setdefault("slug", f"clinic-{number}")
    fields.setdefault("postal_address", "1 Harbor Street, Springfield, IL 62701")
    return organizations.create(by=BY, **fields)


def make_user(
    role: str | None = None, organization: Organization | None = None, **fields: Any
) -> User:
    """Return a user; with a role, a member of `organization` (a new one if none is given)."""
    fields.setdefault("email", f"person{next(_numbers)}@staff.example")
    fields.setdefault("name", "Pat Person")
    user = User.objects.create_user(**fields)
    if role is not None:
        organizations.add_member(organization or make_organization(), user, role, by=BY)
    return user


def make_contact(organization: Organization | None = None, **fields: Any) -> Contact:
    """Return a saved contact whose digests fit its address (`email=None` for none) and record number."""
    organization = organization or make_organization()
    email = fields.setdefault("email", f"person{next(_numbers)}@mail.example")
    if email is not None:
        domain = normal_address(email).rpartition("@")[2]
        fields.setdefault("email_digest", address_digest(organization.pk, email))
        fields.setdefault("domain_digest", digest(organization.pk, "domain", domain))
    if number := fields.get("record_number"):
        fields.setdefault("source", "ehr")
        fields.setdefault("record_digest", digest(organization.pk, "record", number))
    return Contact.objects.create(organization=organization, **fields)
