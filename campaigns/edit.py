"""Making a campaign and changing it; a change voids what was approved."""

from typing import Any

from django.db import transaction

from accounts.models import Organization, User
from audit.record import record
from campaigns.models import Campaign, WrongMove

#: What a person may set, and nothing else: state, author and times are set by launch.py alone.
EDITABLE = frozenset(
    {
        "name", "purpose", "payer", "remuneration_cents", "segment", "revision", "sender", "send_at",
        "latest_at", "transport_policy", "is_tracked",
    }
)  # fmt: skip
#: Changes of these leave an approval in force: neither what is sent nor to whom depends on them.
UNBOUND = frozenset({"name", "send_at", "latest_at"})


class NotOurs(Exception):
    """Something of another organization was named."""


class NotAllowed(Exception):
    """The person's role does not allow it here."""


@transaction.atomic
def create(organization: Organization, name: str, *, by: User, **fields: Any) -> Campaign:
    """Return a new draft; raises as `change` does."""
    _check(organization, fields, by)
    campaign = Campaign(
        organization=organization, name=name, author_id=by.pk, editor_ids=[by.pk], **fields
    )
    campaign.full_clean(exclude=["purpose"] if not campaign.purpose else None)
    campaign.save()
    record("campaign.created", organization_id=organization.pk, by=by, target=campaign)
    return campaign


@transaction.atomic
def change(campaign: Campaign, *, by: User, **fields: Any) -> Campaign:
    """Change a campaign that has not begun; anything approved is voided, and it is a draft again.

    Raises NotAllowed for who has not the role, WrongMove once it is sending, NotOurs for a row of another
    organization, ValidationError for a bad value.
    """
    locked = Campaign.objects.select_for_update().get(
        pk=campaign.pk, organization_id=campaign.organization_id
    )
    if locked.status not in Campaign.CHANGEABLE:
        raise WrongMove(f"A campaign that is {locked.status} cannot be changed.")
    _check(locked.organization, fields, by)
    changed = {name for name, value in fields.items() if getattr(locked, name) != value}
    if not changed:
        return locked
    is_scheduled = locked.status == Campaign.Status.SCHEDULED
    if is_scheduled and changed <= UNBOUND and changed & {"send_at", "latest_at"}:
        raise WrongMove("The times of a scheduled campaign are changed by scheduling it anew.")
    for name in changed:
        setattr(locked, name, fields[name])
    locked.full_clean(exclude=["purpose"] if not locked.purpose else None)
    if changed - UNBOUND and locked.status != Campaign.Status.DRAFT:
        locked.move_to(Campaign.Status.DRAFT)
        record("campaign.voided", organization_id=locked.organization_id, by=by, target=locked)
    if changed - UNBOUND:
        locked.author_id = by.pk
        locked.editor_ids = sorted({*locked.editor_ids, by.pk})
    locked.save()
    record(
        "campaign.changed",
        organization_id=locked.organization_id,
        by=by,
        target=locked,
        fields=sorted(changed),
    )
    return locked


@transaction.atomic
def duplicate(campaign: Campaign, *, by: User) -> Campaign:
    """Return a new draft with the same content; it carries no approval and no time."""
    copied = {name: getattr(campaign, name) for name in EDITABLE - {"name", "send_at", "latest_at"}}
    taken = set(
        Campaign.objects.filter(organization_id=campaign.organization_id).values_list(
            "name", flat=True
        )
    )
    stem = campaign.name[:100]
    name = next(
        name for number in range(2, len(taken) + 3) if (name := f"{stem} ({number})") not in taken
    )
    copy = create(campaign.organization, name, by=by, **copied)
    record(
        "campaign.duplicated",
        organization_id=campaign.organization_id,
        by=by,
        target=copy,
        detail={"from_campaign": campaign.pk},
    )
    return copy


def _check(organization: Organization, fields: dict[str, Any], by: User) -> None:
    if not by.has_perm("campaigns.change_campaign", organization):
        raise NotAllowed("Your role does not allow this.")
    if unknown := set(fields) - EDITABLE:
        raise TypeError(f"Not to be set this way: {sorted(unknown)}.")
    for name in ("segment", "revision", "sender"):
        row = fields.get(name)
        if row is not None and row.organization_id != organization.pk:
            raise NotOurs(f"The {name} belongs to another organization.")
