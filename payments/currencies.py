"""Currencies as Stripe counts them: amounts are integers of the smallest unit there is."""

from __future__ import annotations

from decimal import Decimal

from saas_litellm.base.money import NANO

USD = "usd"
# What Stripe's documentation of currencies names; every other has two decimals.
WITHOUT_DECIMALS = frozenset(
    {
        *("bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg"),
        *("rwf", "vnd", "vuv", "xaf", "xof", "xpf"),
    }
)
WITH_THREE_DECIMALS = frozenset({"bhd", "jod", "kwd", "omr", "tnd"})
NANO_USD_PER_CENT = NANO // 100


def shown(amount: int, currency: str) -> str:
    """``shown(4500, "usd")`` is "45.00 USD"."""
    places = decimals(currency)
    return f"{Decimal(amount).scaleb(-places):,.{places}f} {currency.upper()}"


def decimals(currency: str) -> int:
    if currency in WITHOUT_DECIMALS:
        return 0
    return 3 if currency in WITH_THREE_DECIMALS else 2
