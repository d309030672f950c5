"""Calls in the admin, with their attempts, and the lines of what they cost."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.html import format_html
from unfold.admin import TabularInline

from jobs import payloads, refunds, search
from jobs.admin import pages
from jobs.admin.filters import CallFilter
from jobs.admin.lists import RefundForm, id_of, page_of
from jobs.models import Attempt, Call, CostLine, Payload
from saas_litellm.base import shown
from saas_litellm.base.admin import (
    ReadOnlyAdmin,
    actor,
    credits_of,
    form_page,
    object_page,
    permitted,
)
from saas_litellm.base.lists import LongList
from teams import operators


class AttemptInline(TabularInline):  # type: ignore[misc] # unfold is untyped
    model = Attempt
    extra = 0
    can_delete = False
    fields = ("number", "deployment", "started_at", "ended_at", "failure", "failure_detail")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Call | None = None) -> bool:
        return False


@admin.register(Call)
class CallAdmin(LongList):
    list_display = (
        "created_at",
        "team",
        "alias",
        "status",
        "total_tokens",
        "took",
        "provider_cost",
        "price",
        "error_code",
    )
    list_select_related = ("team", "alias")
    filter_class = CallFilter
    shortcuts = (
        ("All", ""),
        ("Running", "status=dispatched"),
        ("Failed", "status=failed"),
        ("Abandoned", "status=abandoned"),
        ("Slow", "slow=10"),
    )
    search_help_text = "id, job's id, team"
    sortable_by = ("created_at",)
    # The lists of jobs are newest first too; a job's own calls are told from the first on.
    ordering = ("-created_at", "-id")
    fields = (
        "its_job",
        "team",
        "alias",
        "deployment",
        "status",
        "error_code",
        "purpose",
        "call_metadata",
        "created_at",
        "finished_at",
        "took",
        ("prompt_tokens", "cached_tokens", "completion_tokens"),
        "usage_source",
        ("provider_cost", "price", "margin"),
        ("charged", "refunded", "overrun"),
    )
    readonly_fields = (
        "its_job",
        "took",
        "provider_cost",
        "price",
        "margin",
        "charged",
        "refunded",
        "overrun",
    )
    inlines = (AttemptInline,)
    actions_detail = ("payload", "refund")
    has_payload_permission = permitted("jobs.view_payload")
    has_refund_permission = permitted("jobs.refund_job")

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        return (search.calls_named(queryset, search_term) if search_term else queryset), False

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        call_id = id_of(object_id)
        call = Call.objects.filter(pk=call_id).first() if call_id else None
        if call is None:
            return []
        fitting = set()
        if Payload.objects.filter(call=call).exists():
            fitting.add("payload")
        if call.charged_nanocredits > call.refunded_nanocredits:
            fitting.add("refund")
        offered = super().get_actions_detail(request, object_id)
        return [act for act in offered if act.action_name.rpartition("_")[2] in fitting]

    @object_page(description="Prompt and answer", path="payload", permission="payload")
    def payload(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Each look at what is kept leaves an audit row."""
        call = get_object_or_404(Call.objects.select_related("team"), pk=object_id)
        content = payloads.look(call, actor=actor(request))
        parts = {name: json.dumps(part, indent=2) for name, part in (content or {}).items()}
        context = {
            **self.admin_site.each_context(request),
            "title": f"Prompt and answer of call {call}",
            "parts": parts,
        }
        return render(request, "admin/jobs/payload.html", context)

    @object_page(description="Refund", path="refund", permission="refund")
    def refund(self, request: HttpRequest, object_id: str) -> HttpResponse:
        call = get_object_or_404(Call.objects.select_related("team", "alias", "job"), pk=object_id)

        def act(given: dict[str, Any]) -> str:
            entry = refunds.refund_call(
                call=call,
                nanocredits=given["credits"],
                reason=given["reason"],
                actor=actor(request),
                operator=operators.signed_in(request.user),
                idempotency_key=given["idempotency_key"],
            )
            return f"Gave back {credits_of(entry.amount_nanocredits)} credits."

        left = max(0, call.charged_nanocredits - call.refunded_nanocredits)
        return form_page(
            self,
            request,
            form_class=RefundForm,
            title=f"Refund a call to {call.alias} of {call.team}: {credits_of(left)} left",
            button="Refund",
            act=act,
            back=page_of(call.job),
        )

    @admin.display(description="Job")
    def its_job(self, call: Call) -> str:
        return format_html(
            '<a href="{}" class="row-link">{}</a>',
            reverse("admin:jobs_job_change", args=[call.job_id]),
            call.job_id,
        )

    @admin.display(description="Took")
    def took(self, call: Call) -> str:
        return shown.milliseconds(call.latency_ms)

    @admin.display(description="Provider cost")
    def provider_cost(self, call: Call) -> str:
        return shown.usd(call.provider_cost_nano_usd)

    @admin.display(description="Price")
    def price(self, call: Call) -> str:
        return shown.usd(call.price_nano_usd - call.refunded_nano_usd)

    @admin.display(description="Margin")
    def margin(self, call: Call) -> str:
        net = call.price_nano_usd - call.refunded_nano_usd
        return pages.margin(net - call.provider_cost_nano_usd)

    @admin.display(description="Charged, credits")
    def charged(self, call: Call) -> str:
        return shown.exact(call.charged_nanocredits)

    @admin.display(description="Refunded, credits")
    def refunded(self, call: Call) -> str:
        return shown.exact(call.refunded_nanocredits)

    @admin.display(description="Overrun, credits")
    def overrun(self, call: Call) -> str:
        return f"{shown.exact(call.overrun_nanocredits)} {call.overrun_reason}".strip()


@admin.register(CostLine)
class CostLineAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "call", "kind", "usd")
    list_filter = ("kind",)
    list_select_related = ("call",)

    @admin.display(description="USD")
    def usd(self, line: CostLine) -> str:
        return credits_of(line.amount_nano_usd)
