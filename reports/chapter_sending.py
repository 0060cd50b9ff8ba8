"""The report's chapters on sending: for which purpose and on what authority, what was held back, how it travelled."""

from collections import Counter
from collections.abc import Iterable, Mapping

from consent.models import Suppression
from consent.purposes import PURPOSES
from delivery.models import Event, Message
from reports import words
from reports.authority import Use
from reports.document import Column, Finding, Row, Section, Table
from reports.ledger import OPEN, Encryption, Ledger
from reports.small_cells import HIDDEN, Breakdown, Cell, breakdown, shown
from reports.words import count_of

State = Message.State
MESSAGES = Column("messages", "Messages")
GOOD_TLS = frozenset({"TLSv1.2", "TLSv1.3"})

#: The law behind a reason for holding a message back, where there is one.
CITATIONS = {
    "agreement_ended": "45 CFR 164.504(e)",
    "campaign_not_approved": "house rule",
    "sender_not_ready": "15 USC 7704(a)(5)(A)",
    "purpose_refused": "45 CFR 164.501, 164.508(a)(3)",
    "deceased": "45 CFR 164.502(f)",
    "no_email_wanted": "45 CFR 164.522(b)",
    "restricted": "45 CFR 164.522(a)",
    "opted_out": "15 USC 7704(a)(4)(A); 45 CFR 164.514(f)(2)",
    "substance_use_record": "42 CFR 2.31",
    "authorization_revoked": "45 CFR 164.508(b)(2)(iii), (b)(5)",
    "authorization_expired": "45 CFR 164.508(b)(2)(i)",
    "authorization_not_usable": "45 CFR 164.508(b)(2)(ii), (c)(4)",
    "authorization_other": "45 CFR 164.508(c)(1)",
    "no_authorization": "45 CFR 164.508(a)(3)",
    "no_tls": "45 CFR 164.312(e)(1)",
}


def bars(cells: Iterable[Cell]) -> list[float | None]:
    """Return each number's part of the largest one shown, as the length of its bar; None where it is hidden."""
    values = [cell.value for cell in cells]
    largest = max((value for value in values if value is not None), default=0)
    return [None if value is None else value / largest if largest else 0.0 for value in values]


def note_on(parts: Breakdown, limit: int) -> str:
    """Return the sentence that explains what a table hides, or ""."""
    if not parts.is_broken_down:
        return f"Not broken down: the parts are too small, and numbers of people below {limit} are not shown."
    if not parts.hidden:
        return ""
    number = len(parts.hidden)
    return (
        f"{number} numbers are hidden; together they are {parts.together:,}. "
        f"At least one lies below {limit}, and the others keep it from being worked out."
    )


def counted(
    code: str,
    caption: str,
    first_head: str,
    counts: Mapping[str, int],
    names: Mapping[str, str],
    limit: int,
    *,
    colour: str = "accent",
    within: Cell | None = None,
    citations: Mapping[str, str] | None = None,
    total: str = "Together",
    wrong: str | None = None,
) -> Table:
    """Return a table of counts with bars, small numbers hidden; `limit` 0 hides none.

    Rows are in the order of `names`, then what it lacks; parts of nought are left out. `within`: the total as
    it is shown elsewhere; by default it is shown as it is. `total`: the label of the last row, "" for none.
    `wrong`: the part that should not be there.
    """
    present = {code: counts[code] for code in _ordered(counts, names) if counts[code]}
    parts = breakdown(present, limit, within=within or shown(sum(present.values())))
    # A total that is not broken down names no parts: that one is there at all may be what must not be told.
    told = parts.cells if parts.is_broken_down else {}
    rows = [
        Row(
            name,
            words.of(dict(names), name),
            (cell,),
            (citations or {}).get(name, ""),
            share,
            "stop" if name == wrong else "",
        )
        for (name, cell), share in zip(told.items(), bars(told.values()), strict=True)
    ]
    if present and total:
        rows.append(Row("total", total, (parts.total,), share=0.0, tone="total"))
    return Table(
        code, caption, first_head, (MESSAGES,), tuple(rows), bars=colour, note=note_on(parts, limit)
    )


def _ordered(counts: Mapping[str, int], names: Mapping[str, str]) -> list[str]:
    known = [name for name in names if name in counts]
    return known + sorted(set(counts) - set(known))


def sendings(
    ledger: Ledger, uses: list[Use], forms: dict[str, str], unreadable: int, limit: int
) -> Section:
    """Return the chapter on what was sent, for which purpose, under which forms.

    `forms`: names of form versions by id, as text. `unreadable`: submissions that could not be opened.
    """
    sent = ledger.sums(lambda line: line.purpose, {State.SENT})
    purposes = {code: purpose.label for code, purpose in PURPOSES.items()}
    cites = {code: f"45 CFR {purpose.citation}" for code, purpose in PURPOSES.items()}
    table = counted(
        "purposes", "Sent, by purpose", "Purpose", sent, purposes, limit, citations=cites
    )
    shown_at = {row.code: row.values[0] for row in table.rows}
    findings, tables = [], [table]
    for purpose in [code for code in purposes if PURPOSES[code].needs_authorization and sent[code]]:
        under = Counter[str]()
        for use in uses:
            if use.purpose == purpose and use.form_version_id:
                under[str(use.form_version_id)] += use.number
        if lacking := sent[purpose] - under.total():
            under["none"] = lacking
        tables.append(
            counted(
                f"forms_{purpose.lower()}",
                f"{purposes[purpose]}: under which signed form",
                "Form version in force for the person at the moment of hand-over",
                under,
                {**forms, "none": "None in force"},
                limit,
                # A purpose that is not in the table is one that it hides.
                within=shown_at.get(purpose, Cell(None, HIDDEN)),
                wrong="none",
            )
        )
    without = sum(use.number for use in uses if use.form_version_id is None)
    if without:
        findings.append(
            Finding(
                "message_without_authorization",
                f"{count_of(without, 'message')} that needed a signed authorization "
                f"{'was' if without == 1 else 'were'} handed over without one in force"
                f"{_lacking(uses)}.",
                "45 CFR 164.508(a)(3)",
            )
        )
    if unreadable:
        findings.append(
            Finding(
                "submission_unreadable",
                f"What {count_of(unreadable, 'approved submission')} bound could not be opened, so its "
                "authorizations could not be checked.",
                "45 CFR 164.508(b)(6)",
            )
        )
    tables.append(_outcomes(ledger))
    findings += _ledger_findings(ledger)
    total = ledger.total(State.SENT)
    return Section(
        "sendings",
        "What was sent, and on what authority",
        "For which purposes were messages sent, and under which signed authorizations?",
        "45 CFR 164.501, 164.506, 164.508(a)(3)",
        f"{count_of(total, 'message')} {'was' if total == 1 else 'were'} accepted by recipients' servers.",
        tuple(tables),
        tuple(findings),
        method=(
            "A message belongs to the day on which it was handed over; what never left, to the day on which its "
            "case was closed. The form version is that of the authorization which was in force for the person at "
            "the moment of hand-over: recorded before it, signed and its copy given up to that day, not expired "
            "on it, not ended by a revocation recorded before it, and among the versions that the approved "
            "campaign names. Of several, the one signed last counts. This is worked out from the recorded facts, "
            "not taken from the sending program's own decision."
        ),
    )


def _lacking(uses: list[Use]) -> str:
    why = Counter[str]()
    for use in uses:
        if use.form_version_id is None:
            why[use.lacking] += use.number
    said = {
        "revoked": "after a revocation",
        "ended": "after it expired",
        "none": "never having one",
    }
    return f" ({words.listed([f'{why[code]:,} {said[code]}' for code in said if why[code]])})"


def _outcomes(ledger: Ledger) -> Table:
    """What became of the messages of the period; whole numbers of the organization, never hidden."""
    waiting = ledger.sums(lambda _: "waiting", OPEN)["waiting"]
    counts = {
        state.value: ledger.total(state)
        for state in (State.SENT, State.WITHHELD, State.FAILED, State.IN_DOUBT, State.CANCELLED)
    } | {"waiting": waiting}
    names = {**words.STATES, "waiting": "Still on its way when this was made"}
    rows = [
        Row(code, names[code], (shown(number),), share=share)
        for (code, number), share in zip(
            counts.items(), bars(shown(number) for number in counts.values()), strict=True
        )
    ]
    return Table(
        "outcomes",
        "What became of all messages",
        "Outcome",
        (MESSAGES,),
        tuple(rows),
        bars="accent",
    )


def _ledger_findings(ledger: Ledger) -> list[Finding]:
    if not ledger.unknown_states:
        return []
    return [
        Finding(
            "state_unknown",
            "The ledger holds messages in states that this version does not know: "
            f"{words.listed(ledger.unknown_states)}. They are in no table.",
        )
    ]


def withheld(ledger: Ledger, limit: int) -> Section:
    """Return the chapter on what was held back."""
    reasons = ledger.sums(lambda line: line.reason, {State.WITHHELD})
    total = reasons.total()
    return Section(
        "withheld",
        "What was held back, and why",
        "How many messages did the sending rules stop, and by which rule?",
        "45 CFR 164.502(a), 164.508, 164.522",
        f"{count_of(total, 'message')} {'was' if total == 1 else 'were'} held back.",
        (
            counted(
                "reasons",
                "Held back, by reason",
                "Reason (the first that applied)",
                reasons,
                words.WITHHELD,
                limit,
                colour="hold",
                citations=CITATIONS,
            ),
        ),
        method=(
            "The rules are checked in a fixed order, and the first that applies is the reason. One person can be "
            "counted once for each campaign."
        ),
    )


def encryption(receipts: list[Encryption], sent: int) -> Section:
    """Return the chapter on how messages travelled; facts about servers, so no number is hidden."""
    versions, ciphers, verified = Counter[str](), Counter[str](), Counter[str]()
    for line in receipts:
        versions[line.tls_version] += line.number
        ciphers[line.cipher] += line.number
        verified[line.verified_by if line.tls_version else ""] += line.number
    missing = versions[""]
    findings = _encryption_findings(versions, missing, sent)
    none = {"": "No receipt"}
    lead = "Nothing was sent in this period."
    if sent and not findings:
        lead = (
            f"For {'the one message' if sent == 1 else f'each of the {sent:,} messages'} sent there is a receipt "
            "of an encrypted connection, TLS 1.2 or better."
        )
    elif sent:
        lead = f"{sent - missing:,} of {count_of(sent, 'message')} sent have a receipt of an encrypted connection."
    return Section(
        "encryption",
        "How messages travelled",
        "Was every message encrypted on its way to the recipient's server, and how do we know?",
        "45 CFR 164.312(e)(1), (e)(2)(ii)",
        lead,
        (
            counted(
                "tls_versions",
                "TLS version",
                "Version",
                versions,
                _plain_tls(versions) | none,
                0,
                wrong="",
            ),
            counted(
                "ciphers", "Cipher", "Cipher suite", ciphers, _as_is(ciphers) | none, 0, wrong=""
            ),
            counted(
                "verification",
                "Who the server proved to be",
                "Proof",
                verified,
                words.VERIFIED,
                0,
                wrong="",
            ),
        ),
        tuple(findings),
        method=(
            "The receipt is written from the connection on which the recipient's server accepted the message. It "
            "proves our hop to that server and nothing beyond it. There is no way of sending without encryption: "
            "a message for a server without TLS is held back."
        ),
    )


def _plain_tls(versions: Mapping[str, int]) -> dict[str, str]:
    return {code: code.replace("TLSv", "TLS ") for code in sorted(versions, reverse=True) if code}


def _as_is(counts: Mapping[str, int]) -> dict[str, str]:
    return {code: code for code in sorted(counts) if code}


def _encryption_findings(versions: Counter[str], missing: int, sent: int) -> list[Finding]:
    findings = []
    old = sum(number for code, number in versions.items() if code and code not in GOOD_TLS)
    if missing:
        findings.append(
            Finding(
                "sent_without_receipt",
                f"For {count_of(missing, 'message')} sent there is no receipt of an encrypted connection. A process "
                "that ended between the server's reply and our record leaves such a gap; the journal then says "
                "only that the server accepted.",
                "45 CFR 164.312(e)(1)",
            )
        )
    if old:
        findings.append(
            Finding(
                "old_tls",
                f"{count_of(old, 'message')} travelled over a version of TLS below 1.2.",
                "NIST SP 800-52r2",
            )
        )
    if versions.total() > sent:
        findings.append(
            Finding(
                "receipt_twice",
                f"{count_of(versions.total() - sent, 'message')} sent more than once, as receipts tell.",
            )
        )
    return findings


def returns(events: Counter[tuple[str, str]], suppressions: dict[tuple[str, str], int]) -> Section:
    """Return the chapter on what came back; whole numbers of the organization, never hidden."""
    bounced = Counter[str]()
    others = Counter[str]()
    for (kind, detail), number in events.items():
        if kind == Event.Type.BOUNCED:
            bounced[detail or "failed"] += number
        elif kind in {Event.Type.COMPLAINED, Event.Type.UNSUBSCRIBED, Event.Type.DEFERRED}:
            others[kind] += number
    add, lift = Suppression.Action.ADD, Suppression.Action.LIFT
    blocked = tuple(
        Row(
            reason.value,
            words.SUPPRESSIONS[reason.value],
            (
                shown(suppressions.get((add, reason.value), 0)),
                shown(suppressions.get((lift, reason.value), 0)),
            ),
        )
        for reason in Suppression.Reason
    )
    hard = bounced["hard_recipient"]
    return Section(
        "returns",
        "What came back",
        "What did recipients' servers and recipients answer, and which addresses were blocked for it?",
        "15 USC 7704(a)(4)",
        f"{count_of(hard, 'address', 'addresses')} turned out not to exist (hard bounces); "
        f"{count_of(others[Event.Type.COMPLAINED], 'complaint')} came in.",
        (
            counted("bounces", "Refused, by kind", "Kind", bounced, words.FAILED, 0),
            counted("answers", "Other answers", "Answer", others, words.EVENTS, 0, total=""),
            Table(
                "suppressions",
                "Addresses blocked and released",
                "Reason",
                (Column("blocked", "Blocked"), Column("released", "Released")),
                blocked,
            ),
        ),
        method="Counted on the day on which the answer came, which may be after the message's own day.",
    )
