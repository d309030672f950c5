"""What a team asks of its past: the list of jobs, and usage over a period."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, F, JSONField, Q, Sum, Value
from django.db.models.fields.json import KeyTransform, KeyTransformExact
from django.db.models.functions import TruncDate

from jobs.models import Job
from jobs.schemas import ListJobs, UsageQuery
from saas_litellm.base import clock
from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import Invalid
from teams.models import Team

_GROUPS = {"job_type": "job_type", "user": "user_id", "day": "day"}


def job_page(*, team: Team, query: ListJobs) -> tuple[list[Job], str | None]:
    """One page of the team's jobs, newest first, and the cursor of the next one."""
    jobs = Job.objects.filter(team=team).select_related("team").order_by("-created_at", "-id")
    exact = {"status": query.status, "job_type": query.job_type, "user_id": query.user_id}
    jobs = jobs.filter(**{name: value for name, value in exact.items() if value is not None})
    if query.created_after is not None:
        jobs = jobs.filter(created_at__gte=_utc(query.created_after))
    if query.created_before is not None:
        jobs = jobs.filter(created_at__lt=_utc(query.created_before))
    for key, value in query.metadata.items():
        jobs = jobs.filter(_metadata_is(key, value))
    if query.cursor is not None:
        created_at, job_id = _decode(query.cursor)
        jobs = jobs.filter(Q(created_at__lt=created_at) | Q(created_at=created_at, id__lt=job_id))
    page = list(jobs[: query.limit + 1])
    if len(page) <= query.limit:
        return page, None
    page.pop()
    return page, _encode(page[-1])


def usage(*, team: Team, query: UsageQuery) -> dict[str, Any]:
    """Sums over the jobs that began in the period; rows by job type, day or user if asked."""
    start, end = _period(query)
    jobs = Job.objects.filter(team=team, created_at__gte=start, created_at__lt=end)
    rows: list[dict[str, Any]] = []
    if query.group_by is not None:
        column = _GROUPS[query.group_by]
        days = {"day": TruncDate("created_at", tzinfo=UTC)}
        grouped = jobs.annotate(**days).values(column).annotate(**_sums()).order_by(column)
        rows = [{query.group_by: row[column], **_shown(row)} for row in grouped]
    return {
        "team_id": team.slug,
        "start": start,
        "end": end,
        "summary": _shown(jobs.aggregate(**_sums())),
        "rows": rows,
    }


def _sums() -> dict[str, Any]:
    return {
        "jobs": Count("id"),
        "completed": Count("id", filter=Q(status=Job.Status.COMPLETED)),
        "failed": Count("id", filter=Q(status=Job.Status.FAILED)),
        "calls": Sum(F("successful_calls") + F("failed_calls"), default=0),
        "failed_call_count": Sum("failed_calls", default=0),
        "tokens": Sum("total_tokens", default=0),
        "charged": Sum(F("charged_nanocredits") - F("refunded_nanocredits"), default=0),
        "price": Sum(F("price_nano_usd") - F("refunded_nano_usd"), default=0),
    }


def _shown(sums: dict[str, Any]) -> dict[str, Any]:
    return {
        "jobs": sums["jobs"],
        "completed_jobs": sums["completed"],
        "failed_jobs": sums["failed"],
        "calls": sums["calls"],
        "failed_calls": sums["failed_call_count"],
        "total_tokens": sums["tokens"],
        "credits_charged": from_nano(sums["charged"]),
        "total_cost_usd": from_nano(sums["price"]),
    }


def _period(query: UsageQuery) -> tuple[datetime, datetime]:
    """The half-open period asked for, in UTC; raises Invalid."""
    if query.period and (query.start or query.end):
        raise Invalid("Send period, or start and end, not both.", param="period")
    if query.period is None and query.start is not None:
        end = _utc(query.end) if query.end else clock.now()
        return _ordered(_utc(query.start), end)
    if query.end is not None:
        raise Invalid("end needs start.", param="start")
    try:
        parts = [int(part) for part in (query.period or f"{clock.now():%Y-%m}").split("-")]
        begin = datetime(parts[0], parts[1], parts[2] if len(parts) == 3 else 1, tzinfo=UTC)
    except ValueError as error:
        raise Invalid("period must be YYYY-MM or YYYY-MM-DD.", param="period") from error
    if len(parts) == 3:
        return begin, datetime.fromtimestamp(begin.timestamp() + 86_400, UTC)
    year, month = divmod(begin.year * 12 + begin.month, 12)
    return begin, datetime(year, month + 1, 1, tzinfo=UTC)


def _ordered(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    if start >= end:
        raise Invalid("start must be before end.", param="start")
    return start, end


def _utc(moment: datetime) -> datetime:
    """A time without a zone is UTC."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _metadata_is(key: str, value: str) -> Q:
    """Compared as a key transform by name, so that no key is read as a lookup of Django's."""
    return Q(KeyTransformExact(KeyTransform(key, "metadata"), Value(value, JSONField())))


def _encode(job: Job) -> str:
    return base64.urlsafe_b64encode(f"{job.created_at.isoformat()}|{job.pk}".encode()).decode()


def _decode(cursor: str) -> tuple[datetime, UUID]:
    try:
        moment, _, job_id = base64.urlsafe_b64decode(cursor.encode()).decode().partition("|")
        return datetime.fromisoformat(moment), UUID(job_id)
    except (ValueError, binascii.Error, UnicodeDecodeError) as error:
        raise Invalid("This cursor is not one of ours.", param="cursor") from error
