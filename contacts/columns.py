"""Columns of an import file that are no fields of a contact: facts of higher apps, which fill `COLUMNS`.

The importer reads the cells and finds the contacts; what the values mean, and where they are kept, is the higher
app's business. None of them ever reaches Contact.
"""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from accounts.models import Organization
from contacts.models import Import
from contacts.problems import Problem

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    """How one such column is read and what becomes of it.

    `check(cell)`: the parsed value of a cell (stripped, never empty) or the Problem that rejects its row; it
    depends on the cell alone, since the result is remembered.

    `apply(organization, import_, rows, *, by)`: records the rows of a chunk, [(contact id, {key: parsed})], in the
    chunk's transaction, with the contacts written and locked. Columns that share the function get one call with
    all their keys. One entry a row of the file, in the file's order, so a person may be there twice. What was
    recorded by an earlier import of the same facts must not be recorded again.

    `check_row({key: parsed})`: the Problem of the columns of one row taken together, or None.

    `check_import(organization, import_, keys)`: warnings about the file as a whole; they stop nothing.

    `apply_rejected(organization, import_, rows, *, by)`: what must not be lost when a row is rejected for something
    else, such as an opt-out: [(address, {key: parsed})]. Nobody need have that address.
    """

    label: str
    check: Callable[[str], Any | Problem]
    apply: Callable[..., None]
    aliases: tuple[str, ...] = ()
    check_row: Callable[[Values], Problem | None] | None = None
    check_import: Callable[[Organization, Import, set[str]], list[Problem]] | None = None
    apply_rejected: Callable[..., None] | None = None


#: Field key → column; filled in `AppConfig.ready()` of higher apps.
COLUMNS: dict[str, Column] = {}

ContactRow = tuple[uuid.UUID, Values]
AddressRow = tuple[str, Values]


def by_function(keys: Mapping[str, Column], name: str) -> dict[Callable[..., Any], set[str]]:
    """Return for each function in the attribute `name` of these columns the keys that share it."""
    found: dict[Callable[..., Any], set[str]] = {}
    for key, column in keys.items():
        if function := getattr(column, name):
            found.setdefault(function, set()).add(key)
    return found
