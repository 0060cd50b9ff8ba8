"""The report's chapters on how messages travelled and on what came back; about servers, so nothing is hidden."""

from collections import Counter
from collections.abc import Mapping

from consent.models import Suppression
from delivery.models import Event
from reports import words
from reports.counted import counted
from reports.document import Column, Finding, Row, Section, Table
from reports.ledger import Encryption
from reports.small_cells import shown
from reports.words import count_of

GOOD_TLS = frozenset({"TLSv1.2", "TLSv1.3"})


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
