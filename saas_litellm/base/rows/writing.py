"""Writes: many rows of a model in one statement, and those of several models too."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
from django.db import connection
from django.db.models import Field, Model

from saas_litellm.base.rows.asking import cursor

_Fields = tuple[Field[Any, Any], ...]
# Of this thread: the writes that wait for the end of ``gathered``.
_waiting = threading.local()


@dataclass(frozen=True, slots=True)
class _Write:
    """A statement for PostgreSQL with its rows as JSON, and then, where it changes rows, their keys.

    ``missed`` is raised unless it changes as many as there are keys.
    """

    table: str
    sql: str
    rows: str
    keys: list[Any] | None = None
    missed: type[Exception] = RuntimeError

    @property
    def parameters(self) -> list[Any]:
        return [self.rows] if self.keys is None else [self.rows, self.keys]


@contextmanager
def gathered() -> Iterator[None]:
    """What is written inside is put down at its end, on PostgreSQL in one statement as far as no table
    comes twice: the parts of a statement do not see each other's rows. Then what is missed is raised."""
    if connection.vendor != "postgresql" or getattr(_waiting, "writes", None) is not None:
        yield
        return
    writes: list[_Write] = []
    _waiting.writes = writes
    try:
        yield
    finally:
        _waiting.writes = None
    group: dict[str, _Write] = {}
    for write in writes:
        if write.table in group:
            _put_down(list(group.values()))
            group = {}
        group[write.table] = write
    _put_down(list(group.values()))


def insert(rows: Sequence[Model]) -> None:
    """INSERT rows of one model; those that have no key get the one that the database makes, which
    only SQLite tells."""
    if not rows:
        return
    model = type(rows[0])
    key = "" if rows[0].pk is None else str(model._meta.pk.column)
    fields, sql = _insertion(model, key, connection.vendor)
    if connection.vendor == "postgresql":
        _put(_Write(model._meta.db_table, sql, _json(rows, fields)))
    else:
        with cursor() as written:
            for row in rows:
                written.execute(sql, _values(row, fields))
                row.pk = row.pk or written.lastrowid
    for row in rows:
        row._state.adding, row._state.db = False, connection.alias


def update(
    rows: Sequence[Model],
    columns: tuple[str, ...],
    *,
    only: str = "",
    missed: type[Exception] = RuntimeError,
) -> None:
    """Write these fields of rows of one model, found by their keys. ``only``: a condition in SQL on
    the rows as they are; raises ``missed`` if one is gone, or is not so."""
    if not rows:
        return
    model = type(rows[0])
    fields, sql = _change(model, columns, only, connection.vendor)
    if connection.vendor == "postgresql":
        keys = [row.pk for row in rows]
        _put(_Write(model._meta.db_table, sql, _json(rows, fields), keys, missed))
        return
    with cursor() as written:
        for row in rows:
            written.execute(sql, _values(row, fields))
            _require(len(written.fetchall()) == 1, missed, model._meta.db_table)


def add(
    model: type[Model],
    moves: Mapping[int, Sequence[int]],
    columns: tuple[str, ...],
    *,
    only: str = "",
) -> None:
    """Add integers to these columns of a model's rows, by their keys. ``only``: a condition in SQL
    on the rows as they are and the numbers ``v``; raises RuntimeError where it does not hold."""
    if not moves:
        return
    sql, table = _addition(model, columns, only, connection.vendor), model._meta.db_table
    given = [{"id": pk, **dict(zip(columns, by, strict=True))} for pk, by in moves.items()]
    rows = orjson.dumps(given).decode()
    if connection.vendor == "postgresql":
        _put(_Write(table, sql, rows, list(moves)))
        return
    with cursor() as written:
        written.execute(sql, [rows])
        _require(len(written.fetchall()) == len(given), RuntimeError, table)


def _put(write: _Write) -> None:
    writes = getattr(_waiting, "writes", None)
    if writes is None:
        _put_down([write])
    else:
        writes.append(write)


def _put_down(writes: Sequence[_Write]) -> None:
    if not writes:
        return
    given = [parameter for write in writes for parameter in write.parameters]
    with cursor() as written:
        written.execute(_one(tuple(write.sql for write in writes)), given)
        counts: Any = written.fetchone()
    for write, count in zip(writes, counts, strict=True):
        _require(write.keys is None or len(write.keys) == count, write.missed, write.table)


def _require(is_so: bool, missed: type[Exception], table: str) -> None:  # noqa: FBT001 - what is required
    if not is_so:
        raise missed(f"not every row of {table} is there, or as it was")


@lru_cache(maxsize=256)
def _one(statements: tuple[str, ...]) -> str:
    parts = ", ".join(f"w{place} AS ({sql})" for place, sql in enumerate(statements))
    counts = ", ".join(f"(SELECT count(*) FROM w{place})" for place in range(len(statements)))  # noqa: S608 - statements of this module
    return f"WITH {parts} SELECT {counts}"


@lru_cache(maxsize=64)
def _insertion(model: type[Model], key: str, vendor: str) -> tuple[_Fields, str]:
    """``key``: the key's column if the rows say it, else empty."""
    fields = tuple(field for field in model._meta.concrete_fields if not field.primary_key or key)
    names = ", ".join(str(field.column) for field in fields)
    source = (
        f"SELECT {names} FROM {_recordset(fields)}"  # noqa: S608 - names of models' own
        if vendor == "postgresql"
        else f"VALUES ({', '.join(['%s'] * len(fields))})"
    )
    return fields, f"INSERT INTO {model._meta.db_table} ({names}) {source} RETURNING 1"


@lru_cache(maxsize=64)
def _change(
    model: type[Model], columns: tuple[str, ...], only: str, vendor: str
) -> tuple[_Fields, str]:
    key, table = model._meta.pk, model._meta.db_table
    fields: tuple[Any, ...] = tuple(model._meta.get_field(name) for name in columns)
    if vendor == "postgresql":
        moved = ", ".join(f"{field.column} = v.{field.column}" for field in fields)
        found = f"FROM {_recordset((*fields, key))} WHERE {_keyed(model)}"
    else:
        moved = ", ".join(f"{field.column} = %s" for field in fields)
        found = f"WHERE {key.column} = %s"
    condition = f" AND {only}" if only else ""
    sql = f"UPDATE {table} SET {moved} {found}{condition} RETURNING 1"  # noqa: S608 - as above
    return (*fields, key), sql


@lru_cache(maxsize=64)
def _addition(model: type[Model], columns: tuple[str, ...], only: str, vendor: str) -> str:
    table, names = model._meta.db_table, ("id", *columns)
    if vendor == "postgresql":
        kinds = ", ".join(f"{name} bigint" for name in names)
        source = f"jsonb_to_recordset(%s::jsonb) AS v({kinds})"
    else:
        parts = ", ".join(f"json_extract(value, '$.{name}') AS {name}" for name in names)
        source = f"(SELECT {parts} FROM json_each(%s)) AS v"  # noqa: S608 - as above
    moved = ", ".join(f"{name} = {table}.{name} + v.{name}" for name in columns)
    condition = f" AND {only}" if only else ""
    found = _keyed(model) if vendor == "postgresql" else f"{table}.id = v.id"
    return f"UPDATE {table} SET {moved} FROM {source} WHERE {found}{condition} RETURNING 1"  # noqa: S608 - as above


def _keyed(model: type[Model]) -> str:
    """The keys once more, by themselves: PostgreSQL takes the rows of a JSON for a hundred, and would
    rather read the whole of a table that is not large than look for so many."""
    table, key = model._meta.db_table, model._meta.pk
    column = f"{table}.{key.column}"
    return f"{column} = v.{key.column} AND {column} = ANY(%s::{key.db_type(connection)}[])"


def _recordset(fields: _Fields) -> str:
    # A text too long for its column is an error where it is stored; a cast would cut it.
    types = [
        (field.column, "text" if "char" in str(kind := field.db_type(connection)) else kind)
        for field in fields
    ]
    return (
        f"jsonb_to_recordset(%s::jsonb) AS v({', '.join(f'{name} {kind}' for name, kind in types)})"
    )


def _json(rows: Sequence[Model], fields: _Fields) -> str:
    names = [(str(field.column), field.attname) for field in fields]
    return orjson.dumps(
        [{column: getattr(row, name) for column, name in names} for row in rows]
    ).decode()


def _values(row: Model, fields: _Fields) -> list[Any]:
    return [field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields]
