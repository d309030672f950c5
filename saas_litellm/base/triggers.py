"""Database triggers behind AppendOnly: an UPDATE is refused by the database itself.

PostgreSQL refuses a DELETE as well. SQLite does not: Django empties tables there with DELETE, and
the foreign keys with PROTECT and the models already stand against it.
"""

from __future__ import annotations

from django.apps.registry import Apps
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import RunPython

_REFUSE = (
    "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS"
    " 'BEGIN RAISE EXCEPTION ''% is append-only'', TG_TABLE_NAME; END'"
)


def append_only(*tables: str) -> RunPython:
    """A reversible migration operation."""

    def install(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
        for table in tables:
            for statement in _statements(table, editor.connection.vendor):
                editor.execute(statement, params=None)

    def remove(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
        on = "" if editor.connection.vendor == "sqlite" else " ON {table}"
        for table in tables:
            editor.execute(f"DROP TRIGGER {table}_append_only{on.format(table=table)}", params=None)

    return RunPython(install, remove)


def unchanging(table: str, *columns: str) -> RunPython:
    """A reversible migration operation: of a table's rows these columns never change."""
    name = f"{table}_unchanging"
    before = f"CREATE TRIGGER {name} BEFORE UPDATE OF {', '.join(columns)} ON {table}"

    def install(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
        if editor.connection.vendor == "sqlite":
            refusal = f"BEGIN SELECT RAISE(ABORT, '{table} does not change so'); END"
            editor.execute(f"{before} {refusal}", params=None)
            return
        editor.execute(_REFUSE, params=None)
        editor.execute(f"{before} FOR EACH ROW EXECUTE FUNCTION refuse_change()", params=None)

    def remove(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
        on = "" if editor.connection.vendor == "sqlite" else f" ON {table}"
        editor.execute(f"DROP TRIGGER {name}{on}", params=None)

    return RunPython(install, remove)


def _statements(table: str, vendor: str) -> tuple[str, ...]:
    if vendor == "sqlite":
        return (
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE ON {table}"
            f" BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END",
        )
    return (
        _REFUSE,
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table}"
        " FOR EACH ROW EXECUTE FUNCTION refuse_change()",
    )
