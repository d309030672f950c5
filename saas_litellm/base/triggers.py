"""Database triggers: what is append-only, what never changes, what gives a new stamp.

Behind AppendOnly an UPDATE is refused by the database itself.

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

# Once a transaction, however many rows it changes: the setting is the transaction's own.
_STAMP = """
CREATE OR REPLACE FUNCTION stamp_standing() RETURNS trigger LANGUAGE plpgsql AS '
BEGIN
  IF current_setting(''saas.stamped'', true) IS DISTINCT FROM txid_current()::text THEN
    INSERT INTO base_standing (id, stamp) VALUES (1, (random() * 9e18)::bigint)
      ON CONFLICT (id) DO UPDATE SET stamp = EXCLUDED.stamp;
    PERFORM set_config(''saas.stamped'', txid_current()::text, true);
  END IF;
  RETURN NULL;
END'
"""


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


def stamped(*tables: str, when: str = "") -> RunPython:
    """A reversible migration operation: a change of these tables is a new stamp (``standing``).

    ``when`` narrows updates down: a condition on OLD and NEW. On PostgreSQL the stamp is given as the
    transaction commits, so that nobody holds the one row's lock while waiting for another.
    """

    def install(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
        if editor.connection.vendor != "sqlite":
            editor.execute(_STAMP, params=None)
        for table in tables:
            for act in ("INSERT", "UPDATE", "DELETE"):
                condition = f" WHEN ({when})" if when and act == "UPDATE" else ""
                editor.execute(_stamp(table, act, condition, editor.connection.vendor), params=None)

    def remove(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
        for table in tables:
            on = "" if editor.connection.vendor == "sqlite" else f" ON {table}"
            for act in ("INSERT", "UPDATE", "DELETE"):
                editor.execute(f"DROP TRIGGER {table}_stamp_{act.lower()}{on}", params=None)

    return RunPython(install, remove)


def _stamp(table: str, act: str, condition: str, vendor: str) -> str:
    name = f"{table}_stamp_{act.lower()}"
    if vendor == "sqlite":
        return (
            f"CREATE TRIGGER {name} AFTER {act} ON {table} FOR EACH ROW{condition}"  # noqa: S608 - as above
            " BEGIN INSERT OR REPLACE INTO base_standing (id, stamp) VALUES (1, random()); END"
        )
    return (
        f"CREATE CONSTRAINT TRIGGER {name} AFTER {act} ON {table} DEFERRABLE INITIALLY DEFERRED"
        f" FOR EACH ROW{condition} EXECUTE FUNCTION stamp_standing()"
    )


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
