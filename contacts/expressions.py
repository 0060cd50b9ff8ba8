"""Boolean expressions over terms, and the query_int text of intarray that they become."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from contacts.dictionary import Term


@dataclass(frozen=True, slots=True)
class Has:
    """Holds for a contact that carries the term."""

    term: Term


@dataclass(frozen=True, slots=True)
class All:
    """Holds when every part does; without parts, always."""

    parts: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Some:
    """Holds when any part does; without parts, never."""

    parts: tuple["Expression", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Holds when its part does not."""

    part: "Expression"


Expression = Has | All | Some | Not

ALWAYS = All(())
NEVER = Some(())


def some_of(terms: Iterable[Term]) -> Some:
    """Return the expression that holds for whoever carries one of the terms."""
    return Some(tuple(Has(term) for term in terms))


def terms_in(expression: Expression) -> Iterator[Term]:
    """Yield all terms of an expression."""
    match expression:
        case Has(term):
            yield term
        case Not(part):
            yield from terms_in(part)
        case All(parts) | Some(parts):
            for part in parts:
                yield from terms_in(part)


@dataclass(frozen=True, slots=True)
class Folded:
    """What is left when the terms that nobody carries are out.

    `text`: query_int, or None when it holds for all or nobody, as `matches_empty` says. `matches_empty`: whether it
    holds for a contact that carries none of its terms, so that an index cannot narrow it down.
    """

    text: str | None
    matches_empty: bool


def fold(expression: Expression, numbers: Mapping[Term, int]) -> Folded:
    """Return the expression as query_int text; a term without a number is carried by nobody.

    Negations are moved inwards: the index sees no term that must be there behind a "!" (intarray's
    contains_required_value), and would be read as a whole.
    """
    match expression:
        case Has(term):
            number = numbers.get(term)
            return Folded(None if number is None else str(number), False)
        case Not(Not(part)):
            return fold(part, numbers)
        case Not(All(parts)):
            return fold(Some(tuple(Not(part) for part in parts)), numbers)
        case Not(Some(parts)) if not all(isinstance(part, Has) for part in parts):
            return fold(All(tuple(Not(part) for part in parts)), numbers)
        case Not(part):
            inner = fold(part, numbers)
            return Folded(None if inner.text is None else f"!{inner.text}", not inner.matches_empty)
        case All(parts):
            return _joined([fold(part, numbers) for part in parts], "&", neutral=True)
        case Some(parts):
            return _joined([fold(part, numbers) for part in parts], "|", neutral=False)


def _joined(parts: list[Folded], sign: str, *, neutral: bool) -> Folded:
    if any(part.text is None and part.matches_empty is not neutral for part in parts):
        return Folded(None, not neutral)
    texts = list(dict.fromkeys(part.text for part in parts if part.text is not None))
    empty = (
        all(part.matches_empty for part in parts)
        if neutral
        else any(part.matches_empty for part in parts)
    )
    if not texts:
        return Folded(None, neutral)
    return Folded(texts[0] if len(texts) == 1 else f"({sign.join(texts)})", empty)
