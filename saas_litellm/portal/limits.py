"""A team's budgets: it sees all of its own, and its managers set soft ones."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db import transaction
from django.db.models import F, Q
from django.http import HttpResponse

from billing import budgets
from billing.models import Budget, BudgetPeriod
from saas_litellm.base import clock, shown
from saas_litellm.base.charts import in_cells
from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import Conflict, NotFound, Refusal
from saas_litellm.portal.access import Visit, team_page
from saas_litellm.portal.forms import ActForm, CreditsField, once
from teams import directory

# Each is a row that every call of the team counts in.
MOST = 10
_NONE = "There is no such budget of your own."
_LIMIT_HELP = "Credits. When they are used you see it here and the operator is told; work goes on."


class BudgetForm(ActForm):
    period = forms.ChoiceField(choices=Budget.Period.choices, initial=Budget.Period.MONTH)
    limit = CreditsField(help_text=_LIMIT_HELP)


class ChangeForm(forms.Form):
    limit = CreditsField(help_text=_LIMIT_HELP)
    is_active = forms.BooleanField(required=False, label="In force")


class TooManyBudgets(Conflict):
    code = "too_many_budgets"
    default_message = f"{MOST} budgets of your own at a time at most: stop one first."


@team_page
def own_budgets(visit: Visit) -> HttpResponse:
    """All of the team's, and for managers a form for one more."""
    form = BudgetForm(visit.request.POST or None)
    if visit.request.method == "POST":
        visit.require_manager()
        if form.is_valid() and _created(visit, form):
            return visit.go("budgets", "The budget counts from now on.")
    return visit.show("portal/budgets.html", {"rows": _rows(visit), "form": form})


@team_page
def own_budget(visit: Visit, number: int) -> HttpResponse:
    """Change or stop one that the team made."""
    visit.require_manager()
    # An operator's, or one that an operator made a hard one, is not the team's to change.
    budget = _own(visit).filter(pk=number).first()
    if budget is None:
        raise NotFound(_NONE)
    initial = {"limit": from_nano(budget.limit_nanocredits), "is_active": budget.is_active}
    form = ChangeForm(visit.request.POST or None, initial=initial)
    if visit.request.method == "POST" and form.is_valid():
        _change(visit, budget, form.cleaned_data)
        return visit.go("budgets", "The budget is changed.")
    return visit.show("portal/budget.html", {"form": form, "budget": budget})


def _change(visit: Visit, budget: Budget, given: dict[str, Any]) -> None:
    is_active = given["is_active"]
    with transaction.atomic():
        directory.lock(visit.team)
        # Its row's lock, and whether an operator made it a hard one, or it was stopped, just now.
        if not _own(visit).filter(pk=budget.pk).update(period=F("period")):
            raise NotFound(_NONE)
        if is_active and not _own(visit).filter(pk=budget.pk, is_active=True).exists():
            _require_room(visit)
        budgets.change(
            budget=budget,
            limit_nanocredits=given["limit"],
            is_active=is_active,
            actor=visit.actor,
        )


def _created(visit: Visit, form: BudgetForm) -> bool:
    def create() -> Budget:
        _require_room(visit)
        return budgets.create(
            owner=visit.team,
            period=form.cleaned_data["period"],
            limit_nanocredits=form.cleaned_data["limit"],
            is_hard=False,
            is_by_team=True,
            actor=visit.actor,
        )

    try:
        once(visit, form, create)
    except Refusal as refusal:
        form.add_error(None, refusal.message)
        return False
    return True


def _own(visit: Visit) -> Any:
    return Budget.objects.filter(team=visit.team, is_by_team=True, is_hard=False)


def _require_room(visit: Visit) -> None:
    """Within the transaction that fills it: one after another, so none is counted too late."""
    directory.lock(visit.team)
    if _own(visit).filter(is_active=True).count() >= MOST:
        raise TooManyBudgets


def _rows(visit: Visit) -> list[dict[str, Any]]:
    """Those in force, the team's own that are not, and what is used of each by now."""
    found = list(
        Budget.objects.filter(Q(is_active=True) | Q(is_by_team=True), team=visit.team).order_by(
            "-is_active", "-pk"
        )[:100]
    )
    used = _used(found)
    rows = []
    for budget in found:
        amount = used.get(budget.pk, 0)
        share = min(100, amount * 100 // budget.limit_nanocredits)
        rows.append(
            {
                "budget": budget,
                "limit": shown.credit_amount(budget.limit_nanocredits),
                "used": shown.credit_amount(amount),
                "is_reached": budget.is_active and amount >= budget.limit_nanocredits,
                "bar": in_cells([share, 100])[0],
            }
        )
    return rows


def _used(found: list[Budget]) -> dict[int, int]:
    """Nanocredits charged in the period that runs now, by budget."""
    now = clock.now()
    running = Q(pk__in=())
    for budget in found:
        running |= Q(budget=budget, starts_on=budgets.starts_on(budget.period, now))
    rows = BudgetPeriod.objects.filter(running)
    return dict(rows.values_list("budget_id", "used_nanocredits"))
