"""Ledger lines: made as the day goes by, entered in their order at its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from billing.models import Entry, Grant
from saas_litellm.seeding.founding import ACTOR, Customer
from saas_litellm.seeding.rows import Rows


@dataclass(slots=True)
class Line:
    """A ledger entry whose balance is not known yet."""

    at: datetime
    customer: Customer
    columns: dict[str, Any]
    grant: dict[str, Any] = field(default_factory=dict)

    @property
    def nanocredits(self) -> int:
        return int(self.columns["amount_nanocredits"])


def enter(rows: Rows, lines: list[Line]) -> None:
    """Write a day's ledger lines in their order, each with the balance after it."""
    for line in sorted(lines, key=lambda line: line.at):
        line.customer.left_nanocredits += line.nanocredits
        entry_id = rows.add(
            Entry,
            account_id=line.customer.account_id,
            balance_after_nanocredits=line.customer.left_nanocredits,
            created_at=line.at,
            **line.columns,
        )
        if line.grant:
            rows.add(Grant, entry_id=entry_id, **line.grant)


def charge(
    customer: Customer,
    *,
    at: datetime,
    nanocredits: int,
    reference: str,
    reason: str,
    labels: dict[str, str],
) -> Line:
    """A ledger line for work, at the customer's plan."""
    return Line(
        at,
        customer,
        {
            "kind": Entry.Kind.CHARGE,
            "amount_nanocredits": -nanocredits,
            "reference": reference,
            "reason": reason,
            "actor": f"team:{customer.slug}",
            "idempotency_key": f"charge:{reference}",
            "plan_version_id": customer.plan.version_id,
            "price_nano_usd": customer.plan.nano_usd(nanocredits),
            "labels": {"team": customer.slug, **labels},
        },
    )


def grant(
    customer: Customer,
    *,
    at: datetime,
    nanocredits: int,
    paid_nano_usd: int,
    kind: str,
    reason: str,
) -> Line:
    """A ledger line that adds credits. Purchases expire after a year."""
    is_paid = kind == Grant.Kind.PURCHASE
    return Line(
        at,
        customer,
        {
            "kind": Entry.Kind.GRANT,
            "amount_nanocredits": nanocredits,
            "reference": "topup",
            "reason": reason,
            "actor": ACTOR,
            "idempotency_key": f"grant:seed:{at:%Y-%m-%dT%H:%M:%S.%f}",
        },
        {
            "kind": kind,
            "paid_nano_usd": paid_nano_usd,
            "expires_at": at + timedelta(days=730) if is_paid else None,
        },
    )


def fee(customer: Customer, *, at: datetime, nanocredits: int) -> Line:
    """A ledger line for a day's seat, as an operator's adjustment."""
    return Line(
        at,
        customer,
        {
            "kind": Entry.Kind.ADJUSTMENT,
            "amount_nanocredits": -nanocredits,
            "reference": "adjustment",
            "reason": "Seat fee",
            "actor": ACTOR,
            "idempotency_key": f"adjustment:seat:{at:%Y-%m-%d}",
        },
    )
