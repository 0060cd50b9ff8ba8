"""For one contact: may we write, for each purpose, and if not, why."""

from dataclasses import dataclass

from accounts.models import User
from audit.record import record
from consent import gate
from consent.purposes import PURPOSES
from contacts.models import Contact


@dataclass(frozen=True, slots=True)
class Answer:
    """The gate's answer for one purpose, with the sentence that a person reads."""

    purpose: str
    allowed: bool
    reason: str
    sentence: str


def explain(contact: Contact, *, by: User) -> list[Answer]:
    """Ask the gate for every purpose, as if a plain message of it were due now; asking is on record."""
    organization = contact.organization
    today = gate.today(organization)
    answers = []
    for code, purpose in PURPOSES.items():
        question = gate.ask(organization, code)
        reason = gate.decide(question, [contact.pk]).get(contact.pk, "erased")
        if not reason and purpose.available:
            # A paid purpose names no payer here, so only what is true of the organization counts.
            stopped = gate.campaign_reason(question, today=today)
            reason = "" if stopped == "purpose_refused" else stopped
        elif not purpose.available:
            reason = "purpose_refused"
        sentence = gate.REASONS[reason] if reason else "May be written to."
        answers.append(Answer(code, not reason, reason, sentence))
    record("contact.explained", organization_id=contact.organization_id, by=by, target=contact)
    return answers
