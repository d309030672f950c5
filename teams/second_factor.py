"""The second factor: codes of an authenticator app (TOTP), and backup codes for when it is lost.

A code works once: of an app's codes only later ones count after it, and a backup code is deleted as
it is used. After a wrong one the device answers nobody for a while, longer each time (django-otp).
"""

from __future__ import annotations

from base64 import b32encode
from dataclasses import dataclass

from django.db import transaction
from django_otp.models import Device
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from saas_litellm.base import audit
from saas_litellm.base.refusals import Forbidden
from teams.models import User

BACKUP_CODES = 10
_NAME = "authenticator"


class WrongCode(Forbidden):
    code = "wrong_code"
    default_message = (
        "That code does not fit. Each works once; after a wrong one wait a few seconds, and look"
        " whether the clock of your device is right."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """What an authenticator app needs to know, shown once: as a text, and as the address of a QR."""

    secret: str
    uri: str


def is_enrolled(user: User) -> bool:
    return bool(TOTPDevice.objects.filter(user=user, confirmed=True).exists())


def is_of(user: User, persistent_id: str) -> bool:
    """Whether a session's device is one of the user's, still there and confirmed."""
    device = Device.from_persistent_id(persistent_id) if persistent_id else None
    return device is not None and device.user_id == user.pk and bool(device.confirmed)


def verify(*, user: User, code: str) -> Device | None:
    """The device that a code belongs to, the code used up by it; None when it fits none."""
    given = code.replace(" ", "").replace("-", "").lower()
    # By its shape, so that a backup code does not count as a wrong code of the app.
    kind = TOTPDevice if given.isdigit() else StaticDevice
    with transaction.atomic():
        for device in kind.objects.select_for_update().filter(user=user, confirmed=True):
            if given and device.verify_token(given):
                found: Device = device
                return found
    return None


def begin(*, user: User) -> Enrolment:
    """A new secret, which counts for nothing until a code of it confirms that it arrived."""
    with transaction.atomic():
        TOTPDevice.objects.filter(user=user, confirmed=False).delete()
        device = TOTPDevice.objects.create(user=user, name=_NAME, confirmed=False)
    return Enrolment(secret=b32encode(device.bin_key).decode().rstrip("="), uri=device.config_url)


def confirm(*, user: User, code: str, actor: str) -> tuple[Device, list[str]]:
    """Put the new secret in force, in place of any earlier one; returns backup codes, shown once.

    Raises WrongCode; the secret stays to be confirmed then.
    """
    pending = TOTPDevice.objects.filter(user=user, confirmed=False)
    with transaction.atomic():
        device = pending.select_for_update().first()
        is_right = device is not None and device.verify_token(code.replace(" ", ""))
        if device is not None and is_right:
            TOTPDevice.objects.filter(user=user).exclude(pk=device.pk).delete()
            device.confirmed = True
            device.save()
            codes = _make_codes(user)
            audit.record(actor=actor, action="second_factor.enrol", target=f"user:{user}")
            return device, codes
    # Outside: the wrong code must count against the device.
    raise WrongCode


def new_codes(*, user: User, actor: str) -> list[str]:
    """Backup codes in place of those there were, shown once."""
    with transaction.atomic():
        codes = _make_codes(user)
        audit.record(actor=actor, action="second_factor.codes", target=f"user:{user}")
    return codes


def reset(*, user: User, actor: str, reason: str = "") -> bool:
    """Take the second factor away, for somebody who lost it; whether there was one."""
    with transaction.atomic():
        had = is_enrolled(user)
        TOTPDevice.objects.filter(user=user).delete()
        StaticDevice.objects.filter(user=user).delete()
        if had:
            audit.record(
                actor=actor, action="second_factor.reset", target=f"user:{user}", reason=reason
            )
    return had


def codes_left(user: User) -> int:
    return int(StaticToken.objects.filter(device__user=user).count())


def _make_codes(user: User) -> list[str]:
    StaticDevice.objects.filter(user=user).delete()
    device = StaticDevice.objects.create(user=user, name="backup codes", confirmed=True)
    # Base32 has letters in nearly every code; one of digits alone would read as the app's.
    codes: list[str] = []
    while len(codes) < BACKUP_CODES:
        code = StaticToken.random_token()
        if not code.isdigit() and code not in codes:
            codes.append(code)
    StaticToken.objects.bulk_create(StaticToken(device=device, token=code) for code in codes)
    return codes
