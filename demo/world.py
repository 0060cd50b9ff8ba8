"""The invented health system: two organizations, staff of every role, patients, a form, templates, two addresses."""

import datetime as dt
import hashlib
from dataclasses import dataclass

from django.conf import settings
from django.db import transaction

from accounts import organizations
from accounts.models import Organization, Role, User
from audit.record import record
from builder import starters
from builder.models import EmailTemplate, Revision
from builder.revise import freeze, save_template
from campaigns.models import Sender
from consent.authorize import publish
from consent.locking import database_time
from consent.models import FormVersion
from contacts import importer
from contacts.models import Import
from delivery.domains import add_domain, mark_verified
from delivery.models import IPPool, SendingIP, Stream
from demo import people
from files import staging
from phi.keys import PLATFORM, create_keys

BY = "system:demo"
#: Of the demo alone: these accounts are made in development only.
PASSWORD = "lakeside demo password"  # noqa: S105
EVIDENCE = "Signed forms in the paper archive, cabinet 7"

#: Name, slug and domain of the first organization, on which the main job runs.
FIRST = ("Lakeside Health", "lakeside", "lakeside.example")
SECOND = ("Northgate Kidney Care", "northgate", "northgate.example")

#: role: (name, local part)
STAFF = {
    Role.MARKETER: ("Mira Okafor", "mira"),
    Role.APPROVER: ("Anselm Brandt", "anselm"),
    Role.PRIVACY_OFFICER: ("Petra Lindholm", "petra"),
    Role.ADMINISTRATOR: ("Adaeze Novak", "adaeze"),
    Role.AUDITOR: ("Umberto Sato", "umberto"),
    Role.VIEWER: ("Viola Hart", "viola"),
}


@dataclass(frozen=True, slots=True)
class Stage:
    """An organization with everything that the main job needs."""

    organization: Organization
    staff: dict[str, User]
    sender: Sender
    form: FormVersion
    revision: Revision


class NotInProduction(Exception):
    """Invented people and known passwords have no place in production."""


def load(progress: importer.Progress | None = None) -> None:
    """Load the invented health system once; what is there already stays as it is.

    Raises NotInProduction there.
    """
    if settings.PRODUCTION:
        raise NotInProduction("The demo's world is not loaded in production.")
    create_keys(PLATFORM)
    lakeside = stage(*FIRST)
    northgate = stage(*SECOND)
    _load_patients(lakeside, people.csv_of_last_month(), progress)
    _load_patients(northgate, people.csv_of_neighbours(), None)


@transaction.atomic
def stage(name: str, slug: str, domain: str) -> Stage:
    """Return an organization with staff, sending domain, addresses, a published form and a template; made once."""
    organization = Organization.objects.filter(slug=slug).first() or organizations.create(
        name=name,
        slug=slug,
        postal_address="400 Harbor Street, Springfield, IL 62701",
        time_zone="America/Chicago",
        treatment_terms=True,
        by=BY,
    )
    staff = {
        role: _member(organization, role, full, f"{local}@{domain}")
        for role, (full, local) in STAFF.items()
    }
    sender = _sender(organization, domain)
    _addresses(organization, domain)
    form = _form(organization, staff[Role.PRIVACY_OFFICER])
    template = _templates(organization, staff[Role.MARKETER])
    return Stage(organization, staff, sender, form, freeze(template, by=staff[Role.MARKETER]))


def stage_for_file(content: bytes) -> Stage:
    """Return an organization of its own for a file of contacts, so that "everyone" is everyone in the file."""
    digest = hashlib.sha256(content).hexdigest()[:8]
    return stage("Riverside Clinic", f"file-{digest}", f"riverside-{digest}.example")


def import_file(
    setting: Stage, name: str, content: bytes, progress: importer.Progress | None = None
) -> Import:
    """Import a CSV as the marketer would: staged encrypted, mapped by its headers, checked whole, applied."""
    marketer = setting.staff[Role.MARKETER]
    file = staging.put(
        setting.organization,
        kind="upload",
        name=name,
        chunks=[content],
        by=marketer,
        content_type="text/csv",
        keep=dt.timedelta(hours=1),
    )
    import_ = importer.start(
        setting.organization,
        file,
        source="ehr",
        options={
            "form_version": str(setting.form.pk),
            "evidence": EVIDENCE,
            "copies_given": True,
        },
        by=marketer,
    )
    importer.map(import_, by=marketer)
    importer.check(import_, by=marketer)
    return importer.apply(import_, by=marketer, progress=progress)


def _load_patients(setting: Stage, content: bytes, progress: importer.Progress | None) -> None:
    if not Import.objects.filter(organization=setting.organization, status="done").exists():
        import_file(setting, "patients.csv", content, progress)
        record(
            "demo.loaded",
            organization_id=setting.organization.pk,
            by=BY,
            target=setting.organization,
        )


def _member(organization: Organization, role: str, name: str, email: str) -> User:
    user = User.objects.filter(email=email).first()
    if user is None:
        user = User.objects.create_user(email, PASSWORD, name=name)
    organizations.add_member(organization, user, role, by=BY)
    return user


def _sender(organization: Organization, domain: str) -> Sender:
    existing = Sender.objects.filter(organization=organization).select_related("domain").first()
    if existing is not None:
        return existing
    sending = add_domain(organization, domain, by=BY)
    # Nobody can publish records under .example, so the demo's word stands for them, and says so.
    mark_verified(sending, at=database_time(), by=BY, how="demo")
    return Sender.objects.create(
        organization=organization,
        domain=sending,
        local_part="news",
        display_name=organization.name,
        reply_to=f"care@{domain}",
    )


def _addresses(organization: Organization, domain: str) -> None:
    stream, _ = Stream.objects.get_or_create(organization=organization, kind=Stream.Kind.MARKETING)
    Stream.objects.get_or_create(organization=organization, kind=Stream.Kind.TRANSACTIONAL)
    pool, _ = IPPool.objects.get_or_create(
        organization=organization, name="marketing", defaults={"stream": stream}
    )
    for number, address in enumerate(settings.SENDING_IPS, start=1):
        SendingIP.objects.get_or_create(
            organization=organization,
            address=address,
            defaults={"pool": pool, "helo": f"mail{number}.{domain}"},
        )


def _form(organization: Organization, officer: User) -> FormVersion:
    form, _ = FormVersion.objects.get_or_create(
        organization=organization,
        name="News and offers by email",
        number=1,
        language="en",
        defaults={
            "information": (
                "Your name, email address, language, date of birth, and the kind of care you get from us."
            ),
            "information_classes": ["contact", "demographic", "treatment", "organization"],
            "disclosers": [organization.name],
            "recipients": [
                "The person who signs, and the company that runs our mail system for us"
            ],
            "purposes": ["MARKETING"],
            "expiry_event": "the end of care with us",
            "statement_revoke": (
                "You may take this permission back at any time, in writing or by the link in each message. "
                "What was sent before that cannot be called back."
            ),
            "statement_condition": (
                "We treat you just the same if you do not sign: neither care nor payment depends on it."
            ),
            "statement_redisclosure": (
                "What others learn from a message that you show them may no longer be protected by law."
            ),
        },
    )
    return publish(form, by=officer)


def _templates(organization: Organization, marketer: User) -> EmailTemplate:
    made = [
        EmailTemplate.objects.filter(organization=organization, name=starter.title).first()
        or save_template(
            organization,
            starter.title,
            starter.document,
            subject=starter.subject,
            preheader=starter.preheader,
            by=marketer,
        )
        for starter in map(starters.about, starters.NAMES)
    ]
    return made[0]
