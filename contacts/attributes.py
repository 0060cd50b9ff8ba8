"""The fields of a contact as data: what each is called, which class of data it holds, and whether it can be searched."""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from accounts.models import Organization
from contacts import choices
from contacts.models import Contact, CustomField

DataClass = CustomField.DataClass
Type = CustomField.Type

#: Classes that become searchable only by the privacy officer's choice (design, decision 3).
CHOSEN_CLASSES = frozenset({DataClass.TREATMENT, DataClass.SENSITIVE})
#: Classes whose small numbers are hidden (design, decision 18).
CLINICAL_CLASSES = frozenset({DataClass.TREATMENT, DataClass.SENSITIVE, DataClass.PAYMENT})

KEY = re.compile(r"[a-z][a-z0-9_]{0,59}")
#: Keys that mean something else in terms, criteria and messages.
RESERVED_KEYS = frozenset(
    {"sensitivity", "part2", "segment", "criterion", "id", "source", "standing", "clinic"}
    | {"unsubscribe_url", "row", "problem"}
)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a contact.

    `longest`: most characters of a text. `choices`: {value: label} when the list is closed. `is_column`: kept in a
    column of Contact, else in its `attributes`. `searchable`: whether its values are terms in this organization;
    a field that is not can still be asked whether it has a value, when `presence` is True.
    """

    key: str
    label: str
    data_class: str
    type: str
    longest: int = 500
    searchable: bool = True
    presence: bool = True
    is_column: bool = False
    choices: Mapping[str, str] = field(default_factory=dict)
    spellings: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_clinical(self) -> bool:
        """Whether small numbers about it are hidden."""
        return self.data_class in CLINICAL_CLASSES

    def definition(self) -> dict[str, str]:
        """Return what an approval binds: changing it changes whom criteria mean."""
        return {"label": self.label, "data_class": str(self.data_class), "type": str(self.type)}


def _column(key: str, label: str, data_class: str, type: str, longest: int, **more: Any) -> Field:
    return Field(key, label, data_class, type, longest, is_column=True, **more)


STANDARD: dict[str, Field] = {
    field.key: field
    for field in (
        # Addresses are found by their digest, names not at all: nothing needs it, and an index would reveal them.
        _column("email", "Email address", DataClass.CONTACT, Type.TEXT, 320, searchable=False),
        _column("first_name", "First name", DataClass.CONTACT, Type.TEXT, 120, searchable=False),
        _column("last_name", "Last name", DataClass.CONTACT, Type.TEXT, 120, searchable=False),
        _column("date_of_birth", "Date of birth", DataClass.DEMOGRAPHIC, Type.DATE, 10),
        _column(
            "sex",
            "Sex",
            DataClass.DEMOGRAPHIC,
            Type.CHOICE,
            20,
            choices=choices.SEXES,
            spellings=choices.SEX_SPELLINGS,
        ),
        _column(
            "state",
            "State",
            DataClass.DEMOGRAPHIC,
            Type.CHOICE,
            40,
            choices=choices.STATES,
            spellings=choices.STATE_SPELLINGS,
        ),
        _column("zip", "ZIP code", DataClass.DEMOGRAPHIC, Type.TEXT, 10),
        _column("language", "Language", DataClass.DEMOGRAPHIC, Type.TEXT, 20),
        Field("conditions", "Conditions", DataClass.TREATMENT, Type.CHOICES, 120),
        Field("last_visit", "Last visit", DataClass.TREATMENT, Type.DATE, 10),
        _column(
            "kind",
            "Kind",
            DataClass.CONTACT,
            Type.CHOICE,
            40,
            choices=dict(Contact.Kind.choices),
            spellings=choices.KIND_SPELLINGS,
        ),
        _column(
            "record_number", "Record number", DataClass.CONTACT, Type.TEXT, 80, searchable=False
        ),
    )
}
#: The sealed columns of Contact, in the order in which they are written.
COLUMNS = tuple(key for key, f in STANDARD.items() if f.is_column and key != "kind")


def fields_of(organization: Organization) -> dict[str, Field]:
    """Return all fields of an organization by key: the standard ones, then its own in the order of their keys."""
    own = CustomField.objects.filter(organization=organization).order_by("key")
    fields = STANDARD | {f.key: custom(f.key, f.label, f.data_class, f.type) for f in own}
    if organization.treatment_terms:
        return fields
    return {key: _closed(f) if f.data_class in CHOSEN_CLASSES else f for key, f in fields.items()}


def custom(key: str, label: str, data_class: str, type: str) -> Field:
    """Return an organization's own field."""
    return Field(key, label, data_class, type)


def _closed(field: Field) -> Field:
    return replace(field, searchable=False, presence=False)


def value_of(contact: Contact, key: str, fields: Mapping[str, Field] | None = None) -> Any:
    """Return a contact's value of a field (str, int, bool, date or list of str), or None when there is none.

    `fields`: what `fields_of()` gave, to spare a query for each contact.
    """
    standard = STANDARD.get(key)
    if standard and standard.is_column:
        return getattr(contact, key)
    value = contact.attributes.get(key)
    if value is None:
        return None
    if fields is None:
        fields = STANDARD if standard else fields_of(contact.organization)
    known = fields.get(key)
    return from_json(known, value) if known else value


def from_json(field: Field, value: Any) -> Any:
    """Return a value as `attributes` keeps it in the type that it has: JSON has no dates."""
    return dt.date.fromisoformat(value) if field.type == Type.DATE else value


def to_json(value: Any) -> Any:
    """Return a value as `attributes` keeps it."""
    return value.isoformat() if isinstance(value, dt.date) else value
