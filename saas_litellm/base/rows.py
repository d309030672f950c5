"""Many rows in one go: an INSERT or UPDATE of a whole list, its SQL made once for each kind of row.

On PostgreSQL the rows are one parameter, as JSON that the database takes apart: the statement is the
same however many there are. `bulk_create` composes a new one each time and `bulk_update` one with a
CASE for every column; beside a call's own work that is most of what writing its rows costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson
from django.db import connection
from django.db.models import Field, Model

_Fields = tuple[Field[Any, Any], ...]


def insert(rows: Sequence[Model], *, known_by: str = "") -> None:
    """INSERT rows of one model. ``known_by``: a field that tells them apart, by which the keys that
    the database makes are read back."""
    if not rows:
        return
    model = type(rows[0])
    fields, sql = _insertion(model, known_by, connection.vendor)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(sql, [_json(rows, fields)])
            made = cursor.fetchall() if known_by else []
        elif known_by:
            made = []
            for row in rows:
                cursor.execute(sql, _values(row, fields))
                made += cursor.fetchall()
        else:
            cursor.executemany(sql, [_values(row, fields) for row in rows])
    if known_by:
        named: Any = model._meta.get_field(known_by)
        by_name = {getattr(row, known_by): row for row in rows}
        for pk, name in made:
            by_name[named.to_python(name)].pk = pk
    for row in rows:
        row._state.adding, row._state.db = False, connection.alias


def update(rows: Sequence[Model], columns: tuple[str, ...]) -> None:
    """Write these fields of rows of one model, found by their keys. Raises RuntimeError if one is gone."""
    if not rows:
        return
    fields, sql = _change(type(rows[0]), columns, connection.vendor)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(sql, [_json(rows, fields)])
        else:
            cursor.executemany(sql, [_values(row, fields) for row in rows])
        if cursor.rowcount != len(rows):
            raise RuntimeError(f"a {type(rows[0]).__name__} is not there any more")


@lru_cache(maxsize=64)
def _insertion(model: type[Model], known_by: str, vendor: str) -> tuple[_Fields, str]:
    fields = tuple(
        field
        for field in model._meta.concrete_fields
        if not (field.primary_key and field.get_internal_type() == "BigAutoField")
    )
    names = ", ".join(str(field.column) for field in fields)
    source = (
        f"SELECT {names} FROM {_recordset(fields)}"  # noqa: S608 - names of models' own
        if vendor == "postgresql"
        else f"VALUES ({', '.join(['%s'] * len(fields))})"
    )
    key = model._meta.pk.column
    told = f" RETURNING {key}, {model._meta.get_field(known_by).column}" if known_by else ""  # type: ignore[union-attr]
    return fields, f"INSERT INTO {model._meta.db_table} ({names}) {source}{told}"


@lru_cache(maxsize=64)
def _change(model: type[Model], columns: tuple[str, ...], vendor: str) -> tuple[_Fields, str]:
    key, table = model._meta.pk, model._meta.db_table
    fields: tuple[Any, ...] = tuple(model._meta.get_field(name) for name in columns)
    if vendor == "postgresql":
        moved = ", ".join(f"{field.column} = v.{field.column}" for field in fields)
        source = _recordset((*fields, key))
        sql = (
            f"UPDATE {table} SET {moved} FROM {source} WHERE {table}.{key.column} = v.{key.column}"  # noqa: S608 - as above
        )
    else:
        moved = ", ".join(f"{field.column} = %s" for field in fields)
        sql = f"UPDATE {table} SET {moved} WHERE {key.column} = %s"  # noqa: S608 - as above
    return (*fields, key), sql


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
