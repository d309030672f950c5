"""Providers' usage exports: which one a file is, and its figures by UTC day and model.

| source | file |
|---|---|
| ``openai_usage_json`` | the answer of GET /v1/organization/usage/completions |
| ``openai_costs_json`` | the answer of GET /v1/organization/costs |
| ``openai_usage_csv`` | the usage dashboard's export, Activity view |
| ``openai_costs_csv`` | the usage dashboard's export, Cost view |
| ``anthropic_costs_csv`` | the Claude Console's export of its Cost page |
| ``generic_csv`` | ours, for any other provider |

A reader takes what is documented or was seen in real files, and refuses everything else.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.reconciliation import fields, pages
from jobs.reconciliation.fields import Place
from jobs.reconciliation.figures import Export, Sums, Usage
from jobs.reconciliation.naming import claude_id, line_item_model
from saas_litellm.base.refusals import Invalid, PayloadTooLarge

__all__ = ["MAX_BYTES", "MAX_ROWS", "Export", "Usage", "read"]

MAX_BYTES = 20_000_000
MAX_ROWS = 200_000

Row = Mapping[str, str]


def read(content: bytes) -> Export:
    """The figures of a provider's export, recognised by its shape or its columns.

    Raises Invalid, naming the line and column, for whatever is not entirely understood:
    unknown, missing or duplicate columns, bad or negative numbers, a currency that is not USD, a
    day before 2020 or after tomorrow, more than MAX_ROWS rows; PayloadTooLarge above MAX_BYTES.
    """
    if len(content) > MAX_BYTES:
        raise PayloadTooLarge(f"The file is larger than {MAX_BYTES // 10**6} MB.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Invalid("The file is not text in UTF-8.") from error
    if text.lstrip()[:1] in {"{", "["}:
        return pages.read(text, max_rows=MAX_ROWS)
    return _table(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Format:
    """A CSV: the columns that tell it from the others, and the function that adds one row."""

    source: str
    marks: frozenset[str]
    required: frozenset[str]
    optional: frozenset[str]
    add: Callable[[Sums, Row, Place], None]
    has_tokens: bool = False
    has_cost: bool = False


def _openai_usage(sums: Sums, row: Row, place: Place) -> None:
    """One bucket of one model; a bucket without usage has empty columns after its times.

    No documentation lists the columns. They are the fields of the Usage API's result
    (https://developers.openai.com/api/docs/api-reference/usage) after the bucket's times, as
    real exports show (https://github.com/xavierjflanagan/Guardian, openai-usage-and-cost-report
    of 2025-10-12), counts written 59200.0. ``input_tokens`` includes cached ones.
    """
    day = fields.bucket_day(row["start_time"], row["end_time"], place=place)
    if not any(row[name] for name in ("model", "input_tokens", "output_tokens")):
        sums.days.add(day)
        return
    model = fields.model(row["model"], place=place.of("model"))
    if row.get("input_cached_tokens"):
        fields.tokens(row["input_cached_tokens"], place=place.of("input_cached_tokens"))
    counts = [
        fields.tokens(row[name], place=place.of(name)) for name in ("input_tokens", "output_tokens")
    ]
    sums.add(day=day, model=model, tokens=sum(counts))


def _openai_costs(sums: Sums, row: Row, place: Place) -> None:
    """One line item of one day; a day without costs has empty columns after its times.

    Columns as for the Costs API (https://developers.openai.com/api/docs/api-reference/usage,
    Costs) with ``amount`` spread over two, as real exports show (see ``_openai_usage``).
    ``line_item`` is empty unless the view was grouped by it, and such a file is refused.
    """
    day = fields.bucket_day(row["start_time"], row["end_time"], place=place)
    if not any(row[name] for name in ("line_item", "amount_value", "amount_currency")):
        sums.days.add(day)
        return
    fields.require_usd(row["amount_currency"], place=place.of("amount_currency"))
    item = fields.model(row["line_item"], place=place.of("line_item"))
    amount = fields.usd(row["amount_value"], place=place.of("amount_value"))
    sums.add(day=day, model=line_item_model(item), usd=amount)


def _anthropic_costs(sums: Sums, row: Row, place: Place) -> None:
    """One kind of token of one model and key on one UTC day, in dollars rounded to the cent.

    https://support.claude.com/en/articles/9534590 documents the export but not its columns; they
    are those of published exports of 2024 to 2026, which only grew. ``model`` is a display name;
    what is not tokens (web search, code execution) has none and goes by its ``cost_type``.
    ``cost_usd`` is what is charged, ``list_price_usd`` is not.
    """
    day = fields.day(row["usage_date_utc"], place=place.of("usage_date_utc"))
    is_token = row.get("cost_type", "") in {"", "token", "tokens"}
    named = row["model"] if row["model"] or is_token else row["cost_type"]
    model = fields.model(named, place=place.of("model"))
    amount = fields.usd(row["cost_usd"], place=place.of("cost_usd"))
    sums.add(day=day, model=claude_id(model), usd=amount)


def _generic(sums: Sums, row: Row, place: Place) -> None:
    """One model's day, as docs/reconciliation.md defines it; ``cached_tokens`` is within input.

    The counts may be empty together, or the cost, but not both.
    """
    day = fields.day(row["day"], place=place.of("day"))
    model = fields.model(row["model"], place=place.of("model"))
    names = ("input_tokens", "output_tokens")
    has_tokens = any(row[name] for name in (*names, "cached_tokens"))
    if not has_tokens and not row["cost_usd"]:
        place.refuse("has neither tokens nor a cost")
    counts = [fields.tokens(row[name], place=place.of(name)) for name in names if has_tokens]
    if row["cached_tokens"]:
        cached = place.of("cached_tokens")
        if fields.tokens(row["cached_tokens"], place=cached) > counts[0]:
            cached.refuse("is more than input_tokens, of which it is a part")
    cost = fields.usd(row["cost_usd"], place=place.of("cost_usd")) if row["cost_usd"] else None
    sums.add(day=day, model=model, tokens=sum(counts) if has_tokens else None, usd=cost)


_BUCKET = frozenset({"start_time", "end_time"})
_OPENAI_OPTIONAL = frozenset(
    {"start_time_iso", "end_time_iso", "project_id", "project_name", "organization_id"}
    | {"organization_name", "user_id", "user_email", "api_key_id", "api_key_name"}
)
_FORMATS = (
    _Format(
        source="openai_costs_csv",
        marks=frozenset({"amount_value", "line_item"}),
        required=_BUCKET | {"amount_value", "amount_currency", "line_item"},
        optional=_OPENAI_OPTIONAL | {"quantity"},
        add=_openai_costs,
        has_cost=True,
    ),
    _Format(
        source="openai_usage_csv",
        marks=frozenset({"num_model_requests", "start_time"}),
        required=_BUCKET | {"model", "input_tokens", "output_tokens"},
        optional=_OPENAI_OPTIONAL
        | {"num_model_requests", "batch", "service_tier"}
        | {"input_cached_tokens", "input_uncached_tokens", "input_cache_write_tokens"}
        | {
            f"{way}_{kind}_tokens"
            for way in ("input", "output", "input_cached")
            for kind in ("text", "audio", "image")
        },
        add=_openai_usage,
        has_tokens=True,
    ),
    _Format(
        source="anthropic_costs_csv",
        marks=frozenset({"usage_date_utc"}),
        required=frozenset({"usage_date_utc", "model", "token_type", "cost_usd"}),
        optional=frozenset(
            {"workspace", "api_key", "usage_type", "context_window", "list_price_usd"}
            | {"cost_type", "inference_geo", "speed", "api_key_id", "api_key_status"}
        ),
        add=_anthropic_costs,
        has_cost=True,
    ),
    _Format(
        source="generic_csv",
        marks=frozenset({"day", "cost_usd", "cached_tokens"}),
        required=frozenset(
            {"day", "model", "input_tokens", "cached_tokens", "output_tokens", "cost_usd"}
        ),
        optional=frozenset(),
        add=_generic,
    ),
)


def _table(text: str) -> Export:
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [cell.strip().lower() for cell in next(lines, [])]
        form = _recognise(header)
        sums = Sums(form.source, has_tokens=form.has_tokens, has_cost=form.has_cost)
        for row, place in _rows(lines, header):
            form.add(sums, row, place)
    except csv.Error as error:
        raise Invalid(f"Line {lines.line_num}: {error}.") from error
    return sums.export()


def _recognise(header: list[str]) -> _Format:
    """The format most of whose telling columns are there; its columns must then be right."""
    form = max(_FORMATS, key=lambda form: len(form.marks & {*header}) / len(form.marks))
    if not form.marks & {*header}:
        raise Invalid(
            "Line 1: these are not the columns of any export this platform reads;"
            " docs/reconciliation.md lists them."
        )
    fields.check_columns(
        header, required=form.required, optional=form.optional, place=Place(at="Line 1")
    )
    return form


def _rows(lines: Any, header: list[str]) -> Iterator[tuple[Row, Place]]:
    count = 0
    for cells in lines:
        if not cells:
            continue
        count += 1
        place = Place(at=f"Line {lines.line_num}")
        if count > MAX_ROWS:
            place.refuse(f"the file has more than {MAX_ROWS:,} rows")
        if len(cells) != len(header):
            place.refuse(f"has {len(cells)} cells, and the header {len(header)}")
        yield dict(zip(header, (cell.strip() for cell in cells), strict=True)), place
