"""From a checked tree of criteria to SQL: as few index searches as its questions allow, joined as sets of ids."""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from django.db import connection

from accounts.models import Organization
from contacts import dictionary
from contacts.addresses import check as check_address
from contacts.criteria import Behaviour, Group, Negation, Node, Question, Reference, Sql
from contacts.dictionary import Term
from contacts.expressions import All, Expression, Has, Not, Some, fold, terms_in
from contacts.models import Tally
from phi.digest import digest

_EVERYONE = (
    "SELECT c.id FROM contacts_contact c WHERE c.organization_id = %s AND c.standing = 'active'"
)
_CARRIERS = (
    "SELECT t.contact_id AS id FROM contacts_termrow t "
    "WHERE t.organization_id = %s AND t.terms @@ %s::query_int"
)


@dataclass(frozen=True, slots=True)
class Joined:
    """A part that terms alone cannot answer: `all` or `any` of its parts, or `not` its only one."""

    word: str
    parts: tuple["Plan", ...]


Plan = Expression | Joined | Sql


class Compiled:
    """Criteria of one organization on one day, ready to be asked.

    Whoever carries no terms because they were never indexed matches what is negated, and nothing else but
    "everyone"; the gate holds messages to them.
    """

    def __init__(self, organization: Organization, tree: Node, today: dt.date) -> None:
        self.organization = organization
        self.today = today
        self.plan = self._plan(tree)
        self.numbers: Mapping[Term, int] = dictionary.look_up(
            organization.pk, set(_terms_of(self.plan))
        )

    def query(self) -> Sql:
        """Return the query of one column `id`: active contacts of the organization, each once."""
        return self._set(self.plan)

    def count(self) -> int:
        """Return how many contacts match; the organization's size is a kept counter."""
        if isinstance(self.plan, Expression):
            folded = fold(self.plan, self.numbers)
            if folded.matches_empty:
                rest = fold(Not(self.plan), self.numbers)
                size = size_of(self.organization)
                return (
                    size if rest.text is None else size - self._counted(self._carriers(rest.text))
                )
        return self._counted(self.query())

    # --- from the tree to a plan

    def _plan(self, node: Node) -> Plan:
        match node:
            case Question(field, _, operator, value):
                if operator.answer is None:
                    return self._addresses(value)
                return operator.answer(field, value, self.today)
            case Behaviour(_, criterion, op, value):
                return criterion.sql(self.organization, op, value, self.today)
            case Reference(_, _, part):
                return self._plan(part)
            case Negation(part):
                plan = self._plan(part)
                return Not(plan) if isinstance(plan, Expression) else Joined("not", (plan,))
            case Group(word, parts):
                return _grouped(word, [self._plan(part) for part in parts])

    def _addresses(self, value: str | list[str]) -> Sql:
        wanted = [value] if isinstance(value, str) else value
        digests = [
            digest(self.organization.pk, "address", check_address(one).normal) for one in wanted
        ]
        return Sql(
            "SELECT id FROM contacts_contact WHERE organization_id = %s AND email_digest = ANY(%s)",
            [self.organization.pk, digests],
        )

    # --- from a plan to sets of ids

    def _set(self, plan: Plan) -> Sql:
        """Return the ids of the active contacts that match."""
        match plan:
            case Sql():
                return self._narrowed(self._everyone(), [plan], [])
            case Joined("any", parts):
                sets = [self._set(part) for part in parts]
                return Sql(
                    " UNION ".join(f"(SELECT id FROM ({s.text}) u)" for s in sets),
                    [param for s in sets for param in s.params],
                )
            case Joined("not", (part,)):
                return self._narrowed(self._everyone(), [], [self._ids(part)])
            case Joined("all", parts):
                return self._all(parts)
        folded = fold(plan, self.numbers)
        if not folded.matches_empty:
            return self._nobody() if folded.text is None else self._carriers(folded.text)
        rest = fold(Not(plan), self.numbers)
        without = [] if rest.text is None else [self._carriers(rest.text)]
        return self._narrowed(self._everyone(), [], without)

    def _ids(self, plan: Plan) -> Sql:
        """Return the ids that match where it does not matter whether they are active, and of whom."""
        return plan if isinstance(plan, Sql) else self._set(plan)

    def _all(self, parts: tuple[Plan, ...]) -> Sql:
        base, within, without = self._everyone(), [], []
        for part in parts:
            if isinstance(part, Joined) and part.word == "not":
                without.append(self._ids(part.parts[0]))
            elif isinstance(part, Expression):
                # There is at most one, and it is the narrowest set that an index finds.
                base = self._set(part)
            else:
                within.append(self._ids(part))
        return self._narrowed(base, within, without)

    def _narrowed(self, base: Sql, within: list[Sql], without: list[Sql]) -> Sql:
        # Semi-joins and anti-joins: an IN below OR or NOT is a nested loop as soon as it outgrows work_mem.
        if not within and not without:
            return base
        conditions = [f"b.id IN ({s.text})" for s in within]
        conditions += [
            f"NOT EXISTS (SELECT 1 FROM ({s.text}) w WHERE w.id = b.id)" for s in without
        ]
        return Sql(
            f"SELECT b.id FROM ({base.text}) b WHERE {' AND '.join(conditions)}",  # noqa: S608
            [param for s in (base, *within, *without) for param in s.params],
        )

    def _everyone(self) -> Sql:
        return Sql(_EVERYONE, [self.organization.pk])

    def _nobody(self) -> Sql:
        return Sql(f"{_EVERYONE} AND false", [self.organization.pk])

    def _carriers(self, text: str) -> Sql:
        return Sql(_CARRIERS, [self.organization.pk, text])

    def _counted(self, found: Sql) -> int:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM ({found.text}) found", found.params)  # noqa: S608
            return cursor.fetchone()[0]


def size_of(organization: Organization) -> int:
    """Return how many active contacts an organization has."""
    tally = Tally.objects.filter(organization=organization).first()
    return tally.contacts if tally else 0


def _grouped(word: str, plans: list[Plan]) -> Plan:
    """Return the parts with those that terms answer made into one."""
    expressions = tuple(plan for plan in plans if isinstance(plan, Expression))
    others = [plan for plan in plans if not isinstance(plan, Expression)]
    joined = All(expressions) if word == "all" else Some(expressions)
    if not others:
        return joined
    return Joined(word, ((joined, *others) if expressions else tuple(others)))


def _terms_of(plan: Plan) -> Iterator[Term]:
    match plan:
        case Joined(_, parts):
            for part in parts:
                yield from _terms_of(part)
        case Has() | All() | Some() | Not():
            yield from terms_in(plan)
