"""Profit by day: kept rows of days that are over, equal to the work they sum.

A day is rolled up once it is over, and again whenever its work changed: whoever changes it marks
the day dirty in the same transaction, and a dirty day is read from the work until it is rolled up
anew. ``compare`` proves the kept rows against the work.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, date, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Max, Min

from jobs import facts, profit
from jobs.facts import NAMES, Filters
from jobs.models import Call, CostLine, Job, ProfitDay, RollupDay
from saas_litellm.base import clock

# What ended before midnight has committed by then.
SETTLED_AFTER = timedelta(hours=1)
DAYS_AT_ONCE = 60
_DIMENSIONS = ("team", "job_type", "alias", "deployment")


def mark_dirty(days: Iterable[date]) -> None:
    """Say, in the changing transaction, that these days' work has changed since it was summed.

    An upsert waits for a roll-up of the same day that has not committed, so neither is lost.
    """
    RollupDay.objects.bulk_create(
        [RollupDay(day=day, is_dirty=True) for day in sorted(set(days))],
        update_conflicts=True,
        unique_fields=["day"],
        update_fields=["is_dirty"],
    )


def roll(day: date) -> None:
    """Sum one day's work into rows, in place of those there were."""
    with transaction.atomic():
        mark_dirty([day])
        # The lock: whoever marks this day dirty from here on waits, and is not lost.
        RollupDay.objects.filter(day=day).update(is_dirty=False, rolled_at=clock.now())
        ProfitDay.objects.filter(day=day).delete()
        ProfitDay.objects.bulk_create(
            [
                ProfitDay(day=day, **dict(zip(_COLUMNS, key, strict=True)), **sums)
                for key, sums in _sums_of(day).items()
            ],
            batch_size=500,
        )


def roll_due() -> int:
    """Roll up days that are over and not kept yet, or dirty, oldest first; returns how many."""
    first, last = _first_day(), (clock.now() - SETTLED_AFTER).date() - timedelta(days=1)
    if first is None or first > last:
        return 0
    due = [
        begins + timedelta(days=n)
        for begins, ends in profit.open_ranges(first, last + timedelta(days=1))
        for n in range((ends - begins).days)
    ][:DAYS_AT_ONCE]
    for day in due:
        roll(day)
    return len(due)


def rebuild() -> int:
    """Roll up every day again."""
    RollupDay.objects.update(is_dirty=True)
    rolled = 0
    while more := roll_due():
        rolled += more
    return rolled


def compare() -> list[str]:
    """Every difference between the kept rows and the work; none if all is well."""
    differences = []
    for day in RollupDay.objects.filter(is_dirty=False).values_list("day", flat=True):
        work, kept = _sums_of(day), _kept(day)
        for key in work.keys() | kept.keys():
            expected, found = work.get(key, {}), kept.get(key, {})
            differences += [
                f"{day} {dict(zip(_DIMENSIONS, key, strict=True))}: {name} is"
                f" {found.get(name, 0)}, should be {expected.get(name, 0)}"
                for name in NAMES
                if expected.get(name, 0) != found.get(name, 0)
            ]
    return differences


_COLUMNS = ("team_id", "job_type", "alias_id", "deployment_id")


def _sums_of(day: date) -> dict[tuple[Any, ...], dict[str, int]]:
    sums: dict[tuple[Any, ...], dict[str, int]] = defaultdict(lambda: dict.fromkeys(NAMES, 0))
    for row in facts.raw_rows(day, day + timedelta(days=1), _DIMENSIONS, Filters()):
        key = tuple(row[name] for name in _DIMENSIONS)
        for name in NAMES:
            sums[key][name] += int(row.get(name) or 0)
    return sums


def _kept(day: date) -> dict[tuple[Any, ...], dict[str, int]]:
    kept: dict[tuple[Any, ...], dict[str, int]] = defaultdict(lambda: dict.fromkeys(NAMES, 0))
    for row in ProfitDay.objects.filter(day=day).values(*_COLUMNS, *NAMES):
        key = tuple(row[name] for name in _COLUMNS)
        for name in NAMES:
            kept[key][name] += row[name]
    return kept


def _first_day() -> date | None:
    """The first day that has any work, by indexes; later kept days are skipped by the caller."""
    newest: date | None = RollupDay.objects.filter(is_dirty=False).aggregate(day=Max("day"))["day"]
    dirty: date | None = RollupDay.objects.filter(is_dirty=True).aggregate(day=Min("day"))["day"]
    if newest is not None:
        return min(newest, dirty) if dirty else newest
    firsts = [
        Call.objects.aggregate(at=Min("finished_at"))["at"],
        Job.objects.aggregate(at=Min("closed_at"))["at"],
    ]
    days: list[date] = [at.astimezone(UTC).date() for at in firsts if at is not None]
    correction = CostLine.objects.filter(call=None).aggregate(day=Min("day"))["day"]
    days += [correction] if correction else []
    return min(days, default=None)
