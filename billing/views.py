"""Credit endpoints of a team: balance, statement, and "is there enough?"."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, Field

from billing import ledger, lots, plans, runway
from billing.models import Entry, Lot
from saas_litellm.base.money import InexactAmount, from_nano, nano
from saas_litellm.base.refusals import Invalid
from teams.api import Body, Caller, Query, endpoint, path_team

PAGE = 100


class Transactions(Query):
    kind: Literal["grant", "charge", "refund", "adjustment", "expiry", "carried"] | None = None
    cursor: int | None = Field(None, ge=1)


class CheckCredits(Body):
    credits_needed: Decimal = Field(ge=0, le=10**9, strict=False)


class RatesView(BaseModel):
    credits_per_usd: Decimal


class RunwayView(BaseModel):
    """How long the credits last at the pace of the last days; None: nothing is spent."""

    days: Decimal | None
    days_at_fastest: Decimal | None
    days_at_slowest: Decimal | None
    credits_per_day: Decimal
    basis_days: int


class LotView(BaseModel):
    lot_id: int
    kind: str
    credits_granted: Decimal
    credits_remaining: Decimal
    priority: int
    granted_at: datetime
    expires_at: datetime | None


class BalanceView(BaseModel):
    team_id: str
    balance: Decimal
    held: Decimal
    available: Decimal
    credit_limit: Decimal
    mode: str
    rates: RatesView
    runway: RunwayView
    lots: list[LotView]


class LedgerLine(BaseModel):
    id: int
    kind: str
    credits: Decimal
    balance_after: Decimal
    reference: str
    reason: str
    created_at: datetime


class TransactionList(BaseModel):
    transactions: list[LedgerLine]
    next_cursor: int | None


class CheckView(BaseModel):
    has_credits: bool
    credits_needed: Decimal
    credits_available: Decimal


@endpoint("GET", answer=BalanceView, summary="Show a team's credits")
def show_balance(caller: Caller, team_id: str) -> dict[str, Any]:
    """What the wallet owns and has set aside, how long it lasts, and its lots as they are drawn."""
    team = path_team(caller, team_id)
    account = ledger.account_of(team)
    version = plans.version_for(team)
    paced = runway.of_account(account)
    return {
        "team_id": team.slug,
        "balance": from_nano(account.balance_nanocredits),
        "held": from_nano(account.held_nanocredits),
        "available": from_nano(account.available_nanocredits),
        "credit_limit": from_nano(account.credit_limit_nanocredits),
        "mode": version.plan.slug,
        "rates": {"credits_per_usd": from_nano(version.nanocredits_per_usd)},
        "runway": {
            "days": paced.days,
            "days_at_fastest": paced.days_at_fastest,
            "days_at_slowest": paced.days_at_slowest,
            "credits_per_day": from_nano(paced.burn_nanocredits_per_day),
            "basis_days": paced.basis_days,
        },
        "lots": [_lot(lot) for lot in lots.live_lots(account)[:PAGE]],
    }


@endpoint("GET", query=Transactions, answer=TransactionList, summary="List a team's ledger lines")
def list_transactions(caller: Caller, query: Transactions, team_id: str) -> dict[str, Any]:
    """Newest first, each with the balance after it."""
    account = ledger.account_of(path_team(caller, team_id))
    entries = Entry.objects.filter(account=account).order_by("-id")
    if query.kind is not None:
        entries = entries.filter(kind=query.kind)
    if query.cursor is not None:
        entries = entries.filter(pk__lt=query.cursor)
    page = list(entries[: PAGE + 1])
    has_more = len(page) > PAGE
    page = page[:PAGE]
    return {
        "transactions": [_line(entry) for entry in page],
        "next_cursor": page[-1].pk if has_more else None,
    }


@endpoint("POST", body=CheckCredits, answer=CheckView, summary="Ask whether credits suffice")
def check_credits(caller: Caller, body: CheckCredits, team_id: str) -> dict[str, Any]:
    """Looks only: nothing is set aside."""
    account = ledger.account_of(path_team(caller, team_id))
    try:
        needed = nano(body.credits_needed)
    except InexactAmount as error:
        raise Invalid("At most 9 decimal places.", param="credits_needed") from error
    return {
        "has_credits": needed <= account.available_nanocredits,
        "credits_needed": body.credits_needed,
        "credits_available": from_nano(account.available_nanocredits),
    }


def _line(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.pk,
        "kind": entry.kind,
        "credits": from_nano(entry.amount_nanocredits),
        "balance_after": from_nano(entry.balance_after_nanocredits),
        "reference": entry.reference,
        "reason": entry.reason,
        "created_at": entry.created_at,
    }


def _lot(lot: Lot) -> dict[str, Any]:
    granted_at: datetime = lot.grant.entry.created_at
    return {
        "lot_id": lot.grant_id,
        "kind": lot.grant.kind,
        "credits_granted": from_nano(lot.amount_nanocredits),
        "credits_remaining": from_nano(lot.remaining_nanocredits),
        "priority": lot.priority,
        "granted_at": granted_at,
        "expires_at": lot.expires_at,
    }
