"""API keys: issue, authenticate, rotate, revoke.

A key reads ``slk_<prefix>_<secret>``. The prefix finds the row; the keyed hash of the whole is
compared in constant time. What is remembered of a key is looked at again in the transaction that
opens a call (`standing`), so a revocation holds everywhere at once.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial

from django.db import transaction
from django.db.models import Q

from saas_litellm.base import audit, clock, encryption, events, outbox
from saas_litellm.base.refusals import Conflict, Invalid, NotFound, Unauthenticated
from saas_litellm.base.standing import Memory
from teams.models import ApiKey, Organization, Team
from teams.refusals import KeyExpired, OrganizationSuspended, TeamPaused, TeamSuspended

_SHAPE = re.compile(r"slk_([0-9a-f]{12})_[A-Za-z0-9_-]{43}", re.ASCII)
# How long before its end a key is told of.
SOON = timedelta(days=7)
# Compared against when no row matches, so that an unknown prefix takes as long as a wrong secret.
_NO_DIGEST = "0" * 64


class KeyAlreadyEnding(Conflict):
    code = "key_already_ending"
    default_message = "This key is revoked, expired or already replaced."


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLimits:
    """What one key may do, within what its team may; None: no limit of its own."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    calls_in_flight: int | None = None

    @property
    def given(self) -> dict[str, int]:
        return {name: limit for name, limit in asdict(self).items() if limit is not None}


NO_LIMITS = KeyLimits()


def issue(
    *,
    team: Team,
    actor: str,
    name: str = "",
    expires_at: datetime | None = None,
    limits: KeyLimits = NO_LIMITS,
) -> tuple[ApiKey, str]:
    """Make a key and return it with its secret text, which exists nowhere else from now on.

    Raises Invalid when ``expires_at`` has passed, or for a limit below 1.
    """
    for limited, limit in limits.given.items():
        if limit < 1:
            raise Invalid("A limit is 1 or more; leave it empty for none.", param=limited)
    now = clock.now()
    if expires_at is not None and expires_at <= now:
        raise Invalid("expires_at lies in the past.", param="expires_at")
    prefix = secrets.token_hex(6)
    text = f"slk_{prefix}_{secrets.token_urlsafe(32)}"
    with transaction.atomic():
        key = ApiKey.objects.create(
            team=team,
            name=name,
            prefix=prefix,
            digest=encryption.keyed_hash(text),
            created_at=now,
            expires_at=expires_at,
            **limits.given,
        )
        audit.record(
            actor=actor,
            action="key.issue",
            target=f"key:{prefix}",
            team=team.slug,
            after={
                "name": name,
                "expires_at": expires_at.isoformat() if expires_at else None,
                **limits.given,
            },
        )
    return key, text


def authenticate(text: str, memory: Memory | None = None) -> ApiKey:
    """The key behind a bearer text, its team and organization loaded (one query, or in memory).

    Raises Unauthenticated, KeyExpired, OrganizationSuspended or TeamSuspended. A paused team
    is let in, to read and to finish; `require_running` stops it from starting work.
    """
    digest = encryption.keyed_hash(text)
    memory = memory or Memory(None)
    key = memory.recall(("key", digest), lambda: _known(text, digest))
    if key.revoked_at is not None:
        raise Unauthenticated("This API key was revoked.")
    if not key.is_usable_at(clock.now()):
        raise KeyExpired
    require_open(key.team)
    return key


def _known(text: str, digest: str) -> ApiKey:
    shape = _SHAPE.fullmatch(text)
    key = (
        ApiKey.objects.select_related("team__organization").filter(prefix=shape[1]).first()
        if shape
        else None
    )
    if not hmac.compare_digest(key.digest if key else _NO_DIGEST, digest) or key is None:
        raise Unauthenticated("Unknown API key.")
    return key


def require_open(team: Team) -> None:
    """Raise unless the team and its organization are open for business."""
    if team.organization.status != Organization.Status.ACTIVE:
        raise OrganizationSuspended
    if team.status == Team.Status.SUSPENDED:
        raise TeamSuspended


def require_running(team: Team) -> None:
    """Raise unless the team may start new work."""
    require_open(team)
    if team.status == Team.Status.PAUSED:
        raise TeamPaused


def revoke(*, prefix: str, actor: str, reason: str = "") -> ApiKey:
    """End a key now. Revoking twice changes nothing; an unknown prefix raises NotFound."""
    with transaction.atomic():
        revoked = ApiKey.objects.filter(prefix=prefix, revoked_at=None).update(
            revoked_at=clock.now()
        )
        key = ApiKey.objects.select_related("team").filter(prefix=prefix).first()
        if key is None:
            raise NotFound(f"There is no key with the prefix {prefix}.")
        if revoked:
            audit.record(
                actor=actor,
                action="key.revoke",
                target=f"key:{prefix}",
                reason=reason,
                team=key.team.slug,
            )
    return key


def rotate(*, prefix: str, actor: str, overlap: timedelta) -> tuple[ApiKey, str]:
    """Issue a successor of the same name, limits and end; the old key goes on for ``overlap``.

    That is zero or more, and never longer than the old key had. Raises NotFound, Invalid, or
    KeyAlreadyEnding (so that two rotations make one key).
    """
    if overlap < timedelta(0):
        raise Invalid("The overlap is negative.", param="overlap")
    now = clock.now()
    with transaction.atomic():
        old = ApiKey.objects.select_related("team").filter(prefix=prefix).first()
        if old is None:
            raise NotFound(f"There is no key with the prefix {prefix}.")
        if not old.is_usable_at(now):
            raise KeyAlreadyEnding
        limits = KeyLimits(
            requests_per_minute=old.requests_per_minute,
            tokens_per_minute=old.tokens_per_minute,
            calls_in_flight=old.calls_in_flight,
        )
        successor, text = issue(
            team=old.team, actor=actor, name=old.name, expires_at=old.expires_at, limits=limits
        )
        ends_at = min(now + overlap, old.expires_at or now + overlap)
        usable = Q(expires_at=None) | Q(expires_at__gt=now)
        replaced = ApiKey.objects.filter(
            usable, pk=old.pk, revoked_at=None, replaced_by=None
        ).update(replaced_by=successor, expires_at=ends_at)
        if replaced != 1:
            raise KeyAlreadyEnding
        audit.record(
            actor=actor,
            action="key.rotate",
            target=f"key:{prefix}",
            successor=successor.prefix,
            ends_at=ends_at.isoformat(),
        )
    return successor, text


def tell_expiring() -> int:
    """Tell of every key that ends soon and was not replaced, once for each; returns how many."""
    now = clock.now()
    ending = ApiKey.objects.filter(
        revoked_at=None, replaced_by=None, expires_at__gt=now, expires_at__lte=now + SOON
    ).select_related("team__organization")
    told = 0
    for key in ending[:5000]:
        outbox.emit(
            events.KeyExpiring,
            team_id=key.team_id,
            organization_id=key.team.organization_id,
            object_id=f"key:{key.prefix}",
            key=f"key:{key.prefix}:{key.expires_at:%Y%m%dT%H%M%S}",
            told=partial(_expiring, key),
        )
        told += 1
    return told


def _expiring(key: ApiKey) -> events.KeyExpiring:
    assert key.expires_at is not None, "it has an end"
    return events.KeyExpiring(
        team_id=key.team.slug, key_prefix=key.prefix, name=key.name, expires_at=key.expires_at
    )
