"""Makes what tests need, through the doors that the product uses; every name is invented."""

import datetime as dt
import itertools
from typing import Any

from accounts import organizations
from accounts.models import Organization, User
from builder import blocks
from builder.models import Revision
from builder.revise import freeze, save_template
from campaigns import edit, launch
from campaigns.models import Campaign, Sender
from consent.authorize import authorize, publish
from consent.locking import database_time
from consent.models import Authorization, FormVersion
from contacts import terms
from contacts.models import Contact
from delivery.domains import add_domain, mark_verified
from delivery.models import IPPool, SendingIP, Stream
from phi.digest import address_digest, digest, normal_address

_numbers = itertools.count(1)

BY = "system:tests"


def make_organization(**fields: Any) -> Organization:
    """Return an organization with its keys."""
    number = next(_numbers)
    fields.setdefault("name", f"Clinic {number}")
    fields.setdefault("slug", f"clinic-{number}")
    fields.setdefault("postal_address", "1 Harbor Street, Springfield, IL 62701")
    return organizations.create(by=BY, **fields)


def make_user(
    role: str | None = None, organization: Organization | None = None, **fields: Any
) -> User:
    """Return a user; with a role, a member of `organization` (a new one if none is given)."""
    fields.setdefault("email", f"person{next(_numbers)}@staff.example")
    fields.setdefault("name", "Pat Person")
    user = User.objects.create_user(**fields)
    if role is not None:
        organizations.add_member(organization or make_organization(), user, role, by=BY)
    return user


def make_contact(organization: Organization | None = None, **fields: Any) -> Contact:
    """Return a saved contact whose digests fit its address (`email=None` for none) and record number."""
    organization = organization or make_organization()
    email = fields.setdefault("email", f"person{next(_numbers)}@mail.example")
    if email is not None:
        domain = normal_address(email).rpartition("@")[2]
        fields.setdefault("email_digest", address_digest(organization.pk, email))
        fields.setdefault("domain_digest", digest(organization.pk, "domain", domain))
    if number := fields.get("record_number"):
        fields.setdefault("source", "ehr")
        fields.setdefault("record_digest", digest(organization.pk, "record", number))
    return Contact.objects.create(organization=organization, **fields)


def make_form(organization: Organization, **fields: Any) -> FormVersion:
    """Return a published form that covers MARKETING with names and addresses."""
    fields.setdefault("name", f"Form {next(_numbers)}")
    fields.setdefault("number", 1)
    fields.setdefault("information", "Your name and address.")
    fields.setdefault("information_classes", ["contact", "demographic"])
    fields.setdefault("disclosers", [organization.name])
    fields.setdefault("recipients", ["You"])
    fields.setdefault("purposes", ["MARKETING"])
    if "expires_after_days" not in fields:
        fields.setdefault("expiry_event", "the end of your care")
    for statement in ("revoke", "condition", "redisclosure"):
        fields.setdefault(f"statement_{statement}", f"About {statement}.")
    form = FormVersion.objects.create(organization=organization, **fields)
    return publish(form, by=make_user("privacy_officer", organization))


def make_person(organization: Organization, **fields: Any) -> Contact:
    """Return a contact that is indexed, as an import leaves it."""
    contact = make_contact(organization, **fields)
    terms.index([contact])
    return contact


def make_authorized(organization: Organization, form: FormVersion, **fields: Any) -> Contact:
    """Return an indexed contact who signed `form` in January and got a copy."""
    contact = make_person(organization, **fields)
    sign(contact, form)
    return contact


def sign(contact: Contact, form: FormVersion, **fields: Any) -> Authorization:
    """Return an authorization on paper."""
    fields.setdefault("signed_on", dt.date(2026, 1, 15))
    fields.setdefault("copy_given_on", fields["signed_on"])
    fields.setdefault("source", "paper")
    fields.setdefault("evidence", "Archive, sheet 12")
    return authorize(contact, form, by=BY, **fields)


def make_sender(organization: Organization, **fields: Any) -> Sender:
    """Return a sender at a verified domain with a signing key."""
    domain = add_domain(organization, f"clinic{next(_numbers)}.example", by=BY)
    mark_verified(domain, at=database_time(), by=BY, how="tests")
    fields.setdefault("local_part", "news")
    fields.setdefault("display_name", organization.name)
    return Sender.objects.create(organization=organization, domain=domain, **fields)


def make_addresses(organization: Organization, *addresses: str) -> list[SendingIP]:
    """Return open sending addresses in the marketing stream, and a transactional stream without any."""
    stream = Stream.objects.create(organization=organization, kind="marketing")
    Stream.objects.create(organization=organization, kind="transactional")
    pool = IPPool.objects.create(organization=organization, stream=stream, name="marketing")
    return [
        SendingIP.objects.create(
            organization=organization, pool=pool, address=address, helo="mail.clinic.example"
        )
        for address in addresses or ("127.0.0.11", "127.0.0.12")
    ]


def make_revision(organization: Organization, text: str = "Hello", **fields: Any) -> Revision:
    """Return a frozen template that greets by first name."""
    document = blocks.empty()
    document["blocks"][1]["html"] = f'<p>{text} {{{{ first_name | fallback: "there" }}}}</p>'
    fields.setdefault("subject", "News from your clinic")
    author = make_user("marketer", organization)
    name = f"Template {next(_numbers)}"
    return freeze(save_template(organization, name, document, by=author, **fields), by=author)


def make_campaign(organization: Organization, *, by: User, **fields: Any) -> Campaign:
    """Return a complete draft to everyone, due in an hour."""
    fields.setdefault("purpose", "MARKETING")
    fields.setdefault("revision", None) or fields.update(revision=make_revision(organization))
    fields.setdefault("sender", None) or fields.update(sender=make_sender(organization))
    fields.setdefault("send_at", database_time() + dt.timedelta(hours=1))
    return edit.create(organization, f"Campaign {next(_numbers)}", by=by, **fields)


def make_scheduled(organization: Organization, *, by: User, **fields: Any) -> Campaign:
    """Return a campaign that was handed in, approved by somebody else, and is due now."""
    campaign = make_campaign(organization, by=by, **fields)
    submission = launch.submit(campaign, by=by)
    approver = make_user("approver", organization)
    launch.approve(campaign, by=approver, seen_hash=bytes(submission.content_hash))
    return launch.schedule(campaign, at=database_time(), by=approver)
