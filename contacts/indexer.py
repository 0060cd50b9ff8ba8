"""Terms of many contacts at once: what `terms.terms_for()` gives, with what was learnt kept at hand."""

import itertools
from collections.abc import Collection, Mapping
from typing import Any

from accounts.models import Organization
from contacts import dictionary, terms
from contacts.attributes import CHOSEN_CLASSES, STANDARD, Field, Type
from contacts.dictionary import Term
from contacts.sensitive import LABELS as KINDS

#: Values of one field, and terms, that are kept at hand: 30 MB for each at most.
MOST_KEPT = 100_000


class Indexer:
    """Turns values into term numbers for one organization during one run; not to be shared or kept.

    It remembers numbers, so it must `forget()` when a transaction in which it learnt some is rolled back.
    """

    def __init__(self, organization: Organization, fields: Mapping[str, Field]) -> None:
        self.organization = organization
        self.fields = fields
        #: The fields whose values mean something to a search or to the gate.
        self._indexed = tuple(
            key
            for key, f in fields.items()
            if f.searchable
            or f.data_class in CHOSEN_CLASSES
            or (f.presence and key not in STANDARD)
        )
        self._missing = {
            key: (key, terms.MISSING) for key, f in fields.items() if key in STANDARD and f.presence
        }
        self._numbers: dict[Term, int] = {}
        #: Of what is missing, and of each kind of sensitive information.
        self._standing: dict[Term, int] = {}
        self._of_kinds: dict[frozenset[str], tuple[int, ...]] = {}
        #: field key → value → (numbers, kinds of sensitive information)
        self._values: dict[str, dict[Any, tuple[tuple[int, ...], frozenset[str]]]] = {
            key: {} for key in self._indexed
        }

    def forget(self) -> None:
        """Drop all that was learnt; the dictionary in the database is asked again."""
        for kept in (self._numbers, self._standing, self._of_kinds, *self._values.values()):
            kept.clear()

    def trim(self) -> None:
        """Drop the oldest half of what is kept when it is too much; what is needed next must be learnt then."""
        for kept in (self._numbers, *self._values.values()):
            if len(kept) > MOST_KEPT:
                for key in list(itertools.islice(kept, MOST_KEPT // 2)):
                    del kept[key]

    def learn(self, rows: Collection[Mapping[str, Any]]) -> None:
        """Make sure that `numbers()` can answer for these values: one round trip for what is new."""
        new: list[tuple[str, Any, list[Term]]] = []
        for key in self._indexed:
            known, field = self._values[key], self.fields[key]
            # Set difference would go through all that is known, each time.
            if field.type == Type.CHOICES:
                unknown = {v for row in rows for v in row.get(key) or () if v not in known}
                new += [(key, v, terms.terms_of_value(field, [v])) for v in unknown]
            else:
                values = (row.get(key) for row in rows)
                unknown = {v for v in values if v is not None and v not in known}
                new += [(key, v, terms.terms_of_value(field, v)) for v in unknown]
        wanted = {t for _, _, found in new for t in found if t not in self._numbers}
        if wanted:
            self._numbers |= dictionary.learn(self.organization.pk, wanted)
        for key, one, found in new:
            kinds = terms.sensitivities_of_value(self.fields[key], one)
            numbers = sorted({self._numbers[term] for term in found})
            self._values[key][one] = tuple(numbers), kinds
        if not self._standing:
            standing = {*self._missing.values(), *terms.terms_of_sensitivity(())}
            standing.update(terms.terms_of_sensitivity(KINDS))
            self._standing = dictionary.learn(self.organization.pk, standing)

    def numbers(self, row: Mapping[str, Any]) -> list[int]:
        """Return the term numbers of one contact's values, in ascending order; they were learnt before."""
        found: list[int] = []
        kinds: frozenset[str] = frozenset()
        may_repeat = False
        for key, known in self._values.items():
            value = row.get(key)
            if value.__class__ is list:
                # Only values of one field share terms: two codes of one category.
                may_repeat = may_repeat or len(value) > 1
                for one in value:
                    numbers, tells = known[one]
                    found += numbers
                    kinds |= tells
            elif value is not None:
                numbers, tells = known[value]
                found += numbers
                if tells:
                    kinds |= tells
        for key, term in self._missing.items():
            # Of the standard fields no value that is there is false.
            if not row.get(key):
                found.append(self._standing[term])
        found += self._of_kinds.get(kinds) or self._sensitive(kinds)
        # Each value's numbers are in order already, which sorting makes use of.
        return sorted(set(found)) if may_repeat else sorted(found)

    def _sensitive(self, kinds: frozenset[str]) -> tuple[int, ...]:
        numbers = tuple([self._standing[term] for term in terms.terms_of_sensitivity(kinds)])
        self._of_kinds[kinds] = numbers
        return numbers
