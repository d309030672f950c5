"""Runway: how many days an account's credits last at the pace of late."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, date, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

from django.db.models import Q, Sum
from django.db.models.functions import TruncDate

from billing.models import Account, Entry, Pace
from saas_litellm.base import clock

BASIS_DAYS = 28
WEEK = 7
ACCOUNTS_AT_ONCE = 500
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Paces:
    """Nanocredits a day: the mean, and the fastest and slowest of it and of each week."""

    mean: Fraction
    fastest: Fraction
    slowest: Fraction
    basis_days: int


def of_account(account: Account) -> Runway:
    """From the whole UTC days before today, 28 at most, since the account's first spending."""
    return estimate(
        left_nanocredits=account.balance_nanocredits + account.credit_limit_nanocredits,
        spent=_spent_by_day([account.pk])[account.pk],
        today=clock.now().date(),
    )


def current(account: Account) -> Runway:
    """The same, from the pace that the worker keeps where it has worked out today's."""
    pace = getattr(account, "pace", None)
    if pace is None or pace.as_of != clock.now().date():
        return of_account(account)
    return at_pace(account, pace)


def at_pace(account: Account, pace: Pace) -> Runway:
    """At a pace worked out earlier; the balance is of now. No query."""
    left = max(0, account.balance_nanocredits + account.credit_limit_nanocredits)
    return Runway(
        days=lasts(left, Fraction(pace.mean_nanocredits)),
        days_at_fastest=lasts(left, Fraction(pace.fastest_nanocredits)),
        days_at_slowest=lasts(left, Fraction(pace.slowest_nanocredits)),
        burn_nanocredits_per_day=pace.mean_nanocredits,
        basis_days=pace.basis_days,
    )


def estimate(*, left_nanocredits: int, spent: Mapping[date, int], today: date) -> Runway:
    """Pure: ``spent`` is nanocredits by day, refunds taken off; days without any count as 0."""
    pace = paces(spent=spent, today=today)
    left = max(0, left_nanocredits)
    return Runway(
        days=lasts(left, pace.mean),
        days_at_fastest=lasts(left, pace.fastest),
        days_at_slowest=lasts(left, pace.slowest),
        burn_nanocredits_per_day=int(pace.mean),
        basis_days=pace.basis_days,
    )


def paces(*, spent: Mapping[date, int], today: date) -> Paces:
    """Pure; see ``estimate``."""
    first = min((day for day in spent if day < today), default=today)
    basis = min(BASIS_DAYS, (today - first).days)
    days = [max(0, spent.get(today - timedelta(days=n), 0)) for n in range(basis, 0, -1)]
    window = min(WEEK, basis) or 1
    weeks = [sum(days[n : n + window]) for n in range(len(days) - window + 1)] or [0]
    # The mean is one of the paces: each week of an odd stretch may be faster than all of it.
    mean = Fraction(sum(days), basis or 1)
    found = [mean, Fraction(max(weeks), window), Fraction(min(weeks), window)]
    return Paces(mean=mean, fastest=max(found), slowest=min(found), basis_days=basis)


def lasts(left: int, pace: Fraction) -> Decimal | None:
    """Days, to a tenth, that ``left`` nanocredits last; None: for ever."""
    if pace == 0:
        return None
    return (Decimal(left) * pace.denominator / pace.numerator).quantize(
        Decimal("0.1"), ROUND_HALF_EVEN
    )


def keep_paces() -> int:
    """Work out the pace of every account that has none of today; returns of how many."""
    today, done = clock.now().date(), 0
    while due := list(
        Account.objects.filter(Q(pace=None) | Q(pace__as_of__lt=today)).values_list(
            "pk", flat=True
        )[:ACCOUNTS_AT_ONCE]
    ):
        spent = _spent_by_day(due)
        Pace.objects.bulk_create(
            [_pace(account_id, spent[account_id], today) for account_id in due],
            update_conflicts=True,
            unique_fields=["account"],
            update_fields=[
                "as_of",
                "mean_nanocredits",
                "fastest_nanocredits",
                "slowest_nanocredits",
                "basis_days",
            ],
        )
        done += len(due)
    return done


def _pace(account_id: int, spent: Mapping[date, int], today: date) -> Pace:
    found = paces(spent=spent, today=today)
    return Pace(
        account_id=account_id,
        as_of=today,
        mean_nanocredits=int(found.mean),
        fastest_nanocredits=int(found.fastest),
        slowest_nanocredits=int(found.slowest),
        basis_days=found.basis_days,
    )


def _spent_by_day(account_ids: Collection[int]) -> dict[int, dict[date, int]]:
    today = clock.now().replace(hour=0, minute=0, second=0, microsecond=0)
    rows = (
        Entry.objects.filter(
            account__in=account_ids,
            kind__in=_SPENDING,
            created_at__gte=today - timedelta(days=BASIS_DAYS),
            created_at__lt=today,
        )
        .order_by()
        .annotate(day=TruncDate("created_at", tzinfo=UTC))
        .values_list("account_id", "day")
        .annotate(Sum("amount_nanocredits"))
    )
    spent: dict[int, dict[date, int]] = defaultdict(lambda: defaultdict(int))
    for account_id, day, amount in rows:
        spent[account_id][day] -= amount
    return spent
