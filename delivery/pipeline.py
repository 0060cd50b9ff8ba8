"""The road of a message on one sending address: claim, gate, compose, send, record; in sets.

The database is the queue (ADR 0008): a slice of work takes what is due until nothing is, or thirty seconds
have passed. Whatever goes wrong holds messages back; nothing is sent twice (ADR 0009).
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Sequence
from functools import cached_property

from django.conf import settings
from django.db import connection

from campaigns import audience, binding, launch
from campaigns.models import Campaign, Submission
from consent import gate
from consent.locking import database_time
from delivery import events, freeze, throttle
from delivery.compose import Letterhead, compose, letterhead
from delivery.handover import give_back, hand_over
from delivery.journal import Journal
from delivery.models import Message, SendingIP
from delivery.recover import recover
from delivery.smtp import Timeouts
from delivery.wire import Lines

SLICE_SECONDS = 30
log = logging.getLogger(__name__)


def send_slice(sending_ip_id: uuid.UUID, seconds: float = SLICE_SECONDS) -> int:
    """Send what is due on an address, for at most `seconds`; return how many messages were attempted.

    One process at a time works on an address (an advisory lock); a second returns 0 at once.
    """
    sending_ip = SendingIP.objects.get(pk=sending_ip_id)
    with throttle.alone_on(sending_ip.address) as alone:
        if not alone:
            return 0
        recover(sending_ip)
        return _slice(sending_ip, time.monotonic() + seconds)


def _slice(sending_ip: SendingIP, until: float) -> int:
    journal = Journal.open(settings.JOURNAL_DIR, sending_ip.address)
    try:
        attempted = _send_due(sending_ip, journal, until)
    except BaseException:
        # Claims may be open under it: recover() reads it the next time.
        journal.leave()
        raise
    journal.close()
    return attempted


def _send_due(sending_ip: SendingIP, journal: Journal, until: float) -> int:
    attempted, runs = 0, {}
    with asyncio.Runner() as runner:
        try:
            while time.monotonic() < until and (claimed := throttle.claim(sending_ip, journal.id)):
                campaign_id = claimed[0].campaign_id
                if campaign_id not in runs:
                    runs[campaign_id] = _Run(campaign_id, sending_ip, journal)
                attempted += runs[campaign_id].send(runner, claimed)
                # Every claim of this set is settled in the database, so its lines have served.
                journal.reset()
        finally:
            for run in runs.values():
                runner.run(run.lines.close())
    return attempted


class _Run:
    """A campaign's part of a slice: its question to the gate, its letterhead, its open connections."""

    def __init__(self, campaign_id: uuid.UUID, sending_ip: SendingIP, journal: Journal) -> None:
        self.campaign = Campaign.objects.select_related(
            "organization", "segment", "revision", "sender__domain"
        ).get(pk=campaign_id)
        self.submission: Submission = self.campaign.latest_submission()
        self.policy = binding.transport_policy(self.campaign)
        self.head: Letterhead | None = None
        self.claimed: dict[uuid.UUID, Message] = {}
        self.sending_ip = sending_ip
        self.lines = Lines(
            source_ip=sending_ip.address,
            helo=sending_ip.helo,
            policy=self.policy,
            journal=journal,
            renew=self._renew,
            timeouts=Timeouts.all(settings.SMTP_SECONDS) if settings.SMTP_SECONDS else Timeouts(),
        )

    def send(self, runner: asyncio.Runner, claimed: Sequence[Message]) -> int:
        """Take a claimed set to its end; return how many were attempted."""
        reason = self._reason()
        if reason:
            log.warning("campaign %s is held: %s", self.campaign.pk, reason)
            give_back(message.pk for message in claimed)
            launch.hold(self.campaign, reason)
            return 0
        letters, faults = compose(self.head, claimed)
        values = {pk: one.values for pk, one in letters.items()}
        self.claimed = {message.pk: message for message in claimed}
        marked = hand_over(self.question, self.campaign.pk, claimed, values, faults)
        on_the_wire = [one for pk, one in letters.items() if pk in marked]
        attempts, error = runner.run(self.lines.send(on_the_wire))
        events.record_attempts(self.campaign, self.sending_ip, self.policy, attempts)
        if error is not None:
            raise error
        return len(attempts)

    def _reason(self) -> str:
        """Return why the whole campaign may not go on, or "": the gate's word, or what does not open."""
        try:
            reason = gate.campaign_reason(
                self.question, today=gate.today(self.campaign.organization)
            )
            if not reason and self.head is None:
                self.head = letterhead(self.campaign, self.submission)
        except binding.BROKEN as error:
            log.error("campaign %s: %s", self.campaign.pk, error)
            return "broken"
        return reason

    @cached_property
    def question(self) -> gate.Ask:
        return audience.ask_for(
            self.campaign,
            tuple(self.submission.bound["tags"]),
            approved=launch.is_approved(self.campaign, self.submission, database_time()),
            sender_ready=freeze.sender_ready(self.campaign),
        )

    def _renew(self, message_id: uuid.UUID) -> bool:
        """Mark one message again; runs in a thread of its own, with a connection of its own."""
        try:
            # The message as it was composed: for the address that the person had then.
            message = self.claimed[message_id]
            return bool(hand_over(self.question, self.campaign.pk, [message]))
        finally:
            connection.close()
