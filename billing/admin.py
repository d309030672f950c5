from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path, reverse
from django.utils.html import format_html
from unfold.admin import ModelAdmin, TabularInline
from unfold.widgets import UnfoldAdminTextInputWidget

from billing import ledger, plans
from billing.models import (
    Account,
    CallRule,
    Entry,
    Grant,
    Hold,
    JobRule,
    PlanAssignment,
    PlanVersion,
    PricePlan,
)
from saas_litellm.base.admin import ReadOnlyAdmin, actor, tell
from saas_litellm.base.money import InexactAmount, from_nano, nano
from saas_litellm.base.refusals import Refusal


class TopUpForm(forms.Form):
    """Credits to add. The hidden key makes a second click of the same form change nothing."""

    credits = forms.CharField(widget=UnfoldAdminTextInputWidget, help_text="A decimal number.")
    paid_usd = forms.CharField(widget=UnfoldAdminTextInputWidget, initial="0", label="Paid, USD")
    reason = forms.CharField(widget=UnfoldAdminTextInputWidget, max_length=500)
    idempotency_key = forms.CharField(widget=forms.HiddenInput)

    def clean_credits(self) -> int:
        return self._nano("credits")

    def clean_paid_usd(self) -> int:
        return self._nano("paid_usd")

    def _nano(self, name: str) -> int:
        try:
            return nano(self.cleaned_data[name])
        except InexactAmount as error:
            raise forms.ValidationError(str(error)) from error


@admin.register(Account)
class AccountAdmin(ReadOnlyAdmin):
    list_display = ("owner", "balance", "held", "available", "top_up_link")
    list_select_related = ("team", "organization")
    search_fields = ("team__slug", "organization__slug")

    @admin.display(ordering="team__slug")
    def owner(self, account: Account) -> str:
        return str(account.team or account.organization)

    @admin.display(ordering="balance_nanocredits")
    def balance(self, account: Account) -> str:
        return f"{from_nano(account.balance_nanocredits)}"

    @admin.display(ordering="held_nanocredits")
    def held(self, account: Account) -> str:
        return f"{from_nano(account.held_nanocredits)}"

    @admin.display
    def available(self, account: Account) -> str:
        return f"{from_nano(account.available_nanocredits)}"

    @admin.display(description="")
    def top_up_link(self, account: Account) -> str:
        return format_html(
            '<a href="{}">Top up</a>', reverse("admin:billing_account_top_up", args=[account.pk])
        )

    def get_urls(self) -> list[Any]:
        top_up = path(
            "<int:account_id>/top-up/",
            self.admin_site.admin_view(self.top_up),
            name="billing_account_top_up",
        )
        return [top_up, *super().get_urls()]

    def top_up(self, request: HttpRequest, account_id: int) -> HttpResponse:
        """The form that adds credits; whoever may add an entry may use it."""
        if not request.user.has_perm("billing.add_entry"):
            raise PermissionDenied
        account = get_object_or_404(Account, pk=account_id)
        blank = {"idempotency_key": f"admin:{uuid.uuid4()}", "paid_usd": "0"}
        form = TopUpForm(request.POST or None, initial=blank)
        if request.method == "POST" and form.is_valid():
            try:
                entry = ledger.grant(
                    account=account,
                    amount_nanocredits=form.cleaned_data["credits"],
                    paid_nano_usd=form.cleaned_data["paid_usd"],
                    reason=form.cleaned_data["reason"],
                    idempotency_key=form.cleaned_data["idempotency_key"],
                    actor=actor(request),
                )
            except Refusal as refusal:
                form.add_error(None, refusal.message)
            else:
                added, after = entry.amount_nanocredits, entry.balance_after_nanocredits
                text = f"Added {from_nano(added)} credits; the balance after is {from_nano(after)}."
                self.message_user(request, text, messages.SUCCESS)
                return redirect("admin:billing_account_changelist")
        context = {
            **self.admin_site.each_context(request),
            "title": f"Top up the {account}",
            "form": form,
        }
        return render(request, "admin/billing/top_up.html", context)


@admin.register(Entry)
class EntryAdmin(ReadOnlyAdmin):
    list_display = (
        "created_at",
        "account",
        "kind",
        "credits",
        "balance_after",
        "reference",
        "actor",
    )
    list_filter = ("kind",)
    list_select_related = ("account__team", "account__organization")
    search_fields = ("reference", "reason", "actor", "account__team__slug")
    date_hierarchy = "created_at"

    @admin.display(ordering="amount_nanocredits")
    def credits(self, entry: Entry) -> str:
        return f"{from_nano(entry.amount_nanocredits)}"

    @admin.display
    def balance_after(self, entry: Entry) -> str:
        return f"{from_nano(entry.balance_after_nanocredits)}"


@admin.register(Grant)
class GrantAdmin(ReadOnlyAdmin):
    list_display = ("entry", "kind", "paid_usd", "expires_at")
    list_filter = ("kind",)
    list_select_related = ("entry",)

    @admin.display(description="Paid, USD")
    def paid_usd(self, grant: Grant) -> str:
        return f"{from_nano(grant.paid_nano_usd)}"


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    list_display = ("reference", "account", "credits", "state", "created_at", "expires_at")
    list_filter = ("state",)
    list_select_related = ("account__team", "account__organization")
    search_fields = ("reference",)

    @admin.display
    def credits(self, hold: Hold) -> str:
        return f"{from_nano(hold.amount_nanocredits)}"


class _RuleInline(TabularInline):  # type: ignore[misc] # unfold is untyped
    extra = 0

    def has_add_permission(self, request: HttpRequest, obj: PlanVersion | None = None) -> bool:
        return _is_draft(obj) and super().has_add_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: PlanVersion | None = None) -> bool:
        return _is_draft(obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: PlanVersion | None = None) -> bool:
        return _is_draft(obj) and super().has_delete_permission(request, obj)


class JobRuleInline(_RuleInline):
    model = JobRule


class CallRuleInline(_RuleInline):
    model = CallRule


def _is_draft(version: PlanVersion | None) -> bool:
    return version is None or version.activated_at is None


@admin.register(PricePlan)
class PricePlanAdmin(ModelAdmin):  # type: ignore[misc] # unfold is untyped
    list_display = ("slug", "name", "is_default")
    search_fields = ("slug", "name")


@admin.register(PlanVersion)
class PlanVersionAdmin(ModelAdmin):  # type: ignore[misc] # unfold is untyped
    list_display = ("plan", "number", "effective_from", "activated_at")
    list_filter = ("plan",)
    list_select_related = ("plan",)
    fields = ("plan", "number", "nanocredits_per_usd", "effective_from", "activated_at")
    readonly_fields = ("effective_from", "activated_at")
    inlines = (JobRuleInline, CallRuleInline)
    actions = ("activate",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return (obj is None or obj.activated_at is None) and super().has_change_permission(
            request, obj
        )

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.action(description="Activate now, for good", permissions=["change"])
    def activate(self, request: HttpRequest, queryset: QuerySet[PlanVersion]) -> None:
        for version in queryset:
            try:
                plans.activate(version=version, actor=actor(request))
            except Refusal as refusal:
                tell(self, request, refusal)


@admin.register(PlanAssignment)
class PlanAssignmentAdmin(ModelAdmin):  # type: ignore[misc] # unfold is untyped
    list_display = ("plan", "team", "organization", "effective_from")
    list_select_related = ("plan", "team", "organization")
    autocomplete_fields = ("plan", "team", "organization")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: FBT001 - Django's
        saved = plans.assign(
            plan=obj.plan,
            team=obj.team,
            organization=obj.organization,
            effective_from=obj.effective_from,
            actor=actor(request),
        )
        obj.pk, obj._state.adding = saved.pk, False
