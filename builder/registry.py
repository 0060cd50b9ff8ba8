"""Which merge tags an organization's messages may use, and their values for one person."""

import datetime as dt
from collections.abc import Collection

from accounts.models import Organization
from builder.tags import NAME, RESERVED, Registry, Tag
from contacts import attributes
from contacts.models import Contact

#: Tags that say something of the organization, not of the person.
ORGANIZATION_TAGS = (Tag("clinic", "Our name", "organization"),)

#: Names that a contact field cannot have as a tag.
TAKEN = RESERVED | {tag.name for tag in ORGANIZATION_TAGS}

Value = str | dt.date | None


def registry_for(organization: Organization) -> Registry:
    """Return the tags that may stand in this organization's templates: its contact fields and itself.

    A custom field whose key is no tag's name, or one of ours, can be searched but not merged.
    """
    return Registry(
        [
            *ORGANIZATION_TAGS,
            *(
                Tag(
                    field.key,
                    field.label,
                    field.data_class,
                    "date" if field.type == "date" else "text",
                )
                for field in attributes.fields_of(organization).values()
                if NAME.fullmatch(field.key) and field.key not in TAKEN
            ),
        ]
    )


def values_for(contact: Contact, names: Collection[str]) -> dict[str, Value]:
    """Return what the named tags stand for in a message to this contact; opens only what is asked for."""
    values: dict[str, Value] = {}
    for name in names:
        if name == "clinic":
            values[name] = contact.organization.name
        else:
            values[name] = _shown(attributes.value_of(contact, name))
    return values


def _shown(value: object) -> Value:
    if value is None or isinstance(value, dt.date):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value) or None
    return str(value) or None
