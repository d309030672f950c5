"""Reconciliations in the admin: upload an export, look at its lines, book a correction."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.files.uploadedfile import UploadedFile
from django.core.paginator import Paginator
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path, reverse
from django.utils.html import format_html
from django.views.decorators.http import require_POST
from unfold.decorators import action
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminTextInputWidget

from jobs.models import Reconciliation, ReconciliationLine
from jobs.reconciliation import compare, formats
from saas_litellm.base.admin import ReadOnlyAdmin, actor, tell
from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import Refusal

LINES_A_PAGE = 100


class UploadForm(forms.Form):
    """A provider's export. The same file twice changes nothing, so neither does a second click."""

    file = forms.FileField(
        widget=UnfoldAdminFileFieldWidget,
        help_text="OpenAI usage or costs (JSON or CSV), Anthropic costs (CSV), or our own CSV.",
    )
    threshold = forms.DecimalField(
        widget=UnfoldAdminTextInputWidget,
        label="Threshold, %",
        initial="1",
        min_value=0,
        max_value=10_000,
        decimal_places=2,
        help_text="Variances beyond this share of the provider's figure stand out.",
    )

    def clean_file(self) -> UploadedFile[Any]:
        file: UploadedFile[Any] = self.cleaned_data["file"]
        if (file.size or 0) > formats.MAX_BYTES:
            raise forms.ValidationError("The file is larger than 20 MB.")
        return file

    def clean_threshold(self) -> int:
        return int(self.cleaned_data["threshold"] * 100)


@admin.register(Reconciliation)
class ReconciliationAdmin(ReadOnlyAdmin):
    list_display = ("created_at", "source", "filename", "days", "lines_", "beyond", "actor")
    list_filter = ("source",)
    search_fields = ("filename", "actor", "digest")
    date_hierarchy = "created_at"
    actions_list = ("upload",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Reconciliation]:
        found: QuerySet[Reconciliation] = super().get_queryset(request)
        return found.annotate(
            line_count=Count("lines"),
            beyond_count=Count("lines", filter=Q(lines__is_beyond_threshold=True)),
        )

    @admin.display(ordering="first_day")
    def days(self, made: Reconciliation) -> str:
        return f"{made.first_day} to {made.last_day}"

    @admin.display(description="Lines")
    def lines_(self, made: Any) -> int:
        return int(made.line_count)

    @admin.display(description="Beyond the threshold")
    def beyond(self, made: Any) -> int:
        return int(made.beyond_count)

    def get_urls(self) -> list[Any]:
        correct = path(
            "lines/<int:line_id>/correct/",
            self.admin_site.admin_view(require_POST(self.correct)),
            name="jobs_reconciliation_correct",
        )
        return [correct, *super().get_urls()]

    def has_upload_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("jobs.add_reconciliation")

    # Named, not "jobs.add_reconciliation": unfold's check would ask a database not yet migrated.
    @action(description="Upload an export", url_path="upload", permissions=["upload"])  # type: ignore[untyped-decorator]
    def upload(self, request: HttpRequest) -> HttpResponse:
        """The form that compares a file; whoever may add a reconciliation may use it."""
        form = UploadForm(request.POST or None, request.FILES or None)
        if request.method == "POST" and form.is_valid():
            file = form.cleaned_data["file"]
            try:
                made = compare.reconcile(
                    content=file.read(),
                    filename=file.name or "",
                    actor=actor(request),
                    threshold_basis_points=form.cleaned_data["threshold"],
                )
            except Refusal as refusal:
                form.add_error(None, refusal.message)
            else:
                self.message_user(request, f"Compared {made.filename}.", messages.SUCCESS)
                return redirect("admin:jobs_reconciliation_change", made.pk)
        context = {
            **self.admin_site.each_context(request),
            "title": "Compare a provider's export",
            "form": form,
        }
        return render(request, "admin/jobs/reconciliation_upload.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """One reconciliation: its lines, and beneath them the calls of the one asked about."""
        made = self.get_object(request, object_id)
        if made is None:
            found: HttpResponse = super().change_view(request, object_id, *args, **kwargs)
            return found
        if not self.has_view_permission(request, made):
            raise PermissionDenied
        lines = made.lines.select_related("correction").order_by(
            "-is_beyond_threshold", "day", "model"
        )
        page = Paginator(lines, LINES_A_PAGE).get_page(request.GET.get("page"))
        asked = request.GET.get("calls", "")
        explained = made.lines.filter(pk=int(asked)).first() if asked.isdecimal() else None
        context = {
            **self.admin_site.each_context(request),
            "title": f"Reconciliation of {made}",
            "made": made,
            "page": page,
            "rows": [_row(line) for line in page],
            "explained": explained,
            "calls": _calls(explained) if explained else [],
            "may_correct": request.user.has_perm("jobs.add_costline"),
        }
        return render(request, "admin/jobs/reconciliation.html", context)

    def correct(self, request: HttpRequest, line_id: int) -> HttpResponse:
        """Book one line's variance; whoever may add a cost line may do it."""
        if not request.user.has_perm("jobs.add_costline"):
            raise PermissionDenied
        line = get_object_or_404(ReconciliationLine, pk=line_id)
        try:
            booked = compare.correct(
                line=line, actor=actor(request), reason=request.POST.get("reason", "")
            )
        except Refusal as refusal:
            tell(self, request, refusal)
        else:
            amount = from_nano(booked.amount_nano_usd)
            text = f"Booked a correction of {amount} USD for {line}."
            self.message_user(request, text, messages.SUCCESS)
        return redirect("admin:jobs_reconciliation_change", line.reconciliation_id)


@admin.register(ReconciliationLine)
class ReconciliationLineAdmin(ReadOnlyAdmin):
    list_display = ("day", "model", "theirs", "ours", "variance", "calls", "page")
    list_filter = ("is_beyond_threshold", "reconciliation__source")
    list_select_related = ("reconciliation",)
    search_fields = ("model",)
    date_hierarchy = "day"

    @admin.display(description="Theirs, USD")
    def theirs(self, line: ReconciliationLine) -> str:
        return _usd(line.their_nano_usd)

    @admin.display(description="Ours, USD")
    def ours(self, line: ReconciliationLine) -> str:
        return _usd(line.our_nano_usd)

    @admin.display(description="Variance, USD")
    def variance(self, line: ReconciliationLine) -> str:
        return _usd(line.variance_nano_usd)

    @admin.display(description="")
    def page(self, line: ReconciliationLine) -> str:
        return format_html(
            '<a href="{}">Reconciliation</a>',
            reverse("admin:jobs_reconciliation_change", args=[line.reconciliation_id]),
        )


def _row(line: ReconciliationLine) -> dict[str, Any]:
    return {
        "line": line,
        "their_usd": _usd(line.their_nano_usd),
        "our_usd": _usd(line.our_nano_usd),
        "variance": _usd(line.variance_nano_usd),
        "percent": compare.percent(line),
        "corrected": _usd(line.correction.amount_nano_usd) if line.correction else "",
        "is_correctable": bool(line.variance_nano_usd) and line.correction is None,
    }


def _calls(line: ReconciliationLine) -> list[dict[str, Any]]:
    return [
        {
            "call": call,
            "url": reverse("admin:jobs_call_change", args=[call.pk]),
            "usd": _usd(call.provider_cost_nano_usd),
        }
        for call in compare.explain(line)
    ]


def _usd(amount: int | None) -> str:
    return "-" if amount is None else f"{from_nano(amount)}"
