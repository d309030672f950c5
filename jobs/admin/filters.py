"""The filters of the lists of jobs and calls: one form each, beside the list."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import QuerySet
from unfold.widgets import UnfoldAdminTextInputWidget

from jobs import search
from jobs.models import Call, Job
from saas_litellm.base.admin import AmountField
from saas_litellm.base.lists import FormFilter, choice_field, day_field, text_field
from teams.models import Alias, Team

_SUGGESTED = 100


class JobFilterForm(forms.Form):
    status = choice_field([(search.OPEN, "Running"), *Job.Status.choices])
    job_type = text_field(suggest="types")
    team = text_field(suggest="teams")
    user = text_field(label="End user")
    losing = forms.BooleanField(required=False, label="Loss-making only")
    metadata = text_field(help_text="A key, or key=value.")
    cost_from = AmountField(required=False, label="Provider cost from, USD")
    cost_to = AmountField(required=False, label="Provider cost to, USD")
    created_from = day_field("Created from")
    created_to = day_field("Created to")
    closed_from = day_field("Closed from")
    closed_to = day_field("Closed to")


class CallFilterForm(forms.Form):
    status = choice_field(Call.Status.choices)
    team = text_field(suggest="teams")
    alias = text_field(suggest="aliases")
    error = text_field(label="Error code")
    slow = choice_field([("10", "10 s or more"), ("30", "30 s or more"), ("60", "60 s or more")])
    created_from = day_field("Created from")
    created_to = day_field("Created to")
    job = forms.UUIDField(required=False, label="Job", widget=UnfoldAdminTextInputWidget)


def _teams() -> dict[str, list[str]]:
    slugs = Team.objects.order_by("slug").values_list("slug", flat=True)
    return {"teams": list(slugs[:_SUGGESTED])}


class JobFilter(FormFilter):
    of = JobFilterForm

    def suggestions(self) -> dict[str, list[str]]:
        return {**_teams(), "types": search.job_types(most=_SUGGESTED)}

    def narrowed(self, rows: QuerySet[Any], given: dict[str, Any]) -> QuerySet[Any]:
        return search.jobs(rows, search.JobsAsked(**given))


class CallFilter(FormFilter):
    of = CallFilterForm

    def suggestions(self) -> dict[str, list[str]]:
        names = Alias.objects.order_by("name").values_list("name", flat=True)
        return {**_teams(), "aliases": list(names[:_SUGGESTED])}

    def narrowed(self, rows: QuerySet[Any], given: dict[str, Any]) -> QuerySet[Any]:
        slow = int(given.pop("slow") or 0)
        return search.calls(rows, search.CallsAsked(**given, slow=slow or None))
