"""Range partitions of PostgreSQL: a plain table made into a partitioned one, and its partitions.

Everything here runs in the caller's transaction, so that a table is never half partitioned. Names
come from the code, never from a request.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import OperationalError, connection, transaction

# A partition is made or dropped between two calls, or tried again: below PostgreSQL's
# deadlock_timeout, so that it is never a call that has to give way.
LOCK_TIMEOUT = "300ms"
TRIES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A table by ranges of ``key``.

    PostgreSQL keeps a unique constraint of a partitioned table only if the key is part of it.
    ``unique``: columns that are unique in each partition instead.
    """

    table: str
    key: str
    primary_key: tuple[str, ...]
    unique: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """From ``lower`` up to but not including ``upper``, as SQL; both empty: what fits nowhere else."""

    name: str
    lower: str = ""
    upper: str = ""

    @property
    def bounds(self) -> str:
        if not self.lower:
            return "DEFAULT"
        return f"FOR VALUES FROM ({self.lower}) TO ({self.upper})"

    def condition(self, key: str) -> str:
        """What rows of a table that is no partition yet must meet to be moved here."""
        lower = "" if self.lower == "MINVALUE" else f"{key} >= {self.lower}"
        return " AND ".join(part for part in (lower, f"{key} < {self.upper}") if part)


def is_possible() -> bool:
    """Whether this database has partitions."""
    return connection.vendor == "postgresql"


def is_partitioned(table: str) -> bool:
    return is_possible() and bool(
        _rows("SELECT 1 FROM pg_class WHERE oid = %s::regclass AND relkind = 'p'", table)
    )


def names(table: str) -> list[str]:
    """The partitions there are, in the order of their names."""
    return [
        name
        for (name,) in _rows(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = %s::regclass ORDER BY 1",
            table,
        )
    ]


def size_bytes(table: str) -> int:
    """With its indexes and everything beside it, of all partitions together."""
    of_all = (
        "SELECT COALESCE(SUM(pg_total_relation_size(relid)), 0)::bigint FROM pg_partition_tree(%s)"
    )
    if not is_partitioned(table):
        of_all = "SELECT pg_total_relation_size(%s::regclass)"
    return int(_rows(of_all, table)[0][0])


def rebuild(
    form: Form, partitions: Sequence[Partition], *, told: Callable[[str, int], None]
) -> int:
    """Move a plain table's rows into partitions; returns how many.

    Nobody reads or writes the table meanwhile. Foreign keys from and to it, its checks, indexes
    and triggers are made again under their names. ``told``: a partition and the rows moved there.
    """
    table, old = form.table, f"{form.table}_unpartitioned"
    with transaction.atomic():
        run("SET CONSTRAINTS ALL IMMEDIATE")
        _lock(table)
        kept = _around(form)
        for drop, _ in kept.foreign_keys_to:
            run(drop)
        run(f"ALTER TABLE {table} RENAME TO {old}")
        run(
            f"CREATE TABLE {table} (LIKE {old} INCLUDING DEFAULTS INCLUDING CONSTRAINTS"
            f" INCLUDING IDENTITY INCLUDING STORAGE) PARTITION BY RANGE ({form.key})"
        )
        moved = 0
        for partition in partitions:
            run(f"CREATE TABLE {partition.name} PARTITION OF {table} {partition.bounds}")
            if partition.lower:
                rows = run(
                    f"INSERT INTO {partition.name} SELECT * FROM {old}"
                    f" WHERE {partition.condition(form.key)} ORDER BY {form.key}"
                )
            else:
                rows = run(
                    f"INSERT INTO {table} SELECT * FROM {old} WHERE {_above(form, partitions)}"
                )
            told(partition.name, rows)
            moved += rows
        _take_over_sequence(table, old)
        run(f"DROP TABLE {old}")
        primary = ", ".join(form.primary_key)
        run(f"ALTER TABLE {table} ADD CONSTRAINT {table}_pkey PRIMARY KEY ({primary})")
        for statement in [*kept.indexes, *kept.foreign_keys_from, *kept.triggers]:
            run(statement)
        for _, add in kept.foreign_keys_to:
            run(add)
        for partition in partitions:
            _make_unique(form, partition.name)
        run(f"ANALYZE {table}")
    return moved


def add(form: Form, partition: Partition) -> None:
    """Make a partition; what waits in the default one for it is moved there.

    Raises OperationalError when calls left no moment for it.
    """
    _between_calls(form.table, lambda: _add(form, partition))


def _add(form: Form, partition: Partition) -> None:
    default = f"{form.table}_default"
    if partition.name not in names(form.table):
        _lock(form.table)
        has_default = default in names(form.table)
        if has_default:
            run(
                f"CREATE TEMP TABLE waiting ON COMMIT DROP AS SELECT * FROM {default}"
                f" WHERE {partition.condition(form.key)}"
            )
            run(f"DELETE FROM {default} WHERE {partition.condition(form.key)}")
        run(f"CREATE TABLE {partition.name} PARTITION OF {form.table} {partition.bounds}")
        _make_unique(form, partition.name)
        if has_default:
            run(f"INSERT INTO {partition.name} SELECT * FROM waiting")
            run("DROP TABLE waiting")


def drop(table: str, name: str) -> None:
    """Drop a table's partition with its rows: nothing may point at them. Raises as ``add`` does."""

    def drop_it() -> None:
        _lock(table)
        run(f"DROP TABLE IF EXISTS {name}")

    _between_calls(table, drop_it)


def _between_calls(table: str, act: Callable[[], None]) -> None:
    """Do it in a transaction of its own, one process at a time, without keeping calls waiting."""
    for remaining in reversed(range(TRIES)):
        try:
            with transaction.atomic():
                run("SELECT pg_advisory_xact_lock(hashtext(%s))", f"partitions of {table}")
                run(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                act()
        except OperationalError:
            if not remaining:
                raise
            time.sleep(0.1)
        else:
            return


def _lock(table: str) -> None:
    """A table with what it points at and what points at it, in the order in which calls take them."""
    keys = (
        "SELECT DISTINCT {}::regclass::text FROM pg_constraint WHERE contype = 'f'"
        " AND conparentid = 0 AND {} = %s::regclass ORDER BY 1 DESC"
    )
    for (name,) in _rows(keys.format("confrelid", "conrelid"), table):
        run(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE")
    run(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    for (name,) in _rows(keys.format("conrelid", "confrelid"), table):
        run(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")


def raise_sequence(table: str, column: str, to: int) -> None:
    """Let the next id be ``to`` or more; whoever asks at the same time gets an id of its own."""
    with transaction.atomic():
        run("SELECT pg_advisory_xact_lock(hashtext(%s))", f"sequence of {table}")
        ((sequence,),) = _rows("SELECT pg_get_serial_sequence(%s, %s)", table, column)
        run(f"SELECT setval(%s, %s, false) FROM {sequence} WHERE last_value < %s", sequence, to, to)


def run(statement: str, *values: Any) -> int:
    """How many rows it was about."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return int(cursor.rowcount)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Around:
    """What must be made again around a table: statements; those of keys to it with their drops."""

    foreign_keys_to: list[tuple[str, str]]
    foreign_keys_from: list[str]
    indexes: list[str]
    triggers: list[str]


def _around(form: Form) -> _Around:
    keys = (
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE contype = 'f' AND {} = %s::regclass"
    )
    to = _rows(keys.format("confrelid"), form.table)
    own = _rows(keys.format("conrelid"), form.table)
    indexes = _rows(
        "SELECT pg_get_indexdef(indexrelid) FROM pg_index"
        " WHERE indrelid = %s::regclass AND NOT indisunique",
        form.table,
    )
    triggers = _rows(
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = %s::regclass"
        " AND NOT tgisinternal",
        form.table,
    )
    return _Around(
        foreign_keys_to=[
            (
                f'ALTER TABLE {table} DROP CONSTRAINT "{name}"',
                f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {definition}',
            )
            for table, name, definition in to
        ],
        foreign_keys_from=[
            f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {definition}'
            for table, name, definition in own
        ],
        indexes=[definition for (definition,) in indexes],
        triggers=[definition for (definition,) in triggers],
    )


def _above(form: Form, partitions: Sequence[Partition]) -> str:
    """What lies above every range: the default partition's part of a plain table."""
    last = [partition.upper for partition in partitions if partition.upper][-1]
    return f"{form.key} >= {last}"


def _make_unique(form: Form, partition: str) -> None:
    columns = ", ".join(form.unique)
    run(f"CREATE UNIQUE INDEX {partition}_once ON {partition} ({columns})")


def _take_over_sequence(table: str, old: str) -> None:
    """The new table counts on where the old one stopped, under the sequence's name."""
    found = _rows(
        "SELECT attname, pg_get_serial_sequence(%s, attname) FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attidentity <> ''",
        old,
        old,
    )
    for column, sequence in found:
        ((last, is_called),) = _rows(f"SELECT last_value, is_called FROM {sequence}")
        ((own,),) = _rows("SELECT pg_get_serial_sequence(%s, %s)", table, column)
        run("SELECT setval(%s, %s, %s)", own, last, is_called)
        run(f"ALTER TABLE {old} ALTER COLUMN {column} DROP IDENTITY")
        run(f"ALTER SEQUENCE {own} RENAME TO {table}_{column}_seq")


def _rows(statement: str, *values: Any) -> list[tuple[str, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return list(cursor.fetchall())
