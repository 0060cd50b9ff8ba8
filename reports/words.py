"""What states, reasons and kinds are called in a report: codes to plain words."""

from accounts.models import Role
from audit.actions import ACTIONS
from consent.gate import REASONS as GATE_REASONS
from consent.models import Suppression
from delivery.models import Event, Message
from delivery.replies import Kind

#: Why delivery itself holds a message back, beside the gate's reasons.
DELIVERY_REASONS = {
    "no_tls": "The recipient's server offers no encryption.",
    "missing_value": "A value that the message needs is not known of the person.",
    "unreadable": "The person's record could not be opened.",
    "too_late": "Its latest time had passed.",
}

#: Every reason for holding a message back: code to sentence, in the order of the checks.
WITHHELD = {**GATE_REASONS, **DELIVERY_REASONS}

#: Why a message failed: kinds of replies, and what delivery decides itself.
FAILED = {
    Kind.HARD_RECIPIENT.value: "The address does not exist.",
    Kind.SOFT_MAILBOX.value: "The mailbox was full or not available.",
    Kind.SOFT_NETWORK.value: "The recipient's server could not be reached.",
    Kind.CONTENT.value: "The content or its size was refused.",
    Kind.POLICY_BLOCK.value: "The recipient's server blocks our address or domain.",
    Kind.AUTH_CONFIG.value: "The recipient's server found our authentication lacking.",
    Kind.TLS_POLICY.value: "The encryption that was asked for could not be agreed on.",
    Kind.PROTOCOL_BUG.value: "The servers misunderstood each other.",
    Kind.UNKNOWN.value: "The recipient's server refused it without a known reason.",
    "expired": "It could not be delivered before its latest time.",
    "not_arrived": "Somebody found out that it did not arrive.",
    "failed": "The recipient's server refused it.",
}

STATES = {
    Message.State.SENT.value: "Sent",
    Message.State.WITHHELD.value: "Held back",
    Message.State.FAILED.value: "Failed",
    Message.State.DEFERRED.value: "Waiting, will try again",
    Message.State.IN_DOUBT.value: "Unclear: may have arrived",
    Message.State.CANCELLED.value: "Cancelled",
    "waiting": "On its way",
}

VERIFIED = {
    "pkix": "Certificate verified (PKIX)",
    "dane": "Certificate verified (DANE)",
    "none": "Encrypted, server not authenticated",
    "": "No receipt",
}

SOURCES = {
    "paper": "on paper",
    "phone": "by phone",
    "import": "by import",
    "one_click": "one click in the mail",
    "page": "on the web page",
    "bounce": "from a bounce",
    "complaint": "from a complaint",
    "staff": "by staff",
}

SCOPES = {
    "all": "everything but what is owed to them",
    "commercial": "promotion",
    "fundraising": "fundraising",
    "care": "health information",
    "tracking": "measuring opens and clicks",
}

SUPPRESSIONS = {reason.value: f"Address {reason.label}" for reason in Suppression.Reason} | {
    Suppression.Reason.HARD_BOUNCE.value: "The address does not exist",
    Suppression.Reason.COMPLAINT.value: "Reported as spam",
    Suppression.Reason.MANUAL.value: "Blocked by staff",
}

#: What counts as access to protected health information in the log (164.312(b)).
ACCESS = {
    "contact.viewed": "Contacts",
    "contact.searched": "Searches",
    "contact.explained": "May-we-write",
    "message.viewed": "Messages",
    "file.read": "Files",
    "export.made": "Exports",
}
ROLES = dict(Role.choices)
EVENTS = {event.value: event.label[:1].upper() + event.label[1:] for event in Event.Type}


def of(table: dict[str, str], code: str) -> str:
    """Return what a code is called; one that the table lacks is shown as it is, never left out."""
    return table.get(code) or code.replace("_", " ").capitalize() or "Not said"


def did(action: str) -> str:
    """Return what an action of the log says, with a capital letter."""
    return of(ACTIONS, action)[:1].upper() + of(ACTIONS, action)[1:]


def count_of(number: int, one: str, many: str = "") -> str:
    """Return "1 message" or "2,000 messages"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(milliseconds: int) -> str:
    """Return a time in words of the fitting size: "at once", "20 ms", "4 min"."""
    if milliseconds == 0:
        return "at once"
    for size, unit in ((86_400_000, "days"), (3_600_000, "h"), (60_000, "min"), (1000, "s")):
        if milliseconds >= 2 * size:
            return f"{milliseconds / size:,.0f} {unit}"
    return f"{milliseconds:,} ms"


def listed(items: list[str]) -> str:
    """Return "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
