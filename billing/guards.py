"""PostgreSQL's triggers that let lines leave the ledger for its archive, and come back: no other way.

A transaction says so with ``saas.archiving``, which holds its own number; even then a line goes
only if the same line stands on the other side. A line that was carried forward may go with its
draws, for those it stands for return in the same transaction.
"""

from __future__ import annotations

from django.apps.registry import Apps
from django.db import connection
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import RunPython

_IS_ARCHIVING = "COALESCE(current_setting('saas.archiving', true), '') = pg_current_xact_id()::text"
_SAME = (
    "o.id = OLD.id AND o.account_id = OLD.account_id AND o.idempotency_key = OLD.idempotency_key"
    " AND o.amount_nanocredits = OLD.amount_nanocredits"
    " AND o.balance_after_nanocredits = OLD.balance_after_nanocredits"
)
# When a row of each table may go.
_MAY_GO = {
    "billing_entry": "OLD.kind = 'carried' OR"
    f" EXISTS (SELECT FROM billing_archivedentry o WHERE {_SAME})",
    "billing_draw": "EXISTS (SELECT FROM billing_archivedentry o WHERE o.id = OLD.entry_id) OR"
    " EXISTS (SELECT FROM billing_entry o WHERE o.id = OLD.entry_id AND o.kind = 'carried')",
    "billing_archivedentry": f"EXISTS (SELECT FROM billing_entry o WHERE {_SAME})",
}
_KEEP = """
CREATE OR REPLACE FUNCTION {table}_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN
    IF {is_archiving} THEN
      IF {may_go} THEN
        RETURN OLD;
      END IF;
    END IF;
  END IF;
  RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$
"""
_REFUSE_KEY = f"""
CREATE OR REPLACE FUNCTION billing_refuse_archived_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM billing_archivedentry
             WHERE account_id = NEW.account_id AND idempotency_key = NEW.idempotency_key) THEN
    IF NOT {_IS_ARCHIVING} THEN
      RAISE unique_violation USING MESSAGE = 'this key was used in a month that is archived';
    END IF;
  END IF;
  RETURN NEW;
END $$
"""
_GUARD = "billing_entry_archived_key"


def archivable() -> RunPython:
    """A reversible migration operation, in place of ``append_only`` for these tables."""

    def install(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
        if editor.connection.vendor == "sqlite":
            return
        for table, may_go in _MAY_GO.items():
            body = _KEEP.format(table=table, is_archiving=_IS_ARCHIVING, may_go=may_go)
            editor.execute(body, params=None)
            _replace(editor, table, f"{table}_keep")

    def remove(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
        if editor.connection.vendor == "sqlite":
            return
        for table in _MAY_GO:
            _replace(editor, table, "refuse_change")

    return RunPython(install, remove)


def refuse_archived_keys() -> None:
    """See to it that no new line takes an archived line's key.

    Made with the first archive: a ledger that archives nothing pays nothing for it.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_trigger WHERE tgname = %s", [_GUARD])
        if cursor.fetchone() is None:
            cursor.execute(_REFUSE_KEY)
            cursor.execute(
                f"CREATE TRIGGER {_GUARD} BEFORE INSERT ON billing_entry"
                " FOR EACH ROW EXECUTE FUNCTION billing_refuse_archived_key()"
            )


def begin_archiving() -> None:
    """Let this transaction, and no other, move lines between the ledger and its archive."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('saas.archiving', pg_current_xact_id()::text, true)")


def _replace(editor: BaseDatabaseSchemaEditor, table: str, function: str) -> None:
    editor.execute(f"DROP TRIGGER {table}_append_only ON {table}", params=None)
    editor.execute(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table}"
        f" FOR EACH ROW EXECUTE FUNCTION {function}()",
        params=None,
    )
