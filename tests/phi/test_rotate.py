"""Rotation of data keys: complete, resumable, beside writers, and the old keys go only when nothing needs them."""

import datetime as dt
import threading
from io import StringIO

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from accounts import otp
from audit.models import Entry
from contacts.models import Contact
from files import staging
from files.models import Chunk, StagedFile
from phi import keys, rotate
from phi.digest import digest
from phi.fields import Encrypted
from phi.keys import PLATFORM, Unreadable
from phi.models import DataKey
from tests.factories import make_contact, make_organization, make_user

FIRST_NAME = Contact._meta.get_field("first_name")


@pytest.fixture
def full(organization):
    """An organization with values in several tables."""
    for number in range(7):
        make_contact(organization, first_name=f"Ann{number}", attributes={"n": number})
    staging.put(
        organization,
        kind="upload",
        name="list.csv",
        chunks=[b"x" * 300_000],
        by="system:tests",
        content_type="text/csv",
        keep=dt.timedelta(days=1),
    )
    return organization


def turn(scope, **kwargs):
    rotate.begin(scope)
    return rotate.finish(scope, **kwargs)


def key_ids(model, column, scope):
    values = model.objects.filter(organization_id=scope).values_list(column, flat=True)
    return {keys.key_id_of(value) for value in values if value is not None}


def names(scope):
    return sorted(c.first_name for c in Contact.objects.filter(organization_id=scope))


def test_every_value_is_sealed_with_the_new_key_and_opens(full):
    before = names(full.pk)
    old = keys.newest_key_id(full.pk)
    done = turn(full.pk)

    assert done.key_id > old
    assert done.rows == 7 + 1 + 2
    # Contacts have an address, a first name and attributes; the file a name and a hash; two chunks.
    assert done.verified == 7 * 3 + 2 + 2
    for model, column in ((Contact, "email"), (Contact, "attributes"), (StagedFile, "name")):
        assert key_ids(model, column, full.pk) == {done.key_id}
    assert key_ids(Chunk, "data", full.pk) == {done.key_id}
    assert names(full.pk) == before
    assert staging.read_all(StagedFile.objects.get()) == b"x" * 300_000


def test_another_organization_and_the_digests_stay_as_they_are(full, other_organization):
    make_contact(other_organization, first_name="Cleo")
    theirs = key_ids(Contact, "first_name", other_organization.pk)
    first = digest(full.pk, "address", "x")
    turn(full.pk)

    assert key_ids(Contact, "first_name", other_organization.pk) == theirs
    assert digest(full.pk, "address", "x") == first


def test_rows_of_no_organization_turn_with_the_platform(db):
    device = otp.enrol(make_user(), by="system:tests")
    seed = device.seed
    done = turn(PLATFORM)
    device.refresh_from_db()

    assert done.rows == 1
    assert device.seed == seed


def test_empty_columns_stay_empty(organization):
    contact = make_contact(organization, email=None, first_name=None)
    turn(organization.pk)

    read = Contact.objects.get(pk=contact.pk)
    assert (read.email, read.first_name, read.attributes) == (None, None, {})


def test_an_interrupted_rotation_goes_on_without_another_key(full, monkeypatch):
    monkeypatch.setattr(rotate, "BATCH", 2)

    sealed = []

    def killed(done, total):
        assert total == 10
        sealed.append(done)
        if done >= 4:
            raise KeyboardInterrupt

    new = rotate.begin(full.pk)
    with pytest.raises(KeyboardInterrupt):
        rotate.finish(full.pk, progress=killed)
    assert len(key_ids(Contact, "first_name", full.pk)) == 2

    left = 10 - sealed[-1]
    assert rotate.pending(full.pk) == left > 0
    assert rotate.begin(full.pk) is None
    done = rotate.finish(full.pk)
    assert (done.key_id, done.rows) == (new, left)
    assert key_ids(Contact, "first_name", full.pk) == {new}


def test_a_row_that_was_read_before_a_rotation_is_saved_under_the_new_key(full):
    read = Contact.objects.order_by("pk").first()
    done = turn(full.pk)
    read.kind = Contact.Kind.LEAD
    read.save()

    assert key_ids(Contact, "first_name", full.pk) == {done.key_id}
    assert names(full.pk) == [f"Ann{number}" for number in range(7)]


def test_progress_ends_at_the_whole(full, monkeypatch):
    monkeypatch.setattr(rotate, "BATCH", 3)
    told = []
    turn(full.pk, progress=lambda done, total: told.append((done, total)))

    assert told[-1] == (10, 10)
    assert told == sorted(told)


def test_a_value_that_does_not_open_stops_the_rotation_and_stays(full):
    contact = Contact.objects.first()
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE contacts_contact SET first_name = '\\x00' WHERE id = %s", [contact.pk]
        )
    with transaction.atomic(), pytest.raises(Unreadable, match=f"first_name of row {contact.pk}"):
        turn(full.pk)

    assert Contact.objects.values_list("first_name", flat=True).get(pk=contact.pk) == b"\x00"


def test_verification_sees_a_value_under_an_older_key(full):
    contact = Contact.objects.first()
    sealed = FIRST_NAME.seal("Late", full.pk, contact.pk)
    turn(full.pk)
    Contact.objects.filter(pk=contact.pk).update(first_name=sealed)

    with pytest.raises(Unreadable, match="older key"):
        rotate.verify(full.pk)


def test_no_table_with_rotated_columns_refuses_updates(db):
    """An append-only row cannot be sealed again: its encrypted columns are evidence (phi/models.py)."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
            "WHERE NOT t.tgisinternal AND t.tgtype & 16 <> 0 AND t.tgname LIKE 'history%%'"
        )
        refusing = {row[0] for row in cursor.fetchall()}
    rotated = {
        model._meta.db_table
        for model in apps.get_models()
        for field in model._meta.concrete_fields
        if isinstance(field, Encrypted) and not field.evidence
    }

    assert "audit_entry" in refusing
    assert refusing & rotated == set()


@pytest.mark.django_db(transaction=True)
def test_writers_beside_a_rotation_lose_nothing(monkeypatch):
    monkeypatch.setattr(rotate, "BATCH", 5)
    scope = make_organization().pk
    contacts = [make_contact(_organization(scope), first_name="0") for _ in range(40)]
    written, stop, failures = {}, threading.Event(), []

    def write(mine):
        number = 0
        try:
            while not stop.is_set():
                number += 1
                for contact in mine:
                    # As the application does it: read, change, write back, without a lock.
                    read = Contact.objects.get(pk=contact.pk)
                    read.first_name = str(number)
                    read.save(update_fields=["first_name"])
                    written[contact.pk] = str(number)
        except Exception as error:  # noqa: BLE001
            failures.append(error)
        finally:
            connection.close()

    writers = [threading.Thread(target=write, args=(contacts[n::2],)) for n in range(2)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(3):
            done = turn(scope)
    finally:
        stop.set()
        for writer in writers:
            writer.join()

    assert failures == []
    assert written.keys() == {c.pk for c in contacts}
    assert {c.pk: c.first_name for c in Contact.objects.all()} == written
    assert rotate.finish(scope).key_id == done.key_id


def _organization(scope):
    from accounts.models import Organization

    return Organization.objects.get(pk=scope)


@pytest.mark.django_db(transaction=True)
def test_a_locked_row_is_waited_for_and_its_new_value_is_kept():
    organization = make_organization()
    contact = make_contact(organization, first_name="Ann")
    held, release = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic():
            read = Contact.objects.select_for_update().get(pk=contact.pk)
            read.first_name = "Anna"
            read.save()
            held.set()
            release.wait(5)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(5)
    threading.Timer(0.3, release.set).start()
    done = turn(organization.pk)
    holder.join()

    assert Contact.objects.get(pk=contact.pk).first_name == "Anna"
    assert key_ids(Contact, "first_name", organization.pk) == {done.key_id}


@pytest.mark.django_db(transaction=True)
def test_a_row_that_stays_locked_ends_in_an_error_that_says_so(monkeypatch):
    monkeypatch.setattr(rotate, "PATIENCE", 0.2)
    organization = make_organization()
    contact = make_contact(organization, first_name="Ann")
    held, release = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic():
            Contact.objects.select_for_update().get(pk=contact.pk)
            held.set()
            release.wait(5)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(5)
    try:
        with pytest.raises(rotate.Held):
            turn(organization.pk)
    finally:
        release.set()
        holder.join()

    assert Contact.objects.get(pk=contact.pk).first_name == "Ann"


@pytest.mark.django_db(transaction=True)
def test_settling_waits_for_a_transaction_that_began_before():
    organization = make_organization()
    contact = make_contact(organization, first_name="Ann")
    late = FIRST_NAME.seal("Late", organization.pk, contact.pk)
    turn(organization.pk)
    written, reasons = threading.Event(), []

    def write():
        with transaction.atomic():
            Contact.objects.filter(pk=contact.pk).update(first_name=late)
            written.set()
            threading.Event().wait(0.5)
        connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    written.wait(5)
    rotate.settle(organization.pk, rest=0, waiting=reasons.append)
    writer.join()
    keys.destroy_old_data_keys(organization.pk)

    assert "transactions to end" in reasons
    assert Contact.objects.get(pk=contact.pk).first_name == "Late"


def test_settling_inside_a_transaction_is_refused(organization):
    with pytest.raises(transaction.TransactionManagementError):
        rotate.settle(organization.pk, rest=0)


# --- the command


@pytest.mark.django_db(transaction=True)
def test_the_command_turns_every_organization_and_destroys_old_keys_only_when_told(monkeypatch):
    monkeypatch.setattr(rotate, "REST", 0)
    first, second = make_organization(), make_organization()
    ann, cleo = make_contact(first, first_name="Ann"), make_contact(second, first_name="Cleo")
    before = Contact.objects.values_list("first_name", flat=True).get(pk=ann.pk)
    out = StringIO()
    call_command("rotate_keys", stdout=out)

    assert FIRST_NAME.open(before, first.pk, ann.pk) == "Ann"
    assert "Ann" not in out.getvalue()
    entries = Entry.objects.filter(action="key.rotated")
    assert set(entries.values_list("organization_id", flat=True)) == {first.pk, second.pk}
    assert {e.detail["resumed"] for e in entries} == {False}

    call_command("rotate_keys", organization=first.pk, destroy_old=True, stdout=out)
    with pytest.raises(Unreadable, match="destroyed"):
        FIRST_NAME.open(before, first.pk, ann.pk)
    assert Contact.objects.get(pk=ann.pk).first_name == "Ann"
    assert Contact.objects.get(pk=cleo.pk).first_name == "Cleo"
    assert Entry.objects.get(action="key.destroyed").count == 2
    living = DataKey.objects.filter(purpose="data", destroyed_at=None)
    assert living.filter(organization_id=first.pk).count() == 1
    assert living.filter(organization_id=second.pk).count() == 2


def test_the_command_refuses_an_organization_without_keys(db):
    with pytest.raises(CommandError, match="has no data key"):
        call_command("rotate_keys", organization="00000000-0000-0000-0000-00000000beef")


def test_the_command_wraps_keys_with_a_new_master_key(organization, settings):
    contact = make_contact(organization, first_name="Ann")
    new = bytes(range(100, 132))
    settings.MASTER_KEYS = [new, *settings.MASTER_KEYS]
    call_command("rotate_keys", rewrap=True, stdout=StringIO())
    settings.MASTER_KEYS = [new]
    keys.forget()

    assert Contact.objects.get(pk=contact.pk).first_name == "Ann"
    assert Entry.objects.filter(action="key.rotated", detail__wrapped=True).count() == 1
