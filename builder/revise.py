"""Saving templates, and freezing what a campaign will use."""

from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts.models import Organization, User
from audit.record import record
from builder.blocks import validate
from builder.compile import check_preheader, check_subject
from builder.models import EmailTemplate, Revision
from builder.problems import Problem
from builder.registry import registry_for


class NotValid(Exception):
    """The document has problems; they are in `problems`."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(f"The template has {len(problems)} problems.")
        self.problems = problems


@transaction.atomic
def save_template(
    organization: Organization,
    name: str,
    document: dict[str, Any],
    *,
    subject: str = "",
    preheader: str = "",
    language: str = "en",
    template: EmailTemplate | None = None,
    by: User,
) -> EmailTemplate:
    """Save a new template, or a changed one; raises NotValid with everything that is wrong with it."""
    tags = registry_for(organization)
    problems = [
        *validate(document, tags=tags),
        *(check_subject(subject, tags) if subject else []),
        *check_preheader(preheader, tags),
    ]
    if problems:
        raise NotValid(problems)
    if template is None:
        template = EmailTemplate(organization=organization, created_by_id=by.pk)
    template.name, template.document, template.language = name, document, language
    template.subject, template.preheader = subject, preheader
    template.save()
    record("template.saved", organization_id=organization.pk, by=by, target=template)
    return template


@transaction.atomic
def freeze(template: EmailTemplate, *, by: User) -> Revision:
    """Return a revision that holds the template as it is now; an unchanged template gives its last one again."""
    template = EmailTemplate.objects.select_for_update().get(pk=template.pk)
    last = template.revisions.order_by("-number").first()
    now = {
        name: getattr(template, name) for name in ("language", "subject", "preheader", "document")
    }
    if last is not None and all(getattr(last, name) == value for name, value in now.items()):
        return last
    revision = Revision.objects.create(
        organization_id=template.organization_id,
        template=template,
        number=1 if last is None else last.number + 1,
        created_by_id=by.pk,
        created_at=timezone.now(),
        **now,
    )
    record(
        "revision.frozen",
        organization_id=template.organization_id,
        by=by,
        target=revision,
        facts=[revision],
    )
    return revision
