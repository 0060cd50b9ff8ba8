"""Blind terms: what makes encrypted contacts searchable, and what an index of them reveals (docs/segments.md).

Every searchable value of a contact becomes a text such as "=ca" or "5:1433" under the name of its field. The
HMAC-SHA256 of organization, field and text, shortened to 31 bits, is its number; TermRow holds the numbers.
Whoever has a copy of the index sees equality, frequency, co-occurrence and order, so terms are PHI (ADR 0003).
"""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.db import connection, transaction

from accounts.models import Organization
from audit.record import record
from contacts import dictionary, sensitive
from contacts.attributes import CHOSEN_CLASSES, STANDARD, Field, Type, fields_of, value_of
from contacts.covers import (
    DATE_LEVELS,
    NUMBER_LEVELS,
    blocks_of,
    cover,
    position_of_day,
    position_of_number,
    years_before,
)
from contacts.dictionary import Term
from contacts.models import Contact
from contacts.values import normal, normal_condition

__all__ = ["years_before"]

#: The facts that the gate asks for; always indexed, whatever the privacy officer chose.
SENSITIVITY, PART2 = "sensitivity", "part2"
MISSING, PRESENT = "?", "+"
#: Longer texts are nobody's criterion; they only count as a value that is there.
LONGEST_EXACT = 100
#: Contacts that one transaction of `reindex()` holds.
BATCH = 1000

#: Called with the number of contacts done so far.
Progress = Callable[[int], None]

#: Query texts that need no term: number 0 is never one.
NOBODY, EVERYBODY = "0", "!0"


# --- from values to terms


def exact(field: str, value: str) -> Term:
    """Return the term of a text value."""
    return field, f"={normal(value)}"


def condition(field: str, value: str) -> Term:
    """Return the term of one of several values, where ICD-10-CM codes count with and without their dot."""
    return field, f"={normal_condition(value)}"


def beginning(field: str, text: str) -> Term:
    """Return the term of how a value begins: a ZIP code's area, a code's category."""
    return field, f"^{text.casefold()}"


def between(field: Field, low: Any, high: Any) -> list[Term]:
    """Return the terms of which a contact has one when its number or date is from `low` to `high`, both included.

    None leaves a side open. The list is empty for an empty range.
    """
    position, levels = (
        (position_of_day, DATE_LEVELS)
        if field.type == Type.DATE
        else (position_of_number, NUMBER_LEVELS)
    )
    first = 0 if low is None else position(low)
    last = 2**levels - 1 if high is None else position(high)
    return [(field.key, f"{level}:{block}") for level, block in cover(first, last, levels)]


def birthday(month: int, day: int | None = None) -> Term:
    """Return the term of a birth date's month, or of its month and day."""
    return "date_of_birth", f"m{month}" if day is None else f"d{month}-{day}"


def present(field: Field) -> tuple[bool, Term]:
    """Return how "has a value" is told: (True, term that they have) or (False, term that they lack).

    Each contact carries whichever is the rarer: standard fields mark what is missing, an organization's own
    mark what is there, so that a field made today is missing in everybody without another index.
    """
    if field.key in STANDARD:
        return False, (field.key, MISSING)
    return True, (field.key, PRESENT)


def terms_of_value(field: Field, value: Any) -> list[Term]:
    """Return the terms of one value, without those that tell of sensitivity."""
    key = field.key
    found: list[Term] = [] if key in STANDARD else [(key, PRESENT)]
    if not field.searchable:
        return found if field.presence else []
    if field.type == Type.DATE:
        found += [
            (key, f"{n}:{block}") for n, block in blocks_of(position_of_day(value), DATE_LEVELS)
        ]
        if key == "date_of_birth":
            found += [birthday(value.month), birthday(value.month, value.day)]
    elif field.type == Type.NUMBER:
        blocks = blocks_of(position_of_number(value), NUMBER_LEVELS)
        found += [(key, f"{n}:{block}") for n, block in blocks]
    elif field.type == Type.CHOICES:
        for one in value:
            found.append(condition(key, one))
            if code := sensitive.code_of(one):
                found.append(beginning(key, code[:3]))
    elif field.type == Type.YES_NO:
        found.append(exact(key, "yes" if value else "no"))
    elif key == "zip":
        found += [exact(key, value[:5]), beginning(key, value[:3])]
    elif key == "language":
        found += [exact(key, value), exact(key, value.partition("-")[0])]
    elif len(value) <= LONGEST_EXACT:
        found.append(exact(key, value))
    return found


def sensitivities_of_value(field: Field, value: Any) -> frozenset[str]:
    """Return the kinds of sensitive information that one value tells of (contacts/sensitive.py)."""
    if field.data_class not in CHOSEN_CLASSES or value is None or value is False or value == 0:
        return frozenset()
    if (
        field.type == Type.TEXT
        and field.key not in STANDARD
        and normal(value) in {"no", "none", "n/a"}
    ):
        return frozenset()
    kinds = set() if field.key in STANDARD else set(sensitive.kinds_of(field.label))
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str):
            kinds |= sensitive.kinds_of(text)
    if field.data_class == "sensitive" and not kinds:
        kinds.add(sensitive.OTHER)
    return frozenset(kinds)


def terms_of_sensitivity(kinds: Iterable[str]) -> list[Term]:
    """Return the gate's facts for the kinds that a contact's values tell of; "none" and "no" are facts as well.

    A contact without either is treated as the strictest case.
    """
    kinds = set(kinds)
    return [
        *(exact(SENSITIVITY, kind) for kind in kinds or {"none"}),
        exact(PART2, "yes" if sensitive.PART2_KIND in kinds else "no"),
    ]


def terms_for(values: Mapping[str, Any], fields: Mapping[str, Field]) -> set[Term]:
    """Return all terms of a contact whose values are given by field key; absent and None are missing."""
    found: set[Term] = set()
    kinds: set[str] = set()
    for key, field in fields.items():
        value = values.get(key)
        if value is None or value == []:
            if key in STANDARD and field.presence:
                found.add((key, MISSING))
            continue
        found.update(terms_of_value(field, value))
        kinds |= sensitivities_of_value(field, value)
    found.update(terms_of_sensitivity(kinds))
    return found


# --- what the gate asks


def numbers(organization: Organization, field: str, values: Iterable[str]) -> list[int]:
    """Return the numbers of the terms of these text values; what no contact ever had has none, and gets none."""
    wanted = [exact(field, value) for value in values]
    return list(dictionary.look_up(organization.pk, wanted).values())


def query_born_after(organization: Organization, day: dt.date) -> str:
    """Return a query_int text for: born after `day`, or nobody knows when (so "may be a minor").

    Written as "not known to be born by then": whoever is not indexed as old enough counts as young.
    """
    known = dictionary.look_up(
        organization.pk, between(STANDARD["date_of_birth"], None, day)
    ).values()
    return _none_of(known)


def query_part2(organization: Organization) -> str:
    """Return a query_int text for: may be a substance use record of 42 CFR Part 2 (not known to be none)."""
    return _none_of(numbers(organization, PART2, ["no"]))


def query_sensitivity(organization: Organization, kinds: Iterable[str]) -> str:
    """Return a query_int text for: holds sensitive information of one of these kinds."""
    return "|".join(map(str, sorted(numbers(organization, SENSITIVITY, kinds)))) or NOBODY


def query_state(organization: Organization, states: Iterable[str]) -> str:
    """Return a query_int text for: lives in one of these states, or nobody knows where."""
    wanted = [exact("state", code) for code in states] + [("state", MISSING)]
    known = dictionary.look_up(organization.pk, wanted).values()
    return "|".join(map(str, sorted(known))) or NOBODY


def _none_of(known: Iterable[int]) -> str:
    return "".join(("!(", "|".join(map(str, sorted(known))) or NOBODY, ")"))


# --- keeping the rows


def values_of(contact: Contact, fields: Mapping[str, Field]) -> dict[str, Any]:
    """Return a contact's values by field key, opened."""
    found = {key: value_of(contact, key, fields) for key in fields}
    return {key: value for key, value in found.items() if value is not None}


def index(contacts: Iterable[Contact]) -> None:
    """Write the terms of these contacts anew, in the caller's transaction; the inactive have none (a trigger sees to it).

    To be called after every change of a contact's values outside an import.
    """
    by_organization: dict[Any, list[Contact]] = {}
    for contact in contacts:
        by_organization.setdefault(contact.organization, []).append(contact)
    for organization, some in by_organization.items():
        fields = fields_of(organization)
        active = [c for c in some if c.standing == Contact.Standing.ACTIVE]
        found = {c.pk: terms_for(values_of(c, fields), fields) for c in active}
        known = dictionary.learn(organization.pk, set().union(*found.values()) if found else ())
        write_rows(
            organization,
            {pk: sorted({known[term] for term in terms}) for pk, terms in found.items()},
        )


def write_rows(organization: Organization, rows: Mapping[Any, list[int]]) -> None:
    """Write TermRows: {contact id: numbers in ascending order}; nobody inactive, or of another organization, gets one."""
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO contacts_termrow (contact_id, organization_id, terms) "
            "SELECT c.id, c.organization_id, new.terms::int4[] "
            "FROM unnest(%s::uuid[], %s::text[]) AS new(id, terms) JOIN contacts_contact c USING (id) "
            "WHERE c.organization_id = %s AND c.standing = 'active' "
            "ON CONFLICT (contact_id) DO UPDATE SET terms = excluded.terms "
            "WHERE contacts_termrow.terms <> excluded.terms",
            [list(rows), [f"{{{','.join(map(str, r))}}}" for r in rows.values()], organization.pk],
        )


def reindex(
    organization: Organization,
    *,
    by: Any = "system:reindex",
    progress: Progress | None = None,
) -> int:
    """Write the terms of all of an organization's contacts anew, and return of how many.

    `progress` is called with the number done so far. Safe to interrupt and to run beside imports: each batch
    locks its contacts. Needed after a restore (dumps leave the terms out) and after the privacy officer's choice.
    """
    done, last = 0, None
    while True:
        with transaction.atomic():
            batch = Contact.objects.filter(
                organization=organization, standing=Contact.Standing.ACTIVE
            ).order_by("pk")
            if last is not None:
                batch = batch.filter(pk__gt=last)
            some = list(batch.select_for_update(no_key=True)[:BATCH])
            for contact in some:
                contact.organization = organization
            index(some)
        if not some:
            break
        done, last = done + len(some), some[-1].pk
        if progress:
            progress(done)
    with transaction.atomic():
        record("terms.rebuilt", organization_id=organization.pk, by=by, count=done)
    return done
