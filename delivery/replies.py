"""What a mail server's reply means, and what follows from it.

The first digit of the basic code decides whether a message may be tried again (RFC 5321 4.2.1); the
enhanced code (RFC 3463, RFC 5248 registry) decides whose fault it is. Some operators use registered
codes in a sense of their own, so (operator, code) is looked up before the registry. Reply texts are
written by strangers: they refine an answer that the codes leave open and never overrule one.
"""

import enum
import random as random_module
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

TEXT_LIMIT = 500

_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s|$)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


@dataclass(frozen=True, slots=True, repr=False)
class Reply:
    """One reply of a server, or of ourselves where `local`.

    `text` may quote an address or a name: keep it in an encrypted column only. It is absent from
    `str()` and `repr()`, so a reply that ends up in a log says no more than its codes.
    """

    code: int
    enhanced: str = ""
    text: str = ""
    local: bool = False

    @classmethod
    def of_lines(cls, code: int, lines: Sequence[bytes]) -> "Reply":
        """Make a reply of its code and the rest of each of its lines (after `250-` or `250 `)."""
        texts = []
        enhanced = ""
        for line in lines:
            text = line.decode("utf-8", "replace")
            if match := _ENHANCED.match(text):
                enhanced = enhanced or match[1]
                text = text[match.end() :]
            texts.append(text)
        text = _CONTROL.sub(" ", " ".join(texts)).strip()
        return cls(code, enhanced, text[:TEXT_LIMIT])

    @property
    def positive(self) -> bool:
        return self.code // 100 == 2

    @property
    def temporary(self) -> bool:
        return self.code // 100 == 4

    @property
    def permanent(self) -> bool:
        return self.code // 100 == 5

    def __str__(self) -> str:
        return f"{self.code} {self.enhanced}".strip()

    def __repr__(self) -> str:
        return f"<Reply {self}{' local' if self.local else ''}>"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server took the message and answers for it."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Rejected:
    """The message was refused for good, by the server or (`reply.local`) by ourselves."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Deferred:
    """The message was not taken this time.

    again: the connection had ended before anything was said of this message; it may go at once
    over a new one. Nothing of its content left.
    """

    reply: Reply
    again: bool = False


@dataclass(frozen=True, slots=True)
class InDoubt:
    """The whole content left, and no answer came that can be understood.

    why: "closed", "timeout" or "nonsense".
    """

    why: str
    reply: None = None


Outcome = Accepted | Rejected | Deferred | InDoubt


class Kind(enum.StrEnum):
    """Whose fault a refusal is."""

    HARD_RECIPIENT = "hard_recipient"
    SOFT_MAILBOX = "soft_mailbox"
    SOFT_NETWORK = "soft_network"
    CONTENT = "content"
    POLICY_BLOCK = "policy_block"
    AUTH_CONFIG = "auth_config"
    TLS_POLICY = "tls_policy"
    PROTOCOL_BUG = "protocol_bug"
    UNKNOWN = "unknown"


class Action(enum.StrEnum):
    """What the delivery side does about it, beside trying again or not."""

    SUPPRESS = "suppress"  # write to this address no more, after `suppress_after` of these
    RETRY = "retry"  # this recipient later
    BACK_OFF = "back_off"  # this destination later
    STOP_TEMPLATE = "stop_template"  # the message itself is refused; no other copy will fare better
    PAUSE_POOL = "pause_pool"  # our addresses are distrusted
    PAUSE_STREAM = "pause_stream"  # our domain's records are wrong
    FALL_BACK = "fall_back"  # to the next transport allowed, never to clear text
    PAGE = "page"  # we broke the protocol
    REVIEW = "review"  # a person looks; nothing is suppressed


@dataclass(frozen=True, slots=True)
class Verdict:
    """The meaning of a refusal, as data.

    retry: the same message may be tried again (the basic code was 4yz).
    suppress_after: suppress the address on the n-th such verdict; 0 is never.
    suppress_over: the first and the n-th must lie at least this far apart.
    incident: the address may have changed hands; earlier messages may have reached a stranger.
    """

    kind: Kind
    retry: bool
    action: Action
    suppress_after: int = 0
    suppress_over: timedelta = timedelta(0)
    alert: bool = False
    incident: bool = False


# Subject and detail of the enhanced code (RFC 3463 3.2-3.8 and the IANA registry) → kind.
_REGISTRY: dict[str, Kind] = {
    **dict.fromkeys(["1.1", "1.2", "1.3", "1.4", "1.6", "1.10"], Kind.HARD_RECIPIENT),
    **dict.fromkeys(["7.13", "7.17", "7.18"], Kind.HARD_RECIPIENT),
    **dict.fromkeys(["2.0", "2.2", "2.4", "3.1"], Kind.SOFT_MAILBOX),
    **dict.fromkeys(["3.0", "3.2", "3.5"], Kind.SOFT_NETWORK),
    **dict.fromkeys(["4.0", "4.1", "4.2", "4.3", "4.4", "4.5", "4.7"], Kind.SOFT_NETWORK),
    **dict.fromkeys(["2.3", "3.3", "3.4"], Kind.CONTENT),
    **dict.fromkeys([f"6.{detail}" for detail in range(11)], Kind.CONTENT),
    "7.28": Kind.POLICY_BLOCK,
    **dict.fromkeys(["1.7", "1.8", "7.29", "7.31", "7.32", "7.40", "7.515"], Kind.AUTH_CONFIG),
    **dict.fromkeys([f"7.{detail}" for detail in range(20, 28)], Kind.AUTH_CONFIG),
    **dict.fromkeys(["7.5", "7.10", "7.11", "7.30"], Kind.TLS_POLICY),
    **dict.fromkeys([f"5.{detail}" for detail in range(7)], Kind.PROTOCOL_BUG),
}

# Where the meaning depends on the first digit: (digit, subject.detail) wins over the table above.
_BY_DIGIT: dict[tuple[int, str], Kind] = {
    (5, "2.1"): Kind.HARD_RECIPIENT,  # disabled for good
    (4, "2.1"): Kind.SOFT_MAILBOX,  # disabled, or written to too often, for now
    **{(4, f"1.{detail}"): Kind.SOFT_MAILBOX for detail in (1, 3, 4, 6)},
    (4, "1.2"): Kind.SOFT_NETWORK,
    (4, "7.1"): Kind.SOFT_MAILBOX,  # how greylisting is usually spelled (RFC 6647)
    (4, "7.0"): Kind.SOFT_NETWORK,
}

_BASIC: dict[int, Kind] = {
    421: Kind.SOFT_NETWORK,
    450: Kind.SOFT_MAILBOX,
    451: Kind.SOFT_NETWORK,
    452: Kind.SOFT_MAILBOX,
    454: Kind.TLS_POLICY,
    **dict.fromkeys([500, 501, 502, 503, 504, 555], Kind.PROTOCOL_BUG),
    530: Kind.TLS_POLICY,  # "must issue STARTTLS first" (RFC 3207 4)
    552: Kind.SOFT_MAILBOX,
    556: Kind.HARD_RECIPIENT,  # RFC 7504, RFC 7505
}

# What an operator means by a code, where that is not what the registry says.
_OPERATORS: dict[str, dict[str, Kind]] = {
    # Google documents 7.27 SPF, 7.29 no TLS, 7.30 DKIM; the registry has null MX, ARC, REQUIRETLS.
    "google.com": dict.fromkeys(["7.27", "7.29", "7.30"], Kind.AUTH_CONFIG),
    "outlook.com": {
        "4.1": Kind.HARD_RECIPIENT,  # directory-based blocking of unknown recipients
        "7.500": Kind.SOFT_NETWORK,
        "7.509": Kind.AUTH_CONFIG,
        "7.511": Kind.POLICY_BLOCK,
        "7.708": Kind.POLICY_BLOCK,
        **dict.fromkeys([f"7.{detail}" for detail in range(606, 652)], Kind.POLICY_BLOCK),
    },
    "yahoodns.net": {"7.9": Kind.POLICY_BLOCK},
}

# Codes that say nothing by themselves: here, and only here, the text is read.
_VAGUE = {"", "0.0", "1.0", "7.0", "7.1", "7.9"}
_TEXTS: list[tuple[re.Pattern[str], Kind]] = [
    (re.compile(r"\b(spf|dkim|dmarc|ptr)\b|reverse dns|sender (address|domain)"), Kind.AUTH_CONFIG),
    (
        re.compile(
            r"block(ed|ing|[ -]?list)|blacklist|\b(dns|r)bls?\b|spamhaus|unsolicited|reputation|"
            r"\bbanned\b|(unusual|too high) rate|policy reasons"
        ),
        Kind.POLICY_BLOCK,
    ),
    (re.compile(r"\bspam\b|\bvirus\b|message content|content (denied|rejected)"), Kind.CONTENT),
    (re.compile(r"relay"), Kind.UNKNOWN),
    (re.compile(r"gr[ea]y.?list"), Kind.SOFT_MAILBOX),
    (re.compile(r"\b(start)?tls\b.{0,20}(required|first)|encryption required"), Kind.TLS_POLICY),
    (re.compile(r"(over|exceed).{0,20}quota|quota exceeded|mailbox.{0,20}full"), Kind.SOFT_MAILBOX),
]
_NO_SUCH_USER = re.compile(
    r"no such (user|mailbox|recipient|address|account)|(user|recipient|mailbox|account) unknown|"
    r"unknown (user|recipient|mailbox|account)|"
    r"(user|mailbox|recipient|account|address)\b.{0,40}(not found|do(es)? ?n['o]t exist|"
    r"does not exist|has been disabled|is inactive|is closed)|invalid (recipient|mailbox)|"
    r"not a valid (user|mailbox|recipient)"
)

_ACTIONS: dict[Kind, Action] = {
    Kind.HARD_RECIPIENT: Action.SUPPRESS,
    Kind.SOFT_MAILBOX: Action.RETRY,
    Kind.SOFT_NETWORK: Action.BACK_OFF,
    Kind.CONTENT: Action.STOP_TEMPLATE,
    Kind.POLICY_BLOCK: Action.PAUSE_POOL,
    Kind.AUTH_CONFIG: Action.PAUSE_STREAM,
    Kind.TLS_POLICY: Action.FALL_BACK,
    Kind.PROTOCOL_BUG: Action.PAGE,
}
_ALERTING = {Kind.CONTENT, Kind.POLICY_BLOCK, Kind.AUTH_CONFIG, Kind.PROTOCOL_BUG}


def classify(reply: Reply, operator: str | None = None) -> Verdict:
    """Say what a refusal means.

    Args:
        reply: a 4yz or 5yz reply, a server's or our own.
        operator: who runs the mail exchanger, as `mx.operator()` names it ("google.com").

    Raises:
        ValueError: the reply is no refusal.
    """
    digit = reply.code // 100
    if digit not in (4, 5):
        raise ValueError(f"{reply.code} is no refusal")
    # A class digit that contradicts the basic code is ignored; the basic code is the protocol.
    detail = reply.enhanced.partition(".")[2]
    kind, by_text = _kind(reply, digit, detail, operator)
    if kind is Kind.HARD_RECIPIENT and digit == 4:
        kind = Kind.SOFT_MAILBOX
    action = _ACTIONS.get(kind) or (Action.RETRY if digit == 4 else Action.REVIEW)
    if detail == "6.7":  # no SMTPUTF8 there: this recipient's address, not the template (RFC 6531)
        action = Action.REVIEW
    after, over = _suppression(kind, detail, by_text)
    return Verdict(
        kind=kind,
        retry=digit == 4,
        action=action,
        suppress_after=after,
        suppress_over=over,
        alert=kind in _ALERTING and detail != "6.7",
        incident=detail == "7.17",  # RFC 7293: the mailbox has another owner now
    )


def _kind(reply: Reply, digit: int, detail: str, operator: str | None) -> tuple[Kind, bool]:
    """Find the kind, and whether it was read out of the text or an ambiguous code."""
    if operator and (kind := _OPERATORS.get(operator, {}).get(detail)):
        ambiguous = kind is Kind.HARD_RECIPIENT
        if digit == 5 or not ambiguous:
            return kind, ambiguous
    if detail in _VAGUE:
        text = reply.text.lower()
        for pattern, kind in _TEXTS:
            if pattern.search(text):
                return kind, True
        if digit == 5 and detail in ("", "0.0", "1.0") and _NO_SUCH_USER.search(text):
            return Kind.HARD_RECIPIENT, True
    kind = _BY_DIGIT.get((digit, detail)) or _REGISTRY.get(detail)
    if kind is None and (not detail or digit == 4):
        kind = _BASIC.get(reply.code)
    return kind or Kind.UNKNOWN, False


def _suppression(kind: Kind, detail: str, by_text: bool) -> tuple[int, timedelta]:
    if kind is Kind.HARD_RECIPIENT:
        # A disabled mailbox may be enabled again, and a text may be misread: the second time counts.
        return (2 if detail == "2.1" or by_text else 1), timedelta(0)
    if kind is Kind.SOFT_MAILBOX:
        return 5, timedelta(days=14)
    return 0, timedelta(0)


def retry_after(
    attempt: int, *, scale: float = 1.0, random: Callable[[], float] = random_module.random
) -> timedelta:
    """Say how long to wait after the `attempt`-th (from 1) deferral.

    Five minutes first, long enough for a greylist; then half an hour, doubling to four hours
    (RFC 5321 4.5.4.1). Up to half as much again is added, so that what was deferred together does
    not come back together. `scale` shrinks everything, for demonstrations.

    Raises:
        ValueError: attempt below 1 or scale not positive.
    """
    if attempt < 1 or scale <= 0:
        raise ValueError("attempt counts from 1 and scale is positive")
    minutes = 5 if attempt == 1 else min(30 * 2 ** min(attempt - 2, 10), 240)
    return timedelta(minutes=minutes * (1 + random() / 2) * scale)
