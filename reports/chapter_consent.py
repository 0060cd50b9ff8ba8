"""The report's chapters on permission: authorizations, and how stops took effect."""

from reports import words
from reports.authority import Standing, Use
from reports.counted import bars
from reports.document import Column, Finding, Row, Section, Table
from reports.small_cells import Cell, shown
from reports.stops import Stop, Wish
from reports.words import count_of

STOPS = {
    "opt_out:all": "Opt-out: everything but what is owed",
    "opt_out:commercial": "Opt-out: promotion",
    "opt_out:fundraising": "Opt-out: fundraising",
    "opt_out:care": "Opt-out: health information",
    "opt_out:tracking": "Opt-out: measuring opens and clicks",
    "revocation": "Revocation of an authorization",
    "restriction": "Restriction that was agreed to",
    "no_email": "Wish for no email at all",
}
STOP_CITATIONS = {
    "opt_out:all": "15 USC 7704(a)(4)(A)",
    "opt_out:commercial": "15 USC 7704(a)(4)(A)",
    "opt_out:fundraising": "45 CFR 164.514(f)(2)(iv)",
    "opt_out:care": "house rule",
    "opt_out:tracking": "house rule",
    "revocation": "45 CFR 164.508(b)(5)",
    "restriction": "45 CFR 164.522(a)(1)(iii)",
    "no_email": "45 CFR 164.522(b)(1)",
}


def authorizations(standing: list[Standing]) -> Section:
    """Return the chapter on authorizations; acts of law, so no number is hidden."""
    recorded = sum(one.recorded for one in standing)
    revoked = sum(one.revoked for one in standing)
    expired = sum(one.expired for one in standing)
    in_force = sum(one.in_force for one in standing)
    columns = (
        Column("recorded", "Recorded"),
        Column("without_copy", "of these without copy"),
        Column("revoked", "Revoked"),
        Column("ended_otherwise", "Ended otherwise"),
        Column("expired", "Expired"),
        Column("in_force", "In force at the end"),
    )
    rows = [Row(one.form, one.form, tuple(map(shown, one[1:]))) for one in standing]
    if len(rows) > 1:
        totals = [sum(one[place] for one in standing) for place in range(1, 7)]
        rows.append(Row("total", "Together", tuple(map(shown, totals)), tone="total"))
    return Section(
        "authorizations",
        "Authorizations",
        "How many people gave, took back or outlived their permission?",
        "45 CFR 164.508(b), (c)",
        f"{recorded:,} recorded, {revoked:,} revoked, {expired:,} expired; "
        f"{in_force:,} in force at the end of the last day.",
        (
            Table(
                "forms",
                "Authorizations by form version",
                "Form version",
                columns,
                tuple(rows),
                note=(
                    "Without copy: no copy was given yet, so the authorization cannot be used "
                    "(164.508(c)(4)). Ended otherwise: its expiry event occurred, or it proved false."
                )
                if rows
                else "",
            ),
        ),
        method=(
            "Recorded and revoked count on the day of recording. Expired counts authorizations whose last day of "
            "force lies in the period and which nothing had ended before. In force at the end is worked out from "
            "the facts as they were recorded by the end of the last day; a person can have several."
        ),
    )


def stops(
    wishes: list[Wish], speeds: list[Stop], uses: list[Use], addresses: tuple[int, int]
) -> Section:
    """Return the chapter on stops; acts of law, so no number is hidden.

    `addresses`: messages to blocked addresses, and messages that may have gone to one.
    """
    against_revocation = sum(use.number for use in uses if use.lacking == "revoked")
    known = {stop.kind: stop for stop in speeds}
    rows, findings = [], []
    for kind in STOPS:
        stop = known.get(kind, Stop(kind, 0, None, None, 0))
        against = against_revocation if kind == "revocation" else stop.against
        if not stop.number and not against:
            continue
        rows.append(
            Row(
                kind,
                STOPS[kind],
                (
                    shown(stop.number),
                    _time(stop.median_ms),
                    _time(stop.slowest_ms),
                    shown(against),
                ),
                STOP_CITATIONS[kind],
                tone="stop" if against else "",
            )
        )
        # Without an authorization after a revocation: the first chapter's finding already says so.
        if against and kind != "revocation":
            findings.append(_against(kind, against))
    certain, unsure = addresses
    if certain:
        findings.append(
            Finding(
                "message_to_blocked_address",
                f"{count_of(certain, 'message')} went to an address that was blocked at that moment.",
                "15 USC 7704(a)(4)(A)",
            )
        )
    said = sum(wish.number for wish in wishes if wish.direction == "out")
    late = sum(stop.against for stop in speeds) + against_revocation + certain
    return Section(
        "stops",
        "Opt-outs and other stops, and how fast they took effect",
        "Did anybody get a message after they had said stop?",
        "15 USC 7704(a)(4)(A); 45 CFR 164.508(b)(5), 164.514(f)(2), 164.522",
        f"{count_of(said, 'opt-out')} {'was' if said == 1 else 'were'} recorded, and "
        + (
            "nothing was handed over against a stop in force."
            if not late
            else f"{count_of(late, 'message')} went out against a stop in force."
        ),
        (
            _wishes(wishes),
            Table(
                "speed",
                "How fast stops took effect",
                "Stop",
                (
                    Column("recorded", "Recorded"),
                    Column("median_ms", "Median until in force", unit="ms"),
                    Column("slowest_ms", "Slowest", unit="ms"),
                    Column("against", "Handed over against it"),
                ),
                tuple(rows),
                note=_unsure(unsure),
                nothing="Nobody said stop in this period.",
            ),
        ),
        tuple(findings),
        method=(
            "A stop is in force for the machine from the moment it is recorded, for every message not yet marked "
            "for hand-over; the time until then is counted from the moment at which it took effect for the "
            "person. Handed over against it counts messages of the period which were marked after a stop for "
            "their purpose was recorded and before it was lifted, whatever became of them. The law allows ten "
            "business days for an opt-out. Stops that are held against an address are compared with the address "
            "the person has today, unless the record changed since."
        ),
    )


def _time(milliseconds: int | None) -> Cell | None:
    return None if milliseconds is None else Cell(milliseconds, words.duration(milliseconds))


def _against(kind: str, number: int) -> Finding:
    return Finding(
        f"message_against_{kind.partition(':')[0]}",
        f"{count_of(number, 'message')} handed over although a stop was in force "
        f"({STOPS[kind][:1].lower()}{STOPS[kind][1:]}).",
        STOP_CITATIONS[kind],
    )


def _unsure(number: int) -> str:
    if not number:
        return ""
    return (
        f"For {count_of(number, 'message')} it cannot be told whether the address was blocked: the person's record "
        "changed since, and the ledger keeps no address."
    )


def _wishes(wishes: list[Wish]) -> Table:
    labels = {"out": "Stop", "in": "Again"}
    return Table(
        "wishes",
        "What people said, and how it came",
        "Wish",
        (Column("number", "Recorded"),),
        tuple(
            Row(
                f"{wish.scope}_{wish.direction}_{wish.source}",
                f"{labels.get(wish.direction, wish.direction)}: {words.of(words.SCOPES, wish.scope)}, "
                f"{words.of(words.SOURCES, wish.source)}",
                (shown(wish.number),),
                share=share,
            )
            for wish, share in zip(wishes, bars(shown(wish.number) for wish in wishes), strict=True)
        ),
        bars="accent",
        nothing="Nobody opted out or in again in this period.",
    )
