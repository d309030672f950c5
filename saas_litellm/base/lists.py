"""Lists of the admin that may have millions of rows, and the form that narrows one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import PAGE_VAR
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.widgets import INPUT_CLASSES, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from saas_litellm.base.admin import ReadOnlyAdmin

_INPUT = " ".join(INPUT_CLASSES)


def text_field(*, suggest: str = "", **more: Any) -> forms.CharField:
    """``suggest``: which of the filter's suggestions it offers."""
    attrs = {"list": f"known-{suggest}"} if suggest else {}
    widget = UnfoldAdminTextInputWidget(attrs=attrs)
    return forms.CharField(required=False, max_length=200, widget=widget, **more)


def day_field(label: str) -> forms.DateField:
    widget = forms.DateInput(format="%Y-%m-%d", attrs={"type": "date", "class": _INPUT})
    return forms.DateField(required=False, label=label, widget=widget)


def choice_field(choices: Any, **more: Any) -> forms.ChoiceField:
    return forms.ChoiceField(
        required=False, choices=[("", "any"), *choices], widget=UnfoldAdminSelectWidget, **more
    )


class FormFilter(admin.ListFilter):
    """A whole form as one filter; what it cannot read leaves no row, and is said at its field."""

    template = "admin/lists/filter.html"
    title = "filters"
    of: type[forms.Form]

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        given = {name: params.pop(name)[-1] for name in self.of.base_fields if name in params}
        self.form = self.of(given, auto_id="filter_%s")
        # unfold carries what no filter uses into the next request; an old page number must not be.
        self.used_parameters = {**given, PAGE_VAR: ""}

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return list(self.of.base_fields)

    def suggestions(self) -> dict[str, list[str]]:
        """Known values, by the id of their list."""
        return {}

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
        yield {"form": self.form, "suggestions": self.suggestions()}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.form.is_valid():
            return queryset.none()
        return self.narrowed(queryset, self.form.cleaned_data)

    def narrowed(self, rows: QuerySet[Any], given: dict[str, Any]) -> QuerySet[Any]:
        raise NotImplementedError


class LongList(ReadOnlyAdmin):
    """A list that never sorts without an index: its form and its search ask what one answers."""

    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 0
    list_filter_submit = True
    # The box itself; ``get_search_results`` decides what is asked.
    search_fields: tuple[str, ...] = ("id",)
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
