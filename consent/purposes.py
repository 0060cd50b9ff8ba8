"""Why a message is sent: the classes of 45 CFR 164.501 and 164.508, and what each asks for."""

from dataclasses import dataclass
from enum import StrEnum


class Remuneration(StrEnum):
    """Whether somebody may pay for the message (164.501, Marketing, paragraph (3))."""

    NONE = "none"
    #: 164.501(2)(i): no more than the reasonable cost of making the communication.
    COST = "cost"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Purpose:
    """One class of message.

    `blocked_by`: scopes of consent.OptOut that stop it; empty for what is owed to the person.
    `stop_scope`: the scope that "unsubscribe" in such a message records.
    `available`: whether we hold the facts that the rule needs; else the gate refuses.
    `part2`: whether records of substance use treatment may be used for it without a consent of their own
    (42 CFR 2.31, 2.33: treatment, payment and operations under a single consent, never promotion).
    `data_classes`: the only classes of data that segment and merge tags may use; None: no limit of its own.
    """

    code: str
    label: str
    citation: str
    needs_authorization: bool
    remuneration: Remuneration
    blocked_by: frozenset[str]
    stop_scope: str
    commercial: bool
    part2: bool = False
    available: bool = True
    data_classes: frozenset[str] | None = None


_PROMOTION = frozenset({"all", "commercial"})
_CARE = frozenset({"all", "care"})
_FUNDRAISING = frozenset({"all", "fundraising"})
_NOTHING: frozenset[str] = frozenset()
#: 164.514(f)(1)(i) to (vi) allows a little more (dates of care, department); a diagnosis cannot be told from
#: those by its class, so none of that class is used.
_NO_CARE_DATA = frozenset({"contact", "demographic", "organization"})

# fmt: off
_TABLE = (
    #       code                 in words                                             where the rule stands            authorization      who may pay            stopped by    "stop" means  ad
    Purpose("TREATMENT",         "Treatment or care coordination for the person",     "164.501 Marketing (2)(ii)(A)",  False, Remuneration.NONE,     _CARE,        "care",        False),
    Purpose("OWN_PRODUCT",       "Our own health service, or one in the plan",        "164.501 Marketing (2)(ii)(B)",  False, Remuneration.NONE,     _PROMOTION,   "commercial",  True),
    Purpose("CASE_MGMT",         "Case management or care alternatives",              "164.501 Marketing (2)(ii)(C)",  False, Remuneration.NONE,     _CARE,        "care",        False),
    Purpose("REFILL",            "Refill reminder for a current prescription",        "164.501 Marketing (2)(i)",      False, Remuneration.COST,     _CARE,        "care",        False, available=False),
    Purpose("GOV_PROGRAM",       "A public programme",                                "HHS commentary on 164.501",     False, Remuneration.NONE,     _CARE,        "care",        False),
    Purpose("GENERAL_HEALTH",    "General health information, nothing for sale",      "HHS commentary on 164.501",     False, Remuneration.NONE,     _CARE,        "care",        False),
    Purpose("FUNDRAISING",       "Raising funds for ourselves",                       "164.514(f)",                    False, Remuneration.NONE,     _FUNDRAISING, "fundraising", False, data_classes=_NO_CARE_DATA),
    Purpose("MARKETING",         "Promotion of a product or service",                 "164.508(a)(3)",                 True,  Remuneration.NONE,     _PROMOTION,   "commercial",  True),
    Purpose("MARKETING_PAID",    "Promotion that a third party pays for",             "164.508(a)(3)(ii)",             True,  Remuneration.REQUIRED, _PROMOTION,   "commercial",  True),
    Purpose("TRANSACTIONAL_OPS", "A bill, an appointment, an account notice",         "164.506",                       False, Remuneration.NONE,     _NOTHING,     "care",        False, part2=True),
)
# fmt: on

#: Purposes by code. Sale of PHI (164.502(a)(5)(ii)) is absent on purpose: there is no such feature.
PURPOSES: dict[str, Purpose] = {purpose.code: purpose for purpose in _TABLE}
CHOICES = [(purpose.code, purpose.label) for purpose in _TABLE]
