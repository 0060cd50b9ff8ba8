"""Compliance reports: for a period of whole days, what was sent, on what authority, how protected, and who watched.

No person appears in one: it is made of counts, names of staff, campaigns and forms. docs/reports.md tells of
each number what it answers, which law asks for it, and whether a small one is hidden.
"""

import datetime as dt
import uuid

from django.db import connection, transaction

from accounts.models import Organization, User
from audit.record import actor_of, record
from audit.snapshot import snapshot
from audit.verify import Verification
from consent.locking import database_time
from consent.models import FormVersion
from delivery.models import Message
from files import pdf, staging
from files.models import StagedFile
from reports import (
    authority,
    chapter_consent,
    chapter_oversight,
    chapter_sending,
    chapter_travel,
    ledger,
    oversight,
    stops,
)
from reports.document import Document, Section, as_csv, as_json
from reports.ledger import Ledger
from reports.oversight import Decided
from reports.period import BadPeriod, Period, period
from reports.words import count_of

__all__ = ["BadPeriod", "Report", "as_csv", "as_json", "as_pdf", "make", "report"]

Report = Document

#: Changes when a name in the JSON, or what it means, does (docs/reports.md).
SCHEMA = "hipaamail.compliance_report/1"
#: So long the files can be fetched; the report can be made again as long as the records are kept.
KEPT = dt.timedelta(days=30)
CONTENT_TYPES = {"pdf": "application/pdf", "csv": "text/csv", "json": "application/json"}

State = Message.State


def report(
    organization: Organization,
    first_day: dt.date,
    last_day: dt.date,
    *,
    by: User | str = "system:reports",
    verification: Verification | None = None,
) -> Report:
    """Return the report on the days from `first_day` to `last_day`, both whole, in the organization's time zone.

    All numbers are of one moment: they are read in one snapshot, unless the caller's transaction is another.
    `verification`: what verifying the log just found; without it the log is verified here, which takes a second
    for some 100,000 entries. Changes nothing. Raises BadPeriod. Whether `by` may is the caller's to check.
    """
    days = period(organization, first_day, last_day)
    with snapshot():
        _settle_in()
        book = ledger.read(organization, days)
        sections, found = _sections(organization, days, book, verification)
        made_at = database_time()
        made_by = oversight.names(organization, [actor_of(by)])[actor_of(by)]
    return Report(
        schema=SCHEMA,
        title="Compliance report",
        organization=organization.name,
        subtitle=days.words,
        made_at=made_at,
        made_by=made_by,
        time_zone=organization.time_zone,
        head={
            "organization": organization.name,
            "organization_id": str(organization.pk),
            "first_day": days.first_day.isoformat(),
            "last_day": days.last_day.isoformat(),
            "time_zone": organization.time_zone,
            "numbers_below_are_hidden": organization.small_cell,
        },
        summary=_summary(organization, days, book, sections, found),
        sections=tuple(sections),
        notes=_notes(organization, days),
    )


def _settle_in() -> None:
    """Tell the database, for this transaction, that few large questions follow.

    Memory keeps a million rows from being sorted on disk; compiling statements costs more here than it saves.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "select set_config('work_mem', '128MB', true), set_config('jit', 'off', true)"
        )


def make(
    organization: Organization, first_day: dt.date, last_day: dt.date, *, by: User
) -> dict[str, StagedFile]:
    """Make a report and stage it as {"pdf", "csv", "json"}: encrypted, kept for thirty days, with an audit entry.

    Raises BadPeriod; then nothing is staged. Whether `by` may is the caller's to check
    ("reports.make_compliancereport").
    """
    made = report(organization, first_day, last_day, by=by)
    contents = {"pdf": as_pdf(made), "csv": as_csv(made), "json": as_json(made)}
    with transaction.atomic():
        files = {
            kind: staging.put(
                organization,
                kind=StagedFile.Kind.REPORT,
                name=f"compliance-report_{organization.slug}_{first_day}_{last_day}.{kind}",
                chunks=[content],
                by=by,
                content_type=CONTENT_TYPES[kind],
                keep=KEPT,
            )
            for kind, content in contents.items()
        }
        note_made(organization, made, by=by, files=files)
    return files


def note_made(
    organization: Organization,
    made: Report,
    *,
    by: User | str,
    files: dict[str, StagedFile] | None = None,
) -> None:
    """Write the audit entry of a report that leaves the database."""
    record(
        "report.made",
        organization_id=organization.pk,
        by=by,
        target=organization,
        detail={
            "report": "compliance",
            "first_on": dt.date.fromisoformat(made.head["first_day"]),
            "last_on": dt.date.fromisoformat(made.head["last_day"]),
            "findings": len(made.findings),
            "files": [file.pk for file in (files or {}).values()],
        },
    )


def as_pdf(made: Report) -> bytes:
    """Return the report on paper (PDF/UA-1)."""
    return pdf.render("pdf/compliance.html", {"report": made})


def _sections(
    organization: Organization,
    days: Period,
    book: Ledger,
    verification: Verification | None,
) -> tuple[list[Section], list[Decided]]:
    limit = organization.small_cell
    uses, unreadable = authority.uses(organization, days)
    forms = {
        str(version.pk): str(version)
        for version in FormVersion.objects.filter(organization=organization).order_by(
            "name", "number", "language"
        )
    }
    found = oversight.decided(organization, book.handed_over())
    accesses = oversight.access(organization, days)
    events = oversight.key_events(organization, days)
    staff = {one.submission.submitted_by_id for one in found} | {
        approval.decided_by_id for one in found for approval in one.approvals
    }
    actors = oversight.names(
        organization,
        [one.actor for one in accesses] + [actor for event in events for actor in event.actors],
    )
    sections = [
        chapter_sending.sendings(book, uses, forms, unreadable),
        chapter_sending.withheld(book, limit),
        chapter_consent.authorizations(authority.standing(organization, days)),
        chapter_consent.stops(
            stops.wishes(organization, days),
            stops.stops(organization, days),
            uses,
            stops.address_stops(organization, days),
        ),
        chapter_travel.encryption(ledger.encryption(organization, days), book.total(State.SENT)),
        chapter_travel.returns(
            ledger.events(organization, days), stops.suppressions(organization, days)
        ),
        chapter_oversight.access(accesses, actors),
        chapter_oversight.approvals(found, _staff(staff)),
        chapter_oversight.denials(oversight.denials(organization, days)),
        chapter_oversight.keys(events, actors),
        chapter_oversight.log(
            oversight.log(organization, days, verification),
            ledger.incomplete_campaigns(organization, days),
        ),
    ]
    return sections, found


def _staff(ids: set[uuid.UUID]) -> dict[uuid.UUID, str]:
    return dict(User.objects.filter(pk__in=ids).values_list("pk", "name"))


def _summary(
    organization: Organization,
    days: Period,
    book: Ledger,
    sections: list[Section],
    found: list[Decided],
) -> str:
    """Return the whole report in one paragraph."""
    by_code = {section.code: section for section in sections}
    sent, held = book.total(State.SENT), book.total(State.WITHHELD)
    until = "" if days.end <= database_time() else " (a day that has not ended)"
    campaigns = len({one.campaign.pk for one in found})
    findings = sum(len(section.findings) for section in sections)
    said = [
        f"From {days.words}{until}, {organization.name} sent {count_of(sent, 'message')} in "
        f"{count_of(campaigns, 'campaign')}; the sending rules held {held:,} back."
    ]
    if sent and not by_code["encryption"].findings:
        said.append("Every message travelled encrypted, and a receipt shows it.")
    said.append(by_code["stops"].lead)
    if found:
        said.append(by_code["approvals"].lead)
    said.append(by_code["log"].lead)
    said.append(
        "Nothing was found that should not be."
        if not findings
        else f"{count_of(findings, 'finding')} {'needs' if findings == 1 else 'need'} attention."
    )
    return " ".join(said)


def _notes(organization: Organization, days: Period) -> tuple[tuple[str, str], ...]:
    limit = organization.small_cell
    return (
        (
            "Days",
            f"Days are whole days in the time zone of the organization, {organization.time_zone}: from "
            f"{days.start:%Y-%m-%d %H:%M} to {days.end:%Y-%m-%d %H:%M} UTC, the end not included. A day on which "
            "clocks change has 23 or 25 hours.",
        ),
        (
            "Small numbers",
            f"Numbers of people from 1 to {limit - 1} are hidden where the part they count could point at somebody's "
            "health: the reasons for holding a message back. At least one larger number is hidden beside them, so that "
            "subtraction does not tell them. Acts of law and of staff, facts about servers, totals of the organization "
            "and findings are exact.",
        ),
        (
            "People",
            "No person who is written to appears in this report. A message is one copy to one person; somebody who "
            "got two campaigns counts twice.",
        ),
    )
