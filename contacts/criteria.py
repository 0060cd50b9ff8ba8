"""The criteria language (docs/segments.md): JSON in, a checked tree out, and back as one canonical form."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from accounts.models import Organization
from contacts.attributes import CHOSEN_CLASSES, Field, fields_of
from contacts.models import Segment
from contacts.operators import BadValue, Operator, operators_of

#: Groups within groups, and questions in all, segments that are referred to included.
MOST_DEPTH, MOST_LEAVES = 10, 200


class CriteriaError(ValueError):
    """Criteria that cannot be used. `path` says where ("all[1].value"), `sentence` why; neither holds a value."""

    def __init__(self, path: str, sentence: str) -> None:
        super().__init__(f"{path or 'criteria'}: {sentence}")
        self.path = path
        self.sentence = sentence


@dataclass(frozen=True, slots=True)
class Sql:
    """A query of one column `id`, contact ids each once, with its parameters."""

    text: str
    params: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Criterion:
    """A question that a higher app answers: {"criterion": name, "op": …, "value": …}.

    `ops`: {operator: how it is said, with {value}}. `check(op, value)`: the value in its canonical JSON form, or
    ValueError with a sentence. `sql(organization, op, value, today)`: `Sql` selecting the ids of the organization's
    contacts that match. `describe(op, value)`: the value in words. `clinical`: whether small numbers are hidden.
    """

    label: str
    ops: Mapping[str, str]
    check: Callable[[str, Any], Any]
    sql: Callable[..., Sql]
    describe: Callable[[str, Any], str]
    clinical: bool = False


#: Name → question; higher apps fill it in `AppConfig.ready()`.
CRITERIA: dict[str, Criterion] = {}


# --- the tree


@dataclass(frozen=True, slots=True)
class Group:
    """`all` or `any` of its parts."""

    word: str
    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Negation:
    """Everybody in the organization but those who match the part."""

    part: "Node"


@dataclass(frozen=True, slots=True)
class Question:
    """A field, an operator, and the value in canonical form."""

    field: Field
    op: str
    operator: Operator
    value: Any


@dataclass(frozen=True, slots=True)
class Behaviour:
    """A question of a higher app."""

    name: str
    criterion: Criterion
    op: str
    value: Any


@dataclass(frozen=True, slots=True)
class Reference:
    """Another segment, as it is now."""

    segment_id: uuid.UUID
    name: str
    part: "Node"


Node = Group | Negation | Question | Behaviour | Reference


def parse(organization: Organization, criteria: Any, *, within: uuid.UUID | None = None) -> Node:
    """Return the checked tree of criteria; raises CriteriaError for the first thing that is wrong.

    `within`: the segment that they are to be the criteria of, which they may not refer to.
    """
    return _Parser(organization).node(criteria, "", 1, (within,) if within else ())


class _Parser:
    """One reading of criteria: what it may refer to, and how much of it there is."""

    def __init__(self, organization: Organization) -> None:
        self.organization = organization
        self.fields = fields_of(organization)
        self.leaves = 0

    def node(self, raw: Any, path: str, depth: int, through: tuple[uuid.UUID, ...]) -> Node:
        """Read one node. `through`: the segments that led here, none of which may come again."""
        if depth > MOST_DEPTH:
            raise CriteriaError(path, f"Groups are nested more than {MOST_DEPTH} deep.")
        if not isinstance(raw, dict):
            raise CriteriaError(path, "A group or a question is needed, as a JSON object.")
        for word, keys, read in (
            ("all", {"all"}, self._group),
            ("any", {"any"}, self._group),
            ("not", {"not"}, self._negation),
            ("segment", {"segment"}, self._reference),
            ("field", {"field", "op", "value"}, self._question),
            ("criterion", {"criterion", "op", "value"}, self._behaviour),
        ):
            if word in raw:
                if not set(raw) <= keys:
                    raise CriteriaError(
                        path, f"Beside {word!r} stands something that does not belong."
                    )
                return read(raw, path, depth, through)
        raise CriteriaError(
            path, "It has none of the keys all, any, not, field, segment and criterion."
        )

    def _group(self, raw: dict, path: str, depth: int, through: tuple) -> Group:
        word = next(iter(raw))
        here = _join(path, word)
        if not isinstance(raw[word], list):
            raise CriteriaError(here, "A list is needed.")
        if len(raw[word]) > MOST_LEAVES:
            raise CriteriaError(here, f"There are more than {MOST_LEAVES} parts.")
        parts = (
            self.node(part, f"{here}[{number}]", depth + 1, through)
            for number, part in enumerate(raw[word])
        )
        return Group(word, tuple(parts))

    def _negation(self, raw: dict, path: str, depth: int, through: tuple) -> Negation:
        return Negation(self.node(raw["not"], _join(path, "not"), depth + 1, through))

    def _reference(self, raw: dict, path: str, depth: int, through: tuple) -> Reference:
        here = _join(path, "segment")
        self._count(here)
        try:
            segment_id = uuid.UUID(raw["segment"])
        except (ValueError, TypeError, AttributeError):
            raise CriteriaError(here, "There is no such segment.") from None
        if segment_id in through:
            raise CriteriaError(here, "The segment refers to itself, directly or through others.")
        # Another organization's segment is as unknown as one that never was.
        segment = Segment.objects.filter(
            pk=segment_id, organization_id=self.organization.pk
        ).first()
        if segment is None:
            raise CriteriaError(here, "There is no such segment.")
        part = self.node(segment.criteria, here, depth + 1, (*through, segment_id))
        return Reference(segment_id, segment.name, part)

    def _question(self, raw: dict, path: str, depth: int, through: tuple) -> Question:
        self._count(path)
        key, op = raw["field"], raw.get("op")
        field = self.fields.get(key) if isinstance(key, str) else None
        if field is None:
            raise CriteriaError(_join(path, "field"), "There is no such field.")
        operators = operators_of(field)
        if not operators and field.data_class in CHOSEN_CLASSES:
            raise CriteriaError(
                _join(path, "field"),
                f"{field.label} cannot be searched: it is {field.data_class} data, and the privacy officer "
                "has not chosen to index that.",
            )
        operator = operators.get(op) if isinstance(op, str) else None
        if operator is None:
            raise CriteriaError(
                _join(path, "op"), f"{field.label} can be asked with: {', '.join(operators)}."
            )
        try:
            value = operator.value(field, raw.get("value"))
        except BadValue as error:
            raise CriteriaError(_join(path, "value"), str(error)) from None
        return Question(field, op, operator, value)

    def _behaviour(self, raw: dict, path: str, depth: int, through: tuple) -> Behaviour:
        self._count(path)
        name, op = raw["criterion"], raw.get("op")
        criterion = CRITERIA.get(name) if isinstance(name, str) else None
        if criterion is None:
            raise CriteriaError(_join(path, "criterion"), "There is no such criterion.")
        if not isinstance(op, str) or op not in criterion.ops:
            raise CriteriaError(
                _join(path, "op"),
                f"{criterion.label} can be asked with: {', '.join(criterion.ops)}.",
            )
        try:
            value = criterion.check(op, raw.get("value"))
        except ValueError as error:
            raise CriteriaError(_join(path, "value"), str(error)) from None
        return Behaviour(name, criterion, op, value)

    def _count(self, path: str) -> None:
        self.leaves += 1
        if self.leaves > MOST_LEAVES:
            raise CriteriaError(path, f"There are more than {MOST_LEAVES} questions in all.")


def _join(path: str, word: str) -> str:
    return f"{path}.{word}" if path else word


def questions_in(node: Node) -> Iterator[Question | Behaviour]:
    """Yield the questions of a tree, those of segments that it refers to included."""
    match node:
        case Group(_, parts):
            for part in parts:
                yield from questions_in(part)
        case Negation(part) | Reference(_, _, part):
            yield from questions_in(part)
        case _:
            yield node


def canonical(node: Node) -> dict[str, Any]:
    """Return a tree as JSON in which whatever means the same is written the same; segments are written out."""
    match node:
        case Group(word, parts):
            return {word: [canonical(part) for part in parts]}
        case Negation(part):
            return {"not": canonical(part)}
        case Reference(_, _, part):
            return canonical(part)
        case Question(field, op, _, value):
            return {"field": field.key, "op": op, **_given(value)}
        case Behaviour(name, _, op, value):
            return {"criterion": name, "op": op, **_given(value)}


def _given(value: Any) -> dict[str, Any]:
    return {} if value is None else {"value": value}


# --- in words

_WORDS = {
    "en": {
        "everyone": "Everyone",
        "nobody": "Nobody",
        "all": " and ",
        "any": " or ",
        "not": "not ({part})",
        "segment": "in the segment “{name}” ({part})",
        "whole": "Everyone for whom this holds: {part}.",
    }
}


def in_words(node: Node, language: str = "en") -> str:
    """Return a tree as a sentence; a language that has no words yet gets English."""
    words = _WORDS.get(language, _WORDS["en"])
    part = _part_in_words(node, words, top=True)
    if part in (words["everyone"], words["nobody"]):
        return f"{part}."
    return words["whole"].format(part=part)


def _part_in_words(node: Node, words: Mapping[str, str], *, top: bool = False) -> str:
    match node:
        case Group(word, parts):
            if not parts:
                return words["everyone" if word == "all" else "nobody"]
            text = words[word].join(_part_in_words(part, words) for part in parts)
            return text if top or len(parts) == 1 else f"({text})"
        case Negation(part):
            return words["not"].format(part=_part_in_words(part, words, top=True))
        case Reference(_, name, part):
            return words["segment"].format(name=name, part=_part_in_words(part, words, top=True))
        case Question(field, _, operator, value):
            return operator.phrase.format(
                field=_inside(field.label),
                value=operator.say(field, value),
            )
        case Behaviour(_, criterion, op, value):
            return criterion.ops[op].format(value=criterion.describe(op, value))


def _inside(label: str) -> str:
    """Return a label as it stands inside a sentence: abbreviations keep their capitals."""
    return label[:1].lower() + label[1:] if label[1:2].islower() else label
