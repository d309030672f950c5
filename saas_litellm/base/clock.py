"""The one clock. All times and periods are UTC; tests replace ``now`` to move it."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> datetime:
    return datetime.now(UTC)
