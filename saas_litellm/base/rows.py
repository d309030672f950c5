"""Many rows in one go: an INSERT or UPDATE of a whole list, its SQL made once for each kind of row.

`bulk_create` composes its statement anew each time, `bulk_update` one with a CASE for every column;
beside a call's own work that is most of what writing its rows costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

from django.db import connection
from django.db.models import Field, Model

Row = TypeVar("Row", bound=Model)


def insert(rows: Sequence[Model]) -> None:
    """INSERT rows of one model; a key that the database makes is not read back."""
    if not rows:
        return
    fields, sql, marks = _insertion(type(rows[0]))
    values = [value for row in rows for value in _values(row, fields, is_new=True)]
    with connection.cursor() as cursor:
        cursor.execute(sql + ", ".join([marks] * len(rows)), values)


def update(rows: Sequence[Model], columns: tuple[str, ...]) -> None:
    """Write these fields of rows of one model, found by their keys. Raises RuntimeError if one is gone."""
    if not rows:
        return
    fields, sql = _change(type(rows[0]), columns)
    values = [_values(row, fields) for row in rows]
    with connection.cursor() as cursor:
        if len(values) == 1:
            cursor.execute(sql, values[0])
        else:
            cursor.executemany(sql, values)
        if cursor.rowcount != len(rows):
            raise RuntimeError(f"a {type(rows[0]).__name__} is not there any more")


@lru_cache(maxsize=64)
def _insertion(model: type[Model]) -> tuple[tuple[Field[Any, Any], ...], str, str]:
    fields = tuple(
        field
        for field in model._meta.concrete_fields
        if not (field.primary_key and field.get_internal_type() == "BigAutoField")
    )
    names = ", ".join(str(field.column) for field in fields)
    marks = f"({', '.join(['%s'] * len(fields))})"
    table = model._meta.db_table
    return fields, f"INSERT INTO {table} ({names}) VALUES ", marks  # noqa: S608 - no name is given


@lru_cache(maxsize=64)
def _change(
    model: type[Model], columns: tuple[str, ...]
) -> tuple[tuple[Field[Any, Any], ...], str]:
    key = model._meta.pk
    fields: tuple[Any, ...] = tuple(model._meta.get_field(name) for name in columns)
    moved = ", ".join(f"{field.column} = %s" for field in fields)
    table = model._meta.db_table
    sql = f"UPDATE {table} SET {moved} WHERE {key.column} = %s"  # noqa: S608 - as above
    return (*fields, key), sql


def _values(row: Model, fields: tuple[Field[Any, Any], ...], *, is_new: bool = False) -> list[Any]:
    if is_new:
        return [
            field.get_db_prep_save(field.pre_save(row, add=True), connection) for field in fields
        ]
    return [field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields]
