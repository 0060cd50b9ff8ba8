"""Second factors: enrolment, one-time codes that work once, recovery codes of which only hashes are kept."""

import secrets
import time

from django.db import transaction
from django.utils import timezone
from django_otp.oath import TOTP

from accounts.models import RecoveryCode, TOTPDevice, User
from audit.record import record
from phi.digest import digest
from phi.keys import PLATFORM, create_keys

STEP_SECONDS = 30
DIGITS = 6
RECOVERY_CODES = 10
#: Letters and digits that nobody mistakes for another: 32 of them, 5 bits each.
ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
#: Four groups of six are 120 bits. From 112 bits on, a look-up secret needs no slow hash (SP 800-63B-4, 3.1.2.2).
GROUPS, GROUP = 4, 6


@transaction.atomic
def enrol(user: User, *, name: str = "Authenticator", by: User | str) -> TOTPDevice:
    """Give the user a new, unconfirmed device with a random seed of 20 bytes (RFC 4226, section 4)."""
    create_keys(PLATFORM)
    device = TOTPDevice.objects.create(
        user=user, name=name, confirmed=False, seed=secrets.token_bytes(20)
    )
    record("device.added", organization_id=PLATFORM, by=by, target=device)
    return device


@transaction.atomic
def confirm(device: TOTPDevice, token: str, *, by: User | str) -> bool:
    """Confirm a device with its first code; False when the code is wrong."""
    if not verify(device, token):
        return False
    TOTPDevice.objects.filter(pk=device.pk).update(confirmed=True)
    device.confirmed = True
    record("device.confirmed", organization_id=PLATFORM, by=by, target=device)
    return True


@transaction.atomic
def verify(device: TOTPDevice, token: str) -> bool:
    """Say whether `token` is the code of now, one step before or after, and of a step not yet used.

    The row is locked, so that of two requests with one code only one is right. Failures are throttled,
    and are counted only when the caller's transaction commits: call it outside of one that may roll back.
    """
    locked = TOTPDevice.objects.select_for_update().get(pk=device.pk)
    allowed, _ = locked.verify_is_allowed()
    if not allowed or not token.isascii() or not token.isdigit() or len(token) != DIGITS:
        return False
    totp = TOTP(locked.seed, STEP_SECONDS, 0, DIGITS, 0)
    totp.time = time.time()
    if totp.verify(int(token), 1, locked.last_step + 1):
        locked.last_step = totp.t()
        locked.throttle_reset(commit=False)
        locked.save()
        return True
    locked.throttle_increment()
    return False


@transaction.atomic
def remove(device: TOTPDevice, *, by: User | str) -> None:
    """Take a device away from its user, with its seed."""
    record("device.removed", organization_id=PLATFORM, by=by, target=device)
    device.delete()


@transaction.atomic
def new_recovery_codes(user: User, *, by: User | str) -> list[str]:
    """Replace the user's recovery codes and return the new ones, to be shown once."""
    create_keys(PLATFORM)
    user.recovery_codes.all().delete()
    codes = [_random_code() for _ in range(RECOVERY_CODES)]
    RecoveryCode.objects.bulk_create(
        RecoveryCode(user=user, hashed=_hashed(user, code)) for code in codes
    )
    record("codes.created", organization_id=PLATFORM, by=by, target=user, count=len(codes))
    return codes


@transaction.atomic
def use_recovery_code(user: User, code: str) -> bool:
    """Say whether `code` is one of the user's unused recovery codes, and use it up.

    Spaces, hyphens and capitals do not count. Of two requests with one code only one is right.
    """
    if not user.recovery_codes.exists():
        return False
    used = user.recovery_codes.filter(hashed=_hashed(user, code), used_at__isnull=True).update(
        used_at=timezone.now()
    )
    if used:
        record("codes.used", organization_id=PLATFORM, by=user, target=user)
    return bool(used)


def _random_code() -> str:
    letters = [secrets.choice(ALPHABET) for _ in range(GROUPS * GROUP)]
    return "-".join("".join(letters[n : n + GROUP]) for n in range(0, len(letters), GROUP))


def _hashed(user: User, code: str) -> bytes:
    letters = "".join(code.lower().split()).replace("-", "")
    return digest(PLATFORM, f"recovery:{user.pk}", letters)
