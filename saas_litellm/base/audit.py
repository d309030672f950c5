"""The audit log: one row for each change an operator makes."""

from __future__ import annotations

from typing import Any

from saas_litellm.base import clock
from saas_litellm.base.models import AuditEntry


def record(*, actor: str, action: str, target: str, reason: str = "", **detail: Any) -> AuditEntry:
    """Write an audit row; call it inside the transaction of the change. Never pass a secret."""
    return AuditEntry.objects.create(
        created_at=clock.now(),
        actor=actor,
        action=action,
        target=target,
        reason=reason,
        detail=detail,
    )
