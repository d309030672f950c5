"""Runway: how many days an account's credits last at the pace of late."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

from django.db.models import Sum
from django.db.models.functions import TruncDate

from billing.models import Account, Entry
from saas_litellm.base import clock

BASIS_DAYS = 28
WEEK = 7
_SPENDING = (Entry.Kind.CHARGE, Entry.Kind.REFUND)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runway:
    """``days`` at the mean pace; the range at the fastest and the slowest of it and of each week.

    None stands for "does not run out": nothing was spent in that time.
    """

    days: Decimal | None
    days_at_fastest: Decimal | None
    days_at_slowest: Decimal | None
    burn_nanocredits_per_day: int
    basis_days: int


def of_account(account: Account) -> Runway:
    """From the whole UTC days before today, 28 at most, since the account's first spending."""
    return estimate(
        left_nanocredits=account.balance_nanocredits + account.credit_limit_nanocredits,
        spent=_spent_by_day(account),
        today=clock.now().date(),
    )


def estimate(*, left_nanocredits: int, spent: dict[date, int], today: date) -> Runway:
    """Pure: ``spent`` is nanocredits by day, refunds taken off; days without any count as 0."""
    first = min((day for day in spent if day < today), default=today)
    basis = min(BASIS_DAYS, (today - first).days)
    days = [max(0, spent.get(today - timedelta(days=n), 0)) for n in range(basis, 0, -1)]
    window = min(WEEK, basis) or 1
    weeks = [sum(days[n : n + window]) for n in range(len(days) - window + 1)] or [0]
    left, mean = max(0, left_nanocredits), (sum(days), basis or 1)
    # The mean is one of the paces: each week of an odd stretch may be faster than all of it.
    paces = [mean, (max(weeks), window), (min(weeks), window)]
    fastest = max(paces, key=lambda pace: Fraction(*pace))
    slowest = min(paces, key=lambda pace: Fraction(*pace))
    return Runway(
        days=_lasts(left, *mean),
        days_at_fastest=_lasts(left, *fastest),
        days_at_slowest=_lasts(left, *slowest),
        burn_nanocredits_per_day=sum(days) // basis if basis else 0,
        basis_days=basis,
    )


def _lasts(left: int, spent: int, days: int) -> Decimal | None:
    if spent == 0:
        return None
    return (Decimal(left) * days / spent).quantize(Decimal("0.1"), ROUND_HALF_EVEN)


def _spent_by_day(account: Account) -> dict[date, int]:
    today = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    since = today - timedelta(days=BASIS_DAYS)
    rows = (
        Entry.objects.filter(
            account=account, kind__in=_SPENDING, created_at__gte=since, created_at__lt=today
        )
        .order_by()
        .annotate(day=TruncDate("created_at", tzinfo=UTC))
        .values_list("day")
        .annotate(Sum("amount_nanocredits"))
    )
    spent: dict[date, int] = defaultdict(int)
    for day, amount in rows:
        spent[day] -= amount
    return spent
