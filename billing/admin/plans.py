from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import ModelAdmin, StackedInline

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
    Audited,
    ReadOnlyAdmin,
    RefusalsShown,
    actor,
    credits_of,
)


class _RuleInline(StackedInline):  # type: ignore[misc] # unfold is untyped
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


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


@admin.register(PricePlan)
class PricePlanAdmin(Audited, ModelAdmin):  # type: ignore[misc] # unfold is untyped
    list_display = ("slug", "name", "is_default")
    search_fields = ("slug", "name")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(PlanVersion)
class PlanVersionAdmin(ReadOnlyAdmin):
    """The rows as they are stored; the price pages draft, change and activate them."""

    list_display = ("plan", "number", "effective_from", "activated_at", "fixed_at")
    list_filter = ("plan",)
    list_select_related = ("plan",)
    inlines = (JobRuleInline, CallRuleInline)


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
