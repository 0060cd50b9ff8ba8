"""Step 2, segment: criteria become a query over blind terms; nothing is decrypted.

The largest sub-trees whose questions terms can answer become one `query_int` each; what is left is joined to them
as sets of contact ids. A contact matches a "not" when it is an active contact of the organization and does not
match what is negated.
"""

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import Organization, User
from audit.record import record
from contacts import criteria as language
from contacts.compiler import Compiled, size_of
from contacts.criteria import (
    CRITERIA,
    Behaviour,
    CriteriaError,
    Criterion,
    Group,
    Node,
    Question,
    Reference,
    Sql,
    in_words,
)
from contacts.models import Segment
from phi.keys import PLATFORM

__all__ = ["CRITERIA", "EVERYONE", "CriteriaError", "Criterion", "Sql"]

EVERYONE: dict[str, Any] = {"all": []}

#: The make of what `resolved()` returns; another one voids approvals.
RESOLVED = 1


@dataclass(frozen=True, slots=True)
class Shown:
    """A count as people may see it: `count` is None where it is hidden, `text` always says something."""

    count: int | None
    text: str


# --- what others call


def today(organization: Organization) -> dt.date:
    """Return the day that it is now in the organization's time zone."""
    return timezone.now().astimezone(organization.zone).date()


def check(organization: Organization, criteria: Any) -> Node:
    """Return criteria as a checked tree, or raise CriteriaError."""
    return language.parse(organization, criteria)


def query(organization: Organization, criteria: Any, *, today: dt.date | None = None) -> Sql:
    """Return the query of one column `id`: the active contacts of the organization that match, each once.

    `today`: the day that ages and "the last … days" count from; None: today where the organization is.
    Raises CriteriaError.
    """
    return _compiled(organization, check(organization, criteria), today).query()


def compile(organization: Organization, criteria: Any, *, today: dt.date) -> tuple[str, list[Any]]:
    """Return the same as SQL text and parameters."""
    found = query(organization, criteria, today=today)
    return found.text, found.params


def count(organization: Organization, criteria: Any, *, today: dt.date | None = None) -> int:
    """Return how many contacts match."""
    return _compiled(organization, check(organization, criteria), today).count()


def shown_count(
    organization: Organization, criteria: Any, *, today: dt.date | None = None
) -> Shown:
    """Return how many contacts match, with small numbers about health and payment hidden (decision 18).

    Hidden is a count below the organization's limit, and one whose rest is below it: the rest of all contacts, and
    the rest of those who match the other questions beside the clinical ones. Nobody at all is shown.
    """
    tree = check(organization, criteria)
    number = _compiled(organization, tree, today).count()
    if not any(_is_clinical(question) for question in language.questions_in(tree)):
        return Shown(number, f"{number:,}")
    wider = _compiled(organization, _without_clinical(tree), today).count()
    small = organization.small_cell
    if any(0 < n < small for n in (number, size_of(organization) - number, wider - number)):
        return Shown(
            None,
            f"not shown: fewer than {small} people are in it, or fewer than {small} are left out",
        )
    return Shown(number, f"{number:,}")


def describe(organization: Organization, criteria: Any, language: str = "en") -> str:
    """Return the criteria read back as a sentence."""
    return in_words(check(organization, criteria), language)


def resolved(organization: Organization, criteria: Any) -> dict[str, Any]:
    """Return what an approval binds (decision 15): the criteria in canonical form, other segments written out, and
    the definitions of the fields that they ask about."""
    tree = check(organization, criteria)
    fields = {q.field.key: q.field for q in language.questions_in(tree) if isinstance(q, Question)}
    return {
        "version": RESOLVED,
        "criteria": language.canonical(tree),
        "fields": {key: fields[key].definition() for key in sorted(fields)},
    }


def fields_used(organization: Organization, criteria: Any) -> set[str]:
    """Return the keys of the fields that criteria ask about (45 CFR 164.502(b), minimum necessary)."""
    tree = check(organization, criteria)
    return {q.field.key for q in language.questions_in(tree) if isinstance(q, Question)}


@transaction.atomic
def create(organization: Organization, name: str, criteria: Any, *, by: User | str) -> Segment:
    """Save criteria under a name and return the segment; raises CriteriaError, also for a name that is taken."""
    segment = Segment(organization=organization, created_by_id=getattr(by, "pk", PLATFORM))
    _save(segment, name, criteria)
    record("segment.created", organization_id=organization.pk, by=by, target=segment)
    return segment


@transaction.atomic
def change(
    segment: Segment, *, name: str | None = None, criteria: Any = None, by: User | str
) -> Segment:
    """Give a segment another name or other criteria; raises CriteriaError, also when it would contain itself."""
    segment = Segment.objects.select_for_update().get(pk=segment.pk)
    _save(
        segment,
        segment.name if name is None else name,
        segment.criteria if criteria is None else criteria,
    )
    changed = [n for n, v in (("name", name), ("criteria", criteria)) if v is not None]
    record(
        "segment.changed",
        organization_id=segment.organization_id,
        by=by,
        target=segment,
        fields=["segment_" + n if n == "name" else n for n in changed],
    )
    return segment


def _save(segment: Segment, name: str, criteria: Any) -> None:
    name = " ".join(name.split())
    if not 1 <= len(name) <= 120:
        raise CriteriaError("name", "A name of 1 to 120 characters is needed.")
    language.parse(segment.organization, criteria, within=segment.pk)
    segment.name, segment.criteria = name, criteria
    try:
        with transaction.atomic():
            segment.save()
    except IntegrityError:
        raise CriteriaError("name", "Another segment has this name.") from None


def _compiled(organization: Organization, tree: Node, day: dt.date | None) -> Compiled:
    return Compiled(organization, tree, day or today(organization))


# --- small numbers


def _is_clinical(question: Question | Behaviour) -> bool:
    if isinstance(question, Question):
        return question.field.is_clinical
    return question.criterion.clinical


def _without_clinical(node: Node) -> Node:
    """Return the tree without those of its outermost conditions that ask anything clinical."""
    match node:
        case Group("all", parts):
            return Group("all", tuple(_without_clinical(part) for part in parts))
        case Reference(_, _, part):
            return _without_clinical(part)
    if any(_is_clinical(question) for question in language.questions_in(node)):
        return Group("all", ())
    return node
