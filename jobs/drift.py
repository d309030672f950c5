"""Cost drift: the same work costs more per job than it used to, and why.

The last week of an alias and job type is held against the four weeks before it. The change per
job splits exactly: what the new prices make of the week's tokens (price), what a changed share of
cached input makes (cache), and what more or fewer tokens make (tokens).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, Max, Sum

from jobs.models import Call
from saas_litellm.base import alarms, clock
from saas_litellm.base.money import FEMTO_PER_NANO, divide_half_even, from_nano
from teams.prices import UnitPrices

RECENT = timedelta(days=7)
BASELINE = timedelta(days=28)


@dataclass(frozen=True, slots=True, kw_only=True)
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
    until = now or clock.now()
    recent = dict(_windows(until - RECENT, until))
    baseline = dict(_windows(until - RECENT - BASELINE, until - RECENT))
    drifts = []
    for key, after in recent.items():
        before = baseline.get(key)
        if before is None or min(before.jobs, after.jobs) < least_jobs or before.cost == 0:
            continue
        prices = _last_prices(*key, until=until - RECENT)
        drift = compare(alias=key[1], job_type=key[2], before=before, after=after, prices=prices)
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


def _windows(start: datetime, end: datetime) -> Iterator[tuple[tuple[int, str, str], Window]]:
    rows = (
        Call.objects.filter(
            finished_at__gte=start, finished_at__lt=end, provider_cost_nano_usd__gt=0
        )
        .order_by()
        .values_list("alias_id", "alias__name", "job__job_type")
        .annotate(
            Count("job", distinct=True),
            Sum("provider_cost_nano_usd"),
            Sum("prompt_tokens"),
            Sum("cached_tokens"),
            Sum("completion_tokens"),
        )
    )
    for alias_id, alias, job_type, jobs, cost, prompt, cached, completion in rows:
        yield (
            (alias_id, alias, job_type),
            Window(jobs=jobs, cost=cost, prompt=prompt, cached=cached, completion=completion),
        )


def _last_prices(alias_id: int, alias: str, job_type: str, *, until: datetime) -> UnitPrices:
    calls = Call.objects.filter(
        alias=alias_id, job__job_type=job_type, finished_at__lt=until, provider_cost_nano_usd__gt=0
    )
    newest = calls.aggregate(at=Max("finished_at"))["at"]
    call = calls.filter(finished_at=newest).order_by("pk")[0]
    return UnitPrices.from_json(call.unit_prices)


def _cost(prices: UnitPrices, prompt: int, cached: int, completion: int) -> int:
    base = prices.base
    cached_rate = base.input if base.cached_read is None else base.cached_read
    femto = (prompt - cached) * base.input + cached * cached_rate + completion * base.output
    return divide_half_even(femto, FEMTO_PER_NANO)
