"""The facts behind profit: sums over the work itself, by day and whatever else is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, date
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any
from uuid import UUID

from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import TruncDate

from jobs.models import Call, CostLine, Job
from saas_litellm.base.days import midnight
from saas_litellm.base.money import from_nano


@dataclass(slots=True)
class Sums:
    """What work brought and cost; amounts in nano-USD and nanocredits."""

    jobs: int = 0
    failed_jobs: int = 0
    calls: int = 0
    failed_calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    provider_cost_nano_usd: int = 0
    charged_nanocredits: int = 0
    price_nano_usd: int = 0
    refunded_nanocredits: int = 0
    refunded_nano_usd: int = 0
    overrun_nanocredits: int = 0
    cache_hits: int = 0
    saved_nano_usd: int = 0
    estimated_calls: int = 0

    def add(self, row: dict[str, Any]) -> None:
        for name in NAMES:
            setattr(self, name, getattr(self, name) + int(row.get(name) or 0))

    @property
    def revenue_nano_usd(self) -> int:
        return self.price_nano_usd - self.refunded_nano_usd

    @property
    def margin_nano_usd(self) -> int:
        return self.revenue_nano_usd - self.provider_cost_nano_usd

    @property
    def margin_percent(self) -> Decimal | None:
        """Of revenue, to two places, half-even; None without revenue."""
        if self.revenue_nano_usd <= 0:
            return None
        return _percent_of(self.margin_nano_usd, self.revenue_nano_usd)

    @property
    def cache_hit_percent(self) -> Decimal | None:
        """Of calls, to two places, half-even; None without calls."""
        return _percent_of(self.cache_hits, self.calls) if self.calls else None

    def as_json(self) -> dict[str, Any]:
        return {
            "jobs": self.jobs,
            "failed_jobs": self.failed_jobs,
            "calls": self.calls,
            "failed_calls": self.failed_calls,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "cached_tokens": self.cached_tokens,
            "estimated_calls": self.estimated_calls,
            "cache_hits": self.cache_hits,
            "cache_hit_percent": self.cache_hit_percent,
            "cache_saved_usd": from_nano(self.saved_nano_usd),
            "credits_charged": from_nano(self.charged_nanocredits),
            "credits_refunded": from_nano(self.refunded_nanocredits),
            "credits_overrun": from_nano(self.overrun_nanocredits),
            "revenue_usd": from_nano(self.revenue_nano_usd),
            "refunds_usd": from_nano(self.refunded_nano_usd),
            "provider_cost_usd": from_nano(self.provider_cost_nano_usd),
            "margin_usd": from_nano(self.margin_nano_usd),
            "margin_percent": self.margin_percent,
        }


def _percent_of(part: int, whole: int) -> Decimal:
    return (Decimal(part) * 100 / whole).quantize(Decimal("0.01"), ROUND_HALF_EVEN)


NAMES = tuple(named.name for named in fields(Sums))
# Nothing delivered, or an end that was not the answer's own.
FAILED_CALL = ~Q(status=Call.Status.SETTLED) | ~Q(error_code="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which work; None: any. Rows without what is filtered by are left out.

    ``team_ids`` and ``organization_ids`` are keys of rows, as reports group by them.
    """

    team: str | None = None
    organization: str | None = None
    job_type: str | None = None
    alias: str | None = None
    deployment: int | None = None
    job_id: UUID | None = None
    team_ids: frozenset[int] | None = None
    organization_ids: frozenset[int] | None = None

    @property
    def is_of_all_teams(self) -> bool:
        owners = (self.team, self.organization, self.team_ids, self.organization_ids)
        return all(owner is None for owner in owners)


def raw_rows(
    start: date, end: date, columns: tuple[str, ...], filters: Filters
) -> Iterator[dict[str, Any]]:
    """Sums over the work itself, grouped by columns of ProfitDay (``day`` and dimensions)."""
    begins, ends = midnight(start), midnight(end)
    narrowed = (filters.alias, filters.deployment, filters.job_type, filters.job_id)
    if filters.is_of_all_teams and not any(narrowed):
        yield from corrections(start, end, columns)
    calls = filtered(
        Call.objects.filter(finished_at__gte=begins, finished_at__lt=ends), filters, prefix="job__"
    )
    if filters.alias is not None:
        calls = calls.filter(alias__name=filters.alias)
    if filters.deployment is not None:
        calls = calls.filter(deployment=filters.deployment)
    yield from _grouped(calls, columns, _CALL_COLUMNS, _call_sums())
    if filters.alias is None and filters.deployment is None:
        jobs = filtered(
            Job.objects.filter(closed_at__gte=begins, closed_at__lt=ends), filters, prefix=""
        )
        yield from _grouped(jobs, columns, _JOB_COLUMNS, _job_sums())


# Looked up for each call: a join may read every job there is for the calls of a day.
JOB_TYPE = Subquery(Job.objects.filter(pk=OuterRef("job_id")).order_by().values("job_type"))
_CALL_COLUMNS = {
    "day": TruncDate("finished_at", tzinfo=UTC),
    "team": F("team_id"),
    "organization": F("team__organization_id"),
    "job_type": JOB_TYPE,
    "alias": F("alias_id"),
    "deployment": F("deployment_id"),
}
_JOB_COLUMNS = {
    "day": TruncDate("closed_at", tzinfo=UTC),
    "team": F("team_id"),
    "organization": F("team__organization_id"),
    "job_type": F("job_type"),
    "alias": None,
    "deployment": None,
}


def _call_sums() -> dict[str, Any]:
    counted = {"jobs", "failed_jobs", "calls", "failed_calls", "cache_hits", "estimated_calls"}
    return {
        "calls": Count("pk"),
        "failed_calls": Count("pk", filter=FAILED_CALL),
        "cache_hits": Count("pk", filter=Q(is_cache_hit=True)),
        "estimated_calls": Count("pk", filter=Q(usage_source="estimate", deployment__isnull=False)),
        **{name: Sum(name) for name in NAMES if name not in counted},
    }


def _job_sums() -> dict[str, Any]:
    return {
        "jobs": Count("pk"),
        "failed_jobs": Count("pk", filter=Q(status__in=[Job.Status.FAILED, Job.Status.CANCELLED])),
        "charged_nanocredits": Sum("base_charged_nanocredits"),
        "price_nano_usd": Sum("base_price_nano_usd"),
        "refunded_nanocredits": Sum("base_refunded_nanocredits"),
        "refunded_nano_usd": Sum("base_refunded_nano_usd"),
        "overrun_nanocredits": Sum("base_overrun_nanocredits"),
    }


def _grouped(
    rows: QuerySet[Any], columns: tuple[str, ...], sources: dict[str, Any], sums: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """One query; columns and sums are prefixed, for some sums have the name of their column."""
    chosen = {f"by_{name}": sources[name] for name in columns if sources[name] is not None}
    named = {f"sum_{name}": expression for name, expression in sums.items()}
    found: Iterable[dict[str, Any]] = (
        rows.order_by().annotate(**chosen).values(*chosen).annotate(**named)
        if chosen
        else [rows.aggregate(**named)]
    )
    for row in found:
        yield {
            **dict.fromkeys(columns),
            **{name.partition("_")[2]: value for name, value in row.items()},
        }


def corrections(start: date, end: date, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """What no call explains, by day."""
    lines = CostLine.objects.filter(call=None, day__gte=start, day__lt=end).order_by()
    empty = {**dict.fromkeys(columns), "job_type": ""}
    for day, cost in lines.values_list("day").annotate(Sum("amount_nano_usd")):
        yield {**empty, "day": day, "provider_cost_nano_usd": cost}


def filtered(rows: QuerySet[Any], filters: Filters, *, prefix: str) -> QuerySet[Any]:
    if filters.team is not None:
        rows = rows.filter(team__slug=filters.team)
    if filters.organization is not None:
        rows = rows.filter(team__organization__slug=filters.organization)
    if filters.team_ids is not None:
        rows = rows.filter(team__in=filters.team_ids)
    if filters.organization_ids is not None:
        rows = rows.filter(team__organization__in=filters.organization_ids)
    if filters.job_type is not None:
        rows = rows.filter(**{f"{prefix}job_type": filters.job_type})
    if filters.job_id is not None:
        rows = rows.filter(**{f"{prefix}pk" if prefix else "pk": filters.job_id})
    return rows
