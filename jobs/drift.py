"""Cost drift: the same work costs more per job than it used to, and why.

The last week of an alias and job type, today included, is held against the four weeks before it, in
whole UTC days: those that are over are kept (``CostDay``), and a job that ran into a second day
counts in both. The change per
job splits exactly: what the new prices make of the week's tokens (price), what a changed share of
cached input makes (cache), and what more or fewer tokens make (tokens).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, Sum
from django.db.models.functions import TruncDate

from jobs import profit
from jobs.facts import JOB_TYPE
from jobs.models import Call, CostDay
from saas_litellm.base import alarms, clock
from saas_litellm.base.days import midnight
from saas_litellm.base.money import FEMTO_PER_NANO, divide_half_even, from_nano
from teams.models import Alias
from teams.prices import UnitPrices

RECENT = timedelta(days=7)
BASELINE = timedelta(days=28)


# Of CostDay; in the order of Window.
NAMES = (
    "jobs",
    "provider_cost_nano_usd",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
)


@dataclass(frozen=True, slots=True)
class Window:
    """Sums over calls that had a cost: jobs they were in, nano-USD, tokens."""

    jobs: int
    cost: int
    prompt: int
    cached: int
    completion: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The change of the cost per job, in nano-USD; price + cache + tokens is all of it."""

    alias: str
    job_type: str
    jobs: int
    before: int
    after: int
    price: int
    cache: int
    tokens: int

    @property
    def percent(self) -> Decimal:
        return (Decimal(self.after - self.before) * 100 / self.before).quantize(Decimal("0.1"))

    def as_json(self) -> dict[str, Any]:
        return {
            "alias": self.alias,
            "job_type": self.job_type,
            "jobs": self.jobs,
            "cost_per_job_before_usd": from_nano(self.before),
            "cost_per_job_after_usd": from_nano(self.after),
            "percent": self.percent,
            "by_price_usd": from_nano(self.price),
            "by_cache_usd": from_nano(self.cache),
            "by_tokens_usd": from_nano(self.tokens),
        }


def find(*, now: datetime | None = None, least_jobs: int = 20, percent: int = 20) -> list[Drift]:
    """Aliases and job types whose cost per job moved by ``percent`` or more, the dearest first."""
    end = (now or clock.now()).date() + timedelta(days=1)
    recent = _windows(end - RECENT, end)
    baseline = _windows(end - RECENT - BASELINE, end - RECENT)
    names = dict(Alias.objects.values_list("pk", "name"))
    drifts = []
    for key, after in recent.items():
        before = baseline.get(key)
        if before is None or min(before.jobs, after.jobs) < least_jobs or before.cost == 0:
            continue
        prices = _last_prices(*key, until=end - RECENT)
        drift = compare(
            alias=names[key[0]], job_type=key[1], before=before, after=after, prices=prices
        )
        if abs(drift.percent) >= percent:
            drifts.append(drift)
    return sorted(drifts, key=lambda drift: drift.before - drift.after)


def compare(
    *, alias: str, job_type: str, before: Window, after: Window, prices: UnitPrices
) -> Drift:
    """Pure: two windows, and the unit prices that held at the baseline's end (base rates).

    A long-context tier's surcharge counts as price.
    """
    same_prices = _cost(prices, after.prompt, after.cached, after.completion)
    usual_cached = divide_half_even(after.prompt * before.cached, before.prompt or 1)
    same_cache = _cost(prices, after.prompt, usual_cached, after.completion)
    was = divide_half_even(before.cost, before.jobs)
    now = divide_half_even(after.cost, after.jobs)
    price = divide_half_even(after.cost - same_prices, after.jobs)
    cache = divide_half_even(same_prices - same_cache, after.jobs)
    return Drift(
        alias=alias,
        job_type=job_type,
        jobs=after.jobs,
        before=was,
        after=now,
        price=price,
        cache=cache,
        tokens=now - was - price - cache,
    )


def sound() -> int:
    """An alarm for each drift upwards; returns how many."""
    dearer = [drift for drift in find() if drift.after > drift.before]
    for drift in dearer:
        alarms.sound(
            kind="cost.drift",
            subject=f"{drift.alias}, {drift.job_type}",
            detail=f"{drift.percent} % a job: price {from_nano(drift.price)}, cache"
            f" {from_nano(drift.cache)}, tokens {from_nano(drift.tokens)} USD",
        )
    return len(dearer)


def costs_of(start: date, end: date) -> list[CostDay]:
    """From the calls themselves, from ``start`` up to but not including ``end``: not saved."""
    rows = (
        Call.objects.filter(
            finished_at__gte=midnight(start),
            finished_at__lt=midnight(end),
            provider_cost_nano_usd__gt=0,
        )
        .order_by()
        .annotate(day=TruncDate("finished_at", tzinfo=UTC), job_type=JOB_TYPE)
        .values_list("day", "alias_id", "job_type")
        .annotate(Count("job", distinct=True), *(Sum(name) for name in NAMES[1:]))
    )
    return [
        CostDay(
            day=day, alias_id=alias_id, job_type=job_type, **dict(zip(NAMES, sums, strict=True))
        )
        for day, alias_id, job_type, *sums in rows
    ]


def _windows(start: date, end: date) -> dict[tuple[int, str], Window]:
    """By alias and job type; days that changed since they were summed are read from the calls."""
    open_ranges = profit.open_ranges(start, end)
    kept = CostDay.objects.filter(day__gte=start, day__lt=end)
    for begins, ends in open_ranges:
        kept = kept.exclude(day__gte=begins, day__lt=ends)
    sums: dict[tuple[int, str], list[int]] = defaultdict(lambda: [0] * len(NAMES))
    for cost in [*kept, *(cost for span in open_ranges for cost in costs_of(*span))]:
        row = sums[cost.alias_id, cost.job_type]
        row[:] = [total + getattr(cost, name) for total, name in zip(row, NAMES, strict=True)]
    return {key: Window(*row) for key, row in sums.items()}


def _last_prices(alias_id: int, job_type: str, *, until: date) -> UnitPrices:
    call = (
        Call.objects.filter(
            alias=alias_id,
            job__job_type=job_type,
            finished_at__lt=midnight(until),
            provider_cost_nano_usd__gt=0,
        )
        .order_by("-finished_at", "pk")
        .first()
    )
    assert call is not None, "the baseline has such a call"
    return UnitPrices.from_json(call.unit_prices)


def _cost(prices: UnitPrices, prompt: int, cached: int, completion: int) -> int:
    base = prices.base
    cached_rate = base.input if base.cached_read is None else base.cached_read
    femto = (prompt - cached) * base.input + cached * cached_rate + completion * base.output
    return divide_half_even(femto, FEMTO_PER_NANO)
