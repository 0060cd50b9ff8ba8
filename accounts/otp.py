"""Second factors: enrolment, one-time codes that work once, recovery codes of which only hashes are kept."""

import secrets
import time

from django.contrib.auth.hashers import check_password, make_password
from django.db import transaction
from django.utils import timezone
from django_otp.oath import TOTP

from accounts.models import RecoveryCode, TOTPDevice, User
from audit.record import record
from phi.keys import PLATFORM, create_keys

STEP_SECONDS = 30
DIGITS = 6
RECOVERY_CODES = 10


@transaction.atomic
def enrol(user: User, *, name: str = "Authenticator", by: User | str) -> TOTPDevice:
    """Give the user a new, unconfirmed device with a random seed of 20 bytes (RFC 4226, section 4)."""
    create_keys(PLATFORM)
    device = TOTPDevice.objects.create(
        user=user, name=name, confirmed=False, seed=secrets.token_bytes(20)
    )
    record("second_factor.enrolled", organization_id=PLATFORM, by=by, target=device)
    return device


@transaction.atomic
def confirm(device: TOTPDevice, token: str, *, by: User | str) -> bool:
    """Confirm a device with its first code; False when the code is wrong."""
    if not verify(device, token):
        return False
    TOTPDevice.objects.filter(pk=device.pk).update(confirmed=True)
    device.confirmed = True
    record("second_factor.confirmed", organization_id=PLATFORM, by=by, target=device)
    return True


@transaction.atomic
def verify(device: TOTPDevice, token: str) -> bool:
    """Say whether `token` is the code of now, one step before or after, and of a step not yet used.

    The row is locked, so that two requests with one code are not both right; failures are throttled.
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
def new_recovery_codes(user: User, *, by: User | str) -> list[str]:
    """Replace the user's recovery codes and return the new ones, to be shown once."""
    user.recovery_codes.all().delete()
    codes = [f"{secrets.token_hex(5)}-{secrets.token_hex(5)}" for _ in range(RECOVERY_CODES)]
    RecoveryCode.objects.bulk_create(
        RecoveryCode(user=user, hashed=make_password(code)) for code in codes
    )
    record("recovery_codes.made", organization_id=PLATFORM, by=by, target=user, count=len(codes))
    return codes


@transaction.atomic
def use_recovery_code(user: User, code: str) -> bool:
    """Say whether `code` is one of the user's unused recovery codes, and use it up."""
    unused = user.recovery_codes.select_for_update().filter(used_at__isnull=True)
    for candidate in unused:
        if check_password(code.strip().lower(), candidate.hashed):
            candidate.used_at = timezone.now()
            candidate.save(update_fields=["used_at"])
            record("recovery_code.used", organization_id=PLATFORM, by=user, target=candidate)
            return True
    return False
