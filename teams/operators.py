"""Operators over HTTP: a key of their own, or the session of the admin.

A key reads ``slo_<prefix>_<secret>`` and may do what the user behind it may: permissions are
Django's own, the same in the admin and here.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.db import transaction
from django.utils.crypto import constant_time_compare

from saas_litellm.base import audit, clock, encryption
from saas_litellm.base.refusals import Forbidden, Invalid, NotFound, Unauthenticated
from teams.models import OperatorKey, User

PREFIX = "slo_"
_SHAPE = re.compile(r"slo_([0-9a-f]{12})_[A-Za-z0-9_-]{43}", re.ASCII)
_NO_DIGEST = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """A staff user at work."""

    user: User
    actor: str

    def require(self, permission: str) -> None:
        """Raise Forbidden unless the user has this Django permission."""
        if not self.user.has_perm(permission):
            raise Forbidden(f"This needs the permission {permission}.")


def issue(
    *, user: User, actor: str, name: str = "", expires_at: datetime | None = None
) -> tuple[OperatorKey, str]:
    """Make a key and return it with its secret text, which exists nowhere else from now on.

    Raises Invalid for a user who is not staff, or an expiry in the past.
    """
    if not user.is_staff:
        raise Invalid(f"{user.get_username()} is not a staff user.", param="user")
    now = clock.now()
    if expires_at is not None and expires_at <= now:
        raise Invalid("expires_at lies in the past.", param="expires_at")
    prefix = secrets.token_hex(6)
    text = f"{PREFIX}{prefix}_{secrets.token_urlsafe(32)}"
    with transaction.atomic():
        key = OperatorKey.objects.create(
            user=user,
            name=name,
            prefix=prefix,
            digest=encryption.keyed_hash(text),
            created_at=now,
            expires_at=expires_at,
        )
        audit.record(
            actor=actor,
            action="operator_key.issue",
            target=f"operator_key:{prefix}",
            user=user.get_username(),
        )
    return key, text


def revoke(*, prefix: str, actor: str) -> OperatorKey:
    """End a key now; twice changes nothing. Raises NotFound."""
    with transaction.atomic():
        revoked = OperatorKey.objects.filter(prefix=prefix, revoked_at=None).update(
            revoked_at=clock.now()
        )
        key = OperatorKey.objects.filter(prefix=prefix).first()
        if key is None:
            raise NotFound(f"There is no operator key with the prefix {prefix}.")
        if revoked:
            audit.record(actor=actor, action="operator_key.revoke", target=f"operator_key:{prefix}")
    return key


def authenticate(text: str) -> Operator:
    """The operator behind a bearer text. Raises Unauthenticated."""
    shape = _SHAPE.fullmatch(text)
    key = (
        OperatorKey.objects.select_related("user").filter(prefix=shape[1]).first()
        if shape
        else None
    )
    digest = key.digest if key else _NO_DIGEST
    if not hmac.compare_digest(digest, encryption.keyed_hash(text)) or key is None:
        raise Unauthenticated("Unknown operator key.")
    is_over = key.expires_at is not None and key.expires_at <= clock.now()
    if key.revoked_at is not None or is_over:
        raise Unauthenticated("This operator key has ended.")
    return Operator(user=_staff(key.user), actor=f"operator-key:{key.prefix}")


def of_session(session_key: str) -> Operator:
    """The staff user signed in to the admin under this session cookie. Raises Unauthenticated.

    API paths run without Django's session middleware, so the same checks are made here. A foreign
    page cannot use the cookie: every body must be JSON, which a browser preflights.
    """
    session = SessionStore(session_key)
    user = User.objects.filter(pk=session.get(SESSION_KEY) or 0).first()
    if user is None or session.get(BACKEND_SESSION_KEY) not in settings.AUTHENTICATION_BACKENDS:
        raise Unauthenticated
    if not constant_time_compare(session.get(HASH_SESSION_KEY, ""), user.get_session_auth_hash()):
        raise Unauthenticated
    return Operator(user=_staff(user), actor=f"user:{user.get_username()}")


def _staff(user: User) -> User:
    if not user.is_active or not user.is_staff:
        raise Unauthenticated("This operator may not sign in any more.")
    return user
