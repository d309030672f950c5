"""A customer's money: dialogs of their wallet and plan, and the statement."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, render
from unfold.widgets import UnfoldAdminSelectWidget

from billing import plans
from billing.admin import wallet_pages
from billing.models import PricePlan
from saas_litellm.base.admin import (
    MomentField,
    PageForm,
    actor,
    form_page,
    object_page,
    permitted,
)
from saas_litellm.customers import page, statement, wallets
from saas_litellm.customers.wallets import Owner
from saas_litellm.dashboard import periods
from teams.models import Team


def _plans() -> list[tuple[str, str]]:
    """Those there are, and the presets that are made on first use."""
    found = dict(PricePlan.objects.values_list("slug", "name"))
    presets = {name: name.replace("_", " ").capitalize() for name in plans.PRESETS}
    return [(slug, f"{name} ({slug})") for slug, name in {**presets, **found}.items()]


class AssignPlanForm(PageForm):
    plan = forms.ChoiceField(choices=_plans, widget=UnfoldAdminSelectWidget)
    effective_from = MomentField(
        required=False, help_text="UTC; empty: now. Jobs made before keep the plan they have."
    )


class MoneyPages:
    """Pages of an owner of a wallet; mixed into the admins of teams and of organizations."""

    model: type[Owner]
    admin_site: Any
    has_money_permission = permitted("billing.add_entry")
    has_limit_permission = permitted("billing.change_account")
    has_assign_permission = permitted("billing.add_planassignment")
    has_statement_permission = permitted("billing.view_entry")

    @object_page(description="Top up", path="top-up", permission="money")
    def top_up(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return wallet_pages.top_up(self, request, **self._wallet(object_id))

    @object_page(description="Adjust", path="adjust", permission="money")
    def adjust(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return wallet_pages.adjust(self, request, **self._wallet(object_id))

    @object_page(description="Credit limit", path="credit-limit", permission="limit")
    def credit_limit(self, request: HttpRequest, object_id: str) -> HttpResponse:
        found = wallets.find(_owner(self.model, object_id))
        now = found.credit_limit_nanocredits if found else 0
        return wallet_pages.credit_limit(self, request, now=now, **self._wallet(object_id))

    @object_page(description="Assign a plan", path="assign-plan", permission="assign")
    def assign_plan(self, request: HttpRequest, object_id: str) -> HttpResponse:
        owner = _owner(self.model, object_id)
        column = "team" if isinstance(owner, Team) else "organization"

        def act(given: dict[str, Any]) -> str:
            made = plans.assign(
                plan=plans.find(given["plan"]),
                effective_from=given["effective_from"],
                actor=actor(request),
                **{column: owner},  # type: ignore[arg-type]
            )
            return f"{owner} is on {made.plan} from {made.effective_from:%Y-%m-%d %H:%M} UTC."

        return form_page(
            self,
            request,
            form_class=AssignPlanForm,
            title=f"Assign a plan to {owner}",
            note="A team's own plan goes before its organization's.",
            button="Assign",
            act=act,
            back=page.address(owner),
            is_once=True,
        )

    @object_page(description="Statement", path="statement", permission="statement")
    def statement(self, request: HttpRequest, object_id: str) -> HttpResponseBase:
        owner = _owner(self.model, object_id)
        account = wallets.find(owner)
        period = statement.period_of(request.GET.dict(), account)
        payer = wallets.payer_of(owner)
        if account is not None and request.GET.get("format") == "csv":
            name = f"{payer.slug}-{period.start}-{period.last}.csv"
            return statement.as_csv(statement.run_of(account, period), filename=name)
        number = request.GET.get("page", "1")
        found = account and statement.of(
            account, period, number=int(number) if number.isdecimal() else 1
        )
        context = {
            **self.admin_site.each_context(request),
            "title": f"Statement of {payer}",
            "owner": owner,
            "payer": payer,
            "period": period,
            "period_names": {**periods.NAMES, "all": "All"}.items(),
            "query": statement.query_of(period),
            "statement": found,
            "sums": statement.figures(found) if found else (),
            "back": page.address(owner),
        }
        return render(request, "admin/customers/statement.html", context)

    def _wallet(self, object_id: str) -> dict[str, Any]:
        owner = _owner(self.model, object_id)
        payer = wallets.payer_of(owner)
        return {
            "account": lambda: wallets.account_of(owner),
            "whose": f"account of {payer}",
            "back": page.address(owner),
        }


def _owner(model: type[Owner], object_id: str) -> Owner:
    owners: Any = model._default_manager
    if model is Team:
        owners = owners.select_related("organization", "default_alias")
    found: Owner = get_object_or_404(owners, pk=object_id)
    return found
