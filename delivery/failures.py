"""Why no message went over a connection: nothing of one left, whichever of these it was."""

from delivery.replies import Reply


class NotSent(Exception):
    """There is no connection over which a message may go; nothing of one left.

    `reply` says why, as the server did or as a server might have. Its text is not in `str()`.
    """

    enhanced = "4.4.2"

    def __init__(self, why: str, reply: Reply | None = None, *, code: int = 421) -> None:
        self.reply = reply or Reply(code, self.enhanced, why, local=True)
        super().__init__(why)

    @property
    def temporary(self) -> bool:
        """Whether trying again later may help."""
        return not self.reply.permanent


class Unreachable(NotSent):
    """No connection came about, or it was lost or too slow before a message could be sent."""

    enhanced = "4.4.1"


class NoSource(Unreachable):
    """The sending address does not belong to this machine: our fault, not the receiver's."""

    enhanced = "4.3.5"


class Refused(NotSent):
    """The server does not want to talk to us; `reply` is its own."""


class Nonsense(NotSent):
    """The server does not speak SMTP, or too much of it."""


class NoTLS(NotSent):
    """The server has no TLS for us. offered: it listed STARTTLS and then refused it."""

    enhanced = "5.7.10"

    def __init__(self, why: str, reply: Reply | None = None, *, offered: bool = False) -> None:
        self.offered = offered
        super().__init__(why, reply, code=554)


class TLSFailed(NotSent):
    """TLS could not be agreed on. reason: a result type of RFC 8460 4.3."""

    enhanced = "4.7.5"

    def __init__(self, why: str, reason: str = "validation-failure") -> None:
        self.reason = reason
        super().__init__(why, code=454)


class Injected(TLSFailed):
    """Clear bytes came behind the server's go-ahead for TLS: somebody may stand in between."""


class Lost(Exception):
    """The connection ended ("closed") or was too slow ("timeout")."""
