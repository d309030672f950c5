"""A bill, what was charged of it, and its line in the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from billing.models import Entry
from saas_litellm.base import clock, rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What a settlement took. ``charged + overrun`` is the price; volume tiers may give back."""

    charged_nanocredits: int
    overrun_nanocredits: int
    price_nano_usd: int
    balance_nanocredits: int
    # What stopped it from taking all: wallet, budget, or the name of one of the bill's caps.
    overrun_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """A price to be taken, and what its entry says about it.

    ``caps`` name what the caller's own limits leave beyond the hold, in nanocredits.
    """

    price_nanocredits: int
    nanocredits_per_usd: int
    plan_version_id: int
    reference: str
    reason: str
    actor: str
    labels: Mapping[str, Any]
    caps: Mapping[str, int] = field(default_factory=dict)


def entry_of(bill: Bill, account_id: int, charged: int, usd: int, *, balance_after: int) -> Entry:
    """The line of what was charged, in nanocredits and nano-USD; where volume tiers give back, which is
    less than nothing, an adjustment with a lot of its own."""
    return rows.new(
        Entry,
        account_id=account_id,
        kind=Entry.Kind.CHARGE if charged > 0 else Entry.Kind.ADJUSTMENT,
        amount_nanocredits=-charged,
        balance_after_nanocredits=balance_after,
        reference=bill.reference,
        reason=bill.reason,
        actor=bill.actor,
        idempotency_key=f"charge:{bill.reference}",
        plan_version_id=bill.plan_version_id,
        price_nano_usd=usd,
        labels=dict(bill.labels),
        created_at=clock.now(),
    )
