"""A PostgreSQL database of a test's own, with the schema of the tests': for what changes tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connection


@contextmanager
def own(blocker: Any) -> Iterator[str]:
    """Django's connection leads there meanwhile, and commits; its address, for other processes."""
    with blocker.unblock():
        shared = connection.settings_dict["NAME"]
        mine = f"{shared}_own"
        with _away():
            _as_owner(f'DROP DATABASE IF EXISTS "{mine}" WITH (FORCE)')
            _as_owner(f'CREATE DATABASE "{mine}" TEMPLATE "{shared}"')
            _as_owner(f'ALTER DATABASE "{mine}" SET synchronous_commit = off')
            connection.settings_dict["NAME"] = mine
        try:
            yield mine
        finally:
            with _away():
                connection.settings_dict["NAME"] = shared
                _as_owner(f'DROP DATABASE "{mine}" WITH (FORCE)')


def commit_quickly() -> None:
    """Commits to the tests' database wait for no disk, from whichever process."""
    name = connection.settings_dict["NAME"]
    with _away():
        _as_owner(f'ALTER DATABASE "{name}" SET synchronous_commit = off')


@contextmanager
def _away() -> Iterator[None]:
    """A database is copied and dropped only while nobody is connected to it."""
    connection.close()
    connection.close_pool()
    yield
    connection.close()
    connection.close_pool()


def _as_owner(statement: str) -> None:
    settings = connection.settings_dict
    with psycopg.connect(
        host=settings["HOST"] or None,
        port=settings["PORT"] or None,
        user=settings["USER"] or None,
        password=settings["PASSWORD"] or None,
        dbname="postgres",
        autocommit=True,
    ) as server:
        server.execute(statement)
