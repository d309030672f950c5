"""The same rows give the same bytes: JSON lines (compressed), or Parquet where pyarrow is installed."""

from __future__ import annotations

import gzip
import importlib
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from jobs.warehouse.tables import Table
from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import Invalid

ROWS_AT_ONCE = 20_000
# Money ends so; beside it Parquet has an exact decimal of the name without the unit.
_UNITS = {"_nano_usd": "_usd", "_nanocredits": "_credits"}


def write_jsonl(table: Table, rows: Iterable[tuple[Any, ...]], path: Path, *, serial: int) -> None:
    names = list(table.columns)
    with (
        path.open("wb") as file,
        gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as packed,
    ):
        for row in rows:
            shown = {name: _plain(value) for name, value in zip(names, row, strict=True)}
            packed.write(orjson.dumps(shown | {"serial": serial}) + b"\n")


def write_parquet(
    table: Table, rows: Iterable[tuple[Any, ...]], path: Path, *, serial: int
) -> None:
    """Raises Invalid where pyarrow is missing."""
    arrow, parquet = _pyarrow()
    kinds = {
        "id": arrow.string(),
        "text": arrow.string(),
        "int": arrow.int64(),
        "bool": arrow.bool_(),
        "time": arrow.timestamp("us", tz="UTC"),
        "day": arrow.date32(),
    }
    names = list(table.columns)
    decimals = {name: _decimal(name) for name in names if _decimal(name)}
    fields = [(name, kinds[kind]) for name, kind in table.columns.items()]
    fields += [(name, arrow.decimal128(38, 9)) for name in decimals.values()]
    schema = arrow.schema([*fields, ("serial", arrow.int64())])
    remaining = iter(rows)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while some := list(islice(remaining, ROWS_AT_ONCE)):
            columns = dict(zip(names, zip(*some, strict=True), strict=True))
            values = {
                name: [
                    str(value) if value is not None and kind == "id" else value
                    for value in columns[name]
                ]
                for name, kind in table.columns.items()
            }
            for name, decimal in decimals.items():
                values[decimal] = [None if n is None else from_nano(n) for n in columns[name]]
            values["serial"] = [serial] * len(some)
            writer.write_table(arrow.table(values, schema=schema))


def require_parquet() -> None:
    """Raises Invalid where pyarrow is missing."""
    _pyarrow()


# By the name of a format: how it is written, and how its files' names end.
FORMATS: dict[str, tuple[Callable[..., None], str]] = {
    "parquet": (write_parquet, "parquet"),
    "jsonl": (write_jsonl, "jsonl.gz"),
}


def _decimal(name: str) -> str:
    for unit, short in _UNITS.items():
        if name.endswith(unit):
            return name.removesuffix(unit) + short
    return ""


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(value, date):
        return value.isoformat()
    return value


def _pyarrow() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise Invalid(
            "Parquet needs pyarrow: `pip install --require-hashes -r requirements-warehouse.txt`."
            " Without it there is --format jsonl."
        ) from None
