"""What an approval binds: everything that decides what is sent, to whom, and under which authority (ADR 0015)."""

import hashlib
import json
from typing import Any

from builder.brand import Brand
from builder.compile import Compiled, compile_document
from builder.pieces import NotPieces, Pieces
from builder.registry import registry_for
from campaigns.audience import ask_for, criteria_of
from campaigns.models import Campaign, Submission
from consent.purposes import PURPOSES
from contacts import segments
from contacts.segments import CriteriaError
from phi.keys import Unreadable

#: What a campaign's own rows may raise when they are opened: it holds that campaign and no other.
BROKEN = (Unreadable, NotPieces, CriteriaError)


def brand_of(campaign: Campaign) -> Brand:
    """Return what the organization says about itself in this campaign's message."""
    organization, rule = campaign.organization, PURPOSES[campaign.purpose]
    notices = []
    if rule.commercial:
        # 15 USC 7704(a)(5)(A)(i): clear identification as an advertisement.
        notices.append("This is an advertisement.")
    if campaign.payer:
        # 45 CFR 164.508(a)(3)(ii)
        notices.append(f"{campaign.payer} pays us for sending it.")
    return Brand(
        organization=organization.name,
        postal_address=organization.postal_address,
        reason=(
            f"You get this because you gave {organization.name} permission to write to you."
            if rule.needs_authorization
            else f"You get this because {organization.name} takes care of your health."
        ),
        sender_name=campaign.sender.display_name if campaign.sender else organization.name,
        notice=" ".join(notices),
        accent=organization.accent,
    )


def compiled(campaign: Campaign) -> Compiled:
    """Compile the campaign's revision; raises builder.compile.Invalid with what is wrong with it."""
    revision = campaign.revision
    return compile_document(
        revision.document,
        brand=brand_of(campaign),
        tags=registry_for(campaign.organization),
        subject=revision.subject,
        preheader=revision.preheader,
        language=revision.language,
    )


def bound_facts(campaign: Campaign, pieces: Pieces) -> dict[str, Any]:
    """Return what the hash covers beside the bytes, as plain JSON, from the rows as they are now."""
    organization, sender = campaign.organization, campaign.sender
    tags = pieces.tags
    question = ask_for(campaign, tags)
    brand = brand_of(campaign)
    return {
        "purpose": campaign.purpose,
        "payer": campaign.payer,
        "remuneration_cents": campaign.remuneration_cents,
        "criteria": segments.resolved(organization, criteria_of(campaign)),
        "data_classes": sorted(question.data_classes),
        "form_versions": [str(version) for version in question.versions],
        "tags": list(tags),
        "revision": str(campaign.revision_id),
        "sender": [sender.address, sender.display_name, sender.reply_to],
        "brand": {name: getattr(brand, name) for name in Brand.__slots__},
        "transport_policy": transport_policy(campaign),
        "is_tracked": campaign.is_tracked,
    }


def transport_policy(campaign: Campaign) -> str:
    """Return the policy in force: the campaign's own, else the organization's."""
    return campaign.transport_policy or campaign.organization.transport_policy


def content_hash(bound: dict[str, Any], pieces: bytes) -> bytes:
    """Return the SHA-256 over the stored bytes and the facts beside them."""
    head = json.dumps(bound, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    return hashlib.sha256(hashlib.sha256(pieces).digest() + hashlib.sha256(head).digest()).digest()


def still_binds(campaign: Campaign, submission: Submission) -> bool:
    """Say whether what was handed in is still what would be sent: the stored bytes and the rows of now."""
    stored = bytes(submission.pieces)
    now = bound_facts(campaign, Pieces.from_bytes(stored))
    return content_hash(now, stored) == bytes(submission.content_hash)
