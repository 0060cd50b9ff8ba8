"""Encrypted fields: AES-256-GCM, bound to organization, column and row, opened on access, never queried by value.

They subclass the fields of django-encrypted-model-fields and replace its cipher, because version 0.6.5 hands
back ciphertext when it cannot decrypt, ruins rows on bulk_update(), and finds nothing on filter() (ADR 0002).
"""

import datetime as dt
import json
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

import encrypted_model_fields.fields as emf
from django import forms
from django.core.exceptions import FieldError, ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models.functions import Cast
from django.db.models.query_utils import DeferredAttribute
from django.utils.functional import cached_property

from phi.keys import Unreadable, key_id_of, newest_key_id, open_bytes, seal_bytes
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


#: Plain values are filled up to a multiple of this many bytes: the length of a sealed one would tell
#: "male" from "female", and a short name from a long one.
PADDED_TO = 32


def padded(plain: bytes) -> bytes:
    """Return a value filled up to the next multiple, with at least one byte (ISO/IEC 7816-4)."""
    return plain + b"\x80" + bytes(-(len(plain) + 1) % PADDED_TO)


def unpadded(plain: bytes) -> bytes:
    """Return what `padded` was given; raises Unreadable for anything that it did not make."""
    bare = plain.rstrip(b"\0")
    if len(plain) % PADDED_TO or not bare.endswith(b"\x80"):
        raise Unreadable("not a padded value")
    return bare[:-1]


class Sealed(bytes):
    """A value as the database holds it; what `values_list()` gives."""

    __slots__ = ()


class _Opened(DeferredAttribute):
    """Opens a sealed value when it is read, with the row at hand."""

    def __get__(self, instance: models.Model | None, cls: type | None = None) -> Any:
        if instance is None:
            return self
        value = super().__get__(instance, cls)
        if not isinstance(value, Sealed) or "_keep_sealed" in instance.__dict__:
            return value
        field: Encrypted = self.field
        opened = field.open(value, instance.organization_id, instance.pk)
        if field.mutable:
            # What is changed in place must be what is saved.
            instance.__dict__[field.attname] = opened
        return opened

    def __set__(self, instance: models.Model, value: Any) -> None:
        instance.__dict__[self.field.attname] = value


class Encrypted(emf.EncryptedMixin):
    """What all encrypted fields share.

    `evidence`: sealed with the organization's evidence key, for append-only rows that no rotation can rewrite.
    The model has a UUID primary key made in Python and an `organization_id`; both are part of the seal.
    """

    descriptor_class = _Opened
    #: Whether values can be changed in place.
    mutable = False
    #: Django's messages quote the value.
    default_error_messages: ClassVar[dict[str, str]] = {
        "invalid": "Not a valid value.",
        "invalid_choice": "Not one of the choices.",
        "invalid_date": "Not a day of the calendar.",
    }

    def __init__(self, *args: Any, evidence: bool = False, **kwargs: Any) -> None:
        self.evidence = evidence
        #: Which of the organization's keys seals it.
        self.purpose = (DataKey.Purpose.EVIDENCE if evidence else DataKey.Purpose.DATA).value
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
        try:
            plain = self.to_bytes(value)
        except UnicodeEncodeError:
            raise ValueError(f"{self}: not Unicode text.") from None
        bound = self._bound(organization_id, row_id)
        return Sealed(seal_bytes(organization_id, padded(plain), bound, purpose=self.purpose))

    def open(self, sealed: bytes, organization_id: uuid.UUID, row_id: uuid.UUID) -> Any:
        """Return the value sealed for this very row; raises Unreadable, naming the column and the row."""
        try:
            bound = self._bound(organization_id, row_id)
            plain = unpadded(open_bytes(organization_id, sealed, bound))
        except Unreadable as error:
            raise Unreadable(f"{self} of row {row_id}: {error}") from None
        return self.from_bytes(plain)

    def to_bytes(self, value: Any) -> bytes:
        return str(value).encode()

    def from_bytes(self, plain: bytes) -> Any:
        return plain.decode()

    def _bound(self, organization_id: uuid.UUID, row_id: uuid.UUID) -> bytes:
        if not isinstance(organization_id, uuid.UUID) or not isinstance(row_id, uuid.UUID):
            raise TypeError(f"{self}: a value is sealed for an organization and a row, both UUIDs")
        return organization_id.bytes + self._column + row_id.bytes

    @cached_property
    def _column(self) -> bytes:
        # Declared names, not the table's: a renamed table keeps its values readable.
        return f"|{self.model._meta.label}.{self.name}|".encode()

    # --- Django's hooks

    def to_python(self, value: Any) -> Any:
        """Validate what a form or serializer hands in; never decrypts."""
        return (
            value if isinstance(value, Sealed) else super(emf.EncryptedMixin, self).to_python(value)
        )

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Sealed | None:
        return None if value is None else Sealed(value)

    def pre_save(self, instance: models.Model, add: bool) -> Sealed | None:
        """Return the value sealed for the instance's row; the instance keeps the plain one.

        What is sealed already is opened first, so that a row copied under another id does not store what
        nobody could open; and sealed anew if an older key did it, so that rotation ends.
        """
        if self.attname not in instance.__dict__:
            getattr(instance, self.attname)  # deferred: load it, rather than write nothing over it
        value = instance.__dict__[self.attname]
        if value is None:
            return None
        if hasattr(value, "resolve_expression"):
            raise TypeError(f"{self}: an expression would store something that is not sealed.")
        scope = instance.organization_id, instance.pk
        if isinstance(value, Sealed):
            opened = self.open(value, *scope)
            newest = newest_key_id(scope[0], self.purpose)
            return value if key_id_of(value) == newest else self.seal(opened, *scope)
        return self.seal(self._checked(value), *scope)

    def _checked(self, value: Any) -> Any:
        try:
            return self.to_python(value)
        except ValidationError:
            raise ValueError(f"{self}: not a valid value.") from None

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


class _DayField(forms.DateField):
    """A form's date field that knows the day it began with as text too."""

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.to_python(initial), data)


class EncryptedDateField(Encrypted, emf.EncryptedDateField):
    """A calendar day."""

    def formfield(self, **kwargs: Any) -> forms.Field:
        return super().formfield(**{"form_class": _DayField, **kwargs})

    def value_from_object(self, obj: models.Model) -> str | None:
        """Return the day as text: serializers write a date as it is, and never ask `value_to_string`."""
        day = super().value_from_object(obj)
        return day.isoformat() if isinstance(day, dt.date) else day

    def to_bytes(self, value: dt.date) -> bytes:
        return value.isoformat().encode()

    def from_bytes(self, plain: bytes) -> dt.date:
        return dt.date.fromisoformat(plain.decode())


class EncryptedJSONField(Encrypted, models.JSONField):
    """A JSON document, sealed as a whole."""

    mutable = True

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
        return bytes(memoryview(value))  # bytes(5) would be five zeros

    def from_bytes(self, plain: bytes) -> bytes:
        return plain


class PhiQuerySet(models.QuerySet):
    """A queryset that seals each value for its own row, and refuses what would not."""

    def bulk_update(
        self, objs: Iterable[models.Model], fields: Iterable[str], batch_size: int | None = None
    ) -> int:
        """Update the named fields of many rows at once, as Django's does."""
        objs, fields = list(objs), list(fields)
        columns = [f for n in fields if isinstance(f := self.model._meta.get_field(n), Encrypted)]
        sealed = [{c.attname: c.pre_save(obj, add=False) for c in columns} for obj in objs]
        plain = [{c.attname: obj.__dict__[c.attname] for c in columns} for obj in objs]
        try:
            for obj, values in zip(objs, sealed, strict=True):
                obj.__dict__.update(values, _keep_sealed=True)
            return super().bulk_update(objs, fields, batch_size=batch_size)
        finally:
            for obj, values in zip(objs, plain, strict=True):
                obj.__dict__.update(values)
                obj.__dict__.pop("_keep_sealed", None)

    def update(self, **kwargs: Any) -> int:
        """Update rows at once; an encrypted column takes None, or a value that `seal()` made for the row."""
        for name, value in kwargs.items():
            field = self.model._meta.get_field(name)
            if isinstance(field, Encrypted) and not _is_sealed(value):
                raise TypeError(
                    f"{field}: a plain value cannot be sealed without its row; save the row, or use bulk_update()."
                )
        return super().update(**kwargs)

    update.alters_data = True

    def bulk_create(
        self,
        objs: Iterable[models.Model],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_conflicts: bool = False,
        update_fields: Iterable[str] | None = None,
        unique_fields: Iterable[str] | None = None,
    ) -> list[models.Model]:
        """Insert many rows at once, as Django's does.

        An upsert of an encrypted column raises TypeError: the row that is there would keep its id, under a
        value that was sealed for another.
        """
        update_fields = list(update_fields or ())
        if update_conflicts and (both := _encrypted_names(self.model) & set(update_fields)):
            raise TypeError(f"{self.model._meta.label}: an upsert cannot seal {sorted(both)}.")
        return super().bulk_create(
            objs,
            batch_size,
            ignore_conflicts,
            update_conflicts,
            update_fields or None,
            unique_fields,
        )

    def order_by(self, *names: Any) -> Self:
        """Order rows; raises FieldError for an encrypted column, whose order means nothing."""
        for name in names:
            _refuse_encrypted(self.model, name)
        return super().order_by(*names)


def _is_sealed(value: Any) -> bool:
    if isinstance(value, Cast):  # as bulk_update() builds it
        (value,) = value.get_source_expressions()
    if isinstance(value, models.Case):
        return all(_is_sealed(case.result) for case in value.cases) and _is_sealed(value.default)
    if isinstance(value, models.Value):
        value = value.value
    return value is None or isinstance(value, Sealed)


def _refuse_encrypted(model: type[models.Model], name: Any) -> None:
    if isinstance(name, models.expressions.OrderBy):
        name = name.expression
    name = getattr(name, "name", name)
    if isinstance(name, str) and (name := name.lstrip("+-")) in _encrypted_names(model):
        raise FieldError(f"{model._meta.label}.{name} is encrypted and has no order.")


def _encrypted_names(model: type[models.Model]) -> frozenset[str]:
    return frozenset(f.name for f in model._meta.concrete_fields if isinstance(f, Encrypted))


PhiManager = models.Manager.from_queryset(PhiQuerySet, class_name="PhiManager")
