"""Who is a person (ADR 0004): rows find their contact by record number or address, and change it or make it."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db import connection
from django.utils import timezone

from accounts.models import Organization
from contacts import addresses, bulk, terms
from contacts.attributes import COLUMNS, Field, to_json, value_of
from contacts.dictionary import GIVEN_SQL, in_hex
from contacts.indexer import Indexer
from contacts.models import Contact
from contacts.rows import Row
from phi.digest import digest
from phi.ids import uuid7

MOST_DOMAINS = 50_000
_FIELDS = {name: Contact._meta.get_field(name) for name in (*COLUMNS, "attributes")}
#: What is no part of `attributes`.
_OWN_COLUMNS = frozenset({*COLUMNS, "kind"})

#: ("record" or "address", digest of it)
Identity = tuple[str, bytes]


@dataclass(slots=True)
class Person:
    """A contact to be: an existing one with what rows change in it, or a new one (`contact` is None)."""

    pk: uuid.UUID
    identity: Identity
    contact: Contact | None
    #: What is to be written: all values of a new contact, the changed ones of an existing one.
    values: dict[str, Any] = field(default_factory=dict)

    def take(self, row: Row, identity: Identity, fields: Mapping[str, Field]) -> bool:
        """Let a row speak: its values win over earlier ones, empty cells leave them. Return whether any is new.

        `identity`: what the row found the person by.
        """
        if self.contact is None and not self.values:
            self.values = {"kind": Contact.Kind.PATIENT.value} | row.values
            return True
        changed, settled = False, self._settled(identity)
        for key, value in row.values.items():
            if key not in settled and value != self.value(key, fields):
                self.values[key] = value
                changed = True
        return changed

    def _settled(self, identity: Identity) -> tuple[str, ...]:
        """Return what says who an existing contact is, and so is not changed by a row that found it by that.

        By an address that is not theirs it was found through another contact that was merged into it.
        """
        kind, blind = identity
        if self.contact is None or kind == "record":
            return ("record_number",)
        # The same address may be written another way.
        is_theirs = bytes(self.contact.email_digest or b"") == blind
        return ("record_number",) if is_theirs else ("record_number", "email")

    def value(self, key: str, fields: Mapping[str, Field]) -> Any:
        """Return the value as it is now, rows taken included."""
        if key in self.values or self.contact is None:
            return self.values.get(key)
        return value_of(self.contact, key, fields)


class People:
    """The contacts of one organization as an import from one source sees them."""

    def __init__(
        self, organization: Organization, source: str, fields: Mapping[str, Field]
    ) -> None:
        self.organization = organization
        self.source = source
        self.fields = fields
        self._domains: dict[str, bytes] = {}

    def identity(self, row: Row) -> Identity:
        """Return what says who the row is about: its record number, else its address in normal form."""
        if number := row.values.get("record_number"):
            return "record", digest(self.organization.pk, "record", number)
        assert row.address is not None  # noqa: S101
        return "address", digest(self.organization.pk, "address", row.address.normal)

    def find(self, identities: Iterable[Identity], *, lock: bool) -> dict[Identity, Contact]:
        """Return the contacts that these identities name; of one that was merged, the one that it lives on in.

        `lock`: their rows are locked FOR UPDATE in id order, as whoever records a "stop" does.
        """
        matches = self._matches(set(identities))
        contacts = Contact.objects.filter(
            organization=self.organization, pk__in=set(matches.values())
        ).exclude(standing=Contact.Standing.ERASED)
        if lock:
            contacts = contacts.select_for_update(of=("self",))
        found = {contact.pk: contact for contact in contacts.order_by("pk")} if matches else {}
        return {who: found[pk] for who, pk in matches.items() if pk in found}

    def _matches(self, identities: set[Identity]) -> dict[Identity, uuid.UUID]:
        numbers = [blind for kind, blind in identities if kind == "record"]
        addresses = [blind for kind, blind in identities if kind == "address"]
        with connection.cursor() as cursor:
            # A digest is made with the organization's key, so it finds nobody else's; asked for the organization
            # as well inside, the planner may read all of its contacts each time. Without a record number the
            # address is the person; the dead stay so, and are not made anew.
            cursor.execute(
                "SELECT 'record', given.blind, c.id, c.merged_into_id"  # noqa: S608
                f" FROM {GIVEN_SQL}, LATERAL (SELECT * FROM contacts_contact"
                " WHERE record_digest = given.blind AND source = %s LIMIT 1) AS c"
                " WHERE c.organization_id = %s"
                " UNION ALL SELECT 'address', given.blind, c.id, c.merged_into_id"
                f" FROM {GIVEN_SQL}, LATERAL (SELECT * FROM contacts_contact"
                " WHERE email_digest = given.blind AND record_digest IS NULL AND standing <> 'erased'"
                " ORDER BY standing <> 'active', id LIMIT 1) AS c WHERE c.organization_id = %s",
                [
                    *(in_hex(numbers), self.source, self.organization.pk),
                    *(in_hex(addresses), self.organization.pk),
                ],
            )
            rows = [(kind, bytes(blind), pk, into) for kind, blind, pk, into in cursor.fetchall()]
        return {(kind, blind): self._end_of_merges(pk, into) for kind, blind, pk, into in rows}

    def _end_of_merges(self, pk: uuid.UUID, into: uuid.UUID | None) -> uuid.UUID:
        seen = {pk}
        while into is not None and into not in seen:
            seen.add(into)
            pk = into
            into = Contact.objects.filter(pk=pk).values_list("merged_into_id", flat=True).first()
        return pk

    def gather(self, rows: Sequence[Row], *, lock: bool) -> "Gathering":
        """Let the rows speak in their order, and return what would come of it; nothing is written yet."""
        who = [self.identity(row) for row in rows]
        known = self.find(who, lock=lock)
        people: dict[Identity | uuid.UUID, Person] = {}
        done = Gathering()
        for row, identity in zip(rows, who, strict=True):
            contact = known.get(identity)
            # Two record numbers may name one contact, when one was merged into the other.
            key = contact.pk if contact else identity
            person = people.get(key)
            is_new = person is None and contact is None
            if person is None:
                person = people[key] = Person(contact.pk if contact else uuid7(), identity, contact)
            changed = person.take(row, identity, self.fields)
            done.created += is_new
            done.updated += changed and not is_new
            done.unchanged += not changed and not is_new
            done.people.append(person)
        return done

    def write(self, people: Iterable[Person], indexer: Indexer) -> None:
        """Write new contacts and changed ones with their terms, in the caller's transaction."""
        distinct = {person.pk: person for person in people}.values()
        new = [person for person in distinct if person.contact is None]
        changed = [person for person in distinct if person.contact is not None and person.values]
        whole = {
            person.pk: terms.values_of(person.contact, self.fields) | person.values
            for person in changed
            if person.contact.standing == Contact.Standing.ACTIVE
        }
        # What rows say was learnt before the transaction; the rest may be new to this run.
        indexer.learn([*(person.values for person in new), *whole.values()])
        rows = [self._new_row(person) for person in new]
        bulk.insert_contacts(self.organization.pk, self.source, timezone.now(), rows)
        bulk.insert_terms(self.organization.pk, [(p.pk, indexer.numbers(p.values)) for p in new])
        bulk.update_contacts(self.organization.pk, [self._changed_row(p) for p in changed])
        terms.write_rows(
            self.organization, {pk: indexer.numbers(values) for pk, values in whole.items()}
        )

    def _new_row(self, person: Person) -> dict[str, Any]:
        attributes = {k: to_json(v) for k, v in person.values.items() if k not in _OWN_COLUMNS}
        row = self._sealed(person.values, person)
        row["id"], row["kind"] = person.pk, person.values["kind"]
        row["attributes"] = self._seal("attributes", attributes, person.pk)
        return row

    def _changed_row(self, person: Person) -> dict[str, Any]:
        contact, changes = person.contact, person.values
        more = {k: to_json(v) for k, v in changes.items() if k not in _OWN_COLUMNS}
        # Untouched columns go back as they are, sealed; only a JSON document is kept open once it was read.
        row: dict[str, Any] = {name: contact.__dict__[name] for name in bulk.CHANGEABLE}
        row |= {"id": contact.pk, "kind": changes.get("kind", contact.kind)}
        if more or not isinstance(row["attributes"], bytes):
            row["attributes"] = self._seal("attributes", contact.attributes | more, contact.pk)
        return row | self._sealed(changes, person)

    def _sealed(self, values: Mapping[str, Any], person: Person) -> dict[str, Any]:
        """Return the sealed columns of these values, and the digests by which they are found."""
        found = {key: self._seal(key, values[key], person.pk) for key in COLUMNS if key in values}
        kind, blind = person.identity
        if "email" in values:
            if kind == "address" and person.contact is None:
                found["email_digest"] = blind
            else:
                address = addresses.check(values["email"])
                found["email_digest"] = digest(self.organization.pk, "address", address.normal)
            found["domain_digest"] = self._domain_digest(values["email"].rpartition("@")[2])
        if "record_number" in values:
            found["record_digest"] = blind
        return found

    def _seal(self, column: str, value: Any, pk: uuid.UUID) -> bytes:
        return _FIELDS[column].seal(value, self.organization.pk, pk)

    def _domain_digest(self, domain: str) -> bytes:
        if len(self._domains) > MOST_DOMAINS:
            self._domains.clear()
        if domain not in self._domains:
            self._domains[domain] = digest(self.organization.pk, "domain", domain)
        return self._domains[domain]


@dataclass(slots=True)
class Gathering:
    """What rows come to: `people` has one entry a row; the counts are of rows."""

    people: list[Person] = field(default_factory=list)
    created: int = 0
    updated: int = 0
    unchanged: int = 0
