"""Indexes that one of the two databases has and the other has not."""

from __future__ import annotations

from django.apps.registry import Apps
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import RunPython


def by_json_key(*, table: str, column: str, name: str) -> RunPython:
    """A reversible migration operation: PostgreSQL finds rows by a key or a value of their JSON.

    SQLite has no such index and reads the rows.
    """

    def install(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
        if editor.connection.vendor == "postgresql":
            editor.execute(f"CREATE INDEX {name} ON {table} USING gin ({column})", params=None)

    def remove(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
        if editor.connection.vendor == "postgresql":
            editor.execute(f"DROP INDEX {name}", params=None)

    return RunPython(install, remove)
