"""Terms of many contacts at once: what `terms.terms_for()` gives, with what was learnt kept at hand."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from accounts.models import Organization
from contacts import dictionary, terms
from contacts.attributes import CHOSEN_CLASSES, STANDARD, Field
from contacts.dictionary import Term

#: What is kept at hand before all is forgotten: values seen and terms known. About 60 MB together at their worst.
MOST_VALUES, MOST_TERMS = 100_000, 300_000


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
        self._of_kinds: dict[frozenset[str], tuple[int, ...]] = {}
        #: (field key, value) → (numbers, kinds of sensitive information)
        self._values: dict[tuple[str, Any], tuple[tuple[int, ...], frozenset[str]]] = {}

    def forget(self) -> None:
        """Drop all that was learnt; the dictionary in the database is asked again."""
        self._numbers.clear()
        self._values.clear()
        self._of_kinds.clear()

    def learn(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Make sure that `numbers()` can answer for these values: one round trip for what is new."""
        if len(self._values) > MOST_VALUES or len(self._numbers) > MOST_TERMS:
            self.forget()
        values, fields = self._values, self.fields
        new: dict[tuple[str, Any], list[Term]] = {}
        for row in rows:
            for key in self._indexed:
                if (value := row.get(key)) is None:
                    continue
                is_list = value.__class__ is list
                for one in value if is_list else (value,):
                    if (key, one) not in values and (key, one) not in new:
                        new[key, one] = terms.terms_of_value(fields[key], [one] if is_list else one)
        self._know([t for found in new.values() for t in found] + self._standing_terms())
        for (key, one), found in new.items():
            kinds = terms.sensitivities_of_value(fields[key], one)
            values[key, one] = tuple(self._numbers[term] for term in found), kinds
            self._know(terms.terms_of_sensitivity(kinds))

    def numbers(self, row: Mapping[str, Any]) -> list[int]:
        """Return the term numbers of one contact's values, in ascending order; they were learnt before."""
        known, values = self._numbers, self._values
        found: set[int] = set()
        kinds: set[str] = set()
        for key in self._indexed:
            if (value := row.get(key)) is None:
                continue
            for one in value if value.__class__ is list else (value,):
                numbers, tells = values[key, one]
                found.update(numbers)
                if tells:
                    kinds |= tells
        for key, term in self._missing.items():
            # Of the standard fields no value that is there is false.
            if not row.get(key):
                found.add(known[term])
        found.update(self._sensitive(frozenset(kinds)))
        return sorted(found)

    def _sensitive(self, kinds: frozenset[str]) -> tuple[int, ...]:
        numbers = self._of_kinds.get(kinds)
        if numbers is None:
            wanted = terms.terms_of_sensitivity(kinds)
            numbers = self._of_kinds[kinds] = tuple(self._numbers[term] for term in wanted)
        return numbers

    def _standing_terms(self) -> Sequence[Term]:
        return [*self._missing.values(), *terms.terms_of_sensitivity(())]

    def _know(self, wanted: Iterable[Term]) -> None:
        if unknown := {term for term in wanted if term not in self._numbers}:
            self._numbers |= dictionary.learn(self.organization.pk, unknown)
