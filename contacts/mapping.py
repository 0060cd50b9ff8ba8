"""Which column of a file is which field: proposed by the columns' names, corrected by people, checked here."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from accounts.models import Organization
from contacts import sensitive
from contacts.attributes import (
    KEY,
    RESERVED_KEYS,
    STANDARD,
    DataClass,
    Field,
    Type,
    custom,
    fields_of,
)
from contacts.columns import COLUMNS
from contacts.problems import Unacceptable
from contacts.table import Record, plain
from contacts.values import BLANKS, read

#: How files call the standard fields, beside their key and label, as `table.plain()` writes it.
NAMES: dict[str, tuple[str, ...]] = {
    "email": ("e_mail", "mail", "e_mail_address", "email_addr"),
    "first_name": ("firstname", "given_name", "forename", "first"),
    "last_name": ("lastname", "surname", "family_name", "last"),
    "date_of_birth": ("dob", "birth_date", "birthdate", "birthday", "born_on"),
    "sex": ("gender", "administrative_sex"),
    "state": ("state_code", "state_of_residence"),
    "zip": ("zipcode", "postal_code", "postcode", "zip5"),
    "language": ("preferred_language", "lang", "language_code"),
    "conditions": ("condition", "diagnoses", "diagnosis", "dx", "icd10"),
    "last_visit": ("last_visit_on", "last_visit_date", "last_seen"),
    "kind": ("contact_kind",),
    # It decides who is one person, so only names that can mean nothing else.
    "record_number": ("mrn", "medical_record_number"),
}


class BadMapping(Unacceptable):
    """A mapping that cannot be used."""


@dataclass(slots=True)
class Proposal:
    """Which column is what.

    `columns`: {header: field key, or None to leave it out}. `new_fields`: {key: {"label", "type", "data_class"}}
    of fields that the organization does not have yet.
    """

    columns: dict[str, str | None]
    new_fields: dict[str, dict[str, str]] = field(default_factory=dict)


def known_names(organization: Organization) -> tuple[dict[str, str], dict[str, str]]:
    """Return {name as `table.plain()` writes it: key} of all fields and columns: own names, and other ones."""
    own: dict[str, str] = {}
    other: dict[str, str] = {}
    for key, known in {**COLUMNS, **fields_of(organization)}.items():
        for name in (key, plain(known.label)):
            own.setdefault(name, key)
        for name in (*NAMES.get(key, ()), *map(plain, getattr(known, "aliases", ()))):
            other.setdefault(name, key)
    return own, other


def propose(organization: Organization, header: Iterable[str], rows: Iterator[Record]) -> Proposal:
    """Return a mapping by the columns' names; what nobody knows becomes a field of the organization's own.

    Such a field holds treatment data until a person says otherwise, and has a type only if every value in the file
    has it. `rows` are read only when there is such a column. Psychotherapy notes are left out, always.
    """
    header = list(header)
    own, other = known_names(organization)
    names, found = own | other, Proposal({})
    # A column called by a field's own name has it, wherever it stands; another name counts only without one.
    taken = {own[name] for title in header if (name := plain(title)) in own}
    unknown: dict[int, str] = {}
    for number, title in enumerate(header):
        name = plain(title)
        key = own.get(name) or (other.get(name) if other.get(name) not in taken else None)
        if key is None and not is_psychotherapy(title):
            key = _new_key(title, {*names.values(), *found.new_fields})
            found.new_fields[key] = {"label": title[:80]}
            unknown[number] = key
        # The first column of a name has it; a second one would overwrite it.
        found.columns[title] = None if key in found.columns.values() else key
    types = _types_of(unknown, rows) if unknown else {}
    for number, key in unknown.items():
        kinds = sensitive.kinds_of(found.new_fields[key]["label"])
        data_class = DataClass.SENSITIVE if kinds else DataClass.TREATMENT
        found.new_fields[key] |= {"type": str(types[number]), "data_class": str(data_class)}
    return found


def checked(
    organization: Organization,
    header: Iterable[str],
    proposal: Proposal,
    columns: Mapping[str, str | None],
) -> Proposal:
    """Return the mapping that a person made of the proposal; columns not named are left out.

    Raises BadMapping for a column that the file does not have, a field that nobody has, a field twice, and
    psychotherapy notes (45 CFR 164.508(a)(2): never without an authorization of their own, so never here).
    """
    header = list(header)
    known = {*fields_of(organization), *COLUMNS, *proposal.new_fields}
    if set(columns) - set(header):
        raise BadMapping("unknown_column", "A column is named that the file does not have.")
    chosen = [key for key in columns.values() if key is not None]
    if not all(isinstance(key, str) and key in known for key in chosen):
        raise BadMapping("unknown_field", "A column is mapped to a field that there is not.")
    if len(set(chosen)) != len(chosen):
        raise BadMapping("field_twice", "Two columns are mapped to the same field.")
    for title, key in columns.items():
        if key is not None and is_psychotherapy(title):
            raise BadMapping("psychotherapy", "Psychotherapy notes are never imported.")
    return Proposal(
        {title: columns.get(title) for title in header},
        {key: made for key, made in proposal.new_fields.items() if key in chosen},
    )


def is_psychotherapy(title: str) -> bool:
    """Say whether a column's name tells of psychotherapy notes."""
    return "psychotherapy" in sensitive.kinds_of(title)


def new_fields(made: Mapping[str, Mapping[str, str]]) -> dict[str, Field]:
    """Return the fields that a mapping would make."""
    return {key: custom(key, f["label"], f["data_class"], f["type"]) for key, f in made.items()}


def _new_key(title: str, taken: set[str]) -> str:
    ascii_title = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    stem = re.sub(r"[^a-z0-9]+", "_", ascii_title.lower()).strip("_")[:56] or "field"
    if not KEY.fullmatch(stem):
        stem = f"f_{stem}"
    key, number = stem, 1
    while key in taken or key in RESERVED_KEYS or key in STANDARD:
        number += 1
        key = f"{stem}_{number}"
    return key


# --- types

_PROBES: dict[str, Field] = {
    type: custom("probe", "probe", DataClass.TREATMENT, type)
    for type in (Type.YES_NO, Type.NUMBER, Type.DATE)
}
#: No leading zeros and no more digits than a count has: what looks like an identifier stays a text.
_COUNT = re.compile(r"-?(?:0|[1-9]\d{0,8})", re.ASCII)


def _types_of(columns: Mapping[int, str], rows: Iterator[Record]) -> dict[int, str]:
    """Return for each column the type that all of its values have, else text."""
    possible = {number: set(_PROBES) for number in columns}
    seen: set[int] = set()
    for record in rows:
        if record.problem is not None or record.is_blank:
            continue
        for number, types in possible.items():
            cell = record.cells[number].strip(BLANKS)
            if cell and types:
                seen.add(number)
                types -= {type for type in types if not _has_type(cell, type)}
    return {
        number: next((t for t in _PROBES if t in types), Type.TEXT) if number in seen else Type.TEXT
        for number, types in possible.items()
    }


def _has_type(cell: str, type: Any) -> bool:
    if type == Type.NUMBER:
        return bool(_COUNT.fullmatch(cell))
    if type == Type.YES_NO and cell.isdigit():
        return False
    try:
        read(_PROBES[type], cell)
    except Unacceptable:
        return False
    return True
