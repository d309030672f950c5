"""Whole UTC days, as pages and reports ask for them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from django.db.models import Q


def midnight(day: date) -> datetime:
    """The first moment of a UTC day."""
    return datetime.combine(day, time.min, tzinfo=UTC)


def in_days(column: str, first: date | None, last: date | None) -> Q:
    """A moment within days, the last included; None: since, or until, any."""
    condition = Q()
    if first is not None:
        condition &= Q(**{f"{column}__gte": midnight(first)})
    if last is not None:
        condition &= Q(**{f"{column}__lt": midnight(last + timedelta(days=1))})
    return condition
