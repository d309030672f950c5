"""The one clock. All times and periods are UTC; tests replace ``now`` to move it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

_told: ContextVar[datetime | None] = ContextVar("told", default=None)


def now() -> datetime:
    return _told.get() or datetime.now(UTC)


@contextmanager
def at(moment: datetime) -> Iterator[None]:
    """Inside, and in this thread or task alone, it is ``moment``: to write a history with."""
    token = _told.set(moment)
    try:
        yield
    finally:
        _told.reset(token)
