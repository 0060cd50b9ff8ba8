"""Columns of consent in an import: `authorized_on`, `authorization_expires`, `opted_out`.

A date in a file is no authorization: it stands for a paper that somebody keeps. Only an import that names the
published form version that was signed and the evidence makes authorizations of its dates (45 CFR 164.508).
An opt-out is taken from any row, and never lifted by one.
"""

import datetime as dt
import re
import uuid
from collections.abc import Sequence
from typing import Any

from django.db import connection

from accounts.models import Organization, User
from audit.record import actor_of, record
from consent.authorize import Refused, last_day, usable_version
from consent.locking import database_time, lock
from consent.models import Authorization, Direction, FormVersion, OptOut, Suppression
from consent.stop import suppress
from contacts.columns import AddressRow, ContactRow
from contacts.importer import COLUMNS, Column, Problem
from contacts.models import Contact, Import
from phi.digest import address_digest

DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
#: The day of HIPAA itself (Public Law 104-191).
FIRST_DAY = dt.date(1996, 8, 21)

NO_FORM = Problem(
    "no_authorization_arises",
    "The file has authorization dates, but no published form and evidence that they stand for: "
    "no authorization will be recorded.",
)


def check_day(cell: str) -> dt.date | Problem:
    """Return the day in a cell, written YYYY-MM-DD."""
    # fromisoformat() would take week dates and other digits, too.
    if not DAY.fullmatch(cell):
        return _bad_day()
    try:
        return dt.date.fromisoformat(cell)
    except ValueError:
        return _bad_day()


def check_signed_on(cell: str) -> dt.date | Problem:
    """Return the day of a signature; one that lies ahead is a mistake."""
    day = check_day(cell)
    # A day ahead of the whole world's calendar; the exact day is checked in the organization's zone below.
    if isinstance(day, dt.date) and day > dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1):
        return Problem("signed_in_future", "The date of the signature lies ahead.")
    if isinstance(day, dt.date) and day < FIRST_DAY:
        return Problem("signed_too_early", "Nobody signed an authorization then.")
    return day


def check_opted_out(cell: str) -> bool | Problem:
    """Return whether a cell says yes. What is not clearly no is a problem, never a silent no."""
    if cell.lower() in {"yes", "y", "true", "1", "x"}:
        return True
    if cell.lower() in {"no", "n", "false", "0"}:
        return False
    return Problem("not_yes_or_empty", "opted_out is yes or empty.")


def check_row(values: dict[str, Any]) -> Problem | None:
    """Return what is wrong with the dates of one row together."""
    signed, ends = values.get("authorized_on"), values.get("authorization_expires")
    if signed and ends and ends < signed:
        return Problem("ends_before_it_begins", "The authorization ends before it was signed.")
    return None


def check_import(organization: Organization, import_: Import, keys: set[str]) -> list[Problem]:
    """Warn that no authorization will arise, when the import does not name form and evidence."""
    if "authorized_on" in keys and form_of(organization, import_) is None:
        return [NO_FORM]
    return []


def form_of(organization: Organization, import_: Import) -> FormVersion | None:
    """Return the published form version that the import's dates stand for, or None."""
    options = import_.options or {}
    try:
        version_id = uuid.UUID(str(options.get("form_version", "")))
        version = usable_version(organization, version_id)
    except (ValueError, Refused):
        return None
    return version if str(options.get("evidence", "")).strip() else None


def apply_authorizations(
    organization: Organization, import_: Import, rows: Sequence[ContactRow], *, by: User | str
) -> None:
    """Record what a chunk says of authorizations; the latest word of an import about a person counts (gate.py).

    Nothing is written where it says what the last import said. The contacts are locked, so two imports take turns.
    """
    version = form_of(organization, import_)
    if version is None:
        return
    now = database_time()
    today = now.astimezone(organization.zone).date()
    options = import_.options
    copies_given = bool(options.get("copies_given"))
    wanted: dict[uuid.UUID, Authorization] = {}
    for contact_id, values in rows:
        signed_on = values.get("authorized_on")
        if signed_on is None or signed_on > today:
            continue
        # The later row of a person wins.
        wanted[contact_id] = Authorization(
            organization=organization,
            contact_id=contact_id,
            form_version=version,
            signed_on=signed_on,
            expires_on=last_day(version, signed_on, values.get("authorization_expires")),
            copy_given_on=signed_on if copies_given else None,
            effective_at=now,
            recorded_at=now,
            recorded_by=actor_of(by),
            source="import",
            evidence=f"{options['evidence']} (import {import_.pk})",
        )
    made = [a for a in wanted.values() if a.expires_on is None or a.expires_on >= a.signed_on]
    standing = _said_last(version, list(wanted))
    fresh = [a for a in made if standing.get(a.contact_id) != _statement(a)]
    Authorization.objects.bulk_create(fresh)
    _vouch("authorization.recorded", organization, import_, Authorization, fresh, by=by)


def _said_last(version: FormVersion, contact_ids: list[uuid.UUID]) -> dict[uuid.UUID, tuple]:
    """Return what the last import said of each person's authorization under a form."""
    latest = (
        Authorization.objects.filter(
            form_version=version, contact_id__in=contact_ids, source="import"
        )
        .order_by("contact_id", "-recorded_at", "-id")
        .distinct("contact_id")
    )
    return {a.contact_id: _statement(a) for a in latest}


def _statement(authorization: Authorization) -> tuple[dt.date | None, ...]:
    return authorization.signed_on, authorization.expires_on, authorization.copy_given_on


def apply_opt_outs(
    organization: Organization, import_: Import, rows: Sequence[ContactRow], *, by: User | str
) -> None:
    """Record the opt-outs of a chunk, for everything but what is owed; a person opted out already stays so."""
    _opt_out(
        organization,
        import_,
        {contact_id for contact_id, values in rows if values.get("opted_out")},
        by=by,
    )


def rescue_opt_outs(
    organization: Organization,
    import_: Import,
    rows: Sequence[AddressRow],
    *,
    by: User | str,
) -> None:
    """Record the opt-outs of rows that were set aside for another reason, for whoever has their addresses.

    Where nobody has an address yet, the address itself is blocked: a later import may bring the person.
    """
    digests = {
        address_digest(organization.pk, address)
        for address, values in rows
        if values.get("opted_out")
    }
    people = dict(
        Contact.objects.filter(organization=organization, email_digest__in=digests).values_list(
            "pk", "email_digest"
        )
    )
    _opt_out(organization, import_, set(people), by=by)
    for digest in sorted(digests - {bytes(known) for known in people.values()}):
        suppress(
            organization,
            digest,
            Suppression.Reason.MANUAL,
            source="import",
            evidence=f"opted out in a row that was set aside (import {import_.pk})",
            by=by,
        )


def _opt_out(
    organization: Organization, import_: Import, ids: set[uuid.UUID], *, by: User | str
) -> None:
    if not ids:
        return
    # Whoever shares the address is not locked yet, and nobody is for a row that was set aside.
    lock(organization.pk, ids)
    standing = _opted_out(ids)
    now = database_time()
    made = OptOut.objects.bulk_create(
        OptOut(
            organization=organization,
            contact_id=contact_id,
            email_digest=digest,
            scope=OptOut.Scope.ALL,
            direction=Direction.OUT,
            effective_at=now,
            recorded_at=now,
            recorded_by=actor_of(by),
            source="import",
            evidence=f"import {import_.pk}",
        )
        for contact_id, digest in Contact.objects.filter(pk__in=ids)
        .order_by("pk")
        .values_list("pk", "email_digest")
        if (contact_id, bytes(digest or b"")) not in standing
    )
    _vouch("opt_out.recorded", organization, import_, OptOut, made, by=by)


def _opted_out(ids: set[uuid.UUID]) -> set[tuple[uuid.UUID, bytes]]:
    """Return (contact, address digest) of those whose latest word is already to stop everything."""
    with connection.cursor() as cursor:
        cursor.execute(
            """select distinct on (contact_id) contact_id, email_digest, direction from consent_optout
               where contact_id = any(%s) and scope = 'all'
               order by contact_id, effective_at desc, recorded_at desc""",
            [list(ids)],
        )
        return {(row[0], bytes(row[1] or b"")) for row in cursor.fetchall() if row[2] == "out"}


def _vouch(
    action: str,
    organization: Organization,
    import_: Import,
    model: type,
    made: list,
    *,
    by: User | str,
) -> None:
    """Write the audit entry of the facts that were written; those that stood already have theirs."""
    written = model.objects.filter(pk__in=[fact.pk for fact in made])
    if count := written.count():
        record(
            action,
            organization_id=organization.pk,
            by=by,
            target=import_,
            count=count,
            facts=written,
        )


def _bad_day() -> Problem:
    return Problem("not_a_day", "A date is written YYYY-MM-DD and must exist.")


def install() -> None:
    """Bring the columns to the importer."""
    dates = {
        "check_row": check_row,
        "check_import": check_import,
        "apply": apply_authorizations,
    }
    COLUMNS["authorized_on"] = Column(label="Authorized on", check=check_signed_on, **dates)
    COLUMNS["authorization_expires"] = Column(
        label="Authorization expires", check=check_day, **dates
    )
    COLUMNS["opted_out"] = Column(
        label="Opted out",
        check=check_opted_out,
        apply=apply_opt_outs,
        apply_rejected=rescue_opt_outs,
    )
