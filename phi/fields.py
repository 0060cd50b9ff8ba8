"""Encrypted fields: AES-256-GCM, bound to organization, column and row, opened on access, never queried by value.

They subclass the fields of django-encrypted-model-fields and replace its cipher, because version 0.6.5 hands
back ciphertext when it cannot decrypt, ruins rows on bulk_update(), and finds nothing on filter() (ADR 0002).
"""

import datetime as dt
import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import encrypted_model_fields.fields as emf
from django.core.exceptions import FieldError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models.query_utils import DeferredAttribute

from phi.keys import Unreadable, open_bytes, seal_bytes
from phi.models import DataKey

__all__ = [
    "EncryptedBinaryField",
    "EncryptedCharField",
    "EncryptedDateField",
    "EncryptedEmailField",
    "EncryptedJSONField",
    "EncryptedTextField",
    "PhiManager",
    "PhiQuerySet",
    "Sealed",
]


class Sealed(bytes):
    """A value as the database holds it; what `values_list()` gives."""

    __slots__ = ()


class _Opened(DeferredAttribute):
    """Opens a sealed value when it is read, with the row at hand."""

    def __get__(self, instance: models.Model | None, cls: type | None = None) -> Any:
        if instance is None:
            return self
        value = super().__get__(instance, cls)
        if not isinstance(value, Sealed) or getattr(instance, "_keep_sealed", False):
            return value
        field: Encrypted = self.field
        return field.open(value, instance.organization_id, instance.pk)

    def __set__(self, instance: models.Model, value: Any) -> None:
        instance.__dict__[self.field.attname] = value


class Encrypted(emf.EncryptedMixin):
    """What all encrypted fields share.

    `evidence`: sealed with the organization's evidence key, for append-only rows that no rotation can rewrite.
    The model has a UUID primary key made in Python and an `organization_id`; both are part of the seal.
    """

    descriptor_class = _Opened

    def __init__(self, *args: Any, evidence: bool = False, **kwargs: Any) -> None:
        self.evidence = evidence
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> tuple[str, str, Sequence[Any], dict[str, Any]]:
        name, path, args, kwargs = super().deconstruct()
        if self.evidence:
            kwargs["evidence"] = True
        return name, path, args, kwargs

    def get_internal_type(self) -> str:
        return "BinaryField"

    def db_type(self, connection: Any) -> str:
        return "bytea"

    # --- sealing

    def seal(self, value: Any, organization_id: uuid.UUID, row_id: uuid.UUID) -> Sealed:
        """Return the value sealed for one row, as the column holds it (for COPY and raw SQL)."""
        purpose = DataKey.Purpose.EVIDENCE if self.evidence else DataKey.Purpose.DATA
        return Sealed(
            seal_bytes(
                organization_id,
                self.to_bytes(value),
                self._bound(organization_id, row_id),
                purpose=purpose,
            )
        )

    def open(self, sealed: bytes, organization_id: uuid.UUID, row_id: uuid.UUID) -> Any:
        """Return the value sealed for this very row; raises Unreadable, naming the column and the row."""
        try:
            plain = open_bytes(organization_id, sealed, self._bound(organization_id, row_id))
        except Unreadable as error:
            raise Unreadable(f"{self} of row {row_id}: {error}") from None
        return self.from_bytes(plain)

    def to_bytes(self, value: Any) -> bytes:
        return str(value).encode()

    def from_bytes(self, plain: bytes) -> Any:
        return plain.decode()

    def _bound(self, organization_id: uuid.UUID, row_id: uuid.UUID) -> bytes:
        # Declared names, not the table's: a renamed table keeps its values readable.
        return b"|".join(
            (organization_id.bytes, f"{self.model._meta.label}.{self.name}".encode(), row_id.bytes)
        )

    # --- Django's hooks

    def to_python(self, value: Any) -> Any:
        """Validate what a form or serializer hands in; never decrypts."""
        return (
            value if isinstance(value, Sealed) else super(emf.EncryptedMixin, self).to_python(value)
        )

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Sealed | None:
        return None if value is None else Sealed(value)

    def pre_save(self, instance: models.Model, add: bool) -> Any:
        value = instance.__dict__.get(self.attname)
        if value is None or isinstance(value, Sealed) or hasattr(value, "resolve_expression"):
            return value
        value = self.to_python(value)
        # The instance keeps the plain value: it is what the caller set, and opening it again costs.
        return self.seal(value, instance.organization_id, instance.pk)

    def get_prep_value(self, value: Any) -> Any:
        return value

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        return self.get_db_prep_save(value, connection)

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        if value is None or hasattr(value, "as_sql"):
            return value
        if isinstance(value, Sealed):
            return connection.Database.Binary(value)
        raise TypeError(
            f"{self}: a plain value cannot be sealed without its row; save the row, or use bulk_update()."
        )

    def get_lookup(self, lookup_name: str) -> Any:
        if lookup_name != "isnull":
            raise FieldError(
                f"{self} is encrypted: only isnull can be looked up. Use its digest or its terms."
            )
        return super().get_lookup(lookup_name)

    def get_transform(self, lookup_name: str) -> Any:
        raise FieldError(f"{self} is encrypted and has no transforms.")

    def value_to_string(self, obj: models.Model) -> str:
        raise TypeError(f"{self}: serializers would write it in clear.")


class EncryptedCharField(Encrypted, emf.EncryptedCharField):
    """A short text."""


class EncryptedTextField(Encrypted, emf.EncryptedTextField):
    """A text of any length."""


class EncryptedEmailField(Encrypted, emf.EncryptedEmailField):
    """An address. Non-ASCII local parts are allowed (RFC 6531), so contacts.addresses validates it, not Django."""

    default_validators: ClassVar[list] = []


class EncryptedDateField(Encrypted, emf.EncryptedDateField):
    """A calendar day."""

    def to_bytes(self, value: dt.date) -> bytes:
        return value.isoformat().encode()

    def from_bytes(self, plain: bytes) -> dt.date:
        return dt.date.fromisoformat(plain.decode())


class EncryptedJSONField(Encrypted, models.JSONField):
    """A JSON document, sealed as a whole."""

    def to_python(self, value: Any) -> Any:
        return value

    def to_bytes(self, value: Any) -> bytes:
        return json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False).encode()

    def from_bytes(self, plain: bytes) -> Any:
        return json.loads(plain)


class EncryptedBinaryField(Encrypted, models.BinaryField):
    """Bytes."""

    def to_python(self, value: Any) -> Any:
        return value

    def to_bytes(self, value: bytes) -> bytes:
        return bytes(value)

    def from_bytes(self, plain: bytes) -> bytes:
        return plain


class PhiQuerySet(models.QuerySet):
    """A queryset whose `bulk_update()` seals each value for its own row."""

    def bulk_update(
        self, objs: Iterable[models.Model], fields: Iterable[str], batch_size: int | None = None
    ) -> int:
        """Update the named fields of many rows at once, as Django's does."""
        objs, fields = list(objs), list(fields)
        columns = [f for n in fields if isinstance(f := self.model._meta.get_field(n), Encrypted)]
        kept = [{c.attname: obj.__dict__.get(c.attname) for c in columns} for obj in objs]
        try:
            for obj in objs:
                for column in columns:
                    obj.__dict__[column.attname] = column.pre_save(obj, add=False)
                obj._keep_sealed = True
            return super().bulk_update(objs, fields, batch_size=batch_size)
        finally:
            for obj, values in zip(objs, kept, strict=True):
                obj.__dict__.update(values)
                obj.__dict__.pop("_keep_sealed", None)


PhiManager = models.Manager.from_queryset(PhiQuerySet, class_name="PhiManager")
