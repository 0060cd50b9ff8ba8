"""Step 4, audience: segment and gate together, counted by reason.

What a marketer sees while drafting, what an approver decides on, and what the ledger freezes come from one
query, so they cannot differ.
"""

from dataclasses import dataclass

from accounts.models import Organization
from builder.compile import Compiled
from campaigns.models import Campaign
from consent import gate
from contacts import attributes, segments
from contacts.segments import Sql


@dataclass(frozen=True, slots=True)
class Audience:
    """How many people a segment matches, and why some of them are not written to.

    `reasons`: {reason: people}; the people under "" would get the message. A reason in `campaign_reason`
    stops all of them.
    """

    reasons: dict[str, int]
    campaign_reason: str = ""

    @property
    def total(self) -> int:
        """Everybody whom the segment matches."""
        return sum(self.reasons.values())

    @property
    def reachable(self) -> int:
        """Those who would get it."""
        return 0 if self.campaign_reason else self.reasons.get("", 0)

    @property
    def withheld(self) -> dict[str, int]:
        """Those who would not, by reason, in the order of the checks."""
        if self.campaign_reason:
            return {self.campaign_reason: self.total}
        return {code: self.reasons[code] for code in gate.REASONS if self.reasons.get(code)}


def criteria_of(campaign: Campaign) -> dict:
    """Return the campaign's criteria; without a segment it is everyone."""
    return campaign.segment.criteria if campaign.segment_id else segments.EVERYONE


def data_classes(
    organization: Organization, criteria: dict, tags: tuple[str, ...]
) -> frozenset[str]:
    """Return the classes of data that a segment and merge tags use (45 CFR 164.502(b), minimum necessary)."""
    fields = attributes.fields_of(organization)
    used = segments.fields_used(organization, criteria) | set(tags)
    return frozenset(fields[key].data_class for key in used if key in fields)


def ask_for(campaign: Campaign, tags: tuple[str, ...] = (), **state: bool | None) -> gate.Ask:
    """Return what the campaign asks of the gate; `tags` are the merge tags that its message fills."""
    return gate.ask(
        campaign.organization,
        campaign.purpose,
        payer=campaign.payer,
        remuneration_cents=campaign.remuneration_cents,
        data_classes=data_classes(campaign.organization, criteria_of(campaign), tags),
        **state,
    )


def contacts_of(campaign: Campaign) -> Sql:
    """Return the query of contact ids that the campaign's segment matches."""
    return segments.query(campaign.organization, criteria_of(campaign))


def count(campaign: Campaign, tags: tuple[str, ...] = ()) -> Audience:
    """Count the audience as it is now."""
    question = ask_for(campaign, tags)
    return Audience(
        gate.count(question, contacts_of(campaign)),
        gate.campaign_reason(question, today=gate.today(campaign.organization)),
    )


def tags_of(compiled: Compiled) -> tuple[str, ...]:
    """Return the merge tags that a compiled message fills for each person."""
    return compiled.pieces.tags
