"""What the pages of jobs and of calls share."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from unfold.widgets import UnfoldAdminTextInputWidget

from jobs.admin.filters import FormFilter
from jobs.models import Job
from saas_litellm.base.admin import AmountField, PageForm, ReadOnlyAdmin
from saas_litellm.base.paging import BoundedPaginator


class RefundForm(PageForm):
    credits = AmountField(required=False, help_text="Empty: all that is left.")
    reason = forms.CharField(widget=UnfoldAdminTextInputWidget, max_length=500)


class ReasonForm(PageForm):
    reason = forms.CharField(widget=UnfoldAdminTextInputWidget, max_length=500)


class LongList(ReadOnlyAdmin):
    """A list that may have millions of rows: it never counts them all, nor sorts without an index."""

    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 0
    list_filter_submit = True
    list_before_template = "admin/jobs/list_before.html"
    # The box itself; search.py decides what is asked.
    search_fields = ("id",)
    filter_class: type[FormFilter]
    shortcuts: tuple[tuple[str, str], ...] = ()

    def get_list_filter(self, request: HttpRequest) -> Any:
        return (self.filter_class,)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        form = self.filter_class.of(request.GET)
        asked = [
            (bound.label, "yes" if isinstance(bound.field, forms.BooleanField) else bound.value())
            for bound in form
            if request.GET.get(bound.name)
        ]
        query = request.GET.urlencode()
        return super().changelist_view(  # type: ignore[no-any-return]
            request,
            {
                "shortcuts": [(name, f"?{of}", of == query) for name, of in self.shortcuts],
                "asked": asked,
                "mistakes": form.errors,
                **(extra_context or {}),
            },
        )


def page_of(job: Job) -> str:
    return reverse("admin:jobs_job_change", args=[job.pk])


def id_of(text: Any) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None
