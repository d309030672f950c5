from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline

from billing import budgets, recurring, thresholds
from billing.models import BalanceThreshold, Budget, BudgetPeriod, RecurringGrant
from saas_litellm.base.admin import AmountsInForms, Audited, RefusalsShown, actor, credits_of


class BudgetPeriodInline(TabularInline):  # type: ignore[misc] # unfold is untyped
    model = BudgetPeriod
    extra = 0
    can_delete = False
    fields = ("starts_on", "used", "held", "alerted_at")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Budget | None = None) -> bool:
        return False

    @admin.display
    def used(self, period: BudgetPeriod) -> str:
        return credits_of(period.used_nanocredits)

    @admin.display
    def held(self, period: BudgetPeriod) -> str:
        return credits_of(period.held_nanocredits)


class _DomainAdmin(RefusalsShown, Audited, AmountsInForms, ModelAdmin):  # type: ignore[misc] # unfold is untyped
    """Saved through the domain, which checks and records; a refusal is shown above the form."""

    recorded_by_domain = ("add", "change")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Budget)
class BudgetAdmin(_DomainAdmin):
    list_display = ("id", "owner", "period", "limit", "is_hard", "is_active", "is_by_team")
    list_filter = ("period", "is_hard", "is_active")
    list_select_related = ("team", "api_key", "organization")
    autocomplete_fields = ("team", "api_key", "organization")
    inlines = (BudgetPeriodInline,)

    def get_readonly_fields(self, request: HttpRequest, obj: Budget | None = None) -> Any:
        return ("team", "api_key", "organization", "period") if obj else ()

    @admin.display
    def limit(self, budget: Budget) -> str:
        return credits_of(budget.limit_nanocredits)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: FBT001 - Django's
        if change:
            budgets.change(
                budget=obj,
                limit_nanocredits=obj.limit_nanocredits,
                is_hard=obj.is_hard,
                is_active=obj.is_active,
                actor=actor(request),
            )
            return
        saved = budgets.create(
            owner=obj.owner,
            period=obj.period,
            limit_nanocredits=obj.limit_nanocredits,
            is_hard=obj.is_hard,
            actor=actor(request),
        )
        obj.pk, obj._state.adding = saved.pk, False


@admin.register(RecurringGrant)
class RecurringGrantAdmin(_DomainAdmin):
    list_display = ("account", "kind", "period", "amount", "next_at", "is_active")
    list_filter = ("kind", "period", "is_active")
    list_select_related = ("account__team", "account__organization")
    autocomplete_fields = ("account",)
    exclude = ("next_at", "occurrence", "is_active")
    actions = ("stop",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is None and super().has_change_permission(request, obj)

    @admin.display
    def amount(self, schedule: RecurringGrant) -> str:
        return credits_of(schedule.amount_nanocredits)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: FBT001 - Django's
        saved = recurring.create(
            account=obj.account,
            kind=obj.kind,
            period=obj.period,
            amount_nanocredits=obj.amount_nanocredits,
            paid_nano_usd=obj.paid_nano_usd,
            cap_nanocredits=obj.cap_nanocredits,
            lot_days=obj.lot_days,
            priority=obj.priority,
            starts_at=obj.starts_at,
            actor=actor(request),
        )
        obj.pk, obj._state.adding = saved.pk, False

    @admin.action(description="Stop", permissions=["change"])
    def stop(self, request: HttpRequest, queryset: QuerySet[RecurringGrant]) -> None:
        for schedule in queryset:
            recurring.stop(schedule=schedule, actor=actor(request))


@admin.register(BalanceThreshold)
class BalanceThresholdAdmin(_DomainAdmin):
    list_display = ("account", "below", "is_below", "fired_at")
    list_select_related = ("account__team", "account__organization")
    autocomplete_fields = ("account",)
    fields = ("account", "nanocredits")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is None and super().has_change_permission(request, obj)

    @admin.display
    def below(self, threshold: BalanceThreshold) -> str:
        return credits_of(threshold.nanocredits)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: FBT001 - Django's
        others = BalanceThreshold.objects.filter(account=obj.account)
        amounts = {*others.values_list("nanocredits", flat=True), obj.nanocredits}
        kept = thresholds.replace(
            account=obj.account, nanocredits=sorted(amounts), actor=actor(request)
        )
        obj.pk = next(one.pk for one in kept if one.nanocredits == obj.nanocredits)
        obj._state.adding = False
