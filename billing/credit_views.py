"""Management of credits: add, adjust, expire, limits, wallets, refills, thresholds."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, Field

from billing import expiry, ledger, recurring, thresholds
from billing.models import Account, Entry, Grant, RecurringGrant
from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import NotFound
from teams import directory
from teams.api import Body
from teams.operator_api import Amount, Key, Moment, SignedAmount, exact, management, maybe_exact
from teams.operators import Operator


class AddCredits(Body):
    credits: Amount
    paid_usd: Amount = Decimal(0)
    kind: Literal["purchase", "promotional", "subscription"] = "purchase"
    expires_at: Moment | None = None
    priority: int = Field(100, ge=0, le=32_767, description="Lower is consumed first.")
    reason: str = Field("", max_length=500)
    payment_reference: str = Field(
        "",
        max_length=ledger.LONGEST_REFERENCE,
        description="What it was paid by: an invoice's or a transfer's number.",
    )
    idempotency_key: Key = Field(description="The same key again adds nothing.")


class AdjustCredits(Body):
    credits: SignedAmount
    reason: str = Field(min_length=1, max_length=500)
    idempotency_key: Key


class ExpireLot(Body):
    lot_id: int = Field(ge=1)
    reason: str = Field(min_length=1, max_length=500)


class CreditLimit(Body):
    credit_limit: Amount
    reason: str = Field("", max_length=500)


class ChooseWallet(Body):
    draws_on: Literal["team", "organization"]
    reason: str = Field("", max_length=500)


class AutoRefill(Body):
    kind: Literal["promotional", "subscription"] = "promotional"
    period: Literal["daily", "weekly", "monthly"]
    credits: Amount
    paid_usd: Amount = Decimal(0)
    cap: Amount | None = Field(None, description="Fill the balance up to this at most.")
    lot_days: int | None = Field(None, ge=1, le=3650)
    priority: int = Field(100, ge=0, le=32_767)
    starts_at: Moment | None = None


class LowBalance(Body):
    thresholds: list[Amount] = Field(max_length=10)


class EntryView(BaseModel):
    entry_id: int | None
    credits: Decimal
    balance: Decimal
    lost_credits: Decimal


class LimitView(BaseModel):
    balance: Decimal
    credit_limit: Decimal


class WalletView(BaseModel):
    team_id: str
    draws_on: str
    balance: Decimal


class RefillView(BaseModel):
    id: int
    kind: str
    period: str
    credits: Decimal
    cap: Decimal | None
    next_at: datetime
    is_active: bool


class RefillList(BaseModel):
    refills: list[RefillView]


class ThresholdList(BaseModel):
    thresholds: list[Decimal]


_WRITE = "billing.add_entry"


def _account(team_id: str) -> Account:
    return ledger.account_of(directory.find_team(team_id))


def _entered(account: Account, entry: Entry | None, lost: int = 0) -> dict[str, Any]:
    account.refresh_from_db()
    return {
        "entry_id": entry.pk if entry else None,
        "credits": from_nano(entry.amount_nanocredits if entry else 0),
        "balance": from_nano(account.balance_nanocredits),
        "lost_credits": from_nano(lost),
    }


@management(
    "POST",
    permission=_WRITE,
    body=AddCredits,
    answer=EntryView,
    status=201,
    summary="Add credits",
)
def add_credits(operator: Operator, body: AddCredits, team_id: str) -> dict[str, Any]:
    """A lot of its own, with what was paid for it and when it expires."""
    account = _account(team_id)
    entry = ledger.grant(
        account=account,
        amount_nanocredits=exact(body.credits, param="credits"),
        paid_nano_usd=exact(body.paid_usd, param="paid_usd"),
        kind=body.kind,
        expires_at=body.expires_at,
        priority=body.priority,
        reason=body.reason,
        reference=ledger.reference_of(body.payment_reference),
        actor=operator.actor,
        idempotency_key=f"api:{body.idempotency_key}",
    )
    return _entered(account, entry)


@management(
    "POST",
    permission=_WRITE,
    body=AdjustCredits,
    answer=EntryView,
    summary="Adjust a balance",
)
def adjust_credits(operator: Operator, body: AdjustCredits, team_id: str) -> dict[str, Any]:
    """Up or down; downward at most what is available, the rest is a recorded loss."""
    account = _account(team_id)
    adjusted = ledger.adjust(
        account=account,
        amount_nanocredits=exact(body.credits, param="credits"),
        reason=body.reason,
        actor=operator.actor,
        idempotency_key=f"api:{body.idempotency_key}",
    )
    lost = adjusted.loss.amount_nanocredits if adjusted.loss else 0
    return _entered(account, adjusted.entry, lost)


@management("POST", permission=_WRITE, body=ExpireLot, answer=EntryView, summary="Expire a lot now")
def expire_lot(operator: Operator, body: ExpireLot, team_id: str) -> dict[str, Any]:
    """What open holds would draw of it stays."""
    account = _account(team_id)
    if not Grant.objects.filter(pk=body.lot_id, entry__account=account).exists():
        raise NotFound("This team has no such lot.")
    entry = expiry.expire_now(
        account=account, grant_id=body.lot_id, actor=operator.actor, reason=body.reason
    )
    return _entered(account, entry)


@management(
    "POST",
    permission="billing.change_account",
    body=CreditLimit,
    answer=LimitView,
    summary="Set a credit limit",
)
def set_credit_limit(operator: Operator, body: CreditLimit, team_id: str) -> dict[str, Any]:
    """How far below zero a postpaid team may go; 0 is prepaid."""
    after = ledger.set_credit_limit(
        account=_account(team_id),
        limit_nanocredits=exact(body.credit_limit, param="credit_limit"),
        reason=body.reason,
        actor=operator.actor,
    )
    return {"balance": from_nano(after.balance), "credit_limit": from_nano(after.credit_limit)}


@management(
    "POST",
    permission="teams.choose_wallet",
    body=ChooseWallet,
    answer=WalletView,
    summary="Choose the wallet a team draws on",
)
def choose_wallet(operator: Operator, body: ChooseWallet, team_id: str) -> dict[str, Any]:
    """For jobs created from now on; open jobs and granted credits stay where they are."""
    team = directory.find_team(team_id)
    directory.set_wallet(
        team=team, draws_on=body.draws_on, actor=operator.actor, reason=body.reason
    )
    balance = ledger.account_of(team).balance_nanocredits
    return {"team_id": team.slug, "draws_on": team.draws_on, "balance": from_nano(balance)}


@management(
    "POST",
    permission="billing.add_recurringgrant",
    body=AutoRefill,
    answer=RefillView,
    status=201,
    summary="Grant credits again and again",
)
def create_refill(operator: Operator, body: AutoRefill, team_id: str) -> dict[str, Any]:
    """An auto-refill (with a cap) or a subscription's share; the first one is due at starts_at."""
    schedule = recurring.create(
        account=_account(team_id),
        kind=body.kind,
        period=body.period,
        amount_nanocredits=exact(body.credits, param="credits"),
        paid_nano_usd=exact(body.paid_usd, param="paid_usd"),
        cap_nanocredits=maybe_exact(body.cap, param="cap"),
        lot_days=body.lot_days,
        priority=body.priority,
        starts_at=body.starts_at,
        actor=operator.actor,
    )
    return _refill(schedule)


@management(
    "GET",
    permission="billing.view_recurringgrant",
    answer=RefillList,
    summary="List recurring grants",
)
def list_refills(operator: Operator, team_id: str) -> dict[str, Any]:
    """Every schedule of the team's account."""
    return {
        "refills": [
            _refill(schedule)
            for schedule in RecurringGrant.objects.filter(account=_account(team_id))
        ]
    }


@management(
    "DELETE",
    permission="billing.change_recurringgrant",
    answer=RefillView,
    summary="Stop a recurring grant",
)
def stop_refill(operator: Operator, team_id: str, refill_id: int) -> dict[str, Any]:
    """What was granted stays."""
    schedule = RecurringGrant.objects.filter(pk=refill_id, account=_account(team_id)).first()
    if schedule is None:
        raise NotFound("This team has no such recurring grant.")
    recurring.stop(schedule=schedule, actor=operator.actor)
    schedule.refresh_from_db()
    return _refill(schedule)


@management(
    "POST",
    permission="billing.change_account",
    body=LowBalance,
    answer=ThresholdList,
    summary="Set low-balance thresholds",
)
def set_thresholds(operator: Operator, body: LowBalance, team_id: str) -> dict[str, Any]:
    """Each fires an alarm once for each time the balance falls below it."""
    amounts = [exact(amount, param="thresholds") for amount in body.thresholds]
    kept = thresholds.replace(account=_account(team_id), nanocredits=amounts, actor=operator.actor)
    return {"thresholds": [from_nano(threshold.nanocredits) for threshold in kept]}


def _refill(schedule: RecurringGrant) -> dict[str, Any]:
    cap = schedule.cap_nanocredits
    return {
        "id": schedule.pk,
        "kind": schedule.kind,
        "period": schedule.period,
        "credits": from_nano(schedule.amount_nanocredits),
        "cap": None if cap is None else from_nano(cap),
        "next_at": schedule.next_at,
        "is_active": schedule.is_active,
    }
