"""New rows, and the keys that the database makes for them."""

from __future__ import annotations

import os
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

from django.db import connection
from django.db.models import Model
from django.db.models.base import ModelState

from saas_litellm.base.rows.asking import ask

Row = TypeVar("Row", bound=Model)
KEYS_AHEAD = 256
# Then they are left: a key says roughly when its row was made, and so in which partition it lies.
KEPT_SECONDS = 60.0


@dataclass(slots=True)
class _Taken:
    """Keys that were taken from a sequence and not given yet, and when."""

    keys: deque[int] = field(default_factory=deque)
    at: float = 0.0


# By database and table.
_taken: defaultdict[tuple[Any, str], _Taken] = defaultdict(_Taken)
os.register_at_fork(after_in_child=_taken.clear)


def new(model: type[Row], **values: Any) -> Row:
    """``model(**values)`` in a fifth of its time: a new row, its fields by their names or columns.

    Nothing is told of it: no signal, no ``__init__``. Raises TypeError for what is no field.
    """
    plain, made, related = _blank(model)
    row = model.__new__(model)
    known = row.__dict__
    known.update(plain)
    known["_state"] = ModelState()
    for name, default in made:
        known[name] = values[name] if name in values else default()
    for name, value in values.items():
        if name in related:
            setattr(row, name, value)
        elif name in known:
            known[name] = value
        else:
            raise TypeError(f"{model.__name__} has no field {name}")
    return row


def number(rows: Sequence[Model], *, ahead: int = KEYS_AHEAD) -> None:
    """Give new rows, of a model whose keys its table's sequence makes, those keys, so that others may
    refer to them before they are there. So many more are taken for the next: 0 where the keys' order
    means something. On SQLite they get them when they are inserted."""
    if connection.vendor != "postgresql" or not rows:
        return
    table, now = rows[0]._meta.db_table, time.monotonic()
    taken = _taken[connection.settings_dict["NAME"], table] if ahead else _Taken()
    if now - taken.at > KEPT_SECONDS:
        taken.keys.clear()
    for row in rows:
        while row.pk is None:
            try:
                row.pk = taken.keys.popleft()
            except IndexError:
                taken.keys.extend(_next_keys(table, len(rows) + ahead))
                taken.at = now


def _next_keys(table: str, count: int) -> list[int]:
    sql = "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)"
    return sorted(key for (key,) in ask(sql, [table, count])())


@lru_cache(maxsize=64)
def _blank(
    model: type[Model],
) -> tuple[dict[str, Any], tuple[tuple[str, Callable[[], Any]], ...], frozenset[str]]:
    """Of its fields: values that are always the same, what makes the others, and names of those that
    refer to rows."""
    fields = model._meta.concrete_fields
    made = tuple((field.attname, field.get_default) for field in fields if callable(field.default))
    names = dict(made)
    plain = {field.attname: field.get_default() for field in fields if field.attname not in names}
    return plain, made, frozenset(field.name for field in fields if field.is_relation)
