"""The admins of teams and organizations, with their customer's page above the form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.functional import SimpleLazyObject
from unfold.decorators import display

from saas_litellm.base import shown
from saas_litellm.customers import page, wallets
from saas_litellm.customers.money_pages import MoneyPages
from saas_litellm.customers.payment_pages import PaymentPages
from saas_litellm.customers.state_pages import OrganizationStatePages, TeamStatePages
from teams.admin.people import OrganizationAdmin, TeamAdmin
from teams.models import Organization, Team

_LABELS = {"active": "success", "paused": "warning", "suspended": "danger", "closed": "danger"}
_MONEY = ("available", "lasts", "own_wallet")
_labelled: Callable[[Any], Any] = display(description="Status", ordering="status", label=_LABELS)


class CustomerAdmin(MoneyPages):
    """The page above the form, and the way to it after creating."""

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> Any:
        given = dict(extra_context or {})
        if object_id is not None:
            # Only a page that is shown asks: a form that saves leads on.
            given["customer"] = SimpleLazyObject(lambda: self.gathered(request, object_id))
        return super().changeform_view(request, object_id, form_url, given)  # type: ignore[misc]

    def gathered(self, request: HttpRequest, object_id: str) -> Any:
        raise NotImplementedError

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """None at the top: each stands beside what it changes."""
        return []

    def acts(self, request: HttpRequest, object_id: Any) -> dict[str, str]:
        """The addresses of the pages that this operator may open, by name."""
        allowed = super().get_actions_detail(request, object_id)  # type: ignore[misc]
        start = len(f"teams_{self.model._meta.model_name}_")
        return {
            act.action_name[start:]: reverse(f"admin:{act.action_name}", args=[object_id])
            for act in allowed
        }

    def response_post_save_add(self, request: HttpRequest, obj: Any) -> HttpResponse:
        return redirect(page.address(obj))

    def response_post_save_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        return redirect(page.address(obj))


admin.site.unregister((Organization, Team))


@admin.register(Team)
class CustomerTeamAdmin(CustomerAdmin, PaymentPages, TeamStatePages, TeamAdmin):
    list_display = ("slug", "name", "organization", "state", "available", "lasts")
    list_select_related = ("account__pace", "organization__account__pace")
    list_per_page = 50
    change_form_outer_before_template = "admin/customers/team.html"
    actions_detail = (
        "top_up",
        "adjust",
        "credit_limit",
        "assign_plan",
        "statement",
        "issue_key",
        "pause_page",
        "suspend_page",
        "resume_page",
        "default_alias_page",
        "wallet_page",
        "privacy",
        "invite",
        "payment_link",
        "auto_top_up",
        "card_link",
    )

    def get_list_display(self, request: HttpRequest) -> Any:
        return _seen(request, self.list_display)

    @_labelled
    def state(self, team: Team) -> str:
        return team.status

    @admin.display(description="Available", ordering="account__balance_nanocredits")
    def available(self, team: Team) -> str:
        credits_left = wallets.in_list(team)[0]
        return f"{credits_left} (shared)" if wallets.payer_of(team) != team else credits_left

    @admin.display(description="Lasts")
    def lasts(self, team: Team) -> str:
        return wallets.in_list(team)[1]

    def gathered(self, request: HttpRequest, object_id: str) -> page.TeamPage | None:
        teams = Team.objects.select_related("organization", "default_alias")
        team = teams.filter(pk=object_id).first()
        if team is None:
            return None
        acts = self.acts(request, object_id)
        hidden = {
            Team.Status.ACTIVE: ("resume_page",),
            Team.Status.PAUSED: ("pause_page",),
            Team.Status.SUSPENDED: ("pause_page", "suspend_page"),
        }[Team.Status(team.status)]
        shown_acts = {name: link for name, link in acts.items() if name not in hidden}
        return page.of_team(team, may=request.user.has_perm, acts=shown_acts)


@admin.register(Organization)
class CustomerOrganizationAdmin(CustomerAdmin, OrganizationStatePages, OrganizationAdmin):
    list_display = ("slug", "name", "state", "teams", "own_wallet", "created_at")
    list_select_related = ("account",)
    # The model's own order is lost where rows are counted, and pages need one.
    ordering = ("slug",)
    list_per_page = 50
    change_form_outer_before_template = "admin/customers/organization.html"
    actions_detail = (
        "top_up",
        "adjust",
        "credit_limit",
        "assign_plan",
        "statement",
        "suspend_page",
        "resume_page",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Organization]:
        found: QuerySet[Organization] = super().get_queryset(request)
        return found.annotate(team_count=Count("teams"))

    def get_list_display(self, request: HttpRequest) -> Any:
        return _seen(request, self.list_display)

    @_labelled
    def state(self, organization: Organization) -> str:
        return organization.status

    @admin.display(description="Teams", ordering="team_count")
    def teams(self, organization: Any) -> str:
        return shown.count(organization.team_count)

    @admin.display(description="Own wallet", ordering="account__balance_nanocredits")
    def own_wallet(self, organization: Organization) -> str:
        account = getattr(organization, "account", None)
        return shown.credit_amount(account.available_nanocredits) if account else "–"

    def gathered(self, request: HttpRequest, object_id: str) -> page.OrganizationPage | None:
        organization = Organization.objects.filter(pk=object_id).first()
        if organization is None:
            return None
        acts = self.acts(request, object_id)
        is_active = organization.status == Organization.Status.ACTIVE
        acts.pop("resume_page" if is_active else "suspend_page", None)
        if request.user.has_perm("teams.add_team"):
            add = reverse("admin:teams_team_add")
            acts["add_team"] = f"{add}?organization={organization.pk}"
        return page.of_organization(
            organization,
            may=request.user.has_perm,
            acts=acts,
            number=request.GET.get("teams", "1"),
        )


def _seen(request: HttpRequest, columns: tuple[str, ...]) -> list[str]:
    """A list's columns without the money of those who may not see it."""
    money = () if request.user.has_perm("billing.view_account") else _MONEY
    return [name for name in columns if name not in money]
