"""Pages that are a question and a table of answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from saas_litellm.base.admin import ReadOnlyAdmin
from saas_litellm.base.csv_files import csv_answer
from saas_litellm.base.refusals import Refusal

Table = tuple[Sequence[str], list[list[Any]], list[dict[str, Any]], str]


class TablePage(ReadOnlyAdmin):
    """A page that is a question form and a table of answers, with the same table as CSV."""

    form_class: type[forms.Form]
    button = "Show"
    empty = "Nothing in that time."

    def initial(self) -> dict[str, Any]:
        return {}

    def table(self, given: dict[str, Any]) -> Table:
        """Columns, rows, the rows as records for CSV, and a note. May raise Refusal."""
        raise NotImplementedError

    def records_page(
        self,
        request: HttpRequest,
        *,
        title: str,
        records: list[dict[str, Any]],
        note: str,
        empty: str,
    ) -> HttpResponse:
        """A table without a question."""
        if request.GET.get("format") == "csv":
            return csv_answer(records, filename=f"{title.lower().replace(' ', '-')}.csv")
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "columns": [name.replace("_", " ") for name in (records[0] if records else ())],
            "rows": [list(record.values()) for record in records],
            "note": note,
            "empty": empty,
        }
        return render(request, "admin/jobs/table_page.html", context)

    def table_page(
        self, request: HttpRequest, *, title: str, links: dict[str, str] | None = None
    ) -> HttpResponse:
        form = self.form_class({**self.initial(), **request.GET.dict()}, initial=self.initial())
        context: dict[str, Any] = {"title": title, "form": form, "button": self.button}
        context["links"] = links or {}
        if form.is_valid():
            try:
                columns, rows, records, note = self.table(form.cleaned_data)
            except Refusal as refusal:
                form.add_error(None, refusal.message)
            else:
                if request.GET.get("format") == "csv":
                    return csv_answer(records, filename=f"{self.model._meta.model_name}.csv")
                context |= {"columns": columns, "rows": rows, "note": note}
        context |= {**self.admin_site.each_context(request), "empty": self.empty}
        return render(request, "admin/jobs/table_page.html", context)
