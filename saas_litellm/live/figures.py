"""What goes on right now: what is in flight, what finished of late, what it brought and cost.

Sums are by whole seconds of the last minutes. Revenue is that of the profit report: what calls and
jobs that ended then are worth, refunds taken off; costs are those booked on the calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from django.db.models import Count, F, QuerySet, Sum
from django.db.models.functions import TruncSecond
from django.urls import reverse

from jobs.facts import FAILED_CALL
from jobs.models import Call, Job
from saas_litellm.base import clock, shown
from saas_litellm.base.money import from_nano

MINUTE = 60
TRAIL_SECONDS = 300
STEP_SECONDS = 5
CALLS = 50
ALIASES = 12
# A call's moment is taken just before its transaction commits: seconds that young may still grow.
_UNSETTLED_SECONDS = 15
# What committed later still is found by reading everything again this often.
_WHOLE_EVERY_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that the page shows, as JSON would hold it; amounts are decimal strings."""

    figures: dict[str, Any]
    # Newest first; each has an ``id``.
    calls: list[dict[str, Any]]


@dataclass(slots=True)
class Sums:
    """What ended within some time; amounts in nano-USD."""

    calls: int = 0
    failed: int = 0
    tokens: int = 0
    price: int = 0
    cost: int = 0

    def add(self, other: Sums) -> None:
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


_SUMS = tuple(named.name for named in fields(Sums))


class Window:
    """The last minutes by the second. Looking again reads only the seconds that may have changed."""

    def __init__(self) -> None:
        self._seconds: dict[int, Sums] = {}
        self._looked_at = self._whole_at = 0

    def look(self) -> State:
        """The state of now: five indexed queries at the most, whatever the traffic."""
        moment = clock.now()
        now = int(moment.timestamp())
        is_stale = now - self._looked_at >= _UNSETTLED_SECONDS
        if is_stale or now - self._whole_at >= _WHOLE_EVERY_SECONDS:
            start, self._whole_at = now - TRAIL_SECONDS, now
        else:
            start = now - _UNSETTLED_SECONDS
        self._looked_at = now
        self._seconds = {at: sums for at, sums in self._seconds.items() if _is_kept(at, now, start)}
        since = datetime.fromtimestamp(start, UTC)
        for at, sums in (*_ended_calls(since), *_ended_jobs(since)):
            self._seconds.setdefault(at, Sums()).add(sums)
        return State(figures=self._figures(moment), calls=_newest_calls(moment.date()))

    def _figures(self, moment: datetime) -> dict[str, Any]:
        now = int(moment.timestamp())
        minute = self._between(now - MINUTE, now)
        in_flight = _in_flight()
        total = sum(count for _, count in in_flight)
        return {
            "at": moment.isoformat(),
            "tiles": _tiles(minute, in_flight=total),
            "aliases": _most(in_flight),
            "summary": _summary(minute, in_flight=total),
            "trail": self._trail(now),
        }

    def _trail(self, now: int) -> dict[str, Any]:
        ends = range(now - TRAIL_SECONDS + STEP_SECONDS, now + 1, STEP_SECONDS)
        steps = [self._between(end - STEP_SECONDS, end) for end in ends]
        return {
            "step_seconds": STEP_SECONDS,
            "tokens": [step.tokens for step in steps],
            "price_usd": [str(from_nano(step.price)) for step in steps],
            "cost_usd": [str(from_nano(step.cost)) for step in steps],
        }

    def _between(self, after: int, until: int) -> Sums:
        """The seconds later than ``after``, up to ``until`` itself."""
        sums = Sums()
        for at in range(after + 1, until + 1):
            if at in self._seconds:
                sums.add(self._seconds[at])
        return sums


def _is_kept(at: int, now: int, start: int) -> bool:
    return now - TRAIL_SECONDS <= at < start


def _ended_calls(since: datetime) -> Iterable[tuple[int, Sums]]:
    yield from _by_second(
        Call.objects.filter(finished_at__gte=since),
        "finished_at",
        calls=Count("pk"),
        failed=Count("pk", filter=FAILED_CALL),
        tokens=Sum("total_tokens"),
        price=Sum(F("price_nano_usd") - F("refunded_nano_usd")),
        cost=Sum("provider_cost_nano_usd"),
    )


def _ended_jobs(since: datetime) -> Iterable[tuple[int, Sums]]:
    """What jobs cost as a whole: a flat price, or what a minimum adds."""
    yield from _by_second(
        Job.objects.filter(closed_at__gte=since),
        "closed_at",
        price=Sum(F("base_price_nano_usd") - F("base_refunded_nano_usd")),
    )


def _by_second(rows: QuerySet[Any], moment: str, **sums: Any) -> Iterable[tuple[int, Sums]]:
    named = {f"sum_{name}": expression for name, expression in sums.items()}
    seconds = rows.order_by().annotate(second=TruncSecond(moment, tzinfo=UTC)).values("second")
    for row in seconds.annotate(**named):
        found = {name: int(row[f"sum_{name}"] or 0) for name in sums}
        yield int(row["second"].timestamp()), Sums(**found)


def _in_flight() -> list[tuple[str, int]]:
    """Aliases and how many calls each has open, most first. What runs has no end yet, and the
    index of ends holds those rows together on either database."""
    found = Call.objects.filter(finished_at__isnull=True).order_by().values_list("alias__name")
    return sorted(found.annotate(Count("pk")), key=lambda row: (-row[1], row[0]))


def _most(in_flight: list[tuple[str, int]]) -> list[dict[str, Any]]:
    rows, rest = in_flight[:ALIASES], sum(count for _, count in in_flight[ALIASES:])
    named = [*rows, *([(f"{len(in_flight) - ALIASES} others", rest)] if rest else [])]
    return [{"name": name, "count": count} for name, count in named]


_COLUMNS = (
    "pk",
    "finished_at",
    "team__slug",
    "job__job_type",
    "alias__name",
    "status",
    "error_code",
    "total_tokens",
    "latency_ms",
    "price_nano_usd",
    "refunded_nano_usd",
    "provider_cost_nano_usd",
)


def _newest_calls(today: date) -> list[dict[str, Any]]:
    ended = Call.objects.filter(finished_at__isnull=False).order_by("-finished_at")
    return [_call(row, today) for row in ended.values(*_COLUMNS)[:CALLS]]


def _call(row: dict[str, Any], today: date) -> dict[str, Any]:
    at: datetime = row["finished_at"]
    is_failed = row["status"] != Call.Status.SETTLED or bool(row["error_code"])
    return {
        "id": str(row["pk"]),
        "link": reverse("admin:jobs_call_change", args=[row["pk"]]),
        "at": at.isoformat(),
        "time": f"{at:%H:%M:%S}" if at.date() == today else f"{at:%-d %b %H:%M}",
        "team": row["team__slug"],
        "job_type": row["job__job_type"],
        "alias": row["alias__name"],
        "status": row["status"],
        "error": row["error_code"],
        "is_failed": is_failed,
        "tokens": shown.count(row["total_tokens"]),
        "latency": shown.milliseconds(row["latency_ms"]),
        "price": _usd(row["price_nano_usd"] - row["refunded_nano_usd"]),
        "cost": _usd(row["provider_cost_nano_usd"]),
    }


def _tiles(minute: Sums, *, in_flight: int) -> list[dict[str, Any]]:
    margin = minute.price - minute.cost
    last = "last minute"
    return [
        _tile("in_flight", "In flight", _plain(shown.count(in_flight)), note="calls"),
        _tile(
            "calls",
            "Calls finished",
            _plain(shown.count(minute.calls)),
            note=f"{last}, {shown.count(minute.failed)} failed",
        ),
        _tile(
            "tokens",
            "Tokens per second",
            _plain(_per_second(minute.tokens)),
            note=f"{shown.count(minute.tokens)} {last}",
        ),
        _tile("price", "Revenue", _usd(minute.price), note=last),
        _tile("cost", "Provider cost", _usd(minute.cost), note=last),
        _tile(
            "margin",
            "Margin",
            _usd(margin),
            note=last if margin >= 0 else f"a loss, {last}",
            is_bad=margin < 0,
        ),
    ]


def _tile(
    key: str, name: str, value: dict[str, str], *, note: str, is_bad: bool = False
) -> dict[str, Any]:
    return {"key": key, "name": name, "note": note, "is_bad": is_bad, **value}


def _plain(text: str) -> dict[str, str]:
    return {"shown": text, "exact": ""}


def _usd(nano_usd: int) -> dict[str, str]:
    return {"shown": shown.usd(nano_usd), "exact": f"{from_nano(nano_usd):f} USD"}


def _per_second(tokens: int) -> str:
    pace = (Decimal(tokens) / MINUTE).quantize(Decimal("0.1"), ROUND_HALF_EVEN)
    return f"{pace:,}"


def _summary(minute: Sums, *, in_flight: int) -> str:
    """For whoever listens rather than looks."""
    return (
        f"{shown.count(in_flight)} calls in flight. In the last minute {shown.count(minute.calls)}"
        f" finished and {shown.count(minute.failed)} failed, with a revenue of"
        f" {shown.usd(minute.price)} and a provider cost of {shown.usd(minute.cost)}."
    )
