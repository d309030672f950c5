"""Deferred revenue: what was paid for credits that are not earned yet, month by month.

Sold credits are a liability until they are drawn. Each draw earns its share of what was paid for
its lot (promotional lots earn nothing); what expires is breakage; what a refund restores is owed
again; a purchase that was paid back is sold no more. Opening + sold − earned − breakage + refunded = closing, to the nano-USD.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from django.db.models import Case, Sum, Value, When
from django.db.models.functions import TruncMonth

from billing import lots
from billing.models import Draw, Entry, Grant
from saas_litellm.base.money import from_nano

RECONCILES = (
    "closing = opening + sold - earned - breakage + refunded. charged_at_plan_rates is the profit"
    " report's revenue; it differs from earned by what promotional credits and discounts paid for."
)


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


def deferred(*, account_ids: Iterable[int] | None = None) -> list[Month]:
    """Every month from the first grant to now, in order; of some accounts only if given."""
    chosen = None if account_ids is None else list(account_ids)
    lots.fold_all(chosen)
    months: dict[str, Month] = defaultdict(lambda: Month(month=""))
    _add_grants(months, chosen)
    _add_draws(months, chosen)
    _add_charges(months, chosen)
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


def _add_grants(months: dict[str, Month], accounts: list[int] | None) -> None:
    grants = Grant.objects.exclude(kind=Grant.Kind.REFUND).order_by()
    if accounts is not None:
        grants = grants.filter(entry__account__in=accounts)
    rows = (
        grants.annotate(
            month=TruncMonth("entry__created_at", tzinfo=UTC),
            is_paid=Case(When(paid_nano_usd__gt=0, then=Value(True)), default=Value(False)),
        )
        .values_list("month", "is_paid")
        .annotate(paid=Sum("paid_nano_usd"), amount=Sum("entry__amount_nanocredits"))
    )
    for at, is_paid, paid, amount in rows:
        month = months[_month(at)]
        month.sold_nano_usd += paid
        month.sold_nanocredits += amount if is_paid else 0
        month.promotional_nanocredits += 0 if is_paid else amount


def _add_draws(months: dict[str, Month], accounts: list[int] | None) -> None:
    draws = Draw.objects.exclude(kind=Draw.Kind.TRANSFER).order_by()
    if accounts is not None:
        draws = draws.filter(lot__account__in=accounts)
    rows = (
        draws.annotate(month=TruncMonth("at", tzinfo=UTC))
        .values_list("month", "kind")
        .annotate(paid=Sum("paid_nano_usd"), amount=Sum("amount_nanocredits"))
    )
    for at, kind, paid, amount in rows:
        month = months[_month(at)]
        if kind == Draw.Kind.EXPIRY:
            month.breakage_nano_usd += paid
            month.expired_nanocredits += amount
        elif kind == Draw.Kind.PAID_BACK:
            month.sold_nano_usd -= paid
            month.sold_nanocredits -= amount
        elif kind == Draw.Kind.REFUND:
            month.refunded_nano_usd -= paid
            month.refunded_nanocredits -= amount
        else:
            month.earned_nano_usd += paid
            month.consumed_nanocredits += amount


def _add_charges(months: dict[str, Month], accounts: list[int] | None) -> None:
    entries = Entry.objects.filter(price_nano_usd__isnull=False).order_by()
    if accounts is not None:
        entries = entries.filter(account__in=accounts)
    days = entries.values_list("created_at__year", "created_at__month")
    for year, month, total in days.annotate(Sum("price_nano_usd")):
        months[f"{year:04}-{month:02}"].charged_at_plan_rates_nano_usd += int(total or 0)


def _month(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m}"
