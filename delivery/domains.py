"""Sending domains: their keys, the records to publish, and whether they are there."""

import datetime as dt
import hashlib

from django.db import transaction

from accounts.models import Organization, SendingDomain, User
from audit.record import record
from consent.locking import database_time
from delivery import dkim, mx
from delivery.models import DkimKey, SendingIP

#: What a receiver needs to see before bulk mail is accepted; MTA-STS and TLS-RPT are good to have.
NEEDED = ("dkim", "spf", "dmarc", "return_path")


@transaction.atomic
def add_domain(organization: Organization, domain: str, *, by: User | str) -> SendingDomain:
    """Add a domain to send from, with a bounce domain below it and a signing key.

    Raises mx.BadDomain when it is none.
    """
    name = mx.a_label(domain)
    row = SendingDomain.objects.create(
        organization=organization, domain=name, bounce_domain=f"bounce.{name}"
    )
    use_key(new_key(row, by=by), by=by)
    record("domain.created", organization_id=organization.pk, by=by, target=row)
    return row


@transaction.atomic
def new_key(domain: SendingDomain, *, by: User | str) -> DkimKey:
    """Make the domain's next DKIM key (RSA 2048, RFC 8301); publish its record, then `use_key` it."""
    private, public = dkim.new_key()
    key = DkimKey.objects.create(
        organization_id=domain.organization_id,
        domain=domain,
        selector=f"hm{domain.dkim_keys.count() + 1}",
        private_pem=private.decode(),
        public_txt=public,
    )
    record("key.created", organization_id=domain.organization_id, by=by, target=key)
    return key


@transaction.atomic
def use_key(key: DkimKey, *, by: User | str) -> None:
    """Sign with this key from now on; the one before stays published until it is retired."""
    DkimKey.objects.filter(pk=key.pk).update(used_from=database_time())
    record("key.rotated", organization_id=key.organization_id, by=by, target=key)


@transaction.atomic
def retire_key(key: DkimKey, *, by: User | str) -> None:
    """Stop publishing a key; raises ValueError for the one that signs."""
    signing = key.domain.dkim_keys.filter(retired_at__isnull=True, used_from__isnull=False).latest(
        "used_from"
    )
    if signing.pk == key.pk:
        raise ValueError("This key signs; use another one first.")
    DkimKey.objects.filter(pk=key.pk).update(retired_at=database_time())
    record("key.destroyed", organization_id=key.organization_id, by=by, target=key)


def records(organization: Organization) -> dict[str, dict[str, str]]:
    """Return what to publish: {name: {type: value}}, for all sending domains of an organization."""
    published: dict[str, dict[str, str]] = {}
    addresses = list(SendingIP.objects.filter(organization=organization).order_by("address"))
    for domain in SendingDomain.objects.filter(organization=organization).order_by("domain"):
        for _, name, kind, value in _records_of(domain, addresses):
            published.setdefault(name, {})[kind] = value
    return published


def _records_of(
    domain: SendingDomain, addresses: list[SendingIP]
) -> list[tuple[str, str, str, str]]:
    """Return (what, name, type, value) of one domain."""
    name, bounce = domain.domain, domain.bounce_domain
    senders = " ".join(
        f"ip{6 if ':' in address.address else 4}:{address.address}" for address in addresses
    )
    rows = [
        ("dkim", f"{key.selector}._domainkey.{name}", "TXT", key.public_txt)
        for key in domain.dkim_keys.filter(retired_at__isnull=True).order_by("selector")
    ]
    rows += [
        # RFC 7208: SPF is looked up at the envelope sender's domain, the bounce domain.
        ("spf", bounce, "TXT", f"v=spf1 {senders} -all".replace("  ", " ")),
        # RFC 9989: no pct, rf or ri any more.
        (
            "dmarc",
            f"_dmarc.{name}",
            "TXT",
            f"v=DMARC1; p=quarantine; adkim=s; aspf=r; rua=mailto:dmarc@{name}",
        ),
        ("tls_rpt", f"_smtp._tls.{bounce}", "TXT", f"v=TLSRPTv1; rua=mailto:tls@{name}"),
    ]
    if addresses:
        host = addresses[0].helo
        policy = mta_sts_policy(host)
        policy_id = hashlib.sha256(policy.encode()).hexdigest()[:16]
        rows += [
            ("return_path", bounce, "MX", f"10 {host}."),
            ("mta_sts", f"_mta-sts.{bounce}", "TXT", f"v=STSv1; id={policy_id}"),
            ("mta_sts_host", f"mta-sts.{bounce}", "CNAME", f"{host}."),
        ]
    for address in addresses:
        kind = "AAAA" if ":" in address.address else "A"
        rows.append(("helo", address.helo, kind, address.address))
    return rows


def mta_sts_policy(host: str) -> str:
    """Return the policy to serve at https://mta-sts.<bounce domain>/.well-known/mta-sts.txt (RFC 8461, 3.2)."""
    return f"version: STSv1\r\nmode: enforce\r\nmx: {host}\r\nmax_age: 604800\r\n"


def check(domain: SendingDomain) -> dict[str, bool]:
    """Look the domain's records up and say which are published as they should be."""
    # In the order of records(): it decides how SPF is written, and which address is the host.
    addresses = list(
        SendingIP.objects.filter(organization_id=domain.organization_id).order_by("address")
    )
    found: dict[str, bool] = {}
    for what, name, kind, value in _records_of(domain, addresses):
        found[what] = found.get(what, True) and _same(value) in map(_same, mx.records(name, kind))
    return found


def _same(value: str) -> str:
    return (
        "".join(value.split()).rstrip(".").lower() if "p=" not in value else "".join(value.split())
    )


@transaction.atomic
def verify(domain: SendingDomain, *, by: User | str) -> dict[str, bool]:
    """Check the records and mark the domain verified when what is needed is there; return what was found."""
    found = check(domain)
    if all(found.get(what) for what in NEEDED):
        mark_verified(domain, at=database_time(), by=by, how="dns")
    return found


@transaction.atomic
def mark_verified(domain: SendingDomain, *, at: dt.datetime, by: User | str, how: str) -> None:
    """Mark a domain verified; `how` is on record: "dns", or "demo" for invented domains that nobody can publish."""
    domain.verified_at = at
    domain.save(update_fields=["verified_at"])
    record(
        "domain.verified",
        organization_id=domain.organization_id,
        by=by,
        target=domain,
        detail={"how": how},
    )
