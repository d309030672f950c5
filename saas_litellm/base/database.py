"""Whether the database can be reached, found out sooner than a query would."""

from __future__ import annotations

from typing import Any, cast

from django.db import connection

REACH_SECONDS = 2.0


def reach(*, seconds: float = REACH_SECONDS) -> None:
    """Raises OperationalError when no connection is to be had within ``seconds``.

    Asks the database nothing: a connection that stood idle while it went away still counts, and the
    query that comes next fails at once.
    """
    pool = getattr(cast(Any, connection), "pool", None)
    if connection.connection is not None or pool is None:
        return
    pool.open()
    with connection.wrap_database_errors:
        pool.putconn(pool.getconn(timeout=seconds))


def is_gone() -> bool:
    """After an OperationalError on this thread: whether it was for want of the database."""
    connection.close_if_unusable_or_obsolete()
    return connection.connection is None
