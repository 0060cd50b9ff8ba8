"""Authorizations: publish a form, record a signed one, revoke it (45 CFR 164.508)."""

import datetime as dt
import uuid

from django.db import transaction

from accounts.models import Organization, User
from audit.record import actor_of, record
from consent.locking import database_time, lock
from consent.models import Authorization, FormVersion, Revocation
from consent.purposes import PURPOSES, Remuneration
from contacts.models import Contact

#: What a published form must hold: column and where the law asks for it.
REQUIRED = {
    "information": "164.508(c)(1)(i)",
    "information_classes": "164.508(c)(1)(i)",
    "disclosers": "164.508(c)(1)(ii)",
    "recipients": "164.508(c)(1)(iii)",
    "purposes": "164.508(c)(1)(iv)",
    "statement_revoke": "164.508(c)(2)(i)",
    "statement_condition": "164.508(c)(2)(ii)",
    "statement_redisclosure": "164.508(c)(2)(iii)",
}


class Refused(Exception):
    """What was asked may not be done; the sentence says why, and holds no PHI. `codes` name the reasons."""

    def __init__(self, sentence: str, *codes: str) -> None:
        super().__init__(sentence)
        self.codes = codes


def missing_elements(version: FormVersion) -> dict[str, str]:
    """Return what the form still lacks to be valid: column and citation."""
    lacks = {name: cite for name, cite in REQUIRED.items() if not getattr(version, name)}
    if version.organization.name not in version.disclosers:
        lacks["disclosers"] = "164.508(c)(1)(ii)"
    if (version.expires_after_days is None) == (not version.expiry_event):
        lacks["expires_after_days"] = "164.508(c)(1)(v)"
    if set(version.purposes) - set(PURPOSES):
        lacks["purposes"] = "164.508(c)(1)(iv)"
    paid = any(
        PURPOSES[code].remuneration is Remuneration.REQUIRED
        for code in version.purposes
        if code in PURPOSES
    )
    if paid and not (version.statement_remuneration and version.payers):
        lacks["statement_remuneration"] = "164.508(a)(3)(ii)"
    return lacks


@transaction.atomic
def publish(version: FormVersion, *, by: User) -> FormVersion:
    """Freeze a form version, so that people can sign it; raises Refused while an element is missing."""
    version = FormVersion.objects.select_for_update().get(
        pk=version.pk, organization_id=version.organization_id
    )
    if version.published_at is not None:
        return version
    lacks = missing_elements(version)
    if lacks:
        raise Refused(
            "The form cannot be published: "
            + ", ".join(f"{name} ({cite})" for name, cite in lacks.items())
            + " is missing.",
            *lacks,
        )
    version.published_at, version.published_by_id = database_time(), by.pk
    version.save()
    record(
        "form.published",
        organization_id=version.organization_id,
        by=by,
        target=version,
        facts=[version],
    )
    return version


def usable_version(organization: Organization, version_id: uuid.UUID) -> FormVersion:
    """Return a published version of this organization; raises Refused for any other."""
    version = FormVersion.objects.filter(
        organization=organization, pk=version_id, published_at__isnull=False
    ).first()
    if version is None:
        raise Refused("There is no such published form.", "form_not_published")
    return version


def last_day(version: FormVersion, signed_on: dt.date, given: dt.date | None) -> dt.date | None:
    """Return the last day of force: the earlier of what was signed and what the form says; None for an event.

    An authorization may end sooner than its form, never later.
    """
    if version.expires_after_days is None:
        return given
    by_form = signed_on + dt.timedelta(days=version.expires_after_days)
    return min(given, by_form) if given else by_form


@transaction.atomic
def authorize(
    contact: Contact,
    version: FormVersion,
    *,
    signed_on: dt.date,
    expires_on: dt.date | None = None,
    copy_given_on: dt.date | None = None,
    signer: str = Authorization.Signer.SELF,
    representative_authority: str = "",
    source: str,
    evidence: str,
    by: User | str,
) -> Authorization:
    """Record a signed authorization; the same paper a second time changes nothing and returns the first.

    Raises Refused when the form is not published, the date lies ahead, the end precedes the beginning, a
    representative's authority is not described (164.508(c)(1)(vi)), or there is no evidence; ValueError for a
    signer that is none.
    """
    signer = Authorization.Signer(signer)
    version = usable_version(contact.organization, version.pk)
    now = database_time()
    today = now.astimezone(contact.organization.zone).date()
    ends_on = last_day(version, signed_on, expires_on)
    if signed_on > today:
        raise Refused("The date of the signature lies ahead.", "signed_in_future")
    if ends_on is not None and ends_on < signed_on:
        raise Refused("The authorization ends before it begins.", "ends_before_it_begins")
    if signer == Authorization.Signer.REPRESENTATIVE and not representative_authority.strip():
        raise Refused("The representative's authority is not described.", "authority_missing")
    if not evidence.strip():
        raise Refused("There is no evidence of the signature.", "evidence_missing")
    lock(contact.organization_id, [contact.pk])
    earlier = Authorization.objects.filter(
        contact=contact,
        form_version=version,
        signed_on=signed_on,
        expires_on=ends_on,
        copy_given_on=copy_given_on,
    ).first()
    if earlier is not None:
        return earlier
    authorization = Authorization.objects.create(
        organization_id=contact.organization_id,
        contact=contact,
        form_version=version,
        signed_on=signed_on,
        expires_on=ends_on,
        copy_given_on=copy_given_on,
        signer=signer,
        representative_authority=representative_authority,
        effective_at=now,
        recorded_at=now,
        recorded_by=actor_of(by),
        source=source,
        evidence=evidence,
    )
    record(
        "authorization.recorded",
        organization_id=contact.organization_id,
        by=by,
        target=contact,
        facts=[authorization],
    )
    return authorization


@transaction.atomic
def revoke(
    authorization: Authorization,
    *,
    kind: str = Revocation.Kind.REVOKED,
    source: str,
    evidence: str = "",
    by: User | str,
) -> Revocation:
    """End an authorization at once (164.508(b)(5)); what is already marked for hand-over is waited for.

    No message is marked for hand-over after this commits. A second revocation changes nothing and returns
    the first. Raises ValueError for a kind that is none: the gate would not know it.
    """
    kind = Revocation.Kind(kind)
    lock(authorization.organization_id, [authorization.contact_id])
    earlier = Revocation.objects.filter(authorization=authorization, kind=kind).first()
    if earlier is not None:
        return earlier
    now = database_time()
    revocation = Revocation.objects.create(
        organization_id=authorization.organization_id,
        kind=kind,
        contact_id=authorization.contact_id,
        authorization=authorization,
        effective_at=now,
        recorded_at=now,
        recorded_by=actor_of(by),
        source=source,
        evidence=evidence,
    )
    record(
        "authorization.revoked",
        organization_id=authorization.organization_id,
        by=by,
        target=authorization,
        facts=[revocation],
        detail={"kind": str(kind)},
    )
    return revocation
