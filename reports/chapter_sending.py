"""The report's chapters on sending: for which purpose and on what authority, and what was held back."""

from collections import Counter
from collections.abc import Iterator

from consent.purposes import PURPOSES
from delivery.models import Message
from reports import words
from reports.authority import Use
from reports.counted import MESSAGES, bars, counted
from reports.document import Finding, Row, Section, Table
from reports.ledger import OPEN, Ledger
from reports.small_cells import shown
from reports.words import count_of

State = Message.State

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


def sendings(ledger: Ledger, uses: list[Use], forms: dict[str, str], unreadable: int) -> Section:
    """Return the chapter on what was sent, for which purpose, under which forms.

    How many messages left for a purpose and under a form is an act of law and tells of nobody's health, so no
    number is hidden. `forms`: names of form versions by id, as text. `unreadable`: submissions that could not
    be opened.
    """
    sent = ledger.sums(lambda line: line.purpose, {State.SENT})
    tables = [
        counted(
            "purposes", "Sent, by purpose", "Purpose", sent, _PURPOSES, 0, citations=_LAW_OF_PURPOSE
        ),
        *_forms(sent, uses, forms),
        _outcomes(ledger),
    ]
    findings = []
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


_PURPOSES = {code: purpose.label for code, purpose in PURPOSES.items()}
_LAW_OF_PURPOSE = {
    code: f"45 CFR {purpose.citation}" if purpose.citation[0].isdigit() else purpose.citation
    for code, purpose in PURPOSES.items()
}


def _forms(sent: Counter[str], uses: list[Use], forms: dict[str, str]) -> Iterator[Table]:
    """Yield for each purpose that needs an authorization how many messages left under which form version."""
    for purpose in [
        code for code in _PURPOSES if PURPOSES[code].needs_authorization and sent[code]
    ]:
        under = Counter[str]()
        for use in uses:
            if use.purpose == purpose and use.form_version_id:
                under[str(use.form_version_id)] += use.number
        if lacking := sent[purpose] - under.total():
            under["none"] = lacking
        yield counted(
            f"forms_{purpose.lower()}",
            f"{_PURPOSES[purpose]}: under which signed form",
            "Form version in force for the person at the moment of hand-over",
            under,
            {**forms, "none": "None in force"},
            0,
            wrong="none",
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
