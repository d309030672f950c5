"""Figures as people read them on a page; the exact ones stand beside them or in the CSV."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

from saas_litellm.base.money import from_nano


def usd(nano_usd: int) -> str:
    """1,234.50 for whole dollars, 0.0123 for parts of one: cents would hide a call's cost."""
    return _grouped(from_nano(nano_usd), sign="$")


def signed_usd(nano_usd: int) -> str:
    """With its sign, a gain's too, so that colour is not all that tells them apart."""
    return f"+{usd(nano_usd)}" if nano_usd > 0 else usd(nano_usd)


def exact(nano_amount: int) -> str:
    """Every digit of an amount: 1,234.000000005."""
    return f"{from_nano(nano_amount):,f}"


def credit_amount(nanocredits: int) -> str:
    return _grouped(from_nano(nanocredits))


def count(number: int) -> str:
    return f"{number:,}"


def counted(number: Decimal | int, noun: str) -> str:
    """1 team, 2,000 teams, 0.5 credits."""
    return f"{Decimal(number):,f} {noun}{'' if number == 1 else 's'}"


def percent(share: Decimal | None) -> str:
    return "–" if share is None else f"{share:,.1f} %"


def ago(moment: datetime | None, *, now: datetime) -> str:
    """3 min, 5 h, 2 d: how long ago; or that it never was."""
    if moment is None:
        return "never"
    return f"{span(now - moment)} ago"


def span(time: timedelta) -> str:
    seconds = max(0, int(time.total_seconds()))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def milliseconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value / 1000:.1f} s" if value >= 1000 else f"{value:.0f} ms"


def _grouped(amount: Decimal, *, sign: str = "") -> str:
    size = abs(amount)
    places = Decimal("0.01") if size >= 1 or size == 0 else Decimal("0.0001")
    rounded = size.quantize(places, ROUND_HALF_EVEN)
    if rounded == 0 and size > 0:
        return f"{'-' if amount < 0 else ''}<{sign}0.0001"
    return f"{'-' if amount < 0 else ''}{sign}{rounded:,}"
