"""Profit by day: kept rows of the days that are over, equal to the work they sum."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from jobs.models import RollupDay


def mark_dirty(days: Iterable[date]) -> None:
    """Say, in the changing transaction, that these days' work has changed since it was summed."""
    RollupDay.objects.bulk_create(
        [RollupDay(day=day, is_dirty=True) for day in days],
        update_conflicts=True,
        unique_fields=["day"],
        update_fields=["is_dirty"],
    )


def compare() -> list[str]:
    return []
