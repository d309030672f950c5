"""Many rows in one go: an INSERT or UPDATE of a whole list, its SQL made once for each kind of row.

On PostgreSQL the rows are one parameter, as JSON that the database takes apart: the statement is the
same however many there are, and each connection has it parsed and planned once. `bulk_create`
composes a new one each time and `bulk_update` one with a CASE for every column; beside a call's own
work that is most of what writing its rows costs.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, TypeVar

import orjson
from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.db.models import Field, Model
from psycopg import Cursor

_Fields = tuple[Field[Any, Any], ...]
_Converter = tuple[int, tuple[Any, ...], Any]
Row = TypeVar("Row", bound=Model)
_Look = Callable[[CursorWrapper], None]
# Of this thread: what is to be looked at once all has been sent.
_sent = threading.local()
# Keys that were taken from a table's sequence and not given yet, by database and table.
_keys: defaultdict[tuple[Any, str], deque[int]] = defaultdict(deque)
KEYS_AHEAD = 256
os.register_at_fork(after_in_child=_keys.clear)


@contextmanager
def together() -> Iterator[None]:
    """What this module asks and writes inside goes to PostgreSQL without waiting for answers, which
    are looked at when all is sent: one round trip. Nothing else may use the connection inside."""
    if connection.vendor != "postgresql" or getattr(_sent, "looks", None) is not None:
        yield
        return
    connection.ensure_connection()
    looks: list[Callable[[], None]] = []
    _sent.looks = looks
    try:
        with connection.wrap_database_errors, connection.connection.pipeline():
            yield
            for look in looks:
                look()
    finally:
        _sent.looks = None


def ask(sql: str, parameters: Sequence[Any] = ()) -> Callable[[], list[Any]]:
    """Send a query; called, what comes back gives its records. Inside ``together`` they are there
    after its end."""
    cursor = _cursor()
    cursor.execute(sql, parameters)
    records: Callable[[], list[Any]] = cursor.fetchall
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
        return {one[0]: model.from_db(connection.alias, names, one) for one in values}

    return made


def locked(model: type[Row], keys: Collection[Any], *, only: str = "") -> dict[Any, Row]:
    """What ``ask_locked`` gives, at once."""
    return ask_locked(model, keys, only=only)()


def ask_figures(
    model: type[Model], keys: Collection[Any], column: str, *, only: str
) -> Callable[[], dict[Any, Any]]:
    """One plain column of the rows of these keys for which a condition in SQL holds, by key."""
    fields, converters, _ = _selection(model, connection.vendor)
    of_key = [convert for convert in converters if convert[0] == 0]
    found, given = _found(model, keys)
    table, key = model._meta.db_table, fields[0].column
    records = ask(f"SELECT {key}, {column} FROM {table} WHERE {found} AND {only}", given)  # noqa: S608 - names of models' own
    return lambda: dict(tuple(_converted(record, of_key)) for record in records())


def number(rows: Sequence[Model], *, ahead: int = KEYS_AHEAD) -> None:
    """Give new rows, of a model whose keys its table's sequence makes, those keys, so that others may
    refer to them before they are there. So many more are taken for the next: 0 where the keys' order
    means something. On SQLite they get them when they are inserted."""
    if connection.vendor != "postgresql" or not rows:
        return
    table = rows[0]._meta.db_table
    taken = _keys[connection.settings_dict["NAME"], table] if ahead else deque[int]()
    for row in rows:
        try:
            row.pk = taken.popleft()
        except IndexError:
            taken.extend(_next_keys(table, len(rows) + ahead))
            row.pk = taken.popleft()


def insert(rows: Sequence[Model]) -> None:
    """INSERT rows of one model; those that have no key get the one that the database makes, which
    only SQLite's tell."""
    if not rows:
        return
    model = type(rows[0])
    key = "" if rows[0].pk is None else str(model._meta.pk.column)
    fields, sql = _insertion(model, key, connection.vendor)
    if connection.vendor == "postgresql":
        _run(sql, [_json(rows, fields)])
    else:
        for row in rows:
            with connection.cursor() as cursor:
                cursor.execute(sql, _values(row, fields))
                row.pk = row.pk or cursor.lastrowid
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
        _run(sql, [_json(rows, fields)], _all_of(len(rows), missed, model))
    else:
        for row in rows:
            _run(sql, _values(row, fields), _all_of(1, missed, model))


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
    sql = _addition(model, columns, only, connection.vendor)
    given = [{"id": pk, **dict(zip(columns, by, strict=True))} for pk, by in moves.items()]
    _run(sql, [orjson.dumps(given).decode()], _all_of(len(given), RuntimeError, model))


def _run(sql: str, parameters: Sequence[Any], look: _Look | None = None) -> None:
    looks = getattr(_sent, "looks", None)
    cursor = _cursor()
    cursor.execute(sql, parameters)
    if look is not None and looks is not None:
        looks.append(partial(look, cursor))
    elif look is not None:
        look(cursor)


class _Planned(Cursor[Any]):
    """Binds parameters on the server, where Django's binds them here, and keeps the statement."""

    def execute(self, query: Any, params: Any = None, **more: Any) -> Any:
        return super().execute(query, params, prepare=params is not None, **more)


def _cursor() -> CursorWrapper:
    if connection.vendor != "postgresql":
        return connection.cursor()
    connection.ensure_connection()
    made: Any = _Planned(connection.connection)
    # Django's all the same to whoever watches or wraps its statements.
    wrap = connection.make_debug_cursor if connection.queries_logged else connection.make_cursor
    return wrap(made)


def _next_keys(table: str, count: int) -> list[int]:
    sql = "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)"
    return sorted(key for (key,) in ask(sql, [table, count])())


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


def _all_of(count: int, missed: type[Exception], model: type[Model]) -> _Look:
    def look(cursor: CursorWrapper) -> None:
        if len(cursor.fetchall()) != count:
            raise missed(f"not every {model.__name__} is there, or as it was")

    return look


@lru_cache(maxsize=64)
def _selection(model: type[Model], vendor: str) -> tuple[_Fields, tuple[_Converter, ...], str]:
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
    return fields, f"INSERT INTO {model._meta.db_table} ({names}) {source}"


@lru_cache(maxsize=64)
def _change(
    model: type[Model], columns: tuple[str, ...], only: str, vendor: str
) -> tuple[_Fields, str]:
    key, table = model._meta.pk, model._meta.db_table
    fields: tuple[Any, ...] = tuple(model._meta.get_field(name) for name in columns)
    if vendor == "postgresql":
        moved = ", ".join(f"{field.column} = v.{field.column}" for field in fields)
        found = f"FROM {_recordset((*fields, key))} WHERE {table}.{key.column} = v.{key.column}"
    else:
        moved = ", ".join(f"{field.column} = %s" for field in fields)
        found = f"WHERE {key.column} = %s"
    condition = f" AND {only}" if only else ""
    sql = f"UPDATE {table} SET {moved} {found}{condition} RETURNING {table}.{key.column}"  # noqa: S608 - as above
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
    return f"UPDATE {table} SET {moved} FROM {source} WHERE {table}.id = v.id{condition} RETURNING {table}.id"  # noqa: S608 - as above


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
