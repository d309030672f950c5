"""A job's calls drawn over time: one track a call, one bar an attempt.

Jobs may rest for hours between calls of seconds, so time in which no call ran is cut short: all
rests together take at most a third of the width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from jobs.models import Attempt, Call
from jobs.story import CallTold, Story
from saas_litellm.base import clock, shown

Span = tuple[datetime, datetime]
# Narrower than this, in per cent, a bar is hard to see.
_NARROWEST = 0.6
_RESTS = 0.5  # of the working time


@dataclass(frozen=True, slots=True)
class Bar:
    """x and width in per cent; ``says`` is what the pointer is told."""

    x: str
    width: str
    kind: Literal["wait", "well", "failed", "running"]
    says: str


@dataclass(frozen=True, slots=True)
class Cut:
    """Where time was cut short, and how much of it."""

    x: str
    says: str


@dataclass(frozen=True, slots=True)
class Try:
    """An attempt in words."""

    number: int
    deployment: str
    took: str
    failure: str
    detail: str
    is_failed: bool


@dataclass(frozen=True, slots=True)
class Track:
    told: CallTold
    took: str
    bars: Sequence[Bar]
    tries: Sequence[Try]

    @property
    def is_eventful(self) -> bool:
        """Whether its attempts need words: it went on to another, or one failed."""
        return len(self.tries) > 1 or any(tried.is_failed for tried in self.tries)


@dataclass(frozen=True, slots=True)
class Timeline:
    starts_at: datetime
    ends_at: datetime
    tracks: Sequence[Track]
    cuts: Sequence[Cut]


def of(story: Story) -> Timeline | None:
    """None for a job without calls."""
    if not story.calls:
        return None
    now = clock.now()
    axis = _Axis([_span(told.call, now) for told in story.calls])
    tracks = [_track(told, axis, now) for told in story.calls]
    return Timeline(axis.starts_at, axis.ends_at, tracks, axis.cuts)


class _Axis:
    """From moments to per cent: straight while a call runs, cut short while none does."""

    def __init__(self, spans: Sequence[Span]) -> None:
        working = _merged(spans)
        self.starts_at, self.ends_at = working[0][0], working[-1][1]
        seconds = sum((end - start).total_seconds() for start, end in working) or 1.0
        rest_limit = seconds * _RESTS / max(1, len(working) - 1)
        self._pieces: list[tuple[datetime, datetime, float, float]] = []
        self._cuts: list[tuple[float, timedelta]] = []
        at = 0.0
        for number, (start, end) in enumerate(working):
            if number:
                before = working[number - 1][1]
                rest = (start - before).total_seconds()
                drawn = min(rest, rest_limit)
                if drawn < rest:
                    self._cuts.append((at + drawn / 2, start - before))
                self._pieces.append((before, start, at, at + drawn))
                at += drawn
            self._pieces.append((start, end, at, at + (end - start).total_seconds()))
            at += (end - start).total_seconds()
        self._length = at or 1.0

    @property
    def cuts(self) -> list[Cut]:
        return [
            Cut(_percent(at / self._length * 100), f"{shown.span(rest)} without a call")
            for at, rest in self._cuts
        ]

    def x(self, moment: datetime) -> float:
        for start, end, first, last in self._pieces:
            if moment <= end:
                whole = (end - start).total_seconds() or 1.0
                share = max(0.0, (moment - start).total_seconds()) / whole
                return (first + share * (last - first)) / self._length * 100
        return 100.0


def _merged(spans: Sequence[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _span(call: Call, now: datetime) -> Span:
    return call.created_at, max(call.created_at, call.finished_at or now)


def _track(told: CallTold, axis: _Axis, now: datetime) -> Track:
    start, end = _span(told.call, now)
    bars = [_bar(axis, (start, end), "wait", f"call {told.number}: {_took(start, end)}")]
    tries = []
    for attempt in told.attempts:
        begun, ended = attempt.started_at, attempt.ended_at or end
        tried = _try(attempt, told.call, _took(begun, ended))
        kind: Literal["well", "failed", "running"] = "failed" if tried.is_failed else "well"
        if attempt.ended_at is None and told.call.status in Call.RUNNING:
            kind = "running"
        says = f"attempt {tried.number}, {tried.deployment}: {tried.failure or kind}, {tried.took}"
        bars.append(_bar(axis, (begun, ended), kind, says))
        tries.append(tried)
    return Track(told, _took(start, end), bars, tries)


def _try(attempt: Attempt, call: Call, took: str) -> Try:
    failure = attempt.failure
    if not failure and attempt.ended_at is None and call.status == Call.Status.ABANDONED:
        failure = "abandoned"
    status = f" ({attempt.failure_status})" if attempt.failure_status else ""
    return Try(
        number=attempt.number,
        deployment=str(attempt.deployment),
        took=took,
        failure=f"{failure}{status}",
        detail=attempt.failure_detail,
        is_failed=bool(failure),
    )


def _bar(
    axis: _Axis, span: Span, kind: Literal["wait", "well", "failed", "running"], says: str
) -> Bar:
    first, last = axis.x(span[0]), axis.x(span[1])
    width = max(_NARROWEST, last - first)
    return Bar(_percent(min(first, 100 - width)), _percent(width), kind, says)


def _took(start: datetime, end: datetime) -> str:
    seconds = max(0.0, (end - start).total_seconds())
    return shown.milliseconds(seconds * 1000) if seconds < 60 else shown.span(end - start)


def _percent(value: float) -> str:
    return f"{value:.3f}%"
