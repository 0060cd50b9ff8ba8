"""Stop, in all its forms: opt-outs, suppressions, channel preferences, restrictions; and their lifting.

Each locks the people concerned before it writes, so that no message is marked for hand-over after it commits.
"""

from collections.abc import Container, Iterable
from typing import Any, TypeVar

from django.db import transaction

from accounts.models import Organization, User
from audit.record import actor_of, record
from consent.locking import database_time, lock, lock_address
from consent.models import (
    ChannelPreference,
    Direction,
    Fact,
    OptOut,
    Restriction,
    Suppression,
    UnencryptedPreference,
)
from consent.purposes import PURPOSES
from contacts.models import Contact

AnyFact = TypeVar("AnyFact", bound=Fact)


@transaction.atomic
def opt_out(
    contact: Contact, scope: str, *, source: str, evidence: str = "", by: User | Contact | str
) -> OptOut:
    """Record that the person says stop; in force when this commits. Saying it twice keeps one row.

    Raises ValueError for a scope that is none: it would stop nothing.
    """
    return _once(contact, scope, Direction.OUT, source=source, evidence=evidence, by=by)


@transaction.atomic
def opt_in(
    contact: Contact, scope: str, *, source: str, evidence: str, by: User | Contact | str
) -> OptOut:
    """Record that the person affirmatively wants messages again (15 USC 7704(a)(4)(B)); lifts only their own stop.

    Raises ValueError without evidence: nobody's stop is lifted by our word alone.
    """
    _insist_on(evidence)
    return _once(contact, scope, Direction.IN, source=source, evidence=evidence, by=by)


def _once(contact: Contact, scope: str, direction: str, **about: Any) -> OptOut:
    _known([scope], OptOut.Scope.values)
    lock(contact.organization_id, [contact.pk])
    ours = Contact.objects.filter(pk=contact.pk, organization_id=contact.organization_id)
    digest = ours.values_list("email_digest", flat=True).get()
    latest = (
        OptOut.objects.filter(contact=contact, scope=scope)
        .order_by("-effective_at", "-recorded_at")
        .first()
    )
    same = latest is not None and latest.direction == direction
    if same and (digest is None or bytes(latest.email_digest or b"") == bytes(digest)):
        return latest
    return _write(
        OptOut,
        "opt_out.recorded",
        contact,
        detail={"scope": str(scope), "direction": str(direction)},
        scope=scope,
        direction=direction,
        contact=contact,
        email_digest=digest,
        **about,
    )


@transaction.atomic
def suppress(
    organization: Organization,
    email_digest: bytes,
    reason: str,
    *,
    source: str,
    evidence: str = "",
    by: User | str,
) -> Suppression:
    """Never write to an address again; a second time for the same reason changes nothing."""
    lock_address(organization.pk, email_digest)
    latest = (
        Suppression.objects.filter(
            organization=organization, email_digest=email_digest, reason=reason
        )
        .order_by("-recorded_at")
        .first()
    )
    if latest is not None and latest.action == Suppression.Action.ADD:
        return latest
    return _write(
        Suppression,
        "suppression.recorded",
        organization,
        detail={"reason": str(reason)},
        email_digest=email_digest,
        reason=reason,
        source=source,
        evidence=evidence,
        by=by,
    )


@transaction.atomic
def lift_suppression(
    suppression: Suppression, *, source: str, evidence: str, by: User
) -> Suppression:
    """Let an address be written to again, because it was blocked by mistake; raises ValueError without evidence."""
    _insist_on(evidence)
    lock_address(suppression.organization_id, bytes(suppression.email_digest))
    return _write(
        Suppression,
        "suppression.lifted",
        suppression.organization,
        detail={"reason": str(suppression.reason)},
        action=Suppression.Action.LIFT,
        email_digest=suppression.email_digest,
        reason=suppression.reason,
        source=source,
        evidence=evidence,
        by=by,
    )


@transaction.atomic
def restrict(
    contact: Contact,
    *,
    in_force: bool = True,
    purposes: list[str] | None = None,
    source: str,
    evidence: str,
    by: User,
) -> Restriction:
    """Record a restriction that was agreed to, or its end (45 CFR 164.522(a)).

    Raises ValueError for a purpose that is none: it would restrict nothing.
    """
    _known(purposes or [], PURPOSES)
    lock(contact.organization_id, [contact.pk])
    return _write(
        Restriction,
        "restriction.recorded",
        contact,
        detail={"in_force": in_force},
        contact=contact,
        in_force=in_force,
        purposes=purposes or [],
        source=source,
        evidence=evidence,
        by=by,
    )


@transaction.atomic
def prefer_channel(
    contact: Contact, *, email_allowed: bool, source: str, evidence: str = "", by: User | str
) -> ChannelPreference:
    """Record whether the person may be emailed at all (45 CFR 164.522(b))."""
    lock(contact.organization_id, [contact.pk])
    return _write(
        ChannelPreference,
        "preference.recorded",
        contact,
        detail={"mail_allowed": email_allowed},
        contact=contact,
        email_allowed=email_allowed,
        source=source,
        evidence=evidence,
        by=by,
    )


@transaction.atomic
def prefer_unencrypted(
    contact: Contact, *, accepted: bool, warning_version: str, source: str, evidence: str, by: User
) -> UnencryptedPreference:
    """Record a wish for unencrypted mail after the warning; shown to staff, and changes no message's way."""
    lock(contact.organization_id, [contact.pk])
    return _write(
        UnencryptedPreference,
        "preference.recorded",
        contact,
        detail={"unencrypted_accepted": accepted},
        contact=contact,
        accepted=accepted,
        warning_version=warning_version,
        source=source,
        evidence=evidence,
        by=by,
    )


def _insist_on(evidence: str) -> None:
    if not evidence.strip():
        raise ValueError("There is no evidence.")


def _known(words: Iterable[str], vocabulary: Container[str]) -> None:
    """Refuse a word that the gate does not know: what it looks for and never finds would be no stop at all."""
    if any(word not in vocabulary for word in words):
        raise ValueError("Neither a scope of an opt-out nor a purpose.")


def _write(
    model: type[AnyFact],
    entry: str,
    subject: Contact | Organization,
    *,
    detail: dict[str, Any],
    by: User | Contact | str,
    **columns: Any,
) -> AnyFact:
    """Write one fact with the database's time, and its audit entry, after the lock was taken."""
    organization_id = subject.pk if isinstance(subject, Organization) else subject.organization_id
    now = database_time()
    fact = model.objects.create(
        organization_id=organization_id,
        effective_at=now,
        recorded_at=now,
        recorded_by=actor_of(by),
        **columns,
    )
    record(
        entry,
        organization_id=organization_id,
        by=by,
        target=subject,
        facts=[fact],
        detail=detail,
    )
    return fact
