"""The ledger's archive: charges of a closed month leave it, and one carried line takes their place.

Only charges of calls and jobs go, and only those that no other line corrects: they are nearly all
lines. What came in, what was refunded, adjusted or expired, and months' minimums stay. For each
account and team the carried line has the number and the balance of the last charge it stands for,
and their sums; for each lot it has one draw with what they drew. So balances, lots and sums by month
are what they were. The charges stand in ``ArchivedEntry`` with their keys, which stay taken, and
can be brought back. PostgreSQL alone: the functions run in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db import connection

from billing import guards
from billing.models import ArchivedEntry, ArchivedMonth, Entry
from saas_litellm.base import clock

_COLUMNS = (
    "id, account_id, amount_nanocredits, balance_after_nanocredits, reference, reason, actor,"
    " idempotency_key, plan_version_id, price_nano_usd, labels, created_at"
)
# Charges that may go: of work, and pointed at by no other line.
_MAY_GO = """
    e.kind = 'charge' AND e.created_at >= %(begins)s AND e.created_at < %(ends)s
    AND (e.reference LIKE 'call:%%' OR e.reference LIKE 'job:%%')
    AND NOT EXISTS (SELECT FROM billing_entry c WHERE c.corrects_id = e.id)
    AND NOT EXISTS (SELECT FROM billing_loss l WHERE l.entry_id = e.id)
"""


def bounds(month: date) -> tuple[datetime, datetime]:
    """A calendar month, UTC; the second is the first moment after it."""
    begins = datetime(month.year, month.month, 1, tzinfo=UTC)
    return begins, (begins + timedelta(days=32)).replace(day=1)


def candidates(month: date) -> dict[str, int]:
    """``lines`` that would go, in how many ``accounts``, and how many are ``unfolded`` yet."""
    row = _fetched(
        "SELECT COUNT(*), COUNT(DISTINCT e.account_id), COUNT(*) FILTER (WHERE e.id >"
        " COALESCE((SELECT f.entry_id FROM billing_fold f WHERE f.account_id = e.account_id), 0))"
        f" FROM billing_entry e WHERE {_MAY_GO}",
        _named(month),
    )
    return dict(zip(("lines", "accounts", "unfolded"), map(int, row), strict=True))


def move_out(month: date, *, actor: str) -> ArchivedMonth:
    """Move a month's charges into the archive, in the caller's transaction. Checks nothing."""
    guards.begin_archiving()
    named = _named(month)
    made = ArchivedMonth.objects.create(
        month=month,
        lines=0,
        amount_nanocredits=0,
        price_nano_usd=0,
        archived_at=clock.now(),
        actor=actor,
    )
    _run(
        f"INSERT INTO billing_archivedentry ({_COLUMNS}, month, draws)"
        f" SELECT {', '.join(f'e.{name.strip()}' for name in _COLUMNS.split(','))}, %(month)s,"
        " COALESCE((SELECT jsonb_agg(jsonb_build_array(d.lot_id, d.amount_nanocredits,"
        " d.paid_nano_usd) ORDER BY d.id) FROM billing_draw d WHERE d.entry_id = e.id), '[]')"
        f" FROM billing_entry e WHERE {_MAY_GO}",
        named,
    )
    _run("ANALYZE billing_archivedentry", None)
    _run(
        "DELETE FROM billing_draw d USING billing_archivedentry a"
        " WHERE a.month = %(month)s AND d.entry_id = a.id",
        named,
    )
    _run(
        "DELETE FROM billing_entry e USING billing_archivedentry a"
        " WHERE a.month = %(month)s AND e.id = a.id",
        named,
    )
    _carry(named | {"actor": actor, "name": f"{month:%Y-%m}"})
    lines, amount, price = _fetched(
        "SELECT COUNT(*), COALESCE(SUM(amount_nanocredits), 0), COALESCE(SUM(price_nano_usd), 0)"
        " FROM billing_archivedentry WHERE month = %(month)s",
        named,
    )
    made.lines, made.amount_nanocredits, made.price_nano_usd = int(lines), int(amount), int(price)
    made.save()
    return made


def move_back(archived: ArchivedMonth) -> int:
    """Undo ``move_out``: the same lines under their own numbers; returns how many."""
    guards.begin_archiving()
    named = _named(archived.month) | {"reference": reference(archived.month)}
    _run(
        "DELETE FROM billing_draw d USING billing_entry e WHERE d.entry_id = e.id"
        " AND e.kind = 'carried' AND e.reference = %(reference)s",
        named,
    )
    _run(
        "DELETE FROM billing_entry WHERE kind = 'carried' AND reference = %(reference)s",
        named,
    )
    moved = _run(
        f"INSERT INTO billing_entry (kind, {_COLUMNS}) SELECT 'charge', {_COLUMNS}"
        " FROM billing_archivedentry WHERE month = %(month)s ORDER BY id",
        named,
    )
    _run(
        "INSERT INTO billing_draw (lot_id, entry_id, kind, amount_nanocredits, paid_nano_usd, at)"
        " SELECT (d.value->>0)::bigint, a.id, 'charge', (d.value->>1)::bigint,"
        " (d.value->>2)::bigint, a.created_at FROM billing_archivedentry a,"
        " jsonb_array_elements(a.draws) WITH ORDINALITY d (value, number)"
        " WHERE a.month = %(month)s ORDER BY a.id, d.number",
        named,
    )
    _run("DELETE FROM billing_archivedentry WHERE month = %(month)s", named)
    archived.delete()
    return moved


def reference(month: date) -> str:
    """That of a month's carried lines."""
    return f"carried:{month:%Y-%m}"


def has(*, account_id: int, references: list[str]) -> bool:
    """Whether the charge of one of these calls or jobs (``call:…``, ``job:…``) is archived."""
    keys = [f"charge:{name}" for name in references]
    return ArchivedEntry.objects.filter(account=account_id, idempotency_key__in=keys).exists()


def newest_carried() -> dict[int, int]:
    """By account the number of its newest carried line: balances before it leave charges out."""
    found = Entry.objects.filter(kind=Entry.Kind.CARRIED).order_by("id")
    return dict(found.values_list("account_id", "pk"))


def _carry(named: Mapping[str, Any]) -> None:
    """A line for each account and team, whose statements it stands in; a draw of it for each lot."""
    _run(
        "CREATE TEMP TABLE carrying ON COMMIT DROP AS SELECT MAX(id) AS id, account_id,"
        " labels->>'team' AS team, COUNT(*) AS lines, SUM(amount_nanocredits)::bigint AS amount,"
        " SUM(price_nano_usd)::bigint AS price FROM billing_archivedentry"
        " WHERE month = %(month)s GROUP BY account_id, labels->>'team'",
        named,
    )
    _run(
        "INSERT INTO billing_entry (id, account_id, kind, amount_nanocredits,"
        " balance_after_nanocredits, reference, reason, actor, idempotency_key, price_nano_usd,"
        " labels, created_at) SELECT c.id, c.account_id, 'carried', c.amount,"
        " a.balance_after_nanocredits, 'carried:' || %(name)s, c.lines || ' charges of ' ||"
        " %(name)s, %(actor)s, 'carried:' || %(name)s || ':' || COALESCE(c.team, ''), c.price,"
        " CASE WHEN c.team IS NULL THEN '{}' ELSE jsonb_build_object('team', c.team) END,"
        " a.created_at FROM carrying c JOIN billing_archivedentry a ON a.id = c.id ORDER BY c.id",
        named,
    )
    _run(
        "INSERT INTO billing_draw (lot_id, entry_id, kind, amount_nanocredits, paid_nano_usd, at)"
        " SELECT (d.value->>0)::bigint, c.id, 'charge', SUM((d.value->>1)::bigint),"
        " SUM((d.value->>2)::bigint), MAX(l.created_at) FROM billing_archivedentry a"
        " JOIN carrying c ON c.account_id = a.account_id"
        " AND c.team IS NOT DISTINCT FROM a.labels->>'team'"
        " JOIN billing_archivedentry l ON l.id = c.id, jsonb_array_elements(a.draws) d (value)"
        " WHERE a.month = %(month)s GROUP BY 1, 2 ORDER BY 1, 2",
        named,
    )
    _run("DROP TABLE carrying", None)


def _named(month: date) -> dict[str, Any]:
    begins, ends = bounds(month)
    return {"month": month, "begins": begins, "ends": ends}


def _run(statement: str, named: Mapping[str, Any] | None) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, named)
        return int(cursor.rowcount)


def _fetched(statement: str, named: Mapping[str, Any]) -> tuple[Any, ...]:
    with connection.cursor() as cursor:
        cursor.execute(statement, named)
        row: tuple[Any, ...] = cursor.fetchone() or ()
        return row
