from __future__ import annotations

import json
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from unfold.admin import TabularInline
from unfold.widgets import UnfoldAdminTextInputWidget

from jobs import closing, payloads, refunds
from jobs.models import Attempt, Call, CostLine, Job
from saas_litellm.base.admin import (
    AmountField,
    PageForm,
    ReadOnlyAdmin,
    actor,
    credits_of,
    form_page,
    object_page,
    permitted,
)
from saas_litellm.base.money import from_nano
from teams import operators


class RefundForm(PageForm):
    credits = AmountField(required=False, help_text="Empty: all that is left.")
    reason = forms.CharField(widget=UnfoldAdminTextInputWidget, max_length=500)


class WaiveForm(PageForm):
    reason = forms.CharField(widget=UnfoldAdminTextInputWidget, max_length=500)


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
    actions_detail = ("refund", "waive")
    has_refund_permission = permitted("jobs.refund_job")
    has_waive_permission = permitted("jobs.change_job")

    @object_page(description="Refund", path="refund", permission="refund")
    def refund(self, request: HttpRequest, object_id: str) -> HttpResponse:
        job = get_object_or_404(Job, pk=object_id)

        def act(given: dict[str, Any]) -> str:
            entries = refunds.refund_job(
                job=job,
                nanocredits=given["credits"],
                reason=given["reason"],
                actor=actor(request),
                operator=operators.signed_in(request.user),
                idempotency_key=given["idempotency_key"],
            )
            return f"Gave back {credits_of(sum(e.amount_nanocredits for e in entries))} credits."

        return form_page(
            self,
            request,
            form_class=RefundForm,
            title=f"Refund {job.job_type} of {job.team}",
            button="Refund",
            act=act,
        )

    @object_page(description="Fail, uncharged", path="waive", permission="waive")
    def waive(self, request: HttpRequest, object_id: str) -> HttpResponse:
        job = get_object_or_404(Job.objects.select_related("team__organization"), pk=object_id)

        def act(given: dict[str, Any]) -> str:
            closed = closing.close(
                job=job,
                status=Job.Status.CANCELLED,
                actor=actor(request),
                error_message=given["reason"],
                is_waived=True,
            )
            return f"Cancelled; gave back {credits_of(closed.refunded_nanocredits)} credits."

        return form_page(
            self,
            request,
            form_class=WaiveForm,
            title=f"Cancel {job.job_type} of {job.team} and charge nothing",
            button="Cancel it, uncharged",
            act=act,
        )

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
    actions_detail = ("payload",)
    has_payload_permission = permitted("jobs.view_payload")

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


@admin.register(CostLine)
class CostLineAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "call", "kind", "usd")
    list_filter = ("kind",)
    list_select_related = ("call",)

    @admin.display(description="USD")
    def usd(self, line: CostLine) -> str:
        return f"{from_nano(line.amount_nano_usd)}"
