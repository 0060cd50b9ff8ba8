"""The main job, step by step: a CSV comes in, a campaign goes out, a compliance report comes of it."""

import datetime as dt
import json
import os
import re
import secrets
import shutil
import time
import urllib.request
import uuid
from collections import Counter
from dataclasses import dataclass, field
from email import message_from_bytes
from pathlib import Path
from typing import Any

import dkim
from django.conf import settings
from django.db.models import Count

from accounts.models import Role
from audit.models import Entry
from audit.seal import seal
from audit.verify import verify
from campaigns import audience, edit, launch
from campaigns.models import Campaign
from consent.gate import REASONS
from consent.locking import database_time
from consent.models import OptOut
from contacts import segments
from contacts.models import Contact, Import
from delivery import domains, unsubscribe
from delivery.compose import letter, letterhead
from delivery.models import Message, Receipt
from delivery.verp import read as read_verp
from demo import people, world
from demo.mailbox import Received, read_all
from demo.servers import Servers, free_port, state
from demo.showing import Bar, say, step
from files import staging
from reports import compliance

#: How long the demo waits for what the receiving servers deferred.
WAIT_SECONDS = 60
#: How long it waits for everything else, whatever the file's size.
STALL_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Box:
    """What our own receiving server got, sealed under a key that only this process holds."""

    directory: Path
    key: bytes

    def received(self) -> list[Received]:
        """Return the messages in order of arrival."""
        return list(read_all(self.directory, self.key))


@dataclass
class Run:
    """What the steps hand on to each other."""

    stage: world.Stage
    servers: Servers
    box: Box | None
    began: float = field(default_factory=time.monotonic)
    imported: Import | None = None
    campaign: Campaign | None = None
    #: Nobody may be written to, so nothing was handed in and nothing sent.
    is_over: bool = False


def run(contacts: Path | None, segment: dict[str, Any] | None) -> dict[str, Any]:
    """Do the main job and return its numbers; the caller prints them.

    `contacts`: a CSV in place of the invented one. `segment`: criteria (docs/segments.md) in place of everyone.
    """
    content = contacts.read_bytes() if contacts else people.csv_of_today()
    stage = world.stage_for_file(content) if contacts else world.stage(*world.FIRST)
    name = contacts.name if contacts else "extract-of-today.csv"
    with Servers() as servers:
        box = _receiving_server(servers)
        port = free_port()
        environment = {
            "HIPAAMAIL_ROUTES": settings.HIPAAMAIL_ROUTES,
            "HIPAAMAIL_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "HIPAAMAIL_RETRY_FIRST_SECONDS": os.environ.get("HIPAAMAIL_RETRY_FIRST_SECONDS", "3"),
            "HIPAAMAIL_SMTP_SECONDS": os.environ.get("HIPAAMAIL_SMTP_SECONDS", "10"),
        }
        settings.PUBLIC_URL = environment["HIPAAMAIL_PUBLIC_URL"]
        servers.workers(environment)
        servers.web(port, environment)
        job = Run(stage, servers, box)
        bring_in(job, name, content)
        prepare(job, segment)
        approve(job)
        if not job.is_over:
            send(job)
            look(job)
            stop_one(job)
        report(job)
        return count(job)


def _receiving_server(servers: Servers) -> Box | None:
    """Start a receiving server of our own, unless HIPAAMAIL_ROUTES names one."""
    if settings.HIPAAMAIL_ROUTES:
        say(f"Mail goes to the server that HIPAAMAIL_ROUTES names: {settings.HIPAAMAIL_ROUTES}")
        return None
    # What earlier runs left there is sealed under keys that nobody has any more.
    shutil.rmtree(state("received"), ignore_errors=True)
    state("received").mkdir(mode=0o700)
    box = Box(state("received") / uuid.uuid4().hex, secrets.token_bytes(32))
    own = servers.receive(
        box.directory, box.key, defer=[people.DEFERS], reject=[people.REJECTS], defer_seconds=2
    )
    settings.HIPAAMAIL_ROUTES = (
        f"*={own.host}:{own.port},{people.NO_TLS}={own.host}:{own.plain_port}"
    )
    return box


def bring_in(job: Run, name: str, content: bytes) -> None:
    """Import the file."""
    step(1, f"Import {name}")
    with Bar("Importing") as bar:
        job.imported = world.import_file(job.stage, name, content, bar)
    done = job.imported
    say(
        f"{done.rows:,} rows: {done.created:,} new, {done.updated:,} changed, {done.unchanged:,} unchanged, "
        f"{done.rejected:,} set aside"
    )
    for (column, sentence), number in Counter((p[1], p[3]) for p in done.problems).items():
        say(f"{number:>6,}  set aside: {column}: {sentence}")
    for warning in done.plan.get("warnings", []):
        say(f"        note: {warning}")


def prepare(job: Run, criteria: dict[str, Any] | None) -> None:
    """Make segment and campaign, as the marketer."""
    organization, marketer = job.stage.organization, job.stage.staff[Role.MARKETER]
    criteria = segments.EVERYONE if criteria is None else criteria
    step(2, "Segment: " + segments.describe(organization, criteria))
    now = database_time()
    label = now.strftime("%Y-%m-%d %H:%M:%S.%f")
    segment = segments.create(organization, f"Demo {label}", criteria, by=marketer)
    job.campaign = edit.create(
        organization,
        f"Flu season {label}",
        by=marketer,
        purpose="MARKETING",
        segment=segment,
        revision=job.stage.revision,
        sender=job.stage.sender,
        send_at=now + dt.timedelta(hours=1),
    )
    counted = audience.count(job.campaign)
    step(3, f"Audience: {counted.total:,} people match, {counted.reachable:,} may be written to")
    for reason, number in counted.withheld.items():
        say(f"{number:>6,}  {REASONS[reason]}")


def approve(job: Run) -> None:
    """Hand in as the marketer, try to approve one's own work, then approve as somebody else and schedule."""
    marketer, approver = job.stage.staff[Role.MARKETER], job.stage.staff[Role.APPROVER]
    step(4, "Approval")
    try:
        submission = launch.submit(job.campaign, by=marketer)
    except launch.Refused as error:
        if error.code != "nobody_reachable":
            raise
        job.is_over = True
        say(str(error))
        return
    seen = bytes(submission.content_hash)
    try:
        launch.approve(job.campaign, by=marketer, seen_hash=seen)
    except launch.Refused as error:
        say(f"{marketer} tries to approve it alone: refused. {error}")
    launch.approve(job.campaign, by=approver, seen_hash=seen, comment="Read, and fit to send.")
    say(f"{approver} approves {seen.hex()[:16]}…, for at most {submission.ceiling:,} people")
    launch.schedule(job.campaign, at=database_time(), by=approver)


def send(job: Run) -> None:
    """Wait while the workers send."""
    step(5, "Send, over TLS or not at all")
    messages = Message.objects.filter(campaign=job.campaign)
    total, moved_at, last, quiet_since = 0, time.monotonic(), None, None
    with Bar("Sending") as bar:
        while True:
            for name in job.servers.revive():
                say(f"{name} has died; started again")
            states = Counter(dict(messages.values_list("state").annotate(Count("pk"))))
            total = sum(states.values())
            waiting = sum(states[s] for s in ("queued", "claimed", "handing_over"))
            if states != last:
                last, moved_at = states, time.monotonic()
            if total:
                bar(total - waiting - states["deferred"], total)
            quiet = bool(total) and not waiting
            # From when everybody was tried once: retries in between do not begin the wait anew.
            if quiet and quiet_since is None:
                quiet_since = time.monotonic()
            if quiet and not states["deferred"]:
                break
            if quiet_since is not None and time.monotonic() - quiet_since > WAIT_SECONDS:
                break
            if time.monotonic() - moved_at > STALL_SECONDS:
                job.campaign.refresh_from_db()
                say(
                    f"Nothing moves; the campaign is {job.campaign.status}. {job.campaign.held_reason}"
                )
                break
            time.sleep(0.1)
    for state_, number in sorted(states.items()):
        say(f"{number:>6,}  {Message.State(state_).label}")


def look(job: Run) -> None:
    """Look at what the receiving server got."""
    step(6, "What the receiving server got")
    if job.box is None:
        say("It is not ours, so it is looked at there.")
        return
    received = of_campaign(job)
    if others := len(job.box.received()) - len(received):
        say(f"{others:>6,}  messages of earlier runs, which had been deferred")
    by_address = Counter(one.peer_ip for one in received)
    for address, number in sorted(by_address.items()):
        say(f"{number:>6,}  messages from {address}")
    if received:
        headers = message_from_bytes(received[-1].message)
        for name in ("From", "Subject", "List-Unsubscribe-Post"):
            say(f"{name}: {headers[name]}")


def of_campaign(job: Run) -> list[Received]:
    """Return what our receiving server got of this run's campaign."""
    ours = set(Message.objects.filter(campaign=job.campaign).values_list("pk", flat=True))
    return [
        one
        for one in job.box.received()
        if read_verp(one.envelope_from, settings.TOKEN_KEY) in ours
    ]


def stop_one(job: Run) -> None:
    """One recipient says stop, by the header's address, as a mail program does it (RFC 8058)."""
    step(7, "One recipient unsubscribes in one click")
    message = _somebody(job)
    if message is None:
        say("Nobody got a message.")
        return
    request = urllib.request.Request(  # noqa: S310 - our own web server
        _stop_address(job, message), data=b"List-Unsubscribe=One-Click", method="POST"
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        status = answer.status
    facts = OptOut.objects.filter(contact_id=message.contact_id, source="one_click").count()
    say(f"answered {status}; opt-outs on record for that person: {facts}")
    if status != 200 or not facts:
        raise RuntimeError("The opt-out was not recorded.")


def _somebody(job: Run) -> Message | None:
    return Message.objects.filter(campaign=job.campaign, state="sent").order_by("pk").first()


def _stop_address(job: Run, message: Message) -> str:
    """Return the address in the received mail's header; from a server that is not ours, the one we sent."""
    for one in job.box.received() if job.box else ():
        if read_verp(one.envelope_from, settings.TOKEN_KEY) == message.pk:
            return re.fullmatch(
                r"<(https?://[^>]+)>", message_from_bytes(one.message)["List-Unsubscribe"]
            )[1]
    return unsubscribe.url(message.pk)


def report(job: Run) -> None:
    """Make the compliance report as the administrator, and leave it and the DNS records in the state directory."""
    step(8, "Compliance report")
    organization, administrator = job.stage.organization, job.stage.staff[Role.ADMINISTRATOR]
    seal()
    today = database_time().astimezone(organization.zone).date()
    made = compliance.make(organization, today.replace(day=1), today, by=administrator)
    for kind, file in made.items():
        path = state(f"compliance-report.{kind}")
        path.write_bytes(staging.read_all(file, by=administrator))
        path.chmod(0o600)
        say(str(path))
    path = state("dns_records.json")
    path.write_text(json.dumps(domains.records(organization), indent=2, sort_keys=True) + "\n")
    say(str(path))


def count(job: Run) -> dict[str, Any]:
    """Return the numbers of the run, each from the ledger, the receipts, the receiving server or the log."""
    messages = Message.objects.filter(campaign=job.campaign)
    states = Counter(dict(messages.values_list("state").annotate(Count("pk"))))
    withheld = (
        audience.count(job.campaign).withheld
        if job.is_over
        else dict(messages.filter(state="withheld").values_list("reason").annotate(Count("pk")))
    )
    receipts = Receipt.objects.filter(message__campaign=job.campaign, state="sent")
    organization = job.stage.organization
    # Everything that was recorded so far is sealed, so that nothing can be cut off unnoticed.
    seal()
    verification = verify()
    return {
        "rows": job.imported.rows,
        "rejected": job.imported.rejected,
        "contacts": Contact.objects.filter(organization=organization, standing="active").count(),
        "audience": segments.count(organization, audience.criteria_of(job.campaign)),
        "withheld": dict(sorted(withheld.items())),
        "sent": states["sent"],
        "tls": receipts.exclude(tls_version="").count(),
        "portal": 0,
        "failed": states["failed"],
        "deferred": sum(states[s] for s in Message.OPEN),
        "in_doubt": states["in_doubt"],
        "sending_ips": dict(
            sorted(receipts.values_list("sending_ip").annotate(Count("message", distinct=True)))
        ),
        "dkim_valid": dkim_valid(job),
        "audit_entries": Entry.objects.count(),
        "audit_verified": verification.ok,
        "report_pdf": str(state("compliance-report.pdf")),
        "seconds": round(time.monotonic() - job.began, 1),
    }


def adds_up(numbers: dict[str, Any]) -> list[str]:
    """Return what does not add up, in words; empty when all of it does."""
    parts = sum(numbers[name] for name in ("sent", "failed", "deferred", "in_doubt"))
    checks = {
        "audience = sent + withheld + failed + deferred + in_doubt": numbers["audience"]
        == parts + sum(numbers["withheld"].values()),
        "sent = over TLS": numbers["sent"] == numbers["tls"] + numbers["portal"],
        "sent = sum over the sending addresses": numbers["sent"]
        == sum(numbers["sending_ips"].values()),
        "every DKIM signature is valid": numbers["dkim_valid"] is True,
        "the audit log verifies": numbers["audit_verified"] is True,
        "the report is there": Path(numbers["report_pdf"]).is_file(),
    }
    return [claim for claim, true in checks.items() if not true]


def dkim_valid(job: Run) -> bool:
    """Say whether all messages that our receiving server got verify, one for each person.

    From a server that is not ours nothing can be read, so a message is composed anew and verified.
    """
    records = {
        name.encode() + b".": value["TXT"].encode()
        for name, value in domains.records(job.stage.organization).items()
        if "TXT" in value
    }

    def look_up(name: bytes, timeout: int = 5) -> bytes | None:
        return records.get(name)

    if job.box is None:
        return all(dkim.verify(data, dnsfunc=look_up) for data in _composed_again(job))
    received = of_campaign(job)
    sent = set(
        Message.objects.filter(campaign=job.campaign, state="sent").values_list("pk", flat=True)
    )
    got = [read_verp(one.envelope_from, settings.TOKEN_KEY) for one in received]
    return (
        len(got) == len(set(got))
        and sent <= set(got)
        and all(dkim.verify(one.message, dnsfunc=look_up) for one in received)
    )


def _composed_again(job: Run) -> list[bytes]:
    head = letterhead(job.campaign, job.campaign.latest_submission())
    sent = Message.objects.filter(campaign=job.campaign, state="sent").select_related("contact")
    return [letter(head, message, message.contact).data for message in sent[:20]]
