"""Pages that are a question and a table of answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from saas_litellm.base.admin import ReadOnlyAdmin
from saas_litellm.base.csv_files import csv_answer
from saas_litellm.base.refusals import Refusal

ROWS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """``rows`` as the page shows them, ``records`` as the CSV has them.

    ``count``: of how many rows these are a page.
    """

    columns: Sequence[str]
    rows: list[list[Any]]
    records: list[dict[str, Any]]
    count: int = 0


class TablePage(ReadOnlyAdmin):
    """A page that is a question form and a table of answers, with the same table as CSV."""

    form_class: type[forms.Form]
    button = "Show"
    empty = "Nothing in that time."

    def initial(self) -> dict[str, Any]:
        return {}

    def table(self, given: dict[str, Any], *, number: int | None) -> Table:
        """Page ``number``, of ROWS rows; None: all there is, for a CSV. May raise Refusal."""
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
        is_csv = request.GET.get("format") == "csv"
        asked = request.GET.get("page", "")
        number = max(1, int(asked)) if asked.isdecimal() and len(asked) < 8 else 1
        if form.is_valid():
            try:
                table = self.table(form.cleaned_data, number=None if is_csv else number)
            except Refusal as refusal:
                form.add_error(None, refusal.message)
            else:
                if is_csv:
                    return csv_answer(table.records, filename=f"{self.model._meta.model_name}.csv")
                query = {name: value for name, value in request.GET.items() if name != "page"}
                context |= {
                    "columns": table.columns,
                    "rows": table.rows,
                    "page": Paginator(range(table.count), ROWS).get_page(number),
                    "query": urlencode(query),
                }
        context |= {**self.admin_site.each_context(request), "empty": self.empty}
        return render(request, "admin/jobs/table_page.html", context)
