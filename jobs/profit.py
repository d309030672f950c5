"""Profit: the one query behind every figure of revenue, cost and margin.

A finished call belongs to the day (UTC) it ended, with its team, job type, alias and deployment; a
closed job to the day it closed, with the price that is its own and no call's. Refunds, late
settlements and cost corrections change the day of the work they are about. A cost correction that
no call explains stands on its own day, without a team. Whole days that did not change since are
read from kept sums (``ProfitDay``, and ``PlatformDay`` where no team is asked for), every other day
from the work itself, so a report is always exact.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from django.db.models import F, QuerySet, Sum, Value
from django.db.models.functions import TruncMonth

from jobs.facts import NAMES, Filters, Sums, filtered, raw_rows
from jobs.models import Job, PlatformDay, ProfitDay, RollupDay
from saas_litellm.base import replica
from saas_litellm.base.days import midnight
from saas_litellm.base.refusals import Invalid
from teams.models import Alias, Deployment, Organization, Team

GROUPS = ("team", "organization", "job_type", "alias", "deployment", "day", "month", "job")
MAX_JOBS = 1000
# Runs of days, each from its first up to but not including its second.
Ranges = list[tuple[date, date]]
__all__ = ["GROUPS", "Filters", "Report", "Sums", "open_ranges", "report"]


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


@replica.reading()
def report(
    *, start: date, end: date, group_by: str | None = None, filters: Filters | None = None
) -> Report:
    """Profit from ``start`` up to but not including ``end``, UTC days. Raises Invalid."""
    filters = filters or Filters()
    require_sensible(start, end, group_by)
    if group_by == "job":
        return _by_job(start, end, filters)
    ranges = open_ranges(start, end)
    rows: dict[Any, Sums] = defaultdict(Sums)
    for row in [
        *_kept_rows(kept(start, end, ranges, group_by, filters), group_by, filters),
        *open_rows(start, end, ranges, group_by, filters),
    ]:
        rows[row.get("key")].add(row)
    total = Sums()
    for sums in rows.values():
        total.add({name: getattr(sums, name) for name in NAMES})
    rows_named = named(group_by, rows) if group_by else []
    return Report(start, end, group_by, total, rows_named)


def require_sensible(start: date, end: date, group_by: str | None) -> None:
    """Raises Invalid."""
    if start >= end:
        raise Invalid("start must be before end.", param="start")
    if group_by is not None and group_by not in GROUPS:
        raise Invalid(f"group_by must be one of {', '.join(GROUPS)}.", param="group_by")


def kept(
    start: date, end: date, ranges: Ranges, group_by: str | None, filters: Filters
) -> QuerySet[Any]:
    """The kept sums of days that are not open: by team only where that is asked for."""
    by_team = group_by in {"team", "organization"} or not filters.is_of_all_teams
    model = ProfitDay if by_team else PlatformDay
    rows: QuerySet[Any] = model.objects.filter(day__gte=start, day__lt=end).order_by()
    for begins, ends in ranges:
        rows = rows.exclude(day__gte=begins, day__lt=ends)
    rows = filtered(rows, filters, prefix="")
    if filters.alias is not None:
        rows = rows.filter(alias__name=filters.alias)
    if filters.deployment is not None:
        rows = rows.filter(deployment=filters.deployment)
    return rows


def _kept_rows(
    rows: QuerySet[Any], group_by: str | None, filters: Filters
) -> Iterator[dict[str, Any]]:
    if filters.job_id is not None:
        return
    keys = {
        None: Value(1),
        "month": TruncMonth("day"),
        "organization": F("team__organization_id"),
        "team": F("team_id"),
        "alias": F("alias_id"),
        "deployment": F("deployment_id"),
    }
    sums = {f"sum_{name}": Sum(name) for name in NAMES}
    found = (rows.annotate(key=keys.get(group_by) or F(group_by or "")).values("key")).annotate(
        **sums
    )
    for row in found:
        key = row.pop("key")
        yield {"key": key if group_by else None, **{n[4:]: value for n, value in row.items()}}


def open_rows(
    start: date, end: date, ranges: Ranges, group_by: str | None, filters: Filters
) -> Iterator[dict[str, Any]]:
    """The days that are not kept: today, yesterday's last hour, and what changed since."""
    column = "day" if group_by == "month" else group_by
    columns = (column,) if column else ()
    for begins, ends in [(start, end)] if filters.job_id is not None else ranges:
        for row in raw_rows(begins, ends, columns, filters):
            key = row.get(column) if column else None
            yield {**row, "key": key.replace(day=1) if group_by == "month" and key else key}


def open_ranges(start: date, end: date) -> Ranges:
    """The runs of days in [start, end) whose rows are not kept."""
    settled = set(
        RollupDay.objects.filter(is_dirty=False, day__gte=start, day__lt=end)
        .order_by()
        .values_list("day", flat=True)
    )
    ranges: Ranges = []
    begins = start
    for day in sorted(settled):
        if begins < day:
            ranges.append((begins, day))
        begins = day + timedelta(days=1)
    if begins < end:
        ranges.append((begins, end))
    return ranges


_OF_JOBS = ("status", "successful_calls", "total_tokens")


def _by_job(start: date, end: date, filters: Filters) -> Report:
    """Closed jobs one by one, the greatest loss first; at most MAX_JOBS of them."""
    if filters.alias is not None or filters.deployment is not None:
        raise Invalid("Jobs cannot be listed by alias or deployment.", param="group_by")
    jobs = filtered(
        Job.objects.filter(closed_at__gte=midnight(start), closed_at__lt=midnight(end)),
        filters,
        prefix="",
    )
    margin = F("price_nano_usd") - F("refunded_nano_usd") - F("provider_cost_nano_usd")
    rows = []
    columns = {column.name for column in Job._meta.fields} & set(NAMES)
    worst = jobs.annotate(margin=margin).order_by("margin", "id").only(*columns, *_OF_JOBS)
    for job in worst[:MAX_JOBS]:
        sums = Sums()
        sums.add({name: getattr(job, name) for name in columns})
        sums.jobs, sums.failed_jobs = 1, int(job.status != Job.Status.COMPLETED)
        sums.calls = job.successful_calls + job.failed_calls
        sums.completion_tokens = job.total_tokens
        rows.append((str(job.pk), sums))
    total = report(start=start, end=end, filters=filters).total
    return Report(start, end, "job", total, rows)


NO_NAME = {
    "team": "(corrections)",
    "organization": "(corrections)",
    "job_type": "(corrections)",
    "alias": "(job prices)",
    "deployment": "(job prices)",
}


def named(group_by: str, rows: dict[Any, Sums]) -> list[tuple[str, Sums]]:
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
    shown = [(str(names.get(key, key or NO_NAME[group_by])), sums) for key, sums in rows.items()]
    return sorted(shown, key=lambda row: (-row[1].revenue_nano_usd, row[0]))
