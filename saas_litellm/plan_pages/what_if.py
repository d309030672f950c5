"""What a version would have made of real history, as charts and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse

from billing import plans
from billing.models import PlanVersion
from jobs import what_if
from jobs.models import Job
from jobs.repricing import Repriced, Summary
from jobs.what_if import MOST_JOBS, Answer, Question
from saas_litellm.base import clock, shown
from saas_litellm.base.charts import Chart, Series
from saas_litellm.base.csv_files import csv_answer
from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import Refusal
from saas_litellm.dashboard import periods
from saas_litellm.plan_pages import shell
from teams.models import Team

ROWS, ENDS, BARS = 50, 5, 12
_MOST_VERSIONS = 300


class WhatIfForm(forms.Form):
    """Which version, on which jobs."""

    use_required_attribute = False
    version = forms.ModelChoiceField(
        PlanVersion.objects.none(), label="Prices", empty_label="choose…", required=False
    )
    start = forms.DateField(label="From", widget=forms.DateInput(attrs={"type": "date"}))
    last = forms.DateField(label="to", widget=forms.DateInput(attrs={"type": "date"}))
    jobs = forms.ChoiceField(
        label="Jobs",
        required=False,
        choices=[
            ("own", "of teams that were on this plan"),
            ("all", "of everybody"),
        ],
    )
    team = forms.ModelChoiceField(
        Team.objects.all(),
        to_field_name="slug",
        required=False,
        label="Team",
        widget=forms.TextInput(attrs={"placeholder": "every team"}),
        error_messages={"invalid_choice": "There is no such team."},
    )
    job_type = forms.CharField(
        label="Job type",
        required=False,
        max_length=100,
        widget=forms.TextInput(attrs={"placeholder": "every type"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        newest = PlanVersion.objects.order_by("-pk").values_list("pk", flat=True)[:_MOST_VERSIONS]
        field: Any = self.fields["version"]
        field.queryset = PlanVersion.objects.select_related("plan").filter(pk__in=list(newest))
        field.label_from_instance = _named

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        start, last = given.get("start"), given.get("last")
        if start and last and not timedelta(0) <= last - start < timedelta(periods.LONGEST_DAYS):
            raise forms.ValidationError(
                f"From must not be after to, and {periods.LONGEST_DAYS} days are the most."
            )
        return given


@dataclass(frozen=True, slots=True)
class Line:
    """One team or job type: now and then."""

    name: str
    sums: Summary

    @property
    def cells(self) -> list[str]:
        sums = self.sums
        return [
            shown.count(sums.jobs),
            shown.usd(sums.current_nano_usd),
            shown.usd(sums.candidate_nano_usd),
            signed(sums.difference_nano_usd),
            shown.credit_amount(sums.current_nanocredits),
            shown.credit_amount(sums.candidate_nanocredits),
            shown.usd(sums.current_nano_usd - sums.provider_cost_nano_usd),
            shown.usd(sums.candidate_nano_usd - sums.provider_cost_nano_usd),
        ]

    @property
    def difference(self) -> str:
        return signed(self.sums.difference_nano_usd)

    @property
    def is_loss(self) -> bool:
        return self.sums.candidate_nano_usd < self.sums.provider_cost_nano_usd


COLUMNS = (
    "Jobs",
    "Revenue now",
    "then",
    "Change",
    "Credits now",
    "then",
    "Margin now",
    "then",
)


@shell.page("billing.view_priceplan", "jobs.view_job")
def price_what_if(request: HttpRequest) -> HttpResponse:
    today = clock.now().date()
    usual = {"start": today - timedelta(days=29), "last": today, "jobs": "own"}
    form = WhatIfForm({**usual, **request.GET.dict()})
    context: dict[str, Any] = {"form": form, "most_jobs": MOST_JOBS}
    if form.is_valid() and form.cleaned_data["version"] is not None:
        version = form.cleaned_data["version"]
        try:
            question = _question(form.cleaned_data)
            found = what_if.answer(question)
        except Refusal as refusal:
            form.add_error(None, refusal.message)
        else:
            if request.GET.get("format") == "csv":
                return csv_answer(map(as_row, found.jobs), filename=f"what-if-{version}.csv")
            context |= result(found)
            context |= {"version": version, "question": question, "coverage": found.coverage}
            context["may_activate"] = version.activated_at is None and request.user.has_perm(
                "billing.change_planversion"
            )
    return shell.framed(request, "what_if.html", "What if: other prices on real jobs", **context)


def result(found: Answer) -> dict[str, Any]:
    """What the page shows of an answer."""
    teams = [Line(name, sums) for name, sums in found.by_team.items()]
    types = [Line(name, sums) for name, sums in found.by_job_type.items()]
    return {
        "found": found,
        "tiles": tiles(found.total),
        "charts": [by_job_type(found), by_day(found.by_day)],
        "columns": COLUMNS,
        "tables": [("Team", *_most_moved(teams)), ("Job type", *_most_moved(types))],
        "dearer": [line for line in teams if line.sums.difference_nano_usd > 0][:ENDS],
        "cheaper": [line for line in reversed(teams) if line.sums.difference_nano_usd < 0][:ENDS],
        "losing": [(job, shown.usd(_margin(job))) for job in found.losing[:10]],
    }


def tiles(total: Summary) -> list[dict[str, Any]]:
    cost = total.provider_cost_nano_usd
    pairs = [
        ("Revenue", total.current_nano_usd, total.candidate_nano_usd, shown.usd),
        ("Margin", total.current_nano_usd - cost, total.candidate_nano_usd - cost, shown.usd),
        (
            "Credits",
            total.current_nanocredits,
            total.candidate_nanocredits,
            shown.credit_amount,
        ),
    ]
    return [
        {
            "name": name,
            "now": show(now),
            "then": show(then),
            "exact": str(from_nano(then)),
            "change": f"{'+' if then > now else ''}{show(then - now)}",
            "is_good": None if then == now or name == "Credits" else then > now,
        }
        for name, now, then, show in pairs
    ]


def by_job_type(found: Answer) -> Chart:
    """The types with most revenue, now or then."""
    most = sorted(
        found.by_job_type.items(),
        key=lambda item: -max(item[1].current_nano_usd, item[1].candidate_nano_usd),
    )[:BARS]
    return _chart("Revenue by job type", "Job type", [(name, sums) for name, sums in most], "bar")


def by_day(days: dict[date, Summary]) -> Chart:
    """From the first day with jobs to the last, those without included."""
    first, last = min(days, default=None), max(days, default=None)
    slots = []
    if first is not None and last is not None:
        every = [first + timedelta(days=n) for n in range((last - first).days + 1)]
        slots = [(f"{day:%-d %b}", days.get(day, Summary())) for day in every]
    return _chart("Revenue by day", "Day", slots, "line")


def as_row(job: Repriced) -> dict[str, Any]:
    """For the CSV: exact amounts."""
    return {
        "job_id": str(job.job_id),
        "team": job.team,
        "job_type": job.job_type,
        "closed_at": job.closed_at.isoformat(),
        "provider_cost_usd": from_nano(job.provider_cost_nano_usd),
        "now_credits": from_nano(job.current_nanocredits),
        "now_usd": from_nano(job.current_nano_usd),
        "then_credits": from_nano(job.candidate_nanocredits),
        "then_usd": from_nano(job.candidate_nano_usd),
        "turns_to_loss": job.turns_to_loss,
    }


def signed(nano_usd: int) -> str:
    return f"{'+' if nano_usd > 0 else ''}{shown.usd(nano_usd)}"


def _question(given: dict[str, Any]) -> Question:
    version: PlanVersion = given["version"]
    own = version.plan if given["jobs"] != "all" else None
    # A plan that has priced nothing yet would have nothing to show.
    if own is not None and not Job.objects.filter(plan_version__plan=own).exists():
        own = None
    return Question(
        plan=plans.read(version),
        since=_midnight(given["start"]),
        until=min(_midnight(given["last"]) + timedelta(days=1), clock.now()),
        team=given["team"],
        job_type=given["job_type"] or None,
        own=own,
    )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)


def _most_moved(lines: list[Line]) -> tuple[list[Line], int]:
    """At most ROWS, those that move most, in their order; and how many are left out."""
    if len(lines) <= ROWS:
        return lines, 0
    moved = sorted(lines, key=lambda line: -abs(line.sums.difference_nano_usd))[:ROWS]
    kept = sorted(moved, key=lambda line: -line.sums.difference_nano_usd)
    return kept, len(lines) - ROWS


def _chart(title: str, slot: str, slots: Iterable[tuple[str, Summary]], kind: Any) -> Chart:
    slots = list(slots)

    def series(name: str, of: Callable[[Summary], int], *, own: Any = kind) -> Series:
        values: list[Decimal] = [from_nano(of(sums)) for _, sums in slots]
        return Series(name=name, values=values, kind=own)

    return Chart(
        title=title,
        unit="USD",
        slot_name=slot,
        labels=[name for name, _ in slots],
        series=[
            series("Now", lambda sums: sums.current_nano_usd),
            series("With these prices", lambda sums: sums.candidate_nano_usd),
            series("Provider cost", lambda sums: sums.provider_cost_nano_usd),
        ],
    )


def _margin(job: Repriced) -> int:
    return job.candidate_nano_usd - job.provider_cost_nano_usd


def _named(version: PlanVersion) -> str:
    if version.activated_at is None:
        return f"{version} (draft)"
    return f"{version} (from {version.effective_from:%-d %b %Y})"
