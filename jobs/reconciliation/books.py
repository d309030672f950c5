"""Our side of a comparison: calls and their cost lines by litellm model and UTC day.

A call belongs to the day it was sent to the provider, as a provider counts it, and to the model
of the deployment that served it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db.models import (
    Count,
    ExpressionWrapper,
    F,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Sum,
)
from django.db.models.fields import BooleanField
from django.db.models.functions import Coalesce, TruncDate

from jobs.models import Attempt, Call, CostLine

# What we cannot vouch for: counted by ourselves, given up, or delivered and yet free.
DOUBTFUL = (
    Q(usage_source="estimate")
    | Q(status=Call.Status.ABANDONED)
    | Q(provider_cost_nano_usd=0, is_output_delivered=True)
)


@dataclass(slots=True)
class Figures:
    """Sums over one or more models of a day."""

    tokens: int = 0
    nano_usd: int = 0
    calls: int = 0
    doubtful_calls: int = 0

    def add(self, other: Figures) -> None:
        self.tokens += other.tokens
        self.nano_usd += other.nano_usd
        self.calls += other.calls
        self.doubtful_calls += other.doubtful_calls


def sums(*, first_day: date, last_day: date) -> dict[tuple[date, str], Figures]:
    """Tokens, cost and calls of these days, by day and litellm model string."""
    found: dict[tuple[date, str], Figures] = defaultdict(Figures)
    counted = (
        sent(first_day=first_day, last_day=last_day)
        .order_by()
        .values("sent_on", "served")
        .annotate(
            tokens=Sum(F("prompt_tokens") + F("completion_tokens")),
            number=Count("pk"),
            doubtful=Count("pk", filter=DOUBTFUL),
        )
    )
    for row in counted:
        figures = found[row["sent_on"], row["served"] or ""]
        figures.tokens += row["tokens"]
        figures.calls += row["number"]
        figures.doubtful_calls += row["doubtful"]
    for day, served, amount in _costs(first_day, last_day):
        found[day, served or ""].nano_usd += amount
    return found


def corrections(*, first_day: date, last_day: date) -> dict[tuple[date, str], int]:
    """Nano-USD of corrections that no one call explains, by day and model as it was compared."""
    rows = (
        CostLine.objects.filter(call=None, day__gte=first_day, day__lte=last_day)
        .order_by()
        .values_list("day", "model")
        .annotate(amount=Sum("amount_nano_usd"))
    )
    return {(day, model.lower()): amount for day, model, amount in rows}


def sent(*, first_day: date, last_day: date) -> QuerySet[Any]:
    """Calls sent to a provider on these days, with ``sent_on``, ``served``, ``is_doubtful``."""
    last = Attempt.objects.filter(call=OuterRef("pk")).order_by("-number")
    return Call.objects.filter(
        dispatched_at__gte=_midnight(first_day),
        dispatched_at__lt=_midnight(last_day + timedelta(days=1)),
    ).annotate(
        sent_on=TruncDate("dispatched_at", tzinfo=UTC),
        served=Coalesce(Subquery(last.values("deployment__model")[:1]), F("deployment__model")),
        is_doubtful=ExpressionWrapper(DOUBTFUL, output_field=BooleanField()),
    )


def _costs(first_day: date, last_day: date) -> list[tuple[date, str, int]]:
    return list(
        CostLine.objects.filter(
            call__dispatched_at__gte=_midnight(first_day),
            call__dispatched_at__lt=_midnight(last_day + timedelta(days=1)),
        )
        .order_by()
        .annotate(
            sent_on=TruncDate("call__dispatched_at", tzinfo=UTC),
            served=Coalesce("attempt__deployment__model", "call__deployment__model"),
        )
        .values_list("sent_on", "served")
        .annotate(amount=Sum("amount_nano_usd"))
    )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), UTC)
