"""Privacy: what a team lets the platform keep of its prompts and answers."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction

from saas_litellm.base import audit
from saas_litellm.base.refusals import Invalid
from teams.models import Team

LONGEST_RETENTION_DAYS = 3650
_FIELD_LENGTH, _FIELDS = 100, 100


def set_policy(
    *,
    team: Team,
    actor: str,
    policy: str | None = None,
    retention_days: int | None = None,
    redacted_fields: Sequence[str] | None = None,
    is_replay_kept: bool | None = None,
) -> Team:
    """Change what is given, and leave the rest. Raises Invalid.

    A policy that keeps nothing more also has the worker delete what was kept.
    """
    if policy is not None and policy not in Team.PayloadPolicy.values:
        raise Invalid(f"policy is one of {', '.join(Team.PayloadPolicy.values)}.", param="policy")
    if retention_days is not None and not 1 <= retention_days <= LONGEST_RETENTION_DAYS:
        raise Invalid(f"retention_days is 1 to {LONGEST_RETENTION_DAYS}.", param="retention_days")
    if redacted_fields is not None:
        check_fields(redacted_fields)
    given = {
        "payload_policy": policy,
        "payload_retention_days": retention_days,
        "redacted_fields": None if redacted_fields is None else list(redacted_fields),
        "is_replay_kept": is_replay_kept,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    with transaction.atomic():
        before = {name: getattr(team, name) for name in changes}
        for name, value in changes.items():
            setattr(team, name, value)
        team.save(update_fields=list(changes))
        audit.record(
            actor=actor,
            action="team.privacy",
            target=f"team:{team.slug}",
            before=before,
            after=changes,
        )
    return team


def check_fields(names: Sequence[str]) -> None:
    """Raise Invalid unless these are names of fields."""
    is_right = isinstance(names, list | tuple) and len(names) <= _FIELDS
    if not is_right or not all(
        isinstance(name, str) and 0 < len(name) <= _FIELD_LENGTH for name in names
    ):
        raise Invalid("redacted_fields is a list of field names.", param="redacted_fields")
