"""The report's chapters on oversight: who saw people's data, who approved, what was refused, keys, the log."""

import uuid
from collections.abc import Mapping

from audit.findings import MEANINGS
from consent.purposes import PURPOSES
from reports import words
from reports.document import Column, Finding, Row, Section, Table
from reports.oversight import Access, Decided, Denial, KeyEvent, Log
from reports.small_cells import shown
from reports.words import ACCESS, count_of


def access(found: list[Access], names: Mapping[str, str]) -> Section:
    """Return the chapter on access; acts of staff, so no number is hidden."""
    staff = sum(one.actor.startswith("user:") for one in found)
    times = sum(sum(one.times.values()) for one in found)
    columns = (
        *(Column(action.replace(".", "_"), head) for action, head in ACCESS.items()),
        Column("records", "Records seen"),
    )
    return Section(
        "access",
        "Who looked at people's data",
        "Who opened protected health information, and how often?",
        "45 CFR 164.308(a)(1)(ii)(D), 164.312(b)",
        f"{count_of(times, 'access', 'accesses')} in the log, by {count_of(staff, 'member')} of staff"
        + (" and by the system itself." if staff < len(found) else "."),
        (
            Table(
                "actors",
                "Accesses, by person",
                "Who",
                columns,
                tuple(
                    Row(
                        one.actor,
                        names[one.actor],
                        (
                            *(shown(one.times.get(action, 0)) for action in ACCESS),
                            shown(one.records),
                        ),
                    )
                    for one in found
                ),
                nothing="Nobody looked at anybody's data in this period.",
            ),
        ),
        method=(
            "Counted are entries of the log: contacts looked at, searches, questions whether somebody may be "
            "written to, messages as they were sent, staged files read, exports. The entry is written before the "
            "answer is shown. Records seen adds up how many contacts each look showed."
        ),
    )


def approvals(found: list[Decided], names: Mapping[uuid.UUID, str]) -> Section:
    """Return the chapter on approvals. It tells no number of messages: a campaign's people may be few."""
    rows, findings = [], []
    for one in found:
        by = [names.get(approval.decided_by_id, "unknown") for approval in one.approvals]
        when = max((approval.decided_at for approval in one.approvals), default=None)
        rows.append(
            Row(
                str(one.submission.pk),
                one.campaign.name,
                (
                    words.of(_PURPOSES, one.campaign.purpose),
                    names.get(one.submission.submitted_by_id, "unknown"),
                    one.submission.submitted_at,
                    words.listed(by) or "nobody in time",
                    when,
                    bytes(one.submission.content_hash).hex()[:12],
                ),
                tone="" if one.others else "stop",
            )
        )
        if not one.others:
            findings.append(
                Finding(
                    "sent_without_second_person",
                    f"Messages of the campaign “{one.campaign.name}” were handed over without an approval by a "
                    "second person that was in force.",
                    "house rule",
                )
            )
    return Section(
        "approvals",
        "Who approved what was sent",
        "Was every campaign approved by somebody other than its author, as it was sent?",
        "45 CFR 164.316(b)(1); house rule: two persons",
        _approved(found),
        (
            Table(
                "campaigns",
                "Campaigns of which messages were handed over",
                "Campaign",
                (
                    Column("purpose", "Purpose", is_number=False),
                    Column("submitted_by", "Handed in by", is_number=False),
                    Column("submitted_at", "on", is_number=False),
                    Column("approved_by", "Approved by", is_number=False),
                    Column("approved_at", "on", is_number=False),
                    Column("fingerprint", "Fingerprint", is_number=False),
                ),
                tuple(rows),
                nothing="Nothing was handed over in this period.",
            ),
        ),
        tuple(findings),
        method=(
            "An approval counts if it was given to the very bytes that were sent (the fingerprint is the beginning of "
            "their SHA-256), before the first message of the period left, was in force when the last one did, and "
            "nobody returned the campaign. The second person is neither its author nor who handed it in."
        ),
    )


_PURPOSES = {code: purpose.label for code, purpose in PURPOSES.items()}


def _approved(found: list[Decided]) -> str:
    if not found:
        return "No campaign was sent."
    alone = sum(not one.others for one in found)
    if alone:
        return f"{alone:,} of {count_of(len(found), 'campaign')} lacked a second person's approval."
    return (
        "The one campaign sent was approved by a second person."
        if len(found) == 1
        else f"Each of the {len(found):,} campaigns sent was approved by a second person."
    )


def denials(found: list[Denial]) -> Section:
    """Return the chapter on what was refused."""
    total = sum(one.number for one in found)
    return Section(
        "denials",
        "What was refused",
        "Who was turned away, and why?",
        "45 CFR 164.308(a)(5)(ii)(C), 164.312(a)(1)",
        f"{count_of(total, 'refusal')} in the log.",
        (
            Table(
                "refusals",
                "Refusals, by kind and reason",
                "What happened",
                (Column("number", "Times"), Column("actors", "By how many")),
                tuple(
                    Row(
                        f"{one.action}:{one.reason}",
                        f"{words.did(one.action)}"
                        + (f": {one.reason.replace('_', ' ')}" if one.reason else ""),
                        (shown(one.number), shown(one.actors)),
                    )
                    for one in found
                ),
                nothing="Nothing was refused in this period.",
            ),
        ),
    )


def keys(found: list[KeyEvent], names: Mapping[str, str]) -> Section:
    """Return the chapter on keys."""
    total = sum(one.number for one in found)
    return Section(
        "keys",
        "Keys",
        "What was done to the keys that open people's data, and to those that let machines in?",
        "45 CFR 164.312(a)(2)(iv), 164.310(d)(2)(i)",
        f"{count_of(total, 'event')} in the log.",
        (
            Table(
                "key_events",
                "Key events",
                "What happened",
                (
                    Column("number", "Times"),
                    Column("actors", "By", is_number=False),
                    Column("last_at", "Last", is_number=False),
                ),
                tuple(
                    Row(
                        one.action,
                        words.did(one.action),
                        (
                            shown(one.number),
                            words.listed([names[actor] for actor in one.actors]),
                            one.last_at,
                        ),
                    )
                    for one in found
                ),
                nothing="Nothing was done to keys in this period.",
            ),
        ),
    )


def log(found: Log, incomplete: int) -> Section:
    """Return the chapter on the log; `incomplete`: campaigns whose ledger differs from what the log says."""
    findings = [
        Finding(
            f"log_{code.replace('.', '_')}",
            f"{MEANINGS.get(code, code)} ({count_of(number, 'time')})",
            "45 CFR 164.312(c)(1)",
        )
        for code, number in found.counts.items()
    ]
    if incomplete:
        findings.append(
            Finding(
                "ledger_incomplete",
                f"The ledger of {count_of(incomplete, 'campaign')} has another number of messages than the log says "
                "were frozen into it.",
                "45 CFR 164.312(c)(1)",
            )
        )
    block = "none yet" if found.block is None else f"{found.block:,}"
    rows = (
        ("result", "Result of verifying the whole log", "Whole" if found.ok else "Not whole"),
        ("verified_at", "Verified", found.verified_at),
        ("entries", "Entries of this organization in the period", shown(found.entries)),
        ("sealed", "of these sealed", shown(found.sealed)),
        ("block", "Newest sealed block", block),
        ("sealed_at", "Sealed", found.sealed_at),
        ("root", "Its root begins", found.root[:16] or "none yet"),
        ("kept_at", "Heads outside the database", found.kept_at),
    )
    return Section(
        "log",
        "Whether the log is whole",
        "Can the history behind this report have been rewritten?",
        "45 CFR 164.312(b), (c)(1), (c)(2), 164.316(b)(2)(i)",
        _whole(found, block),
        (
            Table(
                "verification",
                "Verification of the log",
                "",
                (Column("value", "", is_number=False),),
                tuple(Row(code, label, (value,)) for code, label, value in rows),
            ),
        ),
        tuple(findings),
        method=(
            "Every entry, every block's root, link and signature, and every consent fact, approval and receipt that "
            "an entry vouches for were computed anew and compared with the sealed log, and the blocks with their heads "
            "outside the database. Entries younger than a few seconds are not sealed yet. To repeat it: "
            "manage.py verify_audit. The log belongs to the whole installation; of other organizations nothing but "
            "this result enters the report."
        ),
    )


def _whole(found: Log, block: str) -> str:
    if not found.ok:
        return "The log was verified and is not whole."
    if found.block is None:
        return "The log was verified and is whole; none of it is sealed yet."
    return f"The log was verified and is whole, up to block {block}."
