"""Attempts and kept payloads by month or day: an option for PostgreSQL.

Attempts are ranges of their *id*, not of their time, for then the id alone stays the primary key
and cost lines keep their foreign key. From its first day on a month's ids begin at its own block;
before the worker comes to that, and while it is away, they go on in the month before. That a call
has each number once is kept by the lock under which attempts are made, by an index within each
partition, and is checked over all of them by ``verify_ledger``.

Payloads are ranges of ``expires_at``: a partition is dropped when all of it is past. Nothing points
at a payload, and its own key to the call is kept. One for each call is kept by the call's single
settlement and by an index within each partition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, Max, Min
from django.db.models.functions import TruncMonth

from jobs.models import Attempt, Payload
from saas_litellm.base import audit, clock, partitioning
from saas_litellm.base.partitioning import Form, Partition
from saas_litellm.base.refusals import Conflict, Invalid
from teams.models import Team

ATTEMPTS = Form(table="jobs_attempt", key="id", primary_key=("id",), unique=("call_id", "number"))
PAYLOADS = Form(
    table="jobs_payload",
    key="expires_at",
    primary_key=("call_id", "expires_at"),
    unique=("call_id",),
)
# Ids of one month; numbers that every JSON reader can hold, for centuries.
BLOCK = 10**11
STEPS = ("day", "month")
# What expires later waits in the default partition until its own is made.
FURTHEST = timedelta(days=400)
REPORTED = ("billing_entry", "billing_draw", "billing_hold", "jobs_job", "jobs_call",
            "jobs_costline", "jobs_attempt", "jobs_payload", "jobs_statuschange")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What partitioning a table would do: its partitions, and how many rows go to each."""

    form: Form
    partitions: list[Partition]
    rows: dict[str, int]


def plan_attempts() -> Planned:
    """Raises Invalid without PostgreSQL, Conflict when it is done already."""
    _require_plain(ATTEMPTS)
    months = list(
        Attempt.objects.order_by()
        .annotate(month=TruncMonth("started_at", tzinfo=UTC))
        .values_list("month")
        .annotate(Min("id"), Count("id"))
        .order_by("month")
    )
    newest: int = Attempt.objects.aggregate(id=Max("id"))["id"] or 0
    this = clock.now().date().replace(day=1)
    begins: dict[date, int] = {}
    for month, first, _ in months:
        # Ids and times differ a little: each month begins above the one before.
        begins[month.date()] = max(first, *begins.values(), 0)
    begins.setdefault(this, newest + 1)
    ends = [*list(begins.values())[1:], (_index(max(begins)) + 1) * BLOCK]
    lowers = ["MINVALUE", *map(str, list(begins.values())[1:])]
    made = [
        Partition(name=_name(ATTEMPTS, month, "month"), lower=lower, upper=str(end))
        for month, lower, end in zip(begins, lowers, ends, strict=True)
        if lower != str(end)
    ]
    counts = {_name(ATTEMPTS, month.date(), "month"): count for month, _, count in months}
    return Planned(form=ATTEMPTS, partitions=made, rows=counts)


def plan_payloads(*, step: str) -> Planned:
    """Raises Invalid without PostgreSQL, Conflict when it is done already."""
    _require_plain(PAYLOADS)
    today = clock.now().date()
    first = _begins(today, step)
    made = [
        Partition(name=f"{PAYLOADS.table}_past", lower="MINVALUE", upper=_moment(first)),
        *(_of_payloads(day, step) for day in _wanted(today, step)),
        Partition(name=f"{PAYLOADS.table}_default"),
    ]
    return Planned(form=PAYLOADS, partitions=made, rows={PAYLOADS.table: Payload.objects.count()})


def apply(planned: Planned, *, actor: str, told: Callable[[str, int], None]) -> int:
    """Do it, in one transaction during which the table's readers and writers wait; rows moved."""
    with transaction.atomic():
        moved = partitioning.rebuild(planned.form, planned.partitions, told=told)
        audit.record(
            actor=actor,
            action="table.partition",
            target=planned.form.table,
            partitions=len(planned.partitions),
            rows=moved,
        )
    return moved


def keep_ahead() -> int:
    """The worker's: the partitions of the time to come; returns how many it made."""
    if not partitioning.is_possible():
        return 0
    return _keep_attempts_ahead() + _keep_payloads_ahead()


def drop_past_payloads() -> int:
    """Drop the partitions whose payloads have all expired; returns how many."""
    found = partitioning.names(PAYLOADS.table)
    step = _step(found)
    begins = _begins(clock.now().date(), step)
    first = _name(PAYLOADS, begins, step)
    due = [name for name in found if not name.endswith("_default") and name < first]
    past = f"{PAYLOADS.table}_past"
    if past in found:
        due.append(past)
    for name in due:
        partitioning.drop(PAYLOADS.table, name)
    return len(due)


def are_payloads_partitioned() -> bool:
    return partitioning.is_partitioned(PAYLOADS.table)


def attempts_twice() -> Iterator[tuple[str, str, str]]:
    """Calls that have an attempt of one number more than once: an invariant, the row, and how."""
    twice = Attempt.objects.order_by().values("call_id", "number").annotate(rows=Count("pk"))
    for row in twice.filter(rows__gt=1):
        yield "I6", f"call {row['call_id']}", f"its attempt {row['number']} is there twice"


def sizes() -> list[dict[str, Any]]:
    """Bytes, rows (PostgreSQL's estimate) and partitions of the tables that grow with calls."""
    if not partitioning.is_possible():
        raise Invalid(_ONLY_POSTGRESQL)
    return [
        {
            "table": table,
            "bytes": partitioning.size_bytes(table),
            "rows": _estimated_rows(table),
            "partitions": len(partitioning.names(table)),
        }
        for table in REPORTED
    ]


def _keep_attempts_ahead() -> int:
    if not partitioning.is_partitioned(ATTEMPTS.table):
        return 0
    found, made = set(partitioning.names(ATTEMPTS.table)), 0
    this = clock.now().date().replace(day=1)
    for month in (this, _next(this, "month")):
        name = _name(ATTEMPTS, month, "month")
        if name not in found:
            begins = _index(month) * BLOCK
            partition = Partition(name=name, lower=str(begins), upper=str(begins + BLOCK))
            partitioning.add(ATTEMPTS, partition)
            made += 1
    partitioning.raise_sequence(ATTEMPTS.table, "id", _index(this) * BLOCK)
    return made


def _keep_payloads_ahead() -> int:
    if not partitioning.is_partitioned(PAYLOADS.table):
        return 0
    found = partitioning.names(PAYLOADS.table)
    step = _step(found)
    missing = [
        partition
        for partition in (_of_payloads(day, step) for day in _wanted(clock.now().date(), step))
        if partition.name not in found
    ]
    for partition in missing:
        partitioning.add(PAYLOADS, partition)
    return len(missing)


def _wanted(today: date, step: str) -> Iterator[date]:
    """The first days of the partitions that payloads of now, and of a while, expire in."""
    longest = Team.objects.filter(payload_policy=Team.PayloadPolicy.FULL).aggregate(
        days=Max("payload_retention_days")
    )["days"]
    last = today + min(timedelta(days=longest or 30), FURTHEST)
    last = _next(_next(last, step), step)
    day = _begins(today, step)
    while day <= last:
        yield day
        day = _next(day, step)


_ONLY_POSTGRESQL = (
    "Only PostgreSQL has partitions. This platform runs on SQLite, which works without them:"
    " set DATABASE_URL first (docs/scaling.md)."
)


def _require_plain(form: Form) -> None:
    if not partitioning.is_possible():
        raise Invalid(_ONLY_POSTGRESQL)
    if partitioning.is_partitioned(form.table):
        raise Conflict(f"{form.table} is partitioned already; the worker keeps it so.")


def _of_payloads(day: date, step: str) -> Partition:
    return Partition(
        name=_name(PAYLOADS, day, step), lower=_moment(day), upper=_moment(_next(day, step))
    )


def _name(form: Form, day: date, step: str) -> str:
    return f"{form.table}_{day:%Y_%m_%d}" if step == "day" else f"{form.table}_{day:%Y_%m}"


def _step(found: list[str]) -> str:
    """By what the partitions there are were made, as their names say."""
    return "day" if any(name.count("_") == 4 for name in found) else "month"


def _begins(day: date, step: str) -> date:
    return day if step == "day" else day.replace(day=1)


def _next(day: date, step: str) -> date:
    return (
        day + timedelta(days=1)
        if step == "day"
        else (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    )


def _index(month: date) -> int:
    return month.year * 12 + month.month - 1


def _moment(day: date) -> str:
    return f"'{datetime(day.year, day.month, day.day, tzinfo=UTC).isoformat()}'::timestamptz"


def _estimated_rows(table: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT COALESCE(SUM(GREATEST(c.reltuples, 0)), 0)::bigint FROM pg_class c WHERE c.oid ="
            " %s::regclass OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = %s::regclass)",
            [table, table],
        )
        (rows,) = cursor.fetchone() or (0,)
    return int(rows)
