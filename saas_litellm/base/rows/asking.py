"""Questions: rows by their keys, locked or not, and several at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.db.models import Field, Model
from django.db.models.base import ModelState
from psycopg import Cursor

_Converter = tuple[int, tuple[Any, ...], Any]
Row = TypeVar("Row", bound=Model)


class _Planned(Cursor[Any]):
    """Binds parameters on the server, where Django's binds them here, and keeps the statement."""

    def execute(self, query: Any, params: Any = None, **more: Any) -> Any:
        return super().execute(query, params, prepare=True, **more)


def cursor() -> CursorWrapper:
    """On PostgreSQL one that has its statements planned once a connection; where statements are
    logged one of Django's, which knows what it has sent."""
    if connection.vendor != "postgresql" or connection.queries_logged:
        return connection.cursor()
    connection.ensure_connection()
    planned: Any = _Planned(connection.connection)
    return connection.make_cursor(planned)


@contextmanager
def together() -> Iterator[None]:
    """What is asked inside goes to PostgreSQL without waiting for answers: one round trip. They are
    there after its end; nothing else may use the connection inside."""
    if connection.vendor != "postgresql":
        yield
        return
    connection.ensure_connection()
    with connection.wrap_database_errors, connection.connection.pipeline():
        yield


def ask(sql: str, parameters: Sequence[Any] = ()) -> Callable[[], list[Any]]:
    """Send a query; called, what comes back gives its records."""
    asked = cursor()
    asked.execute(sql, parameters)
    records: Callable[[], list[Any]] = asked.fetchall
    return records


def ask_locked(
    model: type[Row], keys: Collection[Any], *, only: str = ""
) -> Callable[[], dict[Any, Row]]:
    """The rows of these keys, by key, locked in that order to the transaction's end as an UPDATE
    would: rows that refer to one of them are not held up. ``only``: a condition in SQL."""
    if not keys:
        return dict
    fields, converters, sql = _selection(model, connection.vendor)
    condition = f" AND {only}" if only else ""
    lock = " FOR NO KEY UPDATE" if connection.vendor == "postgresql" else ""
    found, given = _found(model, keys)
    records = ask(f"{sql} WHERE {found}{condition} ORDER BY 1{lock}", given)
    names = [field.attname for field in fields]

    def made() -> dict[Any, Row]:
        values = [_converted(record, converters) for record in records()]
        return {one[0]: _row(model, names, one) for one in values}

    return made


def locked(model: type[Row], keys: Collection[Any], *, only: str = "") -> dict[Any, Row]:
    """What ``ask_locked`` gives, at once."""
    return ask_locked(model, keys, only=only)()


def ask_figures(
    model: type[Model], keys: Collection[Any], *columns: str
) -> Callable[[], dict[Any, tuple[Any, ...]]]:
    """Plain columns of the rows of these keys, by key."""
    fields, converters, _ = _selection(model, connection.vendor)
    of_key = [convert for convert in converters if convert[0] == 0]
    found, given = _found(model, keys)
    table, names = model._meta.db_table, ", ".join((str(fields[0].column), *columns))
    records = ask(f"SELECT {names} FROM {table} WHERE {found}", given)  # noqa: S608 - names of models' own

    def made() -> dict[Any, tuple[Any, ...]]:
        values = [_converted(record, of_key) for record in records()]
        return {one[0]: tuple(one[1:]) for one in values}

    return made


def _row(model: type[Row], names: Sequence[str], values: Sequence[Any]) -> Row:
    """``model.from_db``, without a signal."""
    row = model.__new__(model)
    row.__dict__.update(zip(names, values, strict=True))
    state = row.__dict__["_state"] = ModelState()
    state.adding, state.db = False, connection.alias
    return row


def _found(model: type[Model], keys: Collection[Any]) -> tuple[str, list[Any]]:
    key: Any = model._meta.pk
    if connection.vendor == "postgresql":
        return f"{key.column} = ANY(%s::{key.db_type(connection)}[])", [list(keys)]
    marks = ", ".join(["%s"] * len(keys))
    return f"{key.column} IN ({marks})", [key.get_db_prep_value(one, connection) for one in keys]


def _converted(record: Sequence[Any], converters: Iterable[_Converter]) -> Sequence[Any]:
    """As the ORM would read it."""
    values = list(record)
    for place, convert, column in converters:
        for one in convert:
            values[place] = one(values[place], column, connection)
    return values


@lru_cache(maxsize=64)
def _selection(
    model: type[Model], vendor: str
) -> tuple[tuple[Field[Any, Any], ...], tuple[_Converter, ...], str]:
    """The key comes first."""
    table, key = model._meta.db_table, model._meta.pk
    others = [field for field in model._meta.concrete_fields if field is not key]
    fields: Any = (key, *others)
    columns = [field.get_col(table) for field in fields]
    compiler = model._base_manager.all().query.get_compiler(connection=connection)
    converters = tuple(
        (place, tuple(convert), column)
        for place, (convert, column) in compiler.get_converters(columns).items()
    )
    names = ", ".join(str(field.column) for field in fields)
    return fields, converters, f"SELECT {names} FROM {table}"  # noqa: S608 - names of models' own
