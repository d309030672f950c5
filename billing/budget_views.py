"""Management of budgets, and the report of deferred revenue."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from typing import Any, Literal

from django.http import HttpResponse
from pydantic import BaseModel, Field

from billing import budgets, ledger, revenue
from billing.models import Account, Budget, BudgetPeriod
from saas_litellm.base import clock
from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import Invalid, NotFound
from teams import directory
from teams.api import Body, Query
from teams.models import ApiKey, Organization, Team
from teams.operator_api import Amount, exact, management, maybe_exact
from teams.operators import Operator


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
        return [ledger.account_of(directory.find_team(query.team_id)).pk]
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
