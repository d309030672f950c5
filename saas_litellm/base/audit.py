"""The audit log: one row for each change an operator makes, and each look at a payload."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from django.db import models

from saas_litellm.base import addresses, clock
from saas_litellm.base.models import AuditEntry

# Columns whose content is never written down, only that it changed.
SECRETS = frozenset(
    {"password", "digest", "secret", "secret_ciphertext", "ciphertext", "extra", "key", "token"}
)
HIDDEN = "[secret]"
_LONGEST = 2000


def record(
    *,
    actor: str,
    action: str,
    target: str,
    reason: str = "",
    before: Any = None,
    after: Any = None,
    **detail: Any,
) -> AuditEntry:
    """Write an audit row; call it inside the transaction of the change. Never pass a secret.

    ``before`` and ``after`` are JSON: what changed, as it was and as it is. The address is the
    request's own.
    """
    return AuditEntry.objects.create(
        created_at=clock.now(),
        actor=actor[:200],
        action=action,
        target=target[:200],
        reason=reason[:500],
        address=addresses.current(),
        before=before,
        after=after,
        detail=detail,
    )


def snapshot(row: models.Model) -> dict[str, Any]:
    """A row's columns and many-to-many sets as they are now, to be compared with later ones."""
    taken: dict[str, Any] = {
        column.name: getattr(row, column.name)
        for column in row._meta.concrete_fields
        if not column.primary_key and not getattr(column, "auto_now", False)
    }
    return taken | linked(row)


def linked(row: models.Model) -> dict[str, list[str]]:
    """A row's many-to-many sets, as names."""
    return {
        relation.name: sorted(str(other) for other in getattr(row, relation.name).all())
        for relation in row._meta.many_to_many
    }


def difference(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of two snapshots what differs, as JSON and without secrets: as it was, and as it is."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return (
        {name: _written(name, before[name]) for name in names if name in before},
        {name: _written(name, after[name]) for name in names if name in after},
    )


def _written(name: str, value: Any) -> Any:
    if name in SECRETS and value:
        return HIDDEN
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Mapping | list | tuple):
        # What fields hold as JSON is JSON already; a secret's name may hide within.
        if isinstance(value, Mapping):
            return {str(key): _written(str(key), inner) for key, inner in value.items()}
        return [_written("", inner) for inner in value]
    return str(value)[:_LONGEST]
