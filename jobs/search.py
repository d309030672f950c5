"""Finding jobs and calls among millions: each condition is one that an index answers.

Conditions of partial indexes are spelled out, for SQLite knows a partial index only by them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from django.db import connection, connections
from django.db.models import Q, QuerySet
from django.db.models.fields.json import KeyTransform

from jobs.models import Call, Job
from jobs.models.work import LOSING, SLOW_MS
from saas_litellm.base.days import in_days
from teams.models import Alias, Team

OPEN = "open"
_ID = re.compile(r"[0-9a-f]{4,32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsAsked:
    """What operators ask of jobs; empty and None: anything. Days are UTC, the last included.

    ``metadata``: a key, or key=value. Cost is the provider's, in nano-USD, both ends included.
    """

    status: str = ""
    job_type: str = ""
    team: str = ""
    user: str = ""
    created_from: date | None = None
    created_to: date | None = None
    closed_from: date | None = None
    closed_to: date | None = None
    metadata: str = ""
    cost_from: int | None = None
    cost_to: int | None = None
    losing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsAsked:
    """What operators ask of calls. ``slow``: seconds that they took at least."""

    job: UUID | None = None
    team: str = ""
    alias: str = ""
    status: str = ""
    created_from: date | None = None
    created_to: date | None = None
    error: str = ""
    slow: int | None = None


def jobs(rows: QuerySet[Job], asked: JobsAsked) -> QuerySet[Job]:
    """Those that are as asked; a team that does not exist has none."""
    rows = rows.filter(in_days("created_at", asked.created_from, asked.created_to))
    rows = rows.filter(in_days("closed_at", asked.closed_from, asked.closed_to))
    if asked.status == OPEN:
        rows = rows.filter(Q(status__in=Job.OPEN) & ~Q(status=Job.Status.COMPLETED))
    elif asked.status:
        rows = rows.filter(_usual("status", asked.status, usual=Job.Status.COMPLETED))
    if asked.job_type:
        rows = rows.filter(job_type=asked.job_type)
    if asked.team:
        rows = rows.filter(team=_team(asked.team))
    if asked.user:
        rows = rows.filter(_usual("user_id", asked.user))
    if asked.metadata:
        rows = _with_metadata(rows, asked.metadata)
    if asked.cost_from is not None:
        rows = rows.filter(provider_cost_nano_usd__gte=asked.cost_from)
    if asked.cost_to is not None:
        rows = rows.filter(provider_cost_nano_usd__lte=asked.cost_to)
    return rows.filter(LOSING) if asked.losing else rows


def calls(rows: QuerySet[Call], asked: CallsAsked) -> QuerySet[Call]:
    """Those that are as asked."""
    rows = rows.filter(in_days("created_at", asked.created_from, asked.created_to))
    if asked.job:
        rows = rows.filter(job=asked.job)
    if asked.team:
        rows = rows.filter(team=_team(asked.team))
    if asked.alias:
        rows = rows.filter(alias=_alias(asked.alias))
    if asked.status:
        rows = rows.filter(_usual("status", asked.status, usual=Call.Status.SETTLED))
    if asked.error:
        rows = rows.filter(_usual("error_code", asked.error))
    if asked.slow is not None:
        rows = rows.filter(latency_ms__gte=SLOW_MS).filter(latency_ms__gte=asked.slow * 1000)
    return rows


def jobs_named(rows: QuerySet[Job], text: str) -> QuerySet[Job]:
    """Jobs whose id begins so (4 digits or more), or of that team, task, end user or job type."""
    return _named(
        rows,
        text,
        lambda name: Q(team=_team(name)),
        lambda name: _usual("external_task_id", name),
        lambda name: _usual("user_id", name),
        lambda name: Q(job_type=name),
    )


def calls_named(rows: QuerySet[Call], text: str) -> QuerySet[Call]:
    """Calls whose own id or whose job's begins so, or of that team."""
    return _named(rows, text, lambda name: _id("job", name), lambda name: Q(team=_team(name)))


def _named(rows: QuerySet[Any], text: str, *kinds: Callable[[str], Q]) -> QuerySet[Any]:
    """Any of the kinds that know the name: one by one, so that each asks its own index."""
    name = text.strip()
    every = rows.model._default_manager.order_by()
    conditions = [_id("pk", name), *(kind(name) for kind in kinds)]
    known = [condition for condition in conditions if every.filter(condition).exists()]
    if not known:
        return rows.none()
    either = known[0]
    for condition in known[1:]:
        either |= condition
    return rows.filter(either)


def _id(column: str, name: str) -> Q:
    digits = name.lower().replace("-", "")
    if not _ID.fullmatch(digits):
        return Q(pk__in=())
    first, last = (UUID(digits.ljust(32, filler)) for filler in "0f")
    return Q(**{f"{column}__gte": first, f"{column}__lte": last})


def _team(slug: str) -> int | None:
    return Team.objects.filter(slug=slug).values_list("pk", flat=True).first()


def _alias(name: str) -> int | None:
    return Alias.objects.filter(name=name).values_list("pk", flat=True).first()


def _usual(column: str, value: str, *, usual: str = "") -> Q:
    """Equal to ``value``; all but the usual value are in a partial index."""
    condition = Q(**{column: value})
    return condition if value == usual else condition & ~Q(**{column: usual})


def _with_metadata(rows: QuerySet[Job], text: str) -> QuerySet[Job]:
    """key, or key=value; 5 and true are looked for as text and as what JSON makes of them."""
    key, is_equal, value = text.partition("=")
    if not is_equal:
        return rows.filter(metadata__has_key=key)
    either = Q()
    if connections[rows.db].vendor == "postgresql":
        for one in _readings(value):
            either |= Q(metadata__contains={key: one})
        return rows.filter(either)
    for one in _readings(value):
        either |= Q(asked_for=one)
    return rows.alias(asked_for=KeyTransform(key, "metadata")).filter(either)


def _readings(value: str) -> list[Any]:
    try:
        read = json.loads(value)
    except ValueError:
        return [value]
    is_finite = not isinstance(read, float) or math.isfinite(read)
    return [value, read] if isinstance(read, int | float) and is_finite else [value]


# One probe of the index for each type, where DISTINCT would read all of it.
_TYPES = """
WITH RECURSIVE found(job_type) AS (
    SELECT min(job_type) FROM jobs_job
    UNION ALL
    SELECT (SELECT min(job_type) FROM jobs_job WHERE job_type > found.job_type)
    FROM found WHERE found.job_type IS NOT NULL
) SELECT job_type FROM found WHERE job_type IS NOT NULL LIMIT %s"""


def job_types(*, most: int = 100) -> list[str]:
    """The types that jobs have, in order; the first of them where there are many."""
    with connection.cursor() as cursor:
        cursor.execute(_TYPES, [most])
        return [name for (name,) in cursor.fetchall()]
