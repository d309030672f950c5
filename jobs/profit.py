"""Profit: the one query behind every figure of revenue, cost and margin.

A finished call belongs to the day (UTC) it ended, with its team, job type, alias and deployment; a
closed job to the day it closed, with the price that is its own and no call's. Refunds, late
settlements and cost corrections change the day of the work they are about. A cost correction that
no call explains stands on its own day, without a team. Whole days that did not change since are
read from ``ProfitDay``, every other day from the work itself, so a report is always exact.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any
from uuid import UUID

from django.db.models import Count, F, Q, QuerySet, Sum, Value
from django.db.models.functions import TruncDate, TruncMonth

from jobs.models import Call, CostLine, Job, ProfitDay, RollupDay
from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import Invalid
from teams.models import Alias, Deployment, Organization, Team

GROUPS = ("team", "organization", "job_type", "alias", "deployment", "day", "month", "job")
MAX_JOBS = 1000


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
        share = Decimal(self.margin_nano_usd) * 100 / self.revenue_nano_usd
        return share.quantize(Decimal("0.01"), ROUND_HALF_EVEN)

    def as_json(self) -> dict[str, Any]:
        return {
            "jobs": self.jobs,
            "failed_jobs": self.failed_jobs,
            "calls": self.calls,
            "failed_calls": self.failed_calls,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "cached_tokens": self.cached_tokens,
            "credits_charged": from_nano(self.charged_nanocredits),
            "credits_refunded": from_nano(self.refunded_nanocredits),
            "credits_overrun": from_nano(self.overrun_nanocredits),
            "revenue_usd": from_nano(self.revenue_nano_usd),
            "refunds_usd": from_nano(self.refunded_nano_usd),
            "provider_cost_usd": from_nano(self.provider_cost_nano_usd),
            "margin_usd": from_nano(self.margin_nano_usd),
            "margin_percent": self.margin_percent,
        }


NAMES = tuple(named.name for named in fields(Sums))


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which work; None: any. Rows without what is filtered by are left out."""

    team: str | None = None
    organization: str | None = None
    job_type: str | None = None
    alias: str | None = None
    deployment: int | None = None
    job_id: UUID | None = None


@dataclass(slots=True)
class Report:
    start: date
    end: date
    group_by: str | None
    total: Sums
    rows: list[tuple[str, Sums]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "start": self.start,
            "end": self.end,
            "group_by": self.group_by,
            "total": self.total.as_json(),
            "rows": [{"key": key, **sums.as_json()} for key, sums in self.rows],
        }


def report(
    *, start: date, end: date, group_by: str | None = None, filters: Filters | None = None
) -> Report:
    """Profit from ``start`` up to but not including ``end``, UTC days. Raises Invalid."""
    filters = filters or Filters()
    if start >= end:
        raise Invalid("start must be before end.", param="start")
    if group_by is not None and group_by not in GROUPS:
        raise Invalid(f"group_by must be one of {', '.join(GROUPS)}.", param="group_by")
    if group_by == "job":
        return _by_job(start, end, filters)
    rows: dict[Any, Sums] = defaultdict(Sums)
    for row in [
        *_kept_rows(start, end, group_by, filters),
        *_open_rows(start, end, group_by, filters),
    ]:
        rows[row.get("key")].add(row)
    total = Sums()
    for sums in rows.values():
        total.add({name: getattr(sums, name) for name in NAMES})
    named = _named(group_by, rows) if group_by else []
    return Report(start, end, group_by, total, named)


def raw_rows(
    start: date, end: date, columns: tuple[str, ...], filters: Filters
) -> Iterator[dict[str, Any]]:
    """Sums over the work itself, grouped by columns of ProfitDay (``day`` and dimensions)."""
    begins, ends = _midnight(start), _midnight(end)
    if filters.job_id is None and not any(
        (filters.alias, filters.deployment, filters.job_type, filters.team, filters.organization)
    ):
        yield from _corrections(start, end, columns)
    calls = _filtered(
        Call.objects.filter(finished_at__gte=begins, finished_at__lt=ends), filters, prefix="job__"
    )
    if filters.alias is not None:
        calls = calls.filter(alias__name=filters.alias)
    if filters.deployment is not None:
        calls = calls.filter(deployment=filters.deployment)
    yield from _grouped(calls, columns, _CALL_COLUMNS, _call_sums())
    if filters.alias is None and filters.deployment is None:
        jobs = _filtered(
            Job.objects.filter(closed_at__gte=begins, closed_at__lt=ends), filters, prefix=""
        )
        yield from _grouped(jobs, columns, _JOB_COLUMNS, _job_sums())


_CALL_COLUMNS = {
    "day": TruncDate("finished_at", tzinfo=UTC),
    "team": F("team_id"),
    "organization": F("team__organization_id"),
    "job_type": F("job__job_type"),
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
    summed = set(NAMES) - {"jobs", "failed_jobs", "calls", "failed_calls"}
    failed = ~Q(status=Call.Status.SETTLED) | ~Q(error_code="")
    return {
        "calls": Count("pk"),
        "failed_calls": Count("pk", filter=failed),
        **{name: Sum(name) for name in summed},
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


def _corrections(start: date, end: date, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    lines = CostLine.objects.filter(call=None, day__gte=start, day__lt=end).order_by()
    empty = {**dict.fromkeys(columns), "job_type": ""}
    for day, cost in lines.values_list("day").annotate(Sum("amount_nano_usd")):
        yield {**empty, "day": day, "provider_cost_nano_usd": cost}


def _filtered(rows: QuerySet[Any], filters: Filters, *, prefix: str) -> QuerySet[Any]:
    if filters.team is not None:
        rows = rows.filter(team__slug=filters.team)
    if filters.organization is not None:
        rows = rows.filter(team__organization__slug=filters.organization)
    if filters.job_type is not None:
        rows = rows.filter(**{f"{prefix}job_type": filters.job_type})
    if filters.job_id is not None:
        rows = rows.filter(**{f"{prefix}pk" if prefix else "pk": filters.job_id})
    return rows


def _kept_rows(
    start: date, end: date, group_by: str | None, filters: Filters
) -> Iterator[dict[str, Any]]:
    if filters.job_id is not None:
        return
    kept = RollupDay.objects.filter(is_dirty=False).values("day")
    rows = _filtered(
        ProfitDay.objects.filter(day__gte=start, day__lt=end, day__in=kept), filters, prefix=""
    )
    if filters.alias is not None:
        rows = rows.filter(alias__name=filters.alias)
    if filters.deployment is not None:
        rows = rows.filter(deployment=filters.deployment)
    keys = {
        None: Value(1),
        "month": TruncMonth("day"),
        "organization": F("team__organization_id"),
        "team": F("team_id"),
        "alias": F("alias_id"),
        "deployment": F("deployment_id"),
    }
    sums = {f"sum_{name}": Sum(name) for name in NAMES}
    found = (
        rows.order_by().annotate(key=keys.get(group_by) or F(group_by or "")).values("key")
    ).annotate(**sums)
    for row in found:
        key = row.pop("key")
        yield {"key": key if group_by else None, **{n[4:]: value for n, value in row.items()}}


def _open_rows(
    start: date, end: date, group_by: str | None, filters: Filters
) -> Iterator[dict[str, Any]]:
    """The days that are not kept: today, yesterday's last hour, and what changed since."""
    column = "day" if group_by == "month" else group_by
    columns = (column,) if column else ()
    whole = [(start, end)] if filters.job_id is not None else open_ranges(start, end)
    for begins, ends in whole:
        for row in raw_rows(begins, ends, columns, filters):
            key = row.get(column) if column else None
            yield {**row, "key": key.replace(day=1) if group_by == "month" and key else key}


def open_ranges(start: date, end: date) -> list[tuple[date, date]]:
    """The runs of days in [start, end) whose rows are not kept."""
    kept = set(
        RollupDay.objects.filter(is_dirty=False, day__gte=start, day__lt=end)
        .order_by()
        .values_list("day", flat=True)
    )
    ranges: list[tuple[date, date]] = []
    begins = start
    for day in sorted(kept):
        if begins < day:
            ranges.append((begins, day))
        begins = day + timedelta(days=1)
    if begins < end:
        ranges.append((begins, end))
    return ranges


def _by_job(start: date, end: date, filters: Filters) -> Report:
    """Closed jobs one by one, the greatest loss first; at most MAX_JOBS of them."""
    if filters.alias is not None or filters.deployment is not None:
        raise Invalid("Jobs cannot be listed by alias or deployment.", param="group_by")
    jobs = _filtered(
        Job.objects.filter(closed_at__gte=_midnight(start), closed_at__lt=_midnight(end)),
        filters,
        prefix="",
    )
    margin = F("price_nano_usd") - F("refunded_nano_usd") - F("provider_cost_nano_usd")
    rows = []
    for job in jobs.annotate(margin=margin).order_by("margin", "id")[:MAX_JOBS]:
        sums = Sums()
        sums.add(
            {name: getattr(job, name) for name in NAMES if hasattr(job, name) and name != "calls"}
        )
        sums.jobs, sums.failed_jobs = 1, int(job.status != Job.Status.COMPLETED)
        sums.calls = job.successful_calls + job.failed_calls
        sums.completion_tokens = job.total_tokens
        rows.append((str(job.pk), sums))
    total = report(start=start, end=end, filters=filters).total
    return Report(start, end, "job", total, rows)


_NO_NAME = {
    "team": "(corrections)",
    "organization": "(corrections)",
    "job_type": "(corrections)",
    "alias": "(job prices)",
    "deployment": "(job prices)",
}


def _named(group_by: str, rows: dict[Any, Sums]) -> list[tuple[str, Sums]]:
    """Keys as people know them: by time in order, else the greatest revenue first."""
    names: dict[Any, str] = {}
    keys = [key for key in rows if key is not None]
    match group_by:
        case "team":
            names = dict(Team.objects.filter(pk__in=keys).values_list("pk", "slug"))
        case "organization":
            names = dict(Organization.objects.filter(pk__in=keys).values_list("pk", "slug"))
        case "alias":
            names = dict(Alias.objects.filter(pk__in=keys).values_list("pk", "name"))
        case "deployment":
            found = Deployment.objects.select_related("alias").filter(pk__in=keys)
            names = {deployment.pk: f"{deployment.pk} {deployment}" for deployment in found}
        case "month":
            return sorted(
                ((f"{key:%Y-%m}", sums) for key, sums in rows.items()), key=lambda row: row[0]
            )
        case "day":
            return sorted(
                ((f"{key:%Y-%m-%d}", sums) for key, sums in rows.items()), key=lambda row: row[0]
            )
    shown = [(str(names.get(key, key or _NO_NAME[group_by])), sums) for key, sums in rows.items()]
    return sorted(shown, key=lambda row: (-row[1].revenue_nano_usd, row[0]))


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)


def columns() -> Iterable[str]:
    """The columns of a row as CSV, after its key."""
    return Sums().as_json()
