"""A team's jobs and their calls: credits, tokens, times and aliases, and nothing of who answered."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import HttpResponse

from jobs import lifecycle, reports
from jobs.models import Call, Job
from jobs.schemas import ListJobs
from saas_litellm.base import shown
from saas_litellm.base.days import midnight
from saas_litellm.base.money import from_nano
from saas_litellm.portal.access import Visit, team_page
from teams.api import parse

ROWS = 50
_CALL_STATES = {
    Call.Status.HELD: "waiting",
    Call.Status.DISPATCHED: "running",
    Call.Status.SETTLED: "done",
    Call.Status.FAILED: "failed",
    Call.Status.ABANDONED: "broken off",
}
_DATE = forms.DateInput(attrs={"type": "date"})


class FilterForm(forms.Form):
    status = forms.ChoiceField(required=False, choices=[("", "any"), *Job.Status.choices])
    job_type = forms.CharField(required=False, max_length=100, label="Type")
    user_id = forms.CharField(required=False, max_length=200, label="End user")
    first = forms.DateField(required=False, label="From", widget=_DATE)
    last = forms.DateField(required=False, label="To", widget=_DATE)

    def clean_first(self) -> date | None:
        return _near(self.cleaned_data["first"])

    def clean_last(self) -> date | None:
        return _near(self.cleaned_data["last"])

    def wanted(self) -> dict[str, Any]:
        """As the API's list of jobs is asked for; both days count whole, in UTC."""
        given = self.cleaned_data
        wanted = {name: given[name] for name in ("status", "job_type", "user_id") if given[name]}
        if given["first"]:
            wanted["created_after"] = midnight(given["first"])
        if given["last"]:
            wanted["created_before"] = midnight(given["last"]) + timedelta(days=1)
        return wanted


def _near(day: date | None) -> date | None:
    """Days at the ends of the calendar have none beyond them."""
    if day is not None and not 2000 <= day.year <= 9000:
        raise ValidationError("That day lies too far away.")
    return day


@team_page
def jobs(visit: Visit) -> HttpResponse:
    """Newest first, a page at a time."""
    asked = visit.request.GET.dict()
    cursor = asked.pop("cursor", None)
    form = FilterForm(asked)
    wanted = form.wanted() if form.is_valid() else {}
    query = parse(ListJobs, {**wanted, "limit": ROWS, "cursor": cursor})
    found, following = reports.job_page(team=visit.team, query=query)
    return visit.show(
        "portal/jobs.html",
        {
            "form": form,
            "rows": [_row(job) for job in found],
            "is_filtered": bool(wanted),
            "is_first": cursor is None,
            "newest": urlencode(asked),
            "following": urlencode({**asked, "cursor": following}) if following else "",
        },
    )


@team_page
def job(visit: Visit, job_id: UUID) -> HttpResponse:
    """One job, and its calls in the order in which they began."""
    found = lifecycle.find(team=visit.team, job_id=job_id)
    calls = found.calls.select_related("alias").order_by("created_at", "id")
    page = Paginator(calls, ROWS).get_page(visit.request.GET.get("page"))
    return visit.show(
        "portal/job.html",
        {
            "job": found,
            # Here: in a template, `.items` would be the value of a key of that name.
            "metadata": list(found.metadata.items()),
            "row": _row(found),
            "exact": str(from_nano(found.net_nanocredits)),
            "cap": _maybe(found.max_nanocredits),
            "held": shown.credit_amount(found.held_nanocredits),
            "calls": [_call(call) for call in page],
            "page": page,
        },
    )


def _row(job: Job) -> dict[str, Any]:
    return {
        "job": job,
        "state": _state(job.status),
        "calls": shown.count(job.successful_calls + job.failed_calls + job.in_flight),
        "failed_calls": shown.count(job.failed_calls),
        "tokens": shown.count(job.total_tokens),
        "charged": shown.credit_amount(job.charged_nanocredits),
        "refunded": shown.credit_amount(job.refunded_nanocredits),
        "net": shown.credit_amount(job.net_nanocredits),
    }


def _state(status: str) -> str:
    """Which colour it has beside its word."""
    if status == Job.Status.COMPLETED:
        return "ok"
    return "bad" if status in {Job.Status.FAILED, Job.Status.CANCELLED} else "warn"


def _call(call: Call) -> dict[str, Any]:
    return {
        "at": call.created_at,
        "alias": call.alias.name,
        "purpose": call.purpose,
        "state": _CALL_STATES[Call.Status(call.status)],
        "input": shown.count(call.prompt_tokens),
        "cached": shown.count(call.cached_tokens),
        "output": shown.count(call.completion_tokens),
        "took": shown.milliseconds(call.latency_ms) if call.finished_at else "–",
        "charged": shown.credit_amount(call.charged_nanocredits),
        "refunded": shown.credit_amount(call.refunded_nanocredits),
    }


def _maybe(nanocredits: int | None) -> str:
    return "–" if nanocredits is None else shown.credit_amount(nanocredits)
