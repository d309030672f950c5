"""Reports that read from a replica of the database, where there is one.

A replica is behind by what it has not replayed yet: nothing that decides about money or work reads
it, only what says it wants to, and never within a transaction. All writes go to the one primary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db import connection

ALIAS = "replica"
_is_reading: ContextVar[bool] = ContextVar("is_reading_replica", default=False)


@contextmanager
def reading() -> Iterator[None]:
    """Reads inside may come from the replica; also as a decorator of a function."""
    before = _is_reading.set(True)
    try:
        yield
    finally:
        _is_reading.reset(before)


class Router:
    """Which database a query goes to, where there is a replica. Where a row was read never matters."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return ALIAS if _is_reading.get() and not connection.in_atomic_block else "default"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool:
        return True

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if db == ALIAS else None
