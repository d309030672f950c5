from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from unfold.admin import ModelAdmin, StackedInline
from unfold.widgets import UnfoldAdminTextInputWidget

from billing import plans
from billing.models import (
    CallRule,
    JobRule,
    MonthlyMinimum,
    PlanAssignment,
    PlanVersion,
    PricePlan,
)
from saas_litellm.base.admin import (
    AmountsInForms,
    Audited,
    PageForm,
    ReadOnlyAdmin,
    RefusalsShown,
    actor,
    credits_of,
    form_page,
    object_page,
    permitted,
    tell,
)
from saas_litellm.base.refusals import Refusal


class ActivateForm(PageForm):
    effective_from = forms.DateTimeField(
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="UTC, as 2026-12-01 00:00; empty: now. It cannot be changed after.",
    )


class _RuleInline(AmountsInForms, StackedInline):  # type: ignore[misc] # unfold is untyped
    extra = 0

    def has_add_permission(self, request: HttpRequest, obj: PlanVersion | None = None) -> bool:
        return _is_draft(obj) and super().has_add_permission(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: PlanVersion | None = None) -> bool:
        return _is_draft(obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: PlanVersion | None = None) -> bool:
        return _is_draft(obj) and super().has_delete_permission(request, obj)


class JobRuleInline(_RuleInline):
    model = JobRule
    fields = (
        ("job_type", "kind"),
        "price_nanocredits",
        ("package_tokens", "step_nanocredits"),
        ("failed_jobs", "max_provider_cost_nano_usd"),
        ("margin_floor_basis_points", "is_floor_hard"),
    )


class CallRuleInline(_RuleInline):
    model = CallRule
    fields = (
        ("job_type", "alias"),
        "kind",
        ("markup_basis_points", "minimum_nanocredits"),
        ("input_nanocredits_per_1k", "output_nanocredits_per_1k"),
        ("cached_nanocredits_per_1k", "unit_nanocredits"),
        "step_nanocredits",
        ("metric", "mode"),
        "included_quantity",
        "tiers",
        ("failed_jobs", "cache_hit_basis_points"),
        "is_clamping",
        ("margin_floor_basis_points", "is_floor_hard"),
    )


def _is_draft(version: PlanVersion | None) -> bool:
    return version is None or version.fixed_at is None


@admin.register(PricePlan)
class PricePlanAdmin(Audited, ModelAdmin):  # type: ignore[misc] # unfold is untyped
    list_display = ("slug", "name", "is_default")
    search_fields = ("slug", "name")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(PlanVersion)
class PlanVersionAdmin(Audited, AmountsInForms, ModelAdmin):  # type: ignore[misc] # unfold is untyped
    list_display = ("plan", "number", "effective_from", "activated_at", "fixed_at")
    list_filter = ("plan",)
    list_select_related = ("plan",)
    fields = (
        "plan",
        ("nanocredits_per_usd", "monthly_minimum_nanocredits"),
        ("partial_share_basis_points", "none_share_basis_points"),
        "margin_floor_basis_points",
        ("effective_from", "activated_at"),
    )
    readonly_fields = ("effective_from", "activated_at")
    inlines = (JobRuleInline, CallRuleInline)
    actions = ("activate_now",)
    actions_detail = ("activate",)
    has_activate_permission = permitted("billing.change_planversion")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_draft(obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: FBT001 - Django's
        if not change:
            obj.number = plans.next_number(obj.plan)
        super().save_model(request, obj, form, change)

    @admin.action(description="Activate now, for good", permissions=["change"])
    def activate_now(self, request: HttpRequest, queryset: QuerySet[PlanVersion]) -> None:
        for version in queryset:
            try:
                plans.activate(version=version, actor=actor(request))
            except Refusal as refusal:
                tell(self, request, refusal)

    @object_page(description="Activate", path="activate", permission="activate")
    def activate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        version = get_object_or_404(PlanVersion, pk=object_id)

        def act(given: dict[str, Any]) -> str:
            plans.activate(
                version=version, actor=actor(request), effective_from=given["effective_from"]
            )
            return f"{version} is in effect from {version.effective_from:%Y-%m-%d %H:%M} UTC."

        return form_page(
            self,
            request,
            form_class=ActivateForm,
            title=f"Activate {version}, for good",
            button="Activate",
            act=act,
        )


class AssignmentForm(forms.ModelForm):  # type: ignore[type-arg]
    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if bool(given.get("team")) == bool(given.get("organization")):
            raise forms.ValidationError("Choose a team or an organization, one of them.")
        return given


@admin.register(PlanAssignment)
class PlanAssignmentAdmin(RefusalsShown, Audited, ModelAdmin):  # type: ignore[misc] # unfold is untyped
    recorded_by_domain = ("add",)
    list_display = ("plan", "team", "organization", "effective_from")
    list_select_related = ("plan", "team", "organization")
    autocomplete_fields = ("plan", "team", "organization")
    form = AssignmentForm

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


@admin.register(MonthlyMinimum)
class MonthlyMinimumAdmin(ReadOnlyAdmin):
    list_display = ("month", "team", "plan_version", "days", "minimum", "charged", "overrun")
    list_filter = ("month",)
    list_select_related = ("team", "plan_version__plan")

    @admin.display
    def minimum(self, row: MonthlyMinimum) -> str:
        return credits_of(row.minimum_nanocredits)

    @admin.display
    def charged(self, row: MonthlyMinimum) -> str:
        return credits_of(row.charged_nanocredits)

    @admin.display
    def overrun(self, row: MonthlyMinimum) -> str:
        return credits_of(row.overrun_nanocredits)
