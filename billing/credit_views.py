"""Management of credits: add, adjust, expire, limits, refills, thresholds, budgets."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from django.http import HttpResponse
from pydantic import BaseModel, Field

from billing import budgets, expiry, ledger, recurring, revenue, thresholds
from billing.models import Account, Budget, BudgetPeriod, Entry, Grant, RecurringGrant
from saas_litellm.base import clock
from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import Invalid, NotFound
from teams import directory
from teams.api import Body, Query
from teams.models import ApiKey, Organization, Team
from teams.operator_api import Amount, Key, Moment, SignedAmount, exact, management, maybe_exact
from teams.operators import Operator


class AddCredits(Body):
    credits: Amount
    paid_usd: Amount = Decimal(0)
    kind: Literal["purchase", "promotional", "subscription"] = "purchase"
    expires_at: Moment | None = None
    priority: int = Field(100, ge=0, le=32_767, description="Lower is consumed first.")
    reason: str = Field("", max_length=500)
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


class CreateBudget(Body):
    team_id: str | None = Field(None, max_length=63)
    organization_id: str | None = Field(None, max_length=63)
    key_prefix: str | None = Field(None, max_length=16)
    period: Literal["day", "week", "month", "total"]
    limit: Amount
    is_hard: bool = True


class ChangeBudget(Body):
    limit: Amount | None = None
    is_hard: bool | None = None
    is_active: bool | None = None


class BudgetQuery(Query):
    team_id: str | None = None
    organization_id: str | None = None


class RevenueQuery(Query):
    organization_id: str | None = None
    team_id: str | None = None
    format: Literal["json", "csv"] = "json"


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


class BudgetView(BaseModel):
    id: int
    team_id: str | None
    organization_id: str | None
    key_prefix: str | None
    period: str
    limit: Decimal
    is_hard: bool
    is_active: bool
    used: Decimal
    held: Decimal


class BudgetList(BaseModel):
    budgets: list[BudgetView]


class DeferredView(BaseModel):
    months: list[dict[str, Any]]
    note: str


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
    permission="teams.change_team",
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


@management(
    "GET",
    permission="billing.view_budget",
    query=BudgetQuery,
    answer=BudgetList,
    summary="List budgets",
)
def list_budgets(operator: Operator, query: BudgetQuery) -> dict[str, Any]:
    """With what the current period has used and held."""
    found = Budget.objects.select_related("team", "organization", "api_key")
    if query.team_id is not None:
        team = directory.find_team(query.team_id)
        found = found.filter(team=team) | found.filter(api_key__team=team)
    if query.organization_id is not None:
        found = found.filter(organization__slug=query.organization_id)
    return {"budgets": [_budget(budget) for budget in found[:1000]]}


@management(
    "POST",
    permission="billing.add_budget",
    body=CreateBudget,
    answer=BudgetView,
    status=201,
    summary="Set a budget",
)
def create_budget(operator: Operator, body: CreateBudget) -> dict[str, Any]:
    """For a team, an organization or one key; from now on."""
    budget = budgets.create(
        owner=_owner(body),
        period=body.period,
        limit_nanocredits=exact(body.limit, param="limit"),
        is_hard=body.is_hard,
        actor=operator.actor,
    )
    return _budget(budget)


@management(
    "PATCH",
    permission="billing.change_budget",
    body=ChangeBudget,
    answer=BudgetView,
    summary="Change a budget",
)
def change_budget(operator: Operator, body: ChangeBudget, budget_id: int) -> dict[str, Any]:
    """Its limit, whether it refuses, whether it counts at all."""
    budget = Budget.objects.filter(pk=budget_id).first()
    if budget is None:
        raise NotFound("There is no such budget.")
    changed = budgets.change(
        budget=budget,
        limit_nanocredits=maybe_exact(body.limit, param="limit"),
        is_hard=body.is_hard,
        is_active=body.is_active,
        actor=operator.actor,
    )
    return _budget(changed)


@management(
    "GET",
    permission="billing.view_entry",
    query=RevenueQuery,
    answer=DeferredView,
    summary="Report deferred revenue",
)
def deferred_revenue(operator: Operator, query: RevenueQuery) -> dict[str, Any] | HttpResponse:
    """Sold, earned, expired and outstanding credits by month; JSON or CSV."""
    months = [month.as_json() for month in revenue.deferred(account_ids=_accounts(query))]
    if query.format == "json":
        return {"months": months, "note": revenue.RECONCILES}
    text = io.StringIO()
    writer = csv.DictWriter(text, revenue.header())
    writer.writeheader()
    writer.writerows(months)
    return HttpResponse(
        text.getvalue(),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="deferred-revenue.csv"'},
    )


def _accounts(query: RevenueQuery) -> list[int] | None:
    if query.team_id is not None:
        return [_account(query.team_id).pk]
    if query.organization_id is None:
        return None
    organization = directory.find_organization(query.organization_id)
    found = Account.objects.filter(team__organization=organization) | Account.objects.filter(
        organization=organization
    )
    return list(found.values_list("pk", flat=True))


def _owner(body: CreateBudget) -> Team | ApiKey | Organization:
    given = [value for value in (body.team_id, body.organization_id, body.key_prefix) if value]
    if len(given) != 1:
        raise Invalid("Send one of team_id, organization_id and key_prefix.", param="team_id")
    if body.team_id:
        return directory.find_team(body.team_id)
    if body.organization_id:
        return directory.find_organization(body.organization_id)
    key = ApiKey.objects.filter(prefix=body.key_prefix).first()
    if key is None:
        raise NotFound(f"There is no key with the prefix {body.key_prefix}.")
    return key


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


def _budget(budget: Budget) -> dict[str, Any]:
    starts = budgets.starts_on(budget.period, clock.now())
    row = BudgetPeriod.objects.filter(budget=budget, starts_on=starts).first()
    return {
        "id": budget.pk,
        "team_id": budget.team.slug if budget.team else None,
        "organization_id": budget.organization.slug if budget.organization else None,
        "key_prefix": budget.api_key.prefix if budget.api_key else None,
        "period": budget.period,
        "limit": from_nano(budget.limit_nanocredits),
        "is_hard": budget.is_hard,
        "is_active": budget.is_active,
        "used": from_nano(row.used_nanocredits if row else 0),
        "held": from_nano(row.held_nanocredits if row else 0),
    }
