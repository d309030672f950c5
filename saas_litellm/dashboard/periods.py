"""The period a page speaks of, in whole UTC days, and the one before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

LONGEST_DAYS = 366
NAMES = {
    "today": "Today",
    "7d": "7 days",
    "30d": "30 days",
    "month": "This month",
    "custom": "From … to",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From ``start`` up to but not including ``end``."""

    key: str
    start: date
    end: date
    error: str = ""

    @property
    def days(self) -> int:
        return (self.end - self.start).days

    @property
    def last(self) -> date:
        return self.end - timedelta(days=1)

    @property
    def before(self) -> Period:
        """As many days, just before; of a month, the same days of the month before it."""
        if self.key != "month":
            return Period(
                key="custom", start=self.start - timedelta(days=self.days), end=self.start
            )
        first = (self.start - timedelta(days=1)).replace(day=1)
        return Period(key="custom", start=first, end=min(first + timedelta(self.days), self.start))

    @property
    def text(self) -> str:
        if self.days == 1:
            return f"{self.start:%-d %b %Y}"
        return f"{self.start:%-d %b} – {self.last:%-d %b %Y}"


def of_query(query: Mapping[str, str], *, today: date) -> Period:
    """What ``?period=`` asks for: with ``custom``, ``from`` and ``to``, both days included.

    What cannot be read is the last 30 days, with a sentence that says why.
    """
    tomorrow = today + timedelta(days=1)
    starts = {
        "today": today,
        "7d": today - timedelta(days=6),
        "30d": today - timedelta(days=29),
        "month": today.replace(day=1),
    }
    key = query.get("period", "30d")
    if key in starts:
        return Period(key=key, start=starts[key], end=tomorrow)
    if key != "custom":
        return _usual(today, "There is no such period; this is the last 30 days.")
    try:
        start, last = (date.fromisoformat(query.get(name, "")) for name in ("from", "to"))
    except ValueError:
        return _usual(today, "Give both days as 2026-01-31; this is the last 30 days.")
    if not timedelta(0) <= last - start < timedelta(days=LONGEST_DAYS) or not _is_sane(start):
        return _usual(today, f"From must not be after to, and {LONGEST_DAYS} days are the most.")
    return Period(key="custom", start=start, end=last + timedelta(days=1))


def _usual(today: date, error: str) -> Period:
    usual = of_query({}, today=today)
    return Period(key=usual.key, start=usual.start, end=usual.end, error=error)


def _is_sane(day: date) -> bool:
    """Far from the ends of what a date can be: a period before it and a day after are asked for."""
    return 1970 < day.year < 9000
