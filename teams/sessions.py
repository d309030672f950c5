"""How long a sign-in lasts, and whether it still needs something: the same for pages and the API."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django_otp import DEVICE_ID_SESSION_KEY

from saas_litellm.base import clock
from teams import second_factor
from teams.models import User

_BEGAN, _SEEN = "began_at", "seen_at"
# How often the time of the last page is written: not at each of them.
_SEEN_EVERY_SECONDS = 60


class Standing(Enum):
    """What a session of somebody signed in is worth."""

    GOOD = "good"
    OVER = "over"
    # The person has a second factor, and this session never showed it.
    UNVERIFIED = "unverified"
    # Everybody must have one, and this person has none yet.
    UNENROLLED = "unenrolled"


def begin(session: SessionBase) -> None:
    session[_BEGAN] = session[_SEEN] = _now()


def touch(session: SessionBase) -> None:
    """A page was asked for: idleness begins anew."""
    if _now() - int(session.get(_SEEN, 0)) >= _SEEN_EVERY_SECONDS:
        session[_SEEN] = _now()


def standing(session: SessionBase | Mapping[str, Any], user: User) -> Standing:
    now = _now()
    # Without marks it is not a session that a sign-in made.
    is_old = now - int(session.get(_BEGAN, 0)) >= settings.SESSION_COOKIE_AGE
    is_idle = now - int(session.get(_SEEN, 0)) >= settings.SESSION_IDLE_SECONDS
    if is_old or is_idle:
        return Standing.OVER
    if not user.is_staff:
        return Standing.GOOD
    if second_factor.is_enrolled(user):
        shown = second_factor.is_of(user, session.get(DEVICE_ID_SESSION_KEY, ""))
        return Standing.GOOD if shown else Standing.UNVERIFIED
    return Standing.UNENROLLED if settings.REQUIRE_SECOND_FACTOR else Standing.GOOD


def _now() -> int:
    return int(clock.now().timestamp())
