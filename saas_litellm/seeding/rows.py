"""Rows of many tables, written in bulk: PostgreSQL's COPY, elsewhere one INSERT of many."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.management.color import no_style
from django.db import connection, models

Column = models.Field[Any, Any]


class Table:
    """The rows of one model that wait to be written."""

    def __init__(self, model: type[models.Model]) -> None:
        fields: list[Column] = list(model._meta.concrete_fields)
        self.model = model
        self.waiting: list[tuple[Any, ...]] = []
        self.columns = [str(field.column) for field in fields]
        self._pk = model._meta.pk.attname if model._meta.pk else ""
        self._convert = {field.attname: _converter(field) for field in fields}
        self._blank = {
            field.attname: self._convert[field.attname](field.get_default()) for field in fields
        }
        self._next = 1 + _newest(model)

    def add(self, columns: dict[str, Any]) -> Any:
        """Put a row down; columns not given get the model's default. Returns its primary key.

        Keys that are not numbers are the caller's to give.
        """
        if self._pk not in columns:
            columns[self._pk] = self._next
            self._next += 1
        row = {
            **self._blank,
            **{name: self._convert[name](value) for name, value in columns.items()},
        }
        self.waiting.append(tuple(row.values()))
        return columns[self._pk]

    def write(self) -> int:
        table, names = connection.ops.quote_name(self.model._meta.db_table), ", ".join(self.columns)
        count = len(self.waiting)
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                with cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
                    for row in self.waiting:
                        copy.write_row(row)
            else:
                places = ", ".join(["%s"] * len(self.columns))
                cursor.executemany(
                    f"INSERT INTO {table} ({names}) VALUES ({places})",  # noqa: S608 - names of columns
                    self.waiting,
                )
        self.waiting.clear()
        return count


class Rows:
    """Tables are written in the order in which each got its first row."""

    def __init__(self) -> None:
        self._tables: dict[type[models.Model], Table] = {}

    def add(self, model: type[models.Model], **columns: Any) -> Any:
        """A row, by column (``team_id``). Returns its primary key."""
        table = self._tables.get(model)
        if table is None:
            table = self._tables[model] = Table(model)
        return table.add(columns)

    def write(self) -> int:
        """Write what waits; returns how many rows. Call it in a transaction: keys come later."""
        return sum(table.write() for table in self._tables.values() if table.waiting)

    def finish(self) -> None:
        """Let the database count on from the keys that were given out here."""
        statements = connection.ops.sequence_reset_sql(no_style(), list(self._tables))
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


def _newest(model: type[models.Model]) -> int:
    if not isinstance(model._meta.pk, models.AutoField | models.BigAutoField):
        return 0
    return int(model._default_manager.aggregate(newest=models.Max("pk"))["newest"] or 0)


def _converter(field: Column) -> Callable[[Any], Any]:
    while isinstance(field, models.ForeignKey):
        field = field.target_field
    if isinstance(field, models.JSONField):
        return lambda value: None if value is None else json.dumps(value)
    if connection.vendor == "postgresql":
        return lambda value: value
    if isinstance(field, models.UUIDField):
        return lambda value: value.hex if isinstance(value, UUID) else value
    if isinstance(field, models.DateTimeField):
        return lambda value: (
            connection.ops.adapt_datetimefield_value(value)
            if isinstance(value, datetime)
            else value
        )
    return lambda value: value
