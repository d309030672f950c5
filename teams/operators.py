"""Operators over HTTP: a key of their own, or the session of the admin.

A key reads ``slo_<prefix>_<secret>`` and may do what the user behind it may, or less where it has
a role: permissions are Django's own, the same in the admin and here.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.db import transaction
from django.utils.crypto import constant_time_compare

from saas_litellm.base import audit, clock, encryption
from saas_litellm.base.refusals import Forbidden, Invalid, NotFound, Unauthenticated
from teams import roles, sessions
from teams.models import OperatorKey, User
from teams.sessions import Standing

PREFIX = "slo_"
_SHAPE = re.compile(r"slo_([0-9a-f]{12})_[A-Za-z0-9_-]{43}", re.ASCII)
_NO_DIGEST = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """A staff user at work."""

    user: User
    actor: str
    # A key's: what it may do is what both its user and this role may.
    role: str = ""

    def may(self, permission: str) -> bool:
        """Whether this Django permission is there."""
        if self.role and not (
            self.role in roles.ROLES and roles.ROLES[self.role].allows(permission)
        ):
            return False
        return self.user.has_perm(permission)

    def require(self, permission: str) -> None:
        """Raise Forbidden unless this Django permission is there."""
        if not self.may(permission):
            raise Forbidden(f"This needs the permission {permission}.")


def actors_of(user: User) -> list[str]:
    """The names under which one person appears in entries: their own, and their keys'."""
    prefixes = user.operator_keys.values_list("prefix", flat=True)
    return [f"user:{user.get_username()}", *(f"operator-key:{prefix}" for prefix in prefixes)]


def find_user(username: str) -> User:
    """Raises NotFound."""
    user = User.objects.filter(username=username).first()
    if user is None:
        raise NotFound(f"There is no user {username}.")
    return user


def named(username: str) -> Operator:
    """The staff user of this name at work. Raises NotFound, Unauthenticated."""
    return signed_in(find_user(username))


def signed_in(user: AbstractBaseUser | AnonymousUser) -> Operator:
    """The staff user behind a request of the admin at work. Raises Unauthenticated."""
    if not isinstance(user, User):
        raise Unauthenticated
    return Operator(user=_staff(user), actor=f"user:{user.get_username()}")


def issue(
    *,
    user: User,
    actor: str,
    name: str = "",
    role: str = "",
    expires_at: datetime | None = None,
) -> tuple[OperatorKey, str]:
    """Make a key and return it with its secret text, which exists nowhere else from now on.

    Raises Invalid for a user who is not staff, an unknown role, or an expiry in the past.
    """
    if role and role not in roles.ROLES:
        raise Invalid(f"role is one of {', '.join(roles.ROLES)}.", param="role")
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
            role=role,
            prefix=prefix,
            digest=encryption.keyed_hash(text),
            created_at=now,
            expires_at=expires_at,
        )
        audit.record(
            actor=actor,
            action="operator_key.issue",
            target=f"operator_key:{prefix}",
            after={
                "user": user.get_username(),
                "role": role,
                "name": name,
                "expires_at": expires_at.isoformat() if expires_at else None,
            },
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
    return Operator(user=_staff(key.user), actor=f"operator-key:{key.prefix}", role=key.role)


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
    operator = signed_in(user)
    match sessions.standing(session, user):
        case Standing.OVER:
            raise Unauthenticated("This session has ended: sign in again.")
        case Standing.UNVERIFIED:
            raise Unauthenticated("Sign in again, with the code of your second factor.")
        case Standing.UNENROLLED:
            raise Unauthenticated("Set up a second factor in the admin first.")
    return operator


def _staff(user: User) -> User:
    if not user.is_active or not user.is_staff:
        raise Unauthenticated("This operator may not sign in any more.")
    return user
