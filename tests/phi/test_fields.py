"""Sealed columns: what Django can do with them, what it cannot, and that nothing is ever lost on the way."""

import copy
import datetime as dt
import pickle
import uuid

import pytest
from django.core import management, serializers
from django.core.exceptions import FieldError
from django.db import connection, transaction
from django.db.models import Count, F, Value
from django.db.models.functions import Lower
from django.forms import modelform_factory
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import TOTPDevice
from contacts.models import Contact, TermRow
from files.models import StagedFile
from phi import keys
from phi.fields import PADDED_TO, Sealed, padded, unpadded
from phi.ids import uuid7
from phi.keys import Unreadable
from tests.factories import make_contact, make_organization, make_user

EMAIL = Contact._meta.get_field("email")
CANARY = "Quimby-Zanzibar"


@pytest.fixture
def ann(organization):
    """A contact with a value in columns of each type."""
    return make_contact(
        organization,
        email="ann@mail.example",
        first_name="Ann",
        date_of_birth=dt.date(1951, 4, 2),
        attributes={"conditions": ["asthma"], "visits": 3},
    )


def stored(contact, column="email"):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM contacts_contact WHERE id = %s", [contact.pk])  # noqa: S608
        return cursor.fetchone()[0]


def put(contact, column, value):
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE contacts_contact SET {column} = %s WHERE id = %s",  # noqa: S608
            [value, contact.pk],
        )


# --- what works


def test_values_come_back_as_they_were(ann):
    read = Contact.objects.get(pk=ann.pk)

    assert (read.email, read.first_name, read.last_name) == ("ann@mail.example", "Ann", None)
    assert read.date_of_birth == dt.date(1951, 4, 2)
    assert read.attributes == {"conditions": ["asthma"], "visits": 3}


def test_the_column_holds_format_key_nonce_and_no_plain_text(ann, organization):
    value = stored(ann)

    assert value[0] == 1
    assert keys.key_id_of(value) == keys.newest_key_id(organization.pk)
    assert len(value) == 1 + 4 + 12 + PADDED_TO + 16
    assert b"ann" not in value


def test_one_value_is_sealed_differently_each_time(organization):
    first, second = (make_contact(organization, first_name="Ann") for _ in range(2))

    assert stored(first, "first_name")[17:] != stored(second, "first_name")[17:]


def test_a_changed_value_is_saved_and_the_others_stay(ann):
    read = Contact.objects.get(pk=ann.pk)
    before = stored(ann)
    read.first_name = "Anna"
    read.save()

    assert Contact.objects.get(pk=ann.pk).first_name == "Anna"
    assert stored(ann) == before


def test_a_document_changed_in_place_is_saved(ann):
    read = Contact.objects.get(pk=ann.pk)
    read.attributes["visits"] = 4
    read.save()

    assert Contact.objects.get(pk=ann.pk).attributes["visits"] == 4


def test_bulk_create_and_bulk_update_seal_each_value_for_its_row(organization):
    rows = Contact.objects.bulk_create(
        Contact(organization=organization, first_name=name, last_name=None) for name in "ABC"
    )
    for row in rows:
        row.first_name += "!"
        row.last_name = "New"
    Contact.objects.bulk_update(rows, ["first_name", "last_name"])

    assert [row.first_name for row in rows] == ["A!", "B!", "C!"]
    read = {row.pk: (row.first_name, row.last_name) for row in Contact.objects.all()}
    assert read == {row.pk: (row.first_name, "New") for row in rows}


def test_bulk_update_of_a_column_that_was_not_loaded_keeps_it(ann):
    read = Contact.objects.defer("email").get(pk=ann.pk)
    Contact.objects.bulk_update([read], ["email"])

    assert Contact.objects.get(pk=ann.pk).email == "ann@mail.example"
    assert read.email == "ann@mail.example"


def test_saving_a_column_that_was_not_loaded_keeps_it(ann):
    Contact.objects.defer("email").get(pk=ann.pk).save(update_fields=["email"])

    assert Contact.objects.get(pk=ann.pk).email == "ann@mail.example"


def test_bulk_update_that_fails_leaves_the_rows_in_memory_as_they_were(ann):
    ann.email = "new@mail.example"
    with pytest.raises(ValueError, match="Batch size"):
        Contact.objects.bulk_update([ann], ["email"], batch_size=-1)

    assert ann.email == "new@mail.example"
    assert "_keep_sealed" not in ann.__dict__


@pytest.mark.parametrize("queryset", ["only", "defer"])
def test_deferred_columns_open_when_they_are_read(ann, queryset):
    read = getattr(Contact.objects, queryset)("email").get(pk=ann.pk)

    assert read.email == "ann@mail.example"


def test_refresh_get_or_create_in_bulk_raw_and_select_related_open(ann):
    other = Contact.objects.get(pk=ann.pk)
    ann.first_name = "Unsaved"
    ann.refresh_from_db()
    assert ann.first_name == "Ann"

    found, created = Contact.objects.get_or_create(pk=ann.pk, defaults={"first_name": "No"})
    assert (found.first_name, created) == ("Ann", False)
    made, created = Contact.objects.get_or_create(
        pk=uuid7(), defaults={"organization": ann.organization, "first_name": "New"}
    )
    assert (Contact.objects.get(pk=made.pk).first_name, created) == ("New", True)

    assert Contact.objects.in_bulk([ann.pk])[ann.pk].email == other.email
    (raw,) = Contact.objects.raw("SELECT * FROM contacts_contact WHERE id = %s", [ann.pk])
    assert raw.email == "ann@mail.example"
    TermRow.objects.create(contact=ann, organization=ann.organization, terms=[])
    assert TermRow.objects.select_related("contact").get().contact.email == "ann@mail.example"


def test_update_or_create_saves_by_row(ann):
    Contact.objects.update_or_create(pk=ann.pk, defaults={"email": "new@mail.example"})

    assert Contact.objects.get(pk=ann.pk).email == "new@mail.example"


def test_values_and_annotations_give_what_is_stored_and_only_the_field_opens_it(ann):
    (value,) = Contact.objects.values_list("email", flat=True)
    row = Contact.objects.values("email").get()
    annotated = Contact.objects.annotate(copy=F("email")).get()

    for sealed in (value, row["email"], annotated.copy):
        assert isinstance(sealed, Sealed)
        assert EMAIL.open(sealed, ann.organization_id, ann.pk) == "ann@mail.example"


def test_empty_columns_can_be_looked_for_and_counted(ann):
    make_contact(ann.organization, email=None)

    assert Contact.objects.filter(email__isnull=True).count() == 1
    assert Contact.objects.aggregate(n=Count("email"))["n"] == 1


def test_an_instance_read_from_the_database_is_pickled_and_copied_sealed(ann):
    read = Contact.objects.get(pk=ann.pk)
    pickled = pickle.dumps(read)

    assert b"ann@mail.example" not in pickled
    assert pickle.loads(pickled).email == "ann@mail.example"
    assert copy.deepcopy(read).email == "ann@mail.example"


def test_a_model_form_shows_checks_and_saves_plain_values(ann):
    form_class = modelform_factory(Contact, fields=["email", "date_of_birth"])
    read = Contact.objects.get(pk=ann.pk)
    assert form_class(instance=read).initial == {
        "email": "ann@mail.example",
        "date_of_birth": "1951-04-02",
    }

    unchanged = form_class(
        {"email": "ann@mail.example", "date_of_birth": "1951-04-02"}, instance=read
    )
    assert unchanged.is_valid()
    assert not unchanged.has_changed()
    form = form_class({"email": "new@mail.example", "date_of_birth": "1960-01-31"}, instance=read)
    assert form.is_valid()
    form.save()

    again = Contact.objects.get(pk=ann.pk)
    assert (again.email, again.date_of_birth) == ("new@mail.example", dt.date(1960, 1, 31))


def test_a_pasted_sealed_value_stays_the_text_that_it_is(ann):
    pasted = stored(ann).hex()[:120]
    ann.first_name = pasted
    Contact._meta.get_field("first_name").clean(pasted, ann)
    ann.save()

    assert Contact.objects.get(pk=ann.pk).first_name == pasted


def test_rows_of_no_organization_are_sealed_for_the_platform():
    assert TOTPDevice.organization_id == keys.PLATFORM


def test_an_index_of_the_seal_does_not_depend_on_the_table_name(ann, monkeypatch):
    monkeypatch.setattr(Contact._meta, "db_table", "renamed")

    assert EMAIL.open(stored_sealed(ann), ann.organization_id, ann.pk) == "ann@mail.example"


def stored_sealed(contact):
    return EMAIL.seal("ann@mail.example", contact.organization_id, contact.pk)


# --- what is refused, before anything is written


REFUSED_UPDATES = {
    "plain": {"email": "x@mail.example"},
    "date": {"date_of_birth": dt.date(2000, 1, 1)},
    "copied from a column": {"email": F("first_name")},
    "expression": {"email": Lower("first_name")},
    "value": {"email": Value("x")},
    "bytes": {"email": b"x"},
}


@pytest.mark.parametrize("values", REFUSED_UPDATES.values(), ids=REFUSED_UPDATES)
def test_update_refuses_what_is_not_sealed_and_the_transaction_goes_on(ann, values):
    with transaction.atomic():
        with pytest.raises(TypeError, match="encrypted|sealed"):
            Contact.objects.filter(pk=ann.pk).update(**values)
        assert Contact.objects.get(pk=ann.pk).email == "ann@mail.example"


def test_update_takes_nothing_and_what_was_sealed_for_the_row(ann):
    Contact.objects.filter(pk=ann.pk).update(first_name=None)
    assert Contact.objects.get(pk=ann.pk).first_name is None

    sealed = Contact._meta.get_field("first_name").seal("Zoe", ann.organization_id, ann.pk)
    Contact.objects.filter(pk=ann.pk).update(first_name=sealed)
    assert Contact.objects.get(pk=ann.pk).first_name == "Zoe"


def test_a_plain_manager_cannot_write_plain_values_either(ann):
    with transaction.atomic(), pytest.raises(TypeError, match="plain value"):
        Contact._base_manager.filter(pk=ann.pk).update(email="x@mail.example")


@pytest.mark.parametrize(
    "lookup",
    ["email", "email__exact", "email__icontains", "email__in", "email__gt", "email__regex"]
    + ["date_of_birth__year", "attributes__visits", "email__lower"],
)
def test_look_ups_by_value_are_refused(ann, lookup):
    with pytest.raises(FieldError):
        Contact.objects.filter(**{lookup: ["x"] if lookup.endswith("in") else "x"}).exists()


def test_get_or_create_by_value_is_refused_and_creates_nothing(ann):
    with pytest.raises(FieldError):
        Contact.objects.get_or_create(email="ann@mail.example")

    assert Contact.objects.count() == 1


@pytest.mark.parametrize("name", ["email", "-email", F("email"), F("email").desc()])
def test_an_order_by_value_is_refused(ann, name):
    with pytest.raises(FieldError, match="no order"):
        Contact.objects.order_by(name)


def test_an_upsert_is_refused_and_writes_nothing(ann):
    with pytest.raises(TypeError, match="upsert"):
        Contact.objects.bulk_create(
            [Contact(organization=ann.organization, email="x@mail.example")],
            update_conflicts=True,
            update_fields=["email"],
            unique_fields=["id"],
        )

    assert [c.email for c in Contact.objects.all()] == ["ann@mail.example"]


def test_saving_an_expression_is_refused(ann):
    ann.email = F("first_name")
    with transaction.atomic(), pytest.raises(TypeError, match="not sealed"):
        ann.save()

    assert Contact.objects.get(pk=ann.pk).email == "ann@mail.example"


def test_a_row_copied_under_another_id_cannot_be_saved_with_values_that_nobody_could_open(ann):
    read = Contact.objects.get(pk=ann.pk)
    read.pk = uuid7()
    read._state.adding = True
    with transaction.atomic(), pytest.raises(Unreadable):
        read.save()

    assert Contact.objects.count() == 1


def test_a_row_of_no_organization_is_refused(db):
    with pytest.raises(TypeError, match="both UUIDs"):
        Contact(first_name="Ann").save()


def test_an_organization_without_keys_cannot_write(organization):
    from accounts.models import Organization

    bare = Organization.objects.create(name="Bare", slug="bare", postal_address="x")
    with transaction.atomic(), pytest.raises(Unreadable, match="has no data key"):
        Contact.objects.create(organization=bare, first_name="Ann")

    assert not Contact.objects.exists()


@pytest.mark.parametrize("format_name", ["python", "json", "xml", "jsonl"])
@pytest.mark.parametrize("column", ["email", "date_of_birth", "attributes"])
def test_serializers_refuse_to_write_in_clear(ann, format_name, column):
    with pytest.raises(TypeError, match="in clear"):
        serializers.serialize(format_name, [Contact.objects.get(pk=ann.pk)], fields=[column])


def test_dumpdata_stops_and_shows_nothing(ann, capsys):
    with pytest.raises((TypeError, management.CommandError)):
        management.call_command("dumpdata", "contacts.Contact")

    out = capsys.readouterr()
    assert "ann" not in out.out + out.err


@pytest.mark.parametrize(
    ("column", "value"),
    [("date_of_birth", CANARY), ("date_of_birth", "1951-02-31"), ("first_name", f"{CANARY}\ud800")],
)
def test_the_error_for_an_impossible_value_does_not_quote_it(organization, column, value):
    with pytest.raises(ValueError, match=column) as caught:
        Contact.objects.create(organization=organization, **{column: value})

    assert CANARY not in str(caught.value)
    assert "1951" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_binary_columns_take_bytes_only(organization):
    with pytest.raises(TypeError):
        StagedFile._meta.get_field("sha256").seal(5, organization.pk, uuid7())


def test_neither_str_nor_repr_of_a_contact_shows_a_value(ann):
    for shown in (str(ann), repr(ann), repr([ann]), str(ann.__class__.objects.all())):
        assert "Ann" not in shown
        assert "mail.example" not in shown


# --- what does not open


def test_a_value_moved_from_another_row_does_not_open(ann):
    other = make_contact(ann.organization, email="bob@mail.example")
    put(ann, "email", stored(other))

    with pytest.raises(Unreadable, match=f"contacts.Contact.email of row {ann.pk}"):
        _ = Contact.objects.get(pk=ann.pk).email


def test_a_value_moved_from_another_column_does_not_open(ann):
    put(ann, "email", stored(ann, "first_name"))

    with pytest.raises(Unreadable):
        _ = Contact.objects.get(pk=ann.pk).email


def test_a_value_moved_from_another_organization_does_not_open(ann, other_organization):
    sealed = EMAIL.seal("evil@mail.example", other_organization.pk, ann.pk)
    put(ann, "email", sealed)
    with pytest.raises(Unreadable, match="another scope"):
        _ = Contact.objects.get(pk=ann.pk).email


def test_a_row_moved_to_another_organization_does_not_open(ann, other_organization):
    put(ann, "organization_id", other_organization.pk)

    with pytest.raises(Unreadable):
        _ = Contact.objects.get(pk=ann.pk).email


@pytest.mark.parametrize("place", [0, 1, 4, 5, 16, 17, -1])
def test_a_flipped_bit_anywhere_does_not_open(ann, place):
    value = bytearray(stored(ann))
    value[place] ^= 1
    put(ann, "email", bytes(value))

    with pytest.raises(Unreadable):
        _ = Contact.objects.get(pk=ann.pk).email


@pytest.mark.parametrize(
    "planted", [b"", b"\x01", b"planted@mail.example", b"gAAAAABf", bytes(33), b"\x01" + bytes(40)]
)
def test_planted_text_does_not_open(ann, planted):
    put(ann, "email", planted)

    with pytest.raises(Unreadable):
        _ = Contact.objects.get(pk=ann.pk).email


def test_a_wrong_master_key_opens_nothing_and_writes_nothing(ann, settings):
    settings.MASTER_KEYS = [b"another master key of 32 bytes!!"]
    keys.forget()

    with pytest.raises(Unreadable, match="master key"):
        _ = Contact.objects.get(pk=ann.pk).email
    with pytest.raises(Unreadable, match="master key"):
        make_contact(ann.organization, email=None, first_name="Bob")


def test_an_unreadable_value_cannot_be_saved_over_by_accident(ann):
    put(ann, "email", b"planted@mail.example")
    read = Contact.objects.get(pk=ann.pk)
    read.first_name = "Anna"
    with transaction.atomic(), pytest.raises(Unreadable):
        read.save()

    assert stored(ann) == b"planted@mail.example"
    assert Contact.objects.get(pk=ann.pk).first_name == "Ann"


def test_two_organizations_cannot_read_each_other(ann, other_organization):
    with pytest.raises(Unreadable):
        EMAIL.open(stored(ann), other_organization.pk, ann.pk)
    with pytest.raises(Unreadable):
        EMAIL.open(stored(ann), keys.PLATFORM, ann.pk)


def test_a_sealed_value_of_another_id_of_the_same_text_does_not_open(ann):
    with pytest.raises(Unreadable):
        EMAIL.open(stored(ann), ann.organization_id, uuid.UUID(int=ann.pk.int ^ 1))


def test_seeds_of_second_factors_are_sealed_in_the_database(organization):
    from accounts import otp

    device = otp.enrol(make_user(), by="system:tests")
    with connection.cursor() as cursor:
        cursor.execute("SELECT seed FROM accounts_totpdevice WHERE id = %s", [device.pk])
        (value,) = cursor.fetchone()

    assert device.seed not in value
    assert TOTPDevice.objects.get(pk=device.pk).seed == device.seed


@pytest.mark.django_db
@pytest.mark.parametrize("pair", [("male", "female"), ("Al", "Bartholomew"), ("", "x" * 31)])
def test_a_sealed_value_does_not_tell_a_short_one_from_a_longer_one(pair):
    field = Contact._meta.get_field("sex")
    organization = make_organization()

    lengths = {len(field.seal(value, organization.pk, uuid7())) for value in pair}

    assert len(lengths) == 1


@given(st.binary(max_size=200))
def test_padding_is_undone_exactly(plain):
    assert unpadded(padded(plain)) == plain
    assert len(padded(plain)) % PADDED_TO == 0


@pytest.mark.parametrize("plain", [b"", b"\0" * 32, b"x" * 32, b"x\x80", b"\x80" + b"\0" * 30])
def test_what_was_not_padded_is_not_taken(plain):
    with pytest.raises(Unreadable):
        unpadded(plain)
