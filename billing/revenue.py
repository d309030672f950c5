"""Deferred revenue: what was paid for credits that are not earned yet, month by month.

Sold credits are a liability until they are drawn. Each draw earns its share of what was paid for
its lot (promotional lots earn nothing); what expires is breakage; what a refund restores is owed
again; a purchase that was paid back is sold no more. Opening + sold − earned − breakage + refunded
= closing, to the nano-USD. Days that are over are read from ``RevenueDay``, the days since from the
lines and draws themselves: both are exact.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, date, timedelta
from typing import Any, Literal

from django.db.models import Case, Max, Min, QuerySet, Sum, Value, When
from django.db.models.functions import Trunc

from billing import lots
from billing.models import ArchivedMonth, Draw, Entry, Grant, RevenueDay
from saas_litellm.base import clock
from saas_litellm.base.days import in_days
from saas_litellm.base.money import from_nano

RECONCILES = (
    "closing = opening + sold - earned - breakage + refunded. charged_at_plan_rates is the profit"
    " report's revenue; it differs from earned by what promotional credits and discounts paid for."
)

# What was written before midnight has committed by then.
SETTLED_AFTER = timedelta(hours=1)
DAYS_AT_ONCE = 60
_SUMS = tuple(field.name for field in RevenueDay._meta.fields if field.name != "day")


@dataclass(slots=True, kw_only=True)
class Month:
    """One calendar month (UTC), in nano-USD and nanocredits."""

    month: str
    opening_nano_usd: int = 0
    sold_nano_usd: int = 0
    earned_nano_usd: int = 0
    breakage_nano_usd: int = 0
    refunded_nano_usd: int = 0
    closing_nano_usd: int = 0
    sold_nanocredits: int = 0
    promotional_nanocredits: int = 0
    consumed_nanocredits: int = 0
    expired_nanocredits: int = 0
    refunded_nanocredits: int = 0
    # Price by the plans' rates (the profit report's revenue); earned by lot differs from it by
    # what promotional credits, discounts and debt paid for.
    charged_at_plan_rates_nano_usd: int = 0

    def as_json(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"month": self.month}
        for name, value in asdict(self).items():
            if name != "month":
                unit = "usd" if name.endswith("_nano_usd") else "credits"
                shown[f"{name.removesuffix('_nano_usd').removesuffix('_nanocredits')}_{unit}"] = (
                    from_nano(value)
                )
        return shown


@dataclass(frozen=True, slots=True, kw_only=True)
class _Span:
    """Which lines and draws: of which days (the last included) and accounts; None: any."""

    first: date | None = None
    last: date | None = None
    accounts: list[int] | None = None

    def of(self, rows: QuerySet[Any], *, at: str, account: str) -> QuerySet[Any]:
        rows = rows.filter(in_days(at, self.first, self.last)).order_by()
        return rows if self.accounts is None else rows.filter(**{f"{account}__in": self.accounts})


# A day or the first day of a month, which sum, and an amount to add to it.
_Addend = tuple[date, str, int]
_Unit = Literal["day", "month"]


def deferred(*, account_ids: Iterable[int] | None = None) -> list[Month]:
    """Every month from the first grant to now, in order; of some accounts only if given."""
    chosen = None if account_ids is None else list(account_ids)
    lots.fold_all(chosen)
    months: dict[str, Month] = defaultdict(lambda: Month(month=""))
    newest_kept = None
    if chosen is None:
        newest_kept = last_kept()
        for kept in RevenueDay.objects.all():
            for name in _SUMS:
                # A month without a line has no row.
                if amount := getattr(kept, name):
                    _add(months[_name(kept.day)], name, amount)
    since = newest_kept + timedelta(days=1) if newest_kept else None
    for first, name, amount in _addends("month", _Span(first=since, accounts=chosen)):
        _add(months[_name(first)], name, amount)
    ordered = []
    closing = 0
    for name in sorted(months):
        month = months[name]
        month.month, month.opening_nano_usd = name, closing
        closing += month.sold_nano_usd - month.earned_nano_usd
        closing += month.refunded_nano_usd - month.breakage_nano_usd
        month.closing_nano_usd = closing
        ordered.append(month)
    return ordered


def header() -> list[str]:
    """The columns of a CSV of Month.as_json rows, in order."""
    return list(Month(month="").as_json())


def keep_due() -> int:
    """Keep the sums of days that are over and not kept yet, oldest first; returns of how many."""
    newest = last_kept()
    first = newest + timedelta(days=1) if newest else _first_day()
    over = (clock.now() - SETTLED_AFTER).date() - timedelta(days=1)
    if first is None or first > over:
        return 0
    # A day's draws are all there once the lines of every account are folded.
    lots.fold_all()
    last = min(over, first + timedelta(days=DAYS_AT_ONCE - 1))
    days = _summed(first, last)
    # Another worker that was faster has come to the same sums.
    RevenueDay.objects.bulk_create(days, ignore_conflicts=True)
    return len(days)


def forget() -> None:
    """Keep no day: for when a history was written after the fact. Reports stay exact, and slower.

    Days up to the newest archived month stay: their lines are by month now.
    """
    RevenueDay.objects.filter(day__gte=_archived_until()).delete()


def rebuild() -> int:
    """Keep every day anew; returns how many."""
    forget()
    kept = 0
    while more := keep_due():
        kept += more
    return kept


def compare() -> list[str]:
    """Every difference between the kept sums and the lines and draws; none if all is well."""
    kept = {day.day: day for day in RevenueDay.objects.filter(day__gte=_archived_until())}
    if not kept:
        return []
    return [
        f"{fresh.day}: {name} is {getattr(kept[fresh.day], name)}, should be {getattr(fresh, name)}"
        for fresh in _summed(min(kept), max(kept))
        for name in _SUMS
        if getattr(kept[fresh.day], name) != getattr(fresh, name)
    ]


def last_kept() -> date | None:
    """The newest day whose sums are kept; all days before it are."""
    newest: date | None = RevenueDay.objects.aggregate(day=Max("day"))["day"]
    return newest


def _archived_until() -> date:
    """The first day whose lines and draws are all in the ledger, one by one."""
    newest = ArchivedMonth.objects.aggregate(month=Max("month"))["month"]
    return (newest + timedelta(days=32)).replace(day=1) if newest else date.min


def _first_day() -> date | None:
    oldest = Entry.objects.aggregate(at=Min("created_at"))["at"]
    return oldest.astimezone(UTC).date() if oldest else None


def _summed(first: date, last: date) -> list[RevenueDay]:
    """Days without a line too, so that what is kept has no gaps."""
    days = {
        day: RevenueDay(day=day)
        for day in (first + timedelta(days=n) for n in range((last - first).days + 1))
    }
    for day, name, amount in _addends("day", _Span(first=first, last=last)):
        _add(days[day], name, amount)
    return list(days.values())


def _add(sums: Month | RevenueDay, name: str, amount: int) -> None:
    setattr(sums, name, getattr(sums, name) + amount)


def _addends(unit: _Unit, span: _Span) -> Iterator[_Addend]:
    yield from _of_grants(unit, span)
    yield from _of_draws(unit, span)
    charges = span.of(
        Entry.objects.filter(price_nano_usd__isnull=False), at="created_at", account="account"
    )
    for at, total in _by(unit, charges, "created_at").annotate(Sum("price_nano_usd")):
        yield at.date(), "charged_at_plan_rates_nano_usd", total


def _of_grants(unit: _Unit, span: _Span) -> Iterator[_Addend]:
    grants = span.of(
        Grant.objects.exclude(kind=Grant.Kind.REFUND),
        at="entry__created_at",
        account="entry__account",
    )
    is_paid = Case(When(paid_nano_usd__gt=0, then=Value(True)), default=Value(False))
    rows = _by(unit, grants.annotate(is_paid=is_paid), "entry__created_at", "is_paid")
    for at, paid_for, paid, amount in rows.annotate(
        Sum("paid_nano_usd"), Sum("entry__amount_nanocredits")
    ):
        yield at.date(), "sold_nano_usd", paid
        yield at.date(), "sold_nanocredits" if paid_for else "promotional_nanocredits", amount


def _of_draws(unit: _Unit, span: _Span) -> Iterator[_Addend]:
    draws = span.of(Draw.objects.exclude(kind=Draw.Kind.TRANSFER), at="at", account="lot__account")
    rows = _by(unit, draws, "at", "kind")
    for at, kind, paid, amount in rows.annotate(Sum("paid_nano_usd"), Sum("amount_nanocredits")):
        if kind == Draw.Kind.EXPIRY:
            yield at.date(), "breakage_nano_usd", paid
            yield at.date(), "expired_nanocredits", amount
        elif kind == Draw.Kind.PAID_BACK:
            yield at.date(), "sold_nano_usd", -paid
            yield at.date(), "sold_nanocredits", -amount
        elif kind == Draw.Kind.REFUND:
            yield at.date(), "refunded_nano_usd", -paid
            yield at.date(), "refunded_nanocredits", -amount
        else:
            yield at.date(), "earned_nano_usd", paid
            yield at.date(), "consumed_nanocredits", amount


def _by(unit: _Unit, rows: QuerySet[Any], at: str, *columns: str) -> QuerySet[Any, Any]:
    """Rows to sum, by the day or month (UTC) of a moment and by other columns."""
    begins: QuerySet[Any, Any] = rows.annotate(begins=Trunc(at, unit, tzinfo=UTC))
    return begins.values_list("begins", *columns)


def _name(day: date) -> str:
    return f"{day:%Y-%m}"
