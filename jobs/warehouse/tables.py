"""What is exported: the columns of each table, and the rows of one of its days.

Money is in nano units, integers. Prompts, answers, labels of callers and keys are not exported.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Literal

from django.db.models import BigIntegerField, F, Model, Q, QuerySet, Value
from django.db.models.fields.json import KeyTextTransform

from billing.models import ArchivedEntry, Entry
from jobs.models import Attempt, Call, CostLine, Job, RollupDay
from saas_litellm.base.days import midnight

Kind = Literal["id", "text", "int", "bool", "time", "day"]
_ROWS_AT_ONCE = 5000
# What rows that are never changed may still miss: those whose transaction ended late.
LATE = timedelta(days=3)
_TEAM = {"team": "team__slug", "organization": "team__organization__slug"}
_OF_LABELS = {"team": KeyTextTransform("team", "labels")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Rows of one model: which, and from where each column that is not called so comes."""

    model: type[Model]
    only: Q = field(default_factory=Q)
    named: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the store: a row belongs to the day (UTC) of its ``moment``."""

    name: str
    moment: str
    columns: Mapping[str, Kind]
    sources: tuple[Source, ...]
    # Rows are changed after their day: by refunds, late settlements, corrections.
    is_revised: bool = False

    @property
    def totals(self) -> tuple[str, ...]:
        """The columns whose sums say whether a day's rows changed: money and tokens."""
        ends = ("_nano_usd", "_nanocredits", "_tokens", "number")
        return tuple(name for name in self.columns if name.endswith(ends))

    def rows(self, day: date) -> Iterator[tuple[Any, ...]]:
        """In the order of moment and id, values in the order of the columns."""
        at, pk = list(self.columns).index(self.moment), list(self.columns).index("id")
        found = [self._of(source, day) for source in self.sources]
        return heapq.merge(*found, key=lambda row: (row[at], row[pk]))

    def summed(self, day: date) -> dict[str, int]:
        """Rows and totals of a day, read again."""
        sums: Counter[str] = Counter(dict.fromkeys(("rows", *self.totals), 0))
        for row in self.rows(day):
            self.add(sums, row)
        return dict(sums)

    def add(self, sums: Counter[str], row: tuple[Any, ...]) -> None:
        sums["rows"] += 1
        for name, value in zip(self.columns, row, strict=True):
            if name in sums and isinstance(value, int):
                sums[name] += value

    def first_day(self) -> date | None:
        firsts = [
            source.model._default_manager.filter(source.only, **{f"{self.moment}__isnull": False})
            .order_by(self.moment)
            .values_list(self.moment, flat=True)
            .first()
            for source in self.sources
        ]
        return min((at.date() for at in firsts if at), default=None)

    def may_have_changed(self, day: date, *, since: datetime) -> bool:
        """Whether rows of a day exported at ``since`` may have changed; their sums then tell."""
        if not self.is_revised:
            return since < midnight(day) + LATE
        rolled = RollupDay.objects.filter(day=day).first()
        # Whoever changes a day's work marks it; it is summed anew then, at that time.
        return (
            rolled is None
            or rolled.is_dirty
            or bool(rolled.rolled_at and rolled.rolled_at >= since)
        )

    def _of(self, source: Source, day: date) -> Iterator[tuple[Any, ...]]:
        begins, ends = midnight(day), midnight(day + timedelta(days=1))
        rows: QuerySet[Any] = source.model._default_manager.filter(
            source.only, **{f"{self.moment}__gte": begins, f"{self.moment}__lt": ends}
        )
        # Under names of their own: some are called like a column that is something else.
        named = {
            f"as_{name}": F(source.named.get(name, name))
            if isinstance(source.named.get(name, name), str)
            else source.named[name]
            for name in self.columns
        }
        ordered: Any = rows.order_by(self.moment, "pk").annotate(**named).values_list(*named)
        yield from ordered.iterator(_ROWS_AT_ONCE)


CALLS = Table(
    name="calls",
    moment="finished_at",
    is_revised=True,
    columns={
        "id": "id",
        "job_id": "id",
        "team": "text",
        "organization": "text",
        "job_type": "text",
        "alias": "text",
        "deployment_id": "int",
        "model": "text",
        "status": "text",
        "error_code": "text",
        "is_stream": "bool",
        "is_cache_hit": "bool",
        "is_output_delivered": "bool",
        "usage_source": "text",
        "created_at": "time",
        "finished_at": "time",
        "latency_ms": "int",
        "prompt_tokens": "int",
        "cached_tokens": "int",
        "completion_tokens": "int",
        "total_tokens": "int",
        "provider_cost_nano_usd": "int",
        "price_nanocredits": "int",
        "price_nano_usd": "int",
        "charged_nanocredits": "int",
        "overrun_nanocredits": "int",
        "refunded_nanocredits": "int",
        "refunded_nano_usd": "int",
        "saved_nano_usd": "int",
    },
    sources=(
        Source(
            model=Call,
            named=_TEAM
            | {"job_type": "job__job_type", "alias": "alias__name", "model": "deployment__model"},
        ),
    ),
)
JOBS = Table(
    name="jobs",
    moment="closed_at",
    is_revised=True,
    columns={
        "id": "id",
        "team": "text",
        "organization": "text",
        "job_type": "text",
        "status": "text",
        "outcome": "text",
        "is_single": "bool",
        "created_at": "time",
        "closed_at": "time",
        "successful_calls": "int",
        "failed_calls": "int",
        "base_price_nano_usd": "int",
        "base_charged_nanocredits": "int",
        "base_overrun_nanocredits": "int",
        "base_refunded_nanocredits": "int",
        "base_refunded_nano_usd": "int",
    },
    sources=(Source(model=Job, named=_TEAM),),
)
ATTEMPTS = Table(
    name="attempts",
    moment="started_at",
    columns={
        "id": "int",
        "call_id": "id",
        "deployment_id": "int",
        "model": "text",
        "number": "int",
        "started_at": "time",
        "ended_at": "time",
        "failure": "text",
        "failure_status": "int",
    },
    sources=(Source(model=Attempt, named={"model": "deployment__model"}),),
)
COST_LINES = Table(
    name="cost_lines",
    moment="created_at",
    columns={
        "id": "int",
        "call_id": "id",
        "attempt_id": "int",
        "model": "text",
        "day": "day",
        "kind": "text",
        "amount_nano_usd": "int",
        "created_at": "time",
    },
    sources=(Source(model=CostLine),),
)
# Archived charges are where they were; the lines that carry them forward are not exported.
ENTRIES = Table(
    name="entries",
    moment="created_at",
    columns={
        "id": "int",
        "account_id": "int",
        "team": "text",
        "kind": "text",
        "amount_nanocredits": "int",
        "balance_after_nanocredits": "int",
        "price_nano_usd": "int",
        "reference": "text",
        "corrects_id": "int",
        "created_at": "time",
    },
    sources=(
        Source(model=Entry, only=~Q(kind=Entry.Kind.CARRIED), named=_OF_LABELS),
        Source(
            model=ArchivedEntry,
            named=_OF_LABELS
            | {
                "kind": Value(str(Entry.Kind.CHARGE)),
                "corrects_id": Value(None, output_field=BigIntegerField()),
            },
        ),
    ),
)
TABLES = (CALLS, JOBS, ATTEMPTS, COST_LINES, ENTRIES)
