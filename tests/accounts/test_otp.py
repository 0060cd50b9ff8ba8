"""Second factors: a code works once, guessing is slow, and nothing usable is stored."""

import datetime as dt
import threading
import time

import pytest
from django.db import connection
from django.utils import timezone
from django_otp.models import Device
from django_otp.oath import hotp

from accounts import otp
from accounts.models import RecoveryCode, TOTPDevice
from audit.models import Entry
from tests.factories import BY, make_user


@pytest.fixture
def now(monkeypatch):
    """The time that codes are made of, which tests set."""
    clock = [1_800_000_000.0]
    monkeypatch.setattr(otp.time, "time", lambda: clock[0])
    return clock


@pytest.fixture
def device(alice, now):
    """A confirmed device of alice's, whose last code is long past."""
    device = otp.enrol(alice, by=alice)
    TOTPDevice.objects.filter(pk=device.pk).update(confirmed=True)
    device.refresh_from_db()
    return device


def code_at(device, at):
    return f"{hotp(device.seed, int(at) // 30):06d}"


def test_a_device_has_a_random_seed_and_is_not_confirmed(alice, bob):
    first, second = otp.enrol(alice, by=alice), otp.enrol(bob, by=BY)

    assert len(first.seed) == 20
    assert first.seed != second.seed
    assert not first.confirmed
    assert [e.target_id for e in Entry.objects.filter(action="device.added").order_by("id")] == [
        first.pk,
        second.pk,
    ]


def test_the_right_code_confirms_and_a_wrong_one_does_not(alice, now):
    device = otp.enrol(alice, by=alice)
    assert not otp.confirm(device, "000000", by=alice)
    assert not TOTPDevice.objects.get().confirmed
    TOTPDevice.objects.update(throttling_failure_timestamp=None)

    assert otp.confirm(device, code_at(device, now[0]), by=alice)
    assert TOTPDevice.objects.get().confirmed
    assert Entry.objects.filter(action="device.confirmed").count() == 1


@pytest.mark.parametrize(
    ("seconds", "right"), [(-60, False), (-30, True), (0, True), (30, True), (60, False)]
)
def test_a_code_is_right_for_its_step_and_the_ones_beside_it(device, now, seconds, right):
    assert otp.verify(device, code_at(device, now[0] + seconds)) is right


def test_a_code_works_once(device, now):
    token = code_at(device, now[0])
    assert otp.verify(device, token)

    assert not otp.verify(device, token)
    now[0] += 30
    assert not otp.verify(device, token)


def test_after_a_later_code_an_earlier_one_is_refused(device, now):
    assert otp.verify(device, code_at(device, now[0] + 30))

    assert not otp.verify(device, code_at(device, now[0]))


def test_the_next_code_works(device, now):
    assert otp.verify(device, code_at(device, now[0]))
    now[0] += 30

    assert otp.verify(device, code_at(device, now[0]))


@pytest.mark.parametrize(
    "token", ["", "12345", "1234567", "abcdef", "٣٤٥٦٧٨", "-12345", " 12345", "1e5000", "000000\n"]
)
def test_what_is_no_code_is_refused_and_does_not_count_as_a_guess(device, now, token):
    assert not otp.verify(device, token)
    assert TOTPDevice.objects.get().throttling_failure_count == 0


def test_guessing_gets_slower_and_the_right_code_waits_too(device, now):
    right = code_at(device, now[0])
    wrong = "000000" if right != "000000" else "000001"
    assert not otp.verify(device, wrong)

    assert not otp.verify(device, right)
    assert TOTPDevice.objects.get().throttling_failure_count == 1
    TOTPDevice.objects.update(throttling_failure_timestamp=timezone.now() - dt.timedelta(seconds=2))
    assert not otp.verify(device, wrong)
    TOTPDevice.objects.update(
        throttling_failure_timestamp=timezone.now() - dt.timedelta(seconds=1.5)
    )
    assert not otp.verify(device, right)
    TOTPDevice.objects.update(throttling_failure_timestamp=timezone.now() - dt.timedelta(seconds=3))
    assert otp.verify(device, right)
    assert TOTPDevice.objects.get().throttling_failure_count == 0


def test_django_otp_uses_this_verification(device, now):
    token = code_at(device, now[0])

    assert device.verify_token(token)
    assert not device.verify_token(token)


def test_a_session_finds_its_device_again(device, bob):
    other = otp.enrol(bob, by=BY)

    assert Device.from_persistent_id(device.persistent_id) == device
    assert Device.from_persistent_id(other.persistent_id) == other
    assert Device.from_persistent_id(f"accounts.totpdevice/{device.pk}") is None


def test_a_removed_device_verifies_nothing_and_is_on_record(device, alice, now):
    pk, persistent_id = device.pk, device.persistent_id
    otp.remove(device, by=alice)

    assert Device.from_persistent_id(persistent_id) is None
    assert not TOTPDevice.objects.exists()
    assert [e.target_id for e in Entry.objects.filter(action="device.removed")] == [pk]


@pytest.mark.django_db(transaction=True)
def test_of_two_requests_with_one_code_one_is_right():
    device = otp.enrol(make_user(), by=BY)
    token, outcomes, start = code_at(device, time.time()), [], threading.Barrier(2)

    def use():
        start.wait(5)
        try:
            outcomes.append(otp.verify(device, token))
        finally:
            connection.close()

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == [False, True]


def test_the_seed_is_not_in_the_database(device):
    with connection.cursor() as cursor:
        cursor.execute("SELECT d::text FROM accounts_totpdevice d")
        (text,) = cursor.fetchone()

    assert device.seed.hex() not in text


# --- recovery codes


def test_recovery_codes_are_ten_and_long_enough_to_be_kept_as_a_plain_hash(alice):
    codes = otp.new_recovery_codes(alice, by=alice)

    assert len(set(codes)) == 10
    assert all(len(c.replace("-", "")) * 5 >= 112 for c in codes)
    assert len(set(otp.ALPHABET)) == 32


def test_a_recovery_code_works_once_however_it_is_typed(alice):
    first, second, *_ = otp.new_recovery_codes(alice, by=alice)

    assert otp.use_recovery_code(alice, first)
    assert not otp.use_recovery_code(alice, first)
    assert otp.use_recovery_code(alice, f" {second.upper().replace('-', ' ')} ")
    assert Entry.objects.filter(action="codes.used").count() == 2


def test_a_wrong_code_or_anothers_is_refused(alice, bob):
    (code, *_) = otp.new_recovery_codes(alice, by=alice)
    otp.new_recovery_codes(bob, by=bob)

    for user, typed in (
        (bob, code),
        (alice, code[:-1]),
        (alice, ""),
        (alice, "\0"),
        (alice, "é" * 24),
    ):
        assert not otp.use_recovery_code(user, typed)
    assert RecoveryCode.objects.filter(used_at__isnull=False).count() == 0


def test_somebody_without_codes_is_refused(alice):
    assert not otp.use_recovery_code(alice, "abcdef-abcdef-abcdef-abcdef")


def test_new_codes_replace_the_old_ones(alice):
    (old, *_) = otp.new_recovery_codes(alice, by=alice)
    (new, *_) = otp.new_recovery_codes(alice, by=alice)

    assert not otp.use_recovery_code(alice, old)
    assert otp.use_recovery_code(alice, new)
    assert RecoveryCode.objects.count() == 10


def test_codes_are_not_in_the_database(alice):
    codes = otp.new_recovery_codes(alice, by=alice)
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(c::text, ' ') FROM accounts_recoverycode c")
        (text,) = cursor.fetchone()

    for written in codes:
        letters = written.replace("-", "")
        assert letters not in text
        assert letters.encode().hex() not in text


@pytest.mark.django_db(transaction=True)
def test_of_two_requests_with_one_recovery_code_one_is_right():
    user = make_user()
    (code, *_) = otp.new_recovery_codes(user, by=BY)
    outcomes, start = [], threading.Barrier(2)

    def use():
        start.wait(5)
        try:
            outcomes.append(otp.use_recovery_code(user, code))
        finally:
            connection.close()

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outcomes) == [False, True]
