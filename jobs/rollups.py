"""Profit by day: kept rows of days that are over, equal to the work they sum.

A day is rolled up once it is over, and again whenever its work changed: whoever changes it marks
the day dirty in the same transaction, and a dirty day is read from the work until it is rolled up
anew. ``compare`` proves the kept rows against the work.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, date, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Max, Min

from jobs import drift, facts, profit
from jobs.facts import NAMES, Filters
from jobs.models import Call, CostDay, CostLine, Job, PlatformDay, ProfitDay, RollupDay
from jobs.models.books import DaySums
from saas_litellm.base import clock

# What ended before midnight has committed by then.
SETTLED_AFTER = timedelta(hours=1)
DAYS_AT_ONCE = 60
_DIMENSIONS = ("team", "job_type", "alias", "deployment")
_COLUMNS = ("team_id", "job_type", "alias_id", "deployment_id")
Columns = tuple[str, ...]
# Sums by the values of some columns.
Work = dict[tuple[Any, ...], dict[str, int]]


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
        by_team = _sums_of(day)
        for model, columns, work in _kept_as(by_team):
            model._default_manager.filter(day=day).delete()
            model._default_manager.bulk_create(
                [
                    model(day=day, **dict(zip(columns, key, strict=True)), **sums)
                    for key, sums in work.items()
                ],
                batch_size=500,
            )
        CostDay.objects.filter(day=day).delete()
        CostDay.objects.bulk_create(drift.costs_of(day, day + timedelta(days=1)))


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
    differences: list[str] = []
    for day in RollupDay.objects.filter(is_dirty=False).values_list("day", flat=True):
        work = _sums_of(day)
        for model, columns, sums in _kept_as(work):
            differences += _differences(day, columns, sums, _kept(model, columns, day))
        if sorted(map(_facts, CostDay.objects.filter(day=day))) != sorted(
            map(_facts, drift.costs_of(day, day + timedelta(days=1)))
        ):
            differences.append(f"{day}: the kept costs by alias and job type are not the calls'")
    return differences


def _differences(day: date, columns: Columns, work: Work, kept: Work) -> Iterator[str]:
    for key in work.keys() | kept.keys():
        expected, found = work.get(key, {}), kept.get(key, {})
        for name in NAMES:
            if expected.get(name, 0) != found.get(name, 0):
                yield (
                    f"{day} {dict(zip(columns, key, strict=True))}: {name} is"
                    f" {found.get(name, 0)}, should be {expected.get(name, 0)}"
                )


def _kept_as(by_team: Work) -> list[tuple[type[DaySums], Columns, Work]]:
    """The tables that keep a day's sums, each with the columns of its keys."""
    return [
        (ProfitDay, _COLUMNS, by_team),
        (PlatformDay, _COLUMNS[1:], _together(by_team)),
    ]


def _together(by_team: Work) -> Work:
    """The same without the team, which is the first of a key."""
    together: Work = defaultdict(lambda: dict.fromkeys(NAMES, 0))
    for (_, *key), sums in by_team.items():
        for name in NAMES:
            together[tuple(key)][name] += sums[name]
    return together


def _facts(cost: CostDay) -> tuple[Any, ...]:
    return tuple(getattr(cost, name) for name in ("alias_id", "job_type", *drift.NAMES))


def _sums_of(day: date) -> Work:
    sums: Work = defaultdict(lambda: dict.fromkeys(NAMES, 0))
    for row in facts.raw_rows(day, day + timedelta(days=1), _DIMENSIONS, Filters()):
        key = tuple(row[name] for name in _DIMENSIONS)
        for name in NAMES:
            sums[key][name] += int(row.get(name) or 0)
    return sums


def _kept(model: type[DaySums], columns: Columns, day: date) -> Work:
    kept: Work = defaultdict(lambda: dict.fromkeys(NAMES, 0))
    for row in model._default_manager.filter(day=day).values(*columns, *NAMES):
        key = tuple(row[name] for name in columns)
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
