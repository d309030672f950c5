"""Jobs in the admin: the list, a job's page, and what an operator may do with one."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404

from jobs import closing, refunds, search
from jobs.admin import pages
from jobs.admin.filters import JobFilter
from jobs.admin.lists import ReasonForm, RefundForm, id_of, page_of
from jobs.models import Job
from saas_litellm.base import shown
from saas_litellm.base.admin import actor, credits_of, form_page, object_page, permitted
from saas_litellm.base.lists import LongList
from teams import operators


@admin.register(Job)
class JobAdmin(LongList):
    list_display = (
        "created_at",
        "team",
        "job_type",
        "status",
        "user_id",
        "credits",
        "price",
        "provider_cost",
        "margin",
    )
    list_select_related = ("team",)
    filter_class = JobFilter
    shortcuts = (
        ("All", ""),
        ("Running", "status=open"),
        ("Failed", "status=failed"),
        ("Loss-making", "losing=on"),
    )
    search_help_text = "id, team, task id, end user, job type"
    sortable_by = ("created_at", "provider_cost")
    fields = ("id",)
    change_form_template = "admin/jobs/job.html"
    actions_detail = ("refund", "cancel", "waive")
    has_refund_permission = permitted("jobs.refund_job")
    has_cancel_permission = has_waive_permission = permitted("jobs.change_job")

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Newest first; where a cost or days of closing are asked for, by those: as their index."""
        if request.GET.get("cost_from") or request.GET.get("cost_to"):
            return ("-provider_cost_nano_usd", "-id")
        if request.GET.get("closed_from") or request.GET.get("closed_to"):
            return ("-closed_at", "-id")
        return ("-created_at", "-id")

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        return (search.jobs_named(queryset, search_term) if search_term else queryset), False

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Only what can be done with the job as it is; the pages themselves say why not."""
        job_id = id_of(object_id)
        job = Job.objects.filter(pk=job_id).first() if job_id else None
        if job is None:
            return []
        fitting = {"cancel", "waive"} if job.is_open else set()
        if not job.is_open and job.net_nanocredits > 0:
            fitting.add("refund")
        offered = super().get_actions_detail(request, object_id)
        return [act for act in offered if act.action_name.rpartition("_")[2] in fitting]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        more = {}
        job_id = id_of(object_id)
        if job_id is not None and request.user.has_perm("jobs.view_job"):
            more = pages.of_job(job_id, request.user)
        return super().change_view(  # type: ignore[no-any-return]
            request, object_id, form_url, {**more, **(extra_context or {})}
        )

    @object_page(description="Refund", path="refund", permission="refund")
    def refund(self, request: HttpRequest, object_id: str) -> HttpResponse:
        job = get_object_or_404(Job.objects.select_related("team"), pk=object_id)

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
            title=f"Refund {job.job_type} of {job.team}: {credits_of(job.net_nanocredits)} left",
            button="Refund",
            act=act,
            back=page_of(job),
        )

    @object_page(description="Cancel", path="cancel", permission="cancel")
    def cancel(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """What its calls were charged stands, as its plan says; running calls stop."""
        job = get_object_or_404(Job.objects.select_related("team__organization"), pk=object_id)

        def act(given: dict[str, Any]) -> str:
            closed = closing.cancel(job=job, reason=given["reason"], actor=actor(request))
            return f"Cancelled. {credits_of(closed.net_nanocredits)} credits stay charged."

        return form_page(
            self,
            request,
            form_class=ReasonForm,
            title=f"Cancel {job.job_type} of {job.team}; it pays for what it got",
            button="Cancel the job",
            act=act,
            back=page_of(job),
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
            form_class=ReasonForm,
            title=f"Cancel {job.job_type} of {job.team} and charge nothing",
            button="Cancel it, uncharged",
            act=act,
            back=page_of(job),
        )

    @admin.display
    def credits(self, job: Job) -> str:
        return shown.credit_amount(job.net_nanocredits)

    @admin.display(description="Price")
    def price(self, job: Job) -> str:
        return shown.usd(job.price_nano_usd - job.refunded_nano_usd)

    @admin.display(ordering="provider_cost_nano_usd", description="Provider cost")
    def provider_cost(self, job: Job) -> str:
        return shown.usd(job.provider_cost_nano_usd)

    @admin.display(description="Margin")
    def margin(self, job: Job) -> str:
        return pages.margin(job.margin_nano_usd)
