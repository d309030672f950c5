"""The filters of the lists of jobs and calls: one form each, beside the list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import PAGE_VAR
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.widgets import INPUT_CLASSES, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from jobs import search
from jobs.models import Call, Job
from saas_litellm.base.admin import AmountField
from teams.models import Alias, Team

_SUGGESTED = 100


def _text(*, suggest: str = "", **more: Any) -> forms.CharField:
    attrs = {"list": f"known-{suggest}"} if suggest else {}
    widget = UnfoldAdminTextInputWidget(attrs=attrs)
    return forms.CharField(required=False, max_length=200, widget=widget, **more)


def _day(label: str) -> forms.DateField:
    widget = forms.DateInput(format="%Y-%m-%d", attrs={"type": "date", "class": _INPUT})
    return forms.DateField(required=False, label=label, widget=widget)


def _choice(choices: Any, **more: Any) -> forms.ChoiceField:
    return forms.ChoiceField(
        required=False, choices=[("", "any"), *choices], widget=UnfoldAdminSelectWidget, **more
    )


_INPUT = " ".join(INPUT_CLASSES)


class JobFilterForm(forms.Form):
    status = _choice([(search.OPEN, "Running"), *Job.Status.choices])
    job_type = _text(suggest="types")
    team = _text(suggest="teams")
    user = _text(label="End user")
    losing = forms.BooleanField(required=False, label="Loss-making only")
    metadata = _text(help_text="A key, or key=value.")
    cost_from = AmountField(required=False, label="Provider cost from, USD")
    cost_to = AmountField(required=False, label="Provider cost to, USD")
    created_from = _day("Created from")
    created_to = _day("Created to")
    closed_from = _day("Closed from")
    closed_to = _day("Closed to")


class CallFilterForm(forms.Form):
    status = _choice(Call.Status.choices)
    team = _text(suggest="teams")
    alias = _text(suggest="aliases")
    error = _text(label="Error code")
    slow = _choice([("10", "10 s or more"), ("30", "30 s or more"), ("60", "60 s or more")])
    created_from = _day("Created from")
    created_to = _day("Created to")
    job = forms.UUIDField(required=False, label="Job", widget=UnfoldAdminTextInputWidget)


class FormFilter(admin.ListFilter):
    """A whole form as one filter; what it cannot read leaves no row, and is said at its field."""

    template = "admin/jobs/filter.html"
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
        return {"teams": list(Team.objects.order_by("slug").values_list("slug", flat=True)[:100])}

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
        yield {"form": self.form, "suggestions": self.suggestions()}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.form.is_valid():
            return queryset.none()
        return self.narrowed(queryset, self.form.cleaned_data)

    def narrowed(self, rows: QuerySet[Any], given: dict[str, Any]) -> QuerySet[Any]:
        raise NotImplementedError


class JobFilter(FormFilter):
    of = JobFilterForm

    def suggestions(self) -> dict[str, list[str]]:
        return {**super().suggestions(), "types": search.job_types(most=_SUGGESTED)}

    def narrowed(self, rows: QuerySet[Any], given: dict[str, Any]) -> QuerySet[Any]:
        return search.jobs(rows, search.JobsAsked(**given))


class CallFilter(FormFilter):
    of = CallFilterForm

    def suggestions(self) -> dict[str, list[str]]:
        names = Alias.objects.order_by("name").values_list("name", flat=True)
        return {**super().suggestions(), "aliases": list(names[:_SUGGESTED])}

    def narrowed(self, rows: QuerySet[Any], given: dict[str, Any]) -> QuerySet[Any]:
        slow = int(given.pop("slow") or 0)
        return search.calls(rows, search.CallsAsked(**given, slow=slow or None))
