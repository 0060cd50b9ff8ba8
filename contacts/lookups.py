"""Finding one thing of an organization by its id: another organization's is as unknown as one that never was."""

import uuid
from typing import TypeVar

from django.db import models
from django.http import Http404

from accounts.models import Organization
from contacts.models import Contact, Import, Segment

Found = TypeVar("Found", bound=models.Model)


def contact_for(organization: Organization, pk: uuid.UUID | str) -> Contact:
    """Return a contact that is not erased; raises Http404."""
    contact = _one(Contact, organization, pk)
    if contact.standing == Contact.Standing.ERASED:
        raise Http404
    return contact


def segment_for(organization: Organization, pk: uuid.UUID | str) -> Segment:
    """Return a segment; raises Http404."""
    return _one(Segment, organization, pk)


def import_for(organization: Organization, pk: uuid.UUID | str) -> Import:
    """Return an import; raises Http404."""
    return _one(Import, organization, pk)


def _one(model: type[Found], organization: Organization, pk: uuid.UUID | str) -> Found:
    try:
        wanted = pk if isinstance(pk, uuid.UUID) else uuid.UUID(pk)
    except (ValueError, TypeError, AttributeError):
        raise Http404 from None
    found = model.objects.filter(organization_id=organization.pk, pk=wanted).first()
    if found is None:
        raise Http404
    return found
