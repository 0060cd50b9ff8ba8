"""Data keys: made once, never lost with a rolled-back transaction, gone when destroyed."""

import threading
import uuid

import pytest
from django.db import connection, transaction

from contacts.models import Contact
from phi import keys
from phi.digest import digest
from phi.keys import Unreadable, create_keys, open_bytes, seal_bytes
from phi.models import DataKey
from tests.factories import make_contact


@pytest.fixture
def scope(db):
    """An organization's id with keys."""
    scope = uuid.uuid4()
    create_keys(scope)
    return scope


def test_an_organization_has_one_key_of_each_purpose_however_often_they_are_made(scope):
    create_keys(scope)

    found = DataKey.objects.filter(organization_id=scope).values_list("purpose", flat=True)
    assert sorted(found) == ["data", "digest", "evidence"]


def test_keys_are_stored_wrapped(scope):
    secret = keys._newest_key(scope, "digest").secret

    assert len(secret) == 32
    for row in DataKey.objects.filter(organization_id=scope):
        assert len(row.wrapped) == 12 + 32 + 16
        assert secret not in bytes(row.wrapped)


def test_a_wrapped_key_moved_to_another_organization_or_purpose_does_not_open(scope):
    row = DataKey.objects.get(organization_id=scope, purpose="data")
    other = uuid.uuid4()
    DataKey.objects.filter(pk=row.pk).update(organization_id=other)
    with pytest.raises(Unreadable, match="No master key"):
        seal_bytes(other, b"x", b"")

    DataKey.objects.filter(pk=row.pk).update(organization_id=scope, purpose="evidence")
    DataKey.objects.filter(organization_id=scope).exclude(pk=row.pk).delete()
    with pytest.raises(Unreadable, match="No master key"):
        seal_bytes(scope, b"x", b"", purpose="evidence")


def test_neither_a_key_nor_its_secret_is_shown(scope):
    key = keys._newest_key(scope, "digest")

    assert repr(key.secret) not in repr(key)
    assert "secret" not in repr(key)


def test_a_key_made_in_a_transaction_that_is_rolled_back_is_not_used_again(db):
    scope = uuid.uuid4()
    with transaction.atomic():
        create_keys(scope)
        seal_bytes(scope, b"x", b"")
        transaction.set_rollback(True)
    with pytest.raises(Unreadable, match="has no data key"):
        seal_bytes(scope, b"x", b"")

    create_keys(scope)
    sealed = seal_bytes(scope, b"x", b"")
    keys.forget()
    assert open_bytes(scope, sealed, b"") == b"x"


@pytest.mark.django_db(transaction=True)
def test_a_key_of_a_transaction_that_failed_is_not_used_again():
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        create_keys(keys.PLATFORM)
        digest(keys.PLATFORM, "kind", "value")
        _ = 1 // 0
    create_keys(keys.PLATFORM)
    first = digest(keys.PLATFORM, "kind", "value")
    keys.forget()

    assert digest(keys.PLATFORM, "kind", "value") == first
    assert keys._uncommitted.keys().isdisjoint(DataKey.objects.values_list("pk", flat=True))


@pytest.mark.django_db(transaction=True)
def test_keys_made_twice_at_once_are_made_once():
    scope, failures = uuid.uuid4(), []

    def make():
        try:
            with transaction.atomic():
                create_keys(scope)
        except Exception as error:  # noqa: BLE001
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert DataKey.objects.filter(organization_id=scope).count() == 3


def test_destroyed_keys_open_nothing_seal_nothing_and_are_not_made_again(organization):
    contact = make_contact(organization, first_name="Ann")
    assert keys.destroy_keys(organization.pk) == 3

    with pytest.raises(Unreadable):
        _ = Contact.objects.get(pk=contact.pk).first_name
    with pytest.raises(Unreadable):
        digest(organization.pk, "address", "x")
    create_keys(organization.pk)
    with pytest.raises(Unreadable):
        seal_bytes(organization.pk, b"x", b"")
    with pytest.raises(Unreadable):
        keys.new_data_key(organization.pk)
    assert all(
        row.wrapped is None for row in DataKey.objects.filter(organization_id=organization.pk)
    )


def test_one_organizations_keys_destroyed_leave_the_others(organization, other_organization):
    contact = make_contact(other_organization, first_name="Cleo")
    keys.destroy_keys(organization.pk)

    assert Contact.objects.get(pk=contact.pk).first_name == "Cleo"


def test_what_a_process_remembers_of_a_destroyed_key_ends(scope, monkeypatch):
    sealed = seal_bytes(scope, b"x", b"")
    # As another process does it, which cannot make this one forget.
    DataKey.objects.filter(organization_id=scope).update(
        wrapped=None, destroyed_at="2026-01-01T00:00Z"
    )
    later = keys.time.monotonic() + keys.REMEMBERED_SECONDS + 1
    monkeypatch.setattr(keys.time, "monotonic", lambda: later)

    with pytest.raises(Unreadable):
        open_bytes(scope, sealed, b"")


def test_a_new_data_key_seals_and_the_older_ones_open(scope):
    sealed = seal_bytes(scope, b"old", b"")
    key_id = keys.new_data_key(scope)

    assert keys.key_id_of(seal_bytes(scope, b"new", b"")) == key_id
    assert keys.key_id_of(sealed) < key_id
    assert open_bytes(scope, sealed, b"") == b"old"


def test_a_digest_key_seals_nothing(scope):
    with pytest.raises(TypeError):
        seal_bytes(scope, b"x", b"", purpose="digest")


def test_rewrapping_lets_the_old_master_key_go_and_changes_no_value(scope, settings):
    sealed, first = seal_bytes(scope, b"x", b""), digest(scope, "kind", "value")
    old, new = settings.MASTER_KEYS[0], bytes(range(100, 132))
    settings.MASTER_KEYS = [new, old]
    keys.forget()
    assert keys.rewrap_keys() == 3

    settings.MASTER_KEYS = [new]
    keys.forget()
    assert open_bytes(scope, sealed, b"") == b"x"
    assert digest(scope, "kind", "value") == first
    settings.MASTER_KEYS = [old]
    keys.forget()
    with pytest.raises(Unreadable):
        open_bytes(scope, sealed, b"")


def test_rewrapping_without_the_right_master_key_changes_nothing(scope, settings):
    before = list(DataKey.objects.order_by("pk").values_list("wrapped", flat=True))
    settings.MASTER_KEYS = [bytes(range(100, 132))]
    with pytest.raises(Unreadable):
        keys.rewrap_keys()

    assert list(DataKey.objects.order_by("pk").values_list("wrapped", flat=True)) == before
