from __future__ import annotations

from django.contrib import admin
from django.http import HttpRequest
from unfold.admin import TabularInline

from jobs.models import Attempt, Call, CostLine, Job
from saas_litellm.base.admin import ReadOnlyAdmin
from saas_litellm.base.money import from_nano


class CallInline(TabularInline):  # type: ignore[misc] # unfold is untyped
    model = Call
    extra = 0
    can_delete = False
    show_change_link = True
    fields = (
        "alias",
        "status",
        "total_tokens",
        "latency_ms",
        "credits",
        "provider_cost",
        "error_code",
    )
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        return False

    @admin.display
    def credits(self, call: Call) -> str:
        return f"{from_nano(call.charged_nanocredits)}"

    @admin.display(description="Provider cost, USD")
    def provider_cost(self, call: Call) -> str:
        return f"{from_nano(call.provider_cost_nano_usd)}"


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    list_display = (
        "created_at",
        "team",
        "job_type",
        "status",
        "credits",
        "price",
        "provider_cost",
        "margin",
    )
    list_filter = ("status", "job_type")
    list_select_related = ("team",)
    search_fields = ("id", "team__slug", "job_type", "user_id", "external_task_id")
    date_hierarchy = "created_at"
    inlines = (CallInline,)
    readonly_fields = ("credits", "price", "provider_cost", "margin")

    @admin.display(ordering="charged_nanocredits")
    def credits(self, job: Job) -> str:
        return f"{from_nano(job.charged_nanocredits)}"

    @admin.display(ordering="price_nano_usd", description="Price, USD")
    def price(self, job: Job) -> str:
        return f"{from_nano(job.price_nano_usd)}"

    @admin.display(ordering="provider_cost_nano_usd", description="Provider cost, USD")
    def provider_cost(self, job: Job) -> str:
        return f"{from_nano(job.provider_cost_nano_usd)}"

    @admin.display(description="Margin, USD")
    def margin(self, job: Job) -> str:
        return f"{from_nano(job.margin_nano_usd)}"


class AttemptInline(TabularInline):  # type: ignore[misc] # unfold is untyped
    model = Attempt
    extra = 0
    can_delete = False
    fields = ("number", "deployment", "started_at", "ended_at", "failure", "failure_detail")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Call | None = None) -> bool:
        return False


@admin.register(Call)
class CallAdmin(ReadOnlyAdmin):
    list_display = (
        "created_at",
        "team",
        "alias",
        "status",
        "total_tokens",
        "usage_source",
        "error_code",
    )
    list_filter = ("status", "usage_source", "alias")
    list_select_related = ("team", "alias")
    search_fields = ("id", "job__id", "team__slug", "purpose")
    inlines = (AttemptInline,)


@admin.register(CostLine)
class CostLineAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "call", "kind", "usd")
    list_filter = ("kind",)
    list_select_related = ("call",)

    @admin.display(description="USD")
    def usd(self, line: CostLine) -> str:
        return f"{from_nano(line.amount_nano_usd)}"
