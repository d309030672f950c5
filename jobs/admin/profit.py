"""Profit in the admin: the report, past jobs under another plan, shadow plans, kept days."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import path
from unfold.admin import ModelAdmin, TabularInline
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminSingleDateWidget,
    UnfoldAdminTextInputWidget,
)

from billing import revenue
from jobs import drift, links, profit, rankings, shadows
from jobs.admin.tables import ROWS, Table, TablePage
from jobs.models import ProfitDay, Quote, RollupDay, Shadow, ShadowDay
from saas_litellm.base import clock
from saas_litellm.base.admin import (
    Audited,
    ReadOnlyAdmin,
    RefusalsShown,
    actor,
    credits_of,
    permitted,
)


def _text(**more: Any) -> forms.CharField:
    return forms.CharField(required=False, widget=UnfoldAdminTextInputWidget, **more)


class ProfitForm(forms.Form):
    start = forms.DateField(widget=UnfoldAdminSingleDateWidget)
    end = forms.DateField(widget=UnfoldAdminSingleDateWidget, label="End (not included)")
    group_by = forms.ChoiceField(
        choices=[(name, name.replace("_", " ")) for name in profit.GROUPS],
        widget=UnfoldAdminSelectWidget,
    )
    team = _text()
    organization = _text()
    job_type = _text()
    alias = _text()


def _require(request: HttpRequest, permission: str) -> None:
    if not request.user.has_perm(permission):
        raise PermissionDenied


@admin.register(ProfitDay)
class ProfitAdmin(TablePage):
    form_class = ProfitForm
    empty = "No job or call ended in that time. Make a job, or choose another period."

    def initial(self) -> dict[str, Any]:
        today = clock.now().date()
        return {
            "start": today - timedelta(days=30),
            "end": today + timedelta(days=1),
            "group_by": "team",
        }

    def get_urls(self) -> list[Any]:
        pages = [
            path(
                "deferred-revenue/",
                self.admin_site.admin_view(self.deferred_revenue),
                name="jobs_profitday_deferred_revenue",
            ),
            path(
                "cost-drift/",
                self.admin_site.admin_view(self.cost_drift),
                name="jobs_profitday_cost_drift",
            ),
        ]
        return [*pages, *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        _require(request, "jobs.view_profitday")
        return self.table_page(
            request,
            title="Profit",
            links={
                "Deferred revenue": "admin:jobs_profitday_deferred_revenue",
                "Cost drift": "admin:jobs_profitday_cost_drift",
            },
        )

    def deferred_revenue(self, request: HttpRequest) -> HttpResponse:
        _require(request, "billing.view_entry")
        return self.records_page(
            request,
            title="Deferred revenue by month",
            records=[month.as_json() for month in revenue.deferred()],
            note=revenue.RECONCILES,
            empty="Nothing was granted yet.",
        )

    def cost_drift(self, request: HttpRequest) -> HttpResponse:
        _require(request, "jobs.view_profitday")
        return self.records_page(
            request,
            title="Cost drift",
            records=[row.as_json() for row in drift.find()],
            note="The last 7 days against the 28 before: 20 jobs or more, 20 % or more.",
            empty="No cost per job has moved.",
        )

    def table(self, given: dict[str, Any], *, number: int | None) -> Table:
        group_by = given["group_by"]
        found, count = _reported(given, number)
        named = [*found.rows, ("total", found.total)] if found.rows else []
        records = [{group_by: key, **sums.as_json()} for key, sums in named]
        rows = []
        for record in records:
            led_to = links.of_row(
                group_by,
                str(record[group_by]),
                start=given["start"],
                end=given["end"],
                team=given["team"],
                job_type=given["job_type"],
            )
            values = ["–" if record[name] is None else record[name] for name in _SHOWN]
            rows.append([led_to.named(), *values, led_to.losing_named()])
        called = (_CALLED.get(name) or name.replace("_", " ") for name in _SHOWN)
        columns = [group_by, *called, "at a loss"]
        return Table(columns=columns, rows=rows, records=records, count=count)


# A job that was cancelled brought no more than one that failed: both are counted there.
_CALLED = {"failed_jobs": "failed or cancelled jobs"}
_SHOWN = (
    "jobs",
    "failed_jobs",
    "calls",
    "failed_calls",
    "total_tokens",
    "credits_charged",
    "revenue_usd",
    "provider_cost_usd",
    "margin_usd",
    "margin_percent",
    "credits_overrun",
)


def _reported(given: dict[str, Any], number: int | None) -> tuple[profit.Report, int]:
    """A page of the report that is asked for, or all of it, and how many rows it has."""
    filters = profit.Filters(
        **{name: given[name] or None for name in ("team", "organization", "job_type", "alias")}
    )
    start, end, group_by = (given[name] for name in ("start", "end", "group_by"))
    if number is not None and group_by in rankings.GROUPS:
        return rankings.page(
            start=start, end=end, group_by=group_by, filters=filters, number=number, rows=ROWS
        )
    found = profit.report(start=start, end=end, group_by=group_by, filters=filters)
    count = len(found.rows)
    if number is not None:
        found.rows = found.rows[(number - 1) * ROWS : number * ROWS]
    return found, count


class ShadowDayInline(TabularInline):  # type: ignore[misc] # unfold is untyped
    model = ShadowDay
    extra = 0
    can_delete = False
    fields = ("day", "team", "jobs", "real_usd", "shadow_usd", "difference_usd")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest, obj: Shadow | None = None) -> bool:
        return False

    @admin.display(description="Really, USD")
    def real_usd(self, day: ShadowDay) -> str:
        return credits_of(day.real_nano_usd)

    @admin.display(description="In shadow, USD")
    def shadow_usd(self, day: ShadowDay) -> str:
        return credits_of(day.shadow_nano_usd)

    @admin.display(description="Difference, USD")
    def difference_usd(self, day: ShadowDay) -> str:
        return credits_of(day.difference_nano_usd)


@admin.register(Shadow)
class ShadowAdmin(RefusalsShown, Audited, ModelAdmin):  # type: ignore[misc] # unfold is untyped
    """Shadow plans as rows; their pages with results are under Prices."""

    recorded_by_domain = ("add",)
    list_display = ("version", "team", "started_at", "ended_at", "difference")
    list_select_related = ("version__plan", "team")
    autocomplete_fields = ("team",)
    fields = ("version", "team")
    inlines = (ShadowDayInline,)
    actions = ("stop",)
    has_stop_permission = permitted("jobs.change_shadow")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("jobs.add_shadow")

    # A shadow's figures are history: it is stopped, nothing else.
    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="Difference, USD")
    def difference(self, shadow: Shadow) -> str:
        return credits_of(sum(day.difference_nano_usd for day in shadow.days.all()))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # noqa: FBT001 - Django's
        saved = shadows.start(version=obj.version, team=obj.team, actor=actor(request))
        obj.pk, obj.started_at, obj._state.adding = saved.pk, saved.started_at, False

    @admin.action(description="Stop", permissions=["stop"])
    def stop(self, request: HttpRequest, queryset: QuerySet[Shadow]) -> None:
        for shadow in queryset:
            shadows.stop(shadow=shadow, actor=actor(request))


@admin.register(RollupDay)
class RollupDayAdmin(ReadOnlyAdmin):
    list_display = ("day", "is_dirty", "rolled_at")
    list_filter = ("is_dirty",)


@admin.register(Quote)
class QuoteAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "team", "job_type", "expected", "p95", "worst", "valid_until")
    list_select_related = ("team",)
    list_filter = ("job_type",)

    @admin.display
    def expected(self, quote: Quote) -> str:
        return credits_of(quote.expected_nanocredits)

    @admin.display
    def p95(self, quote: Quote) -> str:
        return credits_of(quote.p95_nanocredits)

    @admin.display
    def worst(self, quote: Quote) -> str:
        return credits_of(quote.worst_nanocredits)
