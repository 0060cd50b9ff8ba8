"""A campaign's results as people may see them: small numbers hidden, on paper, as a table, or for machines."""

import json
from dataclasses import asdict

from accounts.models import Organization
from consent.purposes import PURPOSES
from files import pdf
from reports import document as documents
from reports import words
from reports.campaign import CHAIN, Results
from reports.counted import counted
from reports.document import Column, Document, Finding, Row, Section, Table
from reports.small_cells import Cell, lone, part, shown
from reports.words import count_of

#: Changes when a name in the JSON, or what it means, does (docs/reports.md).
SCHEMA = "hipaamail.campaign_results/1"


def document(found: Results, organization: Organization, *, by: str = "hipaamail") -> Document:
    """Return the results as they may be shown: small numbers of people hidden, by the organization's limit."""
    limit = organization.small_cell
    audience = lone(found.audience, limit)
    # Too few people in all: then nothing of them is told.
    sent = audience if audience.is_hidden else shown(found.sent)
    return Document(
        schema=SCHEMA,
        title="Campaign results",
        organization=organization.name,
        subtitle=found.name,
        made_at=found.counted_at,
        made_by=by,
        time_zone=organization.time_zone,
        head={
            "organization": organization.name,
            "organization_id": str(found.organization_id),
            "campaign": found.name,
            "campaign_id": str(found.campaign_id),
            "purpose": found.purpose,
            "status": found.status,
            "first_at": found.first_at.isoformat() if found.first_at else None,
            "last_at": found.last_at.isoformat() if found.last_at else None,
            "numbers_below_are_hidden": limit,
        },
        summary=_summary(found, audience),
        sections=(
            _chain(found, limit, audience),
            _protection(found, sent),
            _answers(found, limit, sent),
        ),
        notes=(
            (
                "Small numbers",
                f"Reasons and answers of 1 to {limit - 1} people are hidden, and beside them at least one larger number, "
                "so that subtraction does not tell them. What became of a message on its way is exact, unless the "
                f"segment matched fewer than {limit} people.",
            ),
        ),
    )


def _summary(found: Results, audience: Cell) -> str:
    purpose = PURPOSES.get(found.purpose)
    said = f" Its purpose: {purpose.label[:1].lower()}{purpose.label[1:]}." if purpose else ""
    if audience.is_hidden:
        return f"The segment matched {audience.text} people.{said}"
    return (
        f"The segment matched {count_of(found.audience, 'person', 'people')}; {found.sent:,} were sent the message, "
        f"and {found.withheld:,} were held back.{said}"
    )


def _chain(found: Results, limit: int, audience: Cell) -> Section:
    names = {state.value: words.STATES[state.value] for state in CHAIN}
    told = shown if not audience.is_hidden else lambda _: audience
    return Section(
        "chain",
        "What became of everybody",
        "How many people did the segment match, and what became of each?",
        "45 CFR 164.502(a)",
        "",
        (
            counted(
                "chain",
                "From the audience to the outcome",
                "Outcome",
                found.chain,
                names | {"waiting": words.STATES["waiting"]},
                0,
                within=audience,
                total="Matched by the segment",
            ),
            counted(
                "withheld",
                "Held back, by reason",
                "Reason (the first that applied)",
                found.withheld_by_reason,
                words.WITHHELD,
                limit,
                colour="hold",
                within=told(found.withheld),
            ),
            counted(
                "failed",
                "Failed, by kind",
                "Kind",
                found.failed_by_kind,
                words.FAILED,
                0,
                within=told(found.failed),
            ),
        ),
        tuple(Finding("does_not_add_up", problem) for problem in found.problems),
    )


def _protection(found: Results, sent: Cell) -> Section:
    missing = {"": found.without_tls_receipt} if found.without_tls_receipt else {}
    findings = ()
    if found.without_tls_receipt:
        findings = (
            Finding(
                "sent_without_receipt",
                f"For {count_of(found.without_tls_receipt, 'message')} sent there is no receipt of an encrypted "
                "connection.",
                "45 CFR 164.312(e)(1)",
            ),
        )
    names = {code: code.replace("TLSv", "TLS ") for code in found.by_tls_version}
    return Section(
        "protection",
        "How it travelled",
        "How was it encrypted on its way to the recipients' servers, and from which addresses?",
        "45 CFR 164.312(e)(1)",
        "",
        (
            counted(
                "tls_versions",
                "TLS version",
                "Version",
                found.by_tls_version | missing,
                names | {"": "No receipt"},
                0,
                within=sent,
            ),
            counted(
                "verification",
                "Who the server proved to be",
                "Proof",
                found.by_verification | missing,
                words.VERIFIED,
                0,
                within=sent,
            ),
            counted(
                "sending_ips",
                "Sending address",
                "Address",
                found.by_sending_ip,
                {address: address for address in found.by_sending_ip},
                0,
                within=sent,
            ),
        ),
        findings,
    )


def _answers(found: Results, limit: int, sent: Cell) -> Section:
    rows = tuple(
        Row(code, label, (sent if sent.is_hidden else part(number, found.sent, limit),))
        for code, label, number in (
            ("unsubscribed", "Said stop by its link", found.unsubscribed),
            ("complained", "Reported it as spam", found.complained),
            ("bounced", "Came back after it was accepted", found.bounced),
        )
    )
    return Section(
        "answers",
        "What came back",
        "What did people and servers answer?",
        "15 USC 7704(a)(4)",
        "",
        (
            Table(
                "answers",
                "Answers",
                "Answer",
                (Column("messages", "Messages"),),
                rows,
            ),
        ),
    )


def as_pdf(found: Results, organization: Organization) -> bytes:
    """Return the results on paper, small numbers hidden."""
    return pdf.render("pdf/campaign.html", {"report": document(found, organization)})


def as_csv(found: Results, organization: Organization) -> bytes:
    """Return the results as one tidy table, small numbers hidden."""
    return documents.as_csv(document(found, organization))


def as_json(found: Results, organization: Organization, *, raw: bool = False) -> bytes:
    """Return the results for machines, small numbers hidden; `raw` gives them exact, for our own machines only."""
    if not raw:
        return documents.as_json(document(found, organization))
    tree = {"schema": SCHEMA, "raw": True, **asdict(found)}
    return json.dumps(tree, indent=1, default=str).encode() + b"\n"
