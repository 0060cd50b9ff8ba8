"""What happened on days gone by, written as the product leaves it, with times of the test's choosing."""

import datetime as dt
import hashlib
import itertools
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from accounts.models import Organization, User
from audit.record import record
from campaigns.models import Approval, Campaign, Submission
from consent.models import (
    Authorization,
    ChannelPreference,
    FormVersion,
    OptOut,
    Restriction,
    Revocation,
    Suppression,
)
from contacts.models import Contact
from delivery.models import Event, IPPool, Message, Receipt, SendingIP, Stream

_numbers = itertools.count(1)
BY = "system:tests"

FACT_ACTIONS = {
    Authorization: "authorization.recorded",
    Revocation: "authorization.revoked",
    OptOut: "opt_out.recorded",
    Suppression: "suppression.recorded",
    Restriction: "restriction.recorded",
    ChannelPreference: "preference.recorded",
}


def campaign(
    organization: Organization,
    at: dt.datetime,
    *,
    author: User,
    approver: User | None = None,
    forms: tuple[FormVersion, ...] = (),
    **fields: Any,
) -> Campaign:
    """Return a campaign that was frozen at `at`, after `approver` approved it; None: nobody did."""
    fields.setdefault("name", f"Campaign {next(_numbers)}")
    fields.setdefault("purpose", "MARKETING" if forms else "TREATMENT")
    fields.setdefault("status", "sent")
    made = Campaign.objects.create(
        organization=organization,
        author_id=author.pk,
        send_at=at,
        latest_at=at + dt.timedelta(days=3),
        frozen_at=at,
        started_at=at,
        **fields,
    )
    submission = Submission.objects.create(
        organization=organization,
        campaign=made,
        number=1,
        pieces=b"",
        html="",
        text="",
        bound={"form_versions": [str(form.pk) for form in forms]},
        content_hash=hashlib.sha256(made.name.encode()).digest(),
        audience={},
        audience_total=0,
        ceiling=1000,
        submitted_by_id=author.pk,
        submitted_at=at - dt.timedelta(hours=2),
    )
    facts: list[Any] = [submission]
    if approver is not None:
        facts.append(
            Approval.objects.create(
                organization=organization,
                submission=submission,
                decision="approved",
                content_hash=submission.content_hash,
                decided_by_id=approver.pk,
                decided_at=at - dt.timedelta(hours=1),
                expires_at=at + dt.timedelta(days=14),
            )
        )
    record("campaign.approved", organization_id=organization.pk, by=BY, target=made, facts=facts)
    return made


def address(organization: Organization, ip: str = "127.0.0.11") -> SendingIP:
    """Return a sending address, made on first use."""
    found = SendingIP.objects.filter(organization=organization, address=ip).first()
    if found is not None:
        return found
    stream, _ = Stream.objects.get_or_create(organization=organization, kind="marketing")
    pool, _ = IPPool.objects.get_or_create(organization=organization, stream=stream, name="pool")
    return SendingIP.objects.create(
        organization=organization, pool=pool, address=ip, helo="mail.clinic.example"
    )


def message(
    of: Campaign,
    contact: Contact,
    state: str = "sent",
    at: dt.datetime | None = None,
    *,
    reason: str = "",
    tls: str = "TLSv1.3",
    ip: str = "127.0.0.11",
    **fields: Any,
) -> Message:
    """Return a message whose case was closed at `at` (by default when it was frozen).

    One that was sent or may have been gets a receipt; `tls=""`: none.
    """
    at = at or of.frozen_at
    left = state in {"sent", "in_doubt"}
    made = Message(
        organization_id=of.organization_id,
        campaign=of,
        submission_id=_submission_of(of.pk),
        contact=contact,
        state=state,
        reason=reason,
        due_at=of.send_at,
        attempt=1,
        sending_ip=None if state == "withheld" else address(of.organization, ip),
        **{"handed_over_at": at if left or state == "failed" else None, **fields},
        finished_at=None if state in Message.OPEN else at,
    )
    _save(made)
    if left and tls:
        receipt(made, tls_version=tls)
    return made


@cache
def _submission_of(campaign_id: uuid.UUID) -> uuid.UUID:
    return Submission.objects.get(campaign_id=campaign_id).pk


def receipt(of: Message, **fields: Any) -> Receipt:
    """Return a receipt of a message, vouched for in the log."""
    fields.setdefault("state", of.state)
    fields.setdefault("tls_version", "TLSv1.3")
    fields.setdefault("cipher", "TLS_AES_256_GCM_SHA384")
    fields.setdefault("verified_by", "none")
    made = Receipt(
        organization_id=of.organization_id,
        message=of,
        attempt=of.attempt,
        sending_ip=of.sending_ip.address if of.sending_ip else None,
        certificate="00" * 32,
        policy="tls",
        peer={"mx": "mx.mail.example", "peer_ip": "192.0.2.1", "reply": "ok"},
        handed_over_at=of.handed_over_at,
        replied_at=of.handed_over_at or of.due_at,
        **fields,
    )
    _save(made)
    _vouch("message.recorded", made)
    return made


def event(of: Message, type: str, at: dt.datetime, **fields: Any) -> Event:
    """Return an event of a message, vouched for in the log."""
    made = Event.objects.create(
        organization_id=of.organization_id,
        message=of,
        type=type,
        source="tests",
        occurred_at=at,
        **fields,
    )
    _vouch("event.received", made)
    return made


def authorization(
    contact: Contact, form: FormVersion, at: dt.datetime, **fields: Any
) -> Authorization:
    """Return an authorization recorded at `at`, signed and its copy given on that day."""
    day = at.astimezone(contact.organization.zone).date()
    fields.setdefault("signed_on", day)
    fields.setdefault("copy_given_on", fields["signed_on"])
    return fact(Authorization, contact, at, form_version=form, **fields)


def revocation(of: Authorization, at: dt.datetime, **fields: Any) -> Revocation:
    """Return a revocation recorded at `at`."""
    return fact(Revocation, of.contact, at, authorization=of, **fields)


def opt_out(contact: Contact, at: dt.datetime, **fields: Any) -> OptOut:
    """Return an opt-out from promotion recorded at `at`."""
    fields.setdefault("scope", "commercial")
    fields.setdefault("email_digest", contact.email_digest)
    return fact(OptOut, contact, at, **fields)


def suppression(contact: Contact, at: dt.datetime, **fields: Any) -> Suppression:
    """Return a suppression of a contact's address recorded at `at`."""
    fields.setdefault("reason", "hard_bounce")
    made = _fact(Suppression, contact.organization, at, email_digest=contact.email_digest, **fields)
    _vouch(FACT_ACTIONS[Suppression], made)
    return made


def fact(model: type, contact: Contact, at: dt.datetime, **fields: Any) -> Any:
    """Return a fact about a contact recorded at `at`, in force since `effective_at` (the same by default)."""
    made = _fact(model, contact.organization, at, contact=contact, **fields)
    _vouch(FACT_ACTIONS[model], made)
    return made


def _fact(model: type, organization: Organization, at: dt.datetime, **fields: Any) -> Any:
    fields.setdefault("source", "paper")
    fields.setdefault("effective_at", at)
    made = model(
        organization=organization, recorded_at=at, recorded_by=BY, evidence="Archive", **fields
    )
    _save(made)
    return made


#: What is saved and vouched for when `together()` ends; None outside of it.
_unsaved: list[Any] | None = None
_unvouched: list[Any] = []


@contextmanager
def together() -> Iterator[None]:
    """Write all messages, receipts and facts that are made inside at once, with one entry: much faster."""
    global _unsaved
    _unsaved = []
    _unvouched.clear()
    try:
        yield
        made, _unsaved = _unsaved, None
        # In the order in which the kinds first came up, so that a message precedes its receipt.
        for model in dict.fromkeys(type(row) for row in made):
            model._base_manager.bulk_create([row for row in made if type(row) is model])
        record(
            "import.applied", organization_id=made[0].organization_id, by=BY, facts=list(_unvouched)
        )
    finally:
        _unsaved = None


def _save(row: Any) -> None:
    if _unsaved is None:
        row.save()
    else:
        _unsaved.append(row)


def _vouch(action: str, *facts: Any) -> None:
    if _unsaved is None:
        record(action, organization_id=facts[0].organization_id, by=BY, facts=facts)
    else:
        _unvouched.extend(facts)
