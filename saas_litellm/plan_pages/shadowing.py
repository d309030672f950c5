"""Shadow plans: what a version would charge beside the real one, day after day."""

from __future__ import annotations

from collections import defaultdict
from datetime import date
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Sum
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect

from billing import plans
from jobs import shadows, what_if
from jobs.models import Shadow
from jobs.repricing import Summary
from jobs.what_if import MOST_JOBS, Question
from saas_litellm.base import clock, shown
from saas_litellm.base.admin import actor
from saas_litellm.base.refusals import Refusal
from saas_litellm.plan_pages import shell
from saas_litellm.plan_pages.what_if import COLUMNS, Line, by_day, signed
from teams.models import Team

SHADOWS_A_PAGE, TEAMS = 50, 50


class ShadowForm(forms.Form):
    use_required_attribute = False
    team = forms.ModelChoiceField(
        Team.objects.all(),
        to_field_name="slug",
        required=False,
        label="Team",
        widget=forms.TextInput(attrs={"placeholder": "every team"}),
        help_text="Its id; empty: every team.",
        error_messages={"invalid_choice": "There is no such team."},
    )


@shell.page("jobs.view_shadow")
def price_shadows(request: HttpRequest) -> HttpResponse:
    every = (
        Shadow.objects.select_related("version__plan", "team")
        .annotate(
            jobs=Sum("days__jobs", default=0),
            real=Sum("days__real_nano_usd", default=0),
            shadowed=Sum("days__shadow_nano_usd", default=0),
        )
        .order_by("ended_at", "-started_at", "-pk")
    )
    listed: Any = Paginator(every, SHADOWS_A_PAGE).get_page(request.GET.get("page"))
    rows: list[dict[str, Any]] = [
        {
            "shadow": shadow,
            "jobs": shown.count(shadow.jobs),
            "real": shown.usd(shadow.real),
            "shadowed": shown.usd(shadow.shadowed),
            "difference": signed(shadow.shadowed - shadow.real),
        }
        for shadow in listed
    ]
    return shell.framed(request, "shadows.html", "Shadow plans", listed=listed, rows=rows)


@shell.page("jobs.view_shadow")
def price_shadow(request: HttpRequest, pk: int) -> HttpResponse:
    """One shadow's days, by team, and by job type as far as a page can wait."""
    shadow = get_object_or_404(Shadow.objects.select_related("version__plan", "team"), pk=pk)
    if request.method == "POST":
        if not request.user.has_perm("jobs.change_shadow"):
            raise PermissionDenied
        shadows.stop(shadow=shadow, actor=actor(request))
        shell.say(request, f"{shadow.version} shadows no more; what it found stays.")
        return redirect("prices:shadow", pk)
    by_team, days = _sums(shadow)
    now = clock.now()
    found = what_if.answer(
        Question(
            plan=plans.load(shadow.version_id),
            since=shadow.started_at,
            until=shadow.ended_at or now,
            team=shadow.team,
        )
    )
    total = Summary()
    for sums in days.values():
        _merge(total, sums)
    return shell.framed(
        request,
        "shadow.html",
        f"{shadow.version} in shadow",
        shadow=shadow,
        total=Line("All", total),
        chart=by_day(days),
        columns=COLUMNS,
        day_columns=("Jobs", "Charged", "Would have been", "Difference"),
        teams=[_cells(name, sums) for name, sums in by_team[:TEAMS]],
        left_out=max(0, len(by_team) - TEAMS),
        job_types=[Line(name, sums) for name, sums in found.by_job_type.items()],
        coverage=found.coverage,
        most_jobs=MOST_JOBS,
        may_stop=shadow.ended_at is None and request.user.has_perm("jobs.change_shadow"),
        may_activate=shadow.version.activated_at is None
        and request.user.has_perm("billing.change_planversion"),
    )


@shell.page("jobs.add_shadow", "billing.view_planversion")
def start_shadow(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    version = shell.found_version(slug, number)
    form = ShadowForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        team = form.cleaned_data["team"]
        running = Shadow.objects.filter(version=version, team=team, ended_at=None).first()
        try:
            # The second click of two finds the first one's shadow.
            shadow = running or shadows.start(version=version, team=team, actor=actor(request))
        except Refusal as refusal:
            form.add_error(None, refusal.message)
        else:
            shell.say(request, f"{version} prices every job that closes from now on, in shadow.")
            return redirect("prices:shadow", shadow.pk)
    return shell.framed(
        request,
        "start_shadow.html",
        f"Try {version} in shadow",
        version=version,
        plan=version.plan,
        form=form,
    )


def _sums(shadow: Shadow) -> tuple[list[tuple[str, Summary]], dict[date, Summary]]:
    """By team, those with the greatest difference first, and by day; from the kept days."""
    by_team: dict[str, Summary] = defaultdict(Summary)
    days: dict[date, Summary] = defaultdict(Summary)
    kept = shadow.days.values_list(
        "team__slug",
        "day",
        "jobs",
        "provider_cost_nano_usd",
        "real_nano_usd",
        "shadow_nano_usd",
    )
    for slug, day, jobs, cost, real, shadowed in kept.iterator():
        row = Summary(
            jobs=jobs,
            provider_cost_nano_usd=cost,
            current_nano_usd=real,
            candidate_nano_usd=shadowed,
        )
        _merge(by_team[slug], row)
        _merge(days[day], row)
    ordered = sorted(by_team.items(), key=lambda item: -abs(item[1].difference_nano_usd))
    return ordered, dict(days)


def _merge(into: Summary, sums: Summary) -> None:
    into.jobs += sums.jobs
    into.provider_cost_nano_usd += sums.provider_cost_nano_usd
    into.current_nano_usd += sums.current_nano_usd
    into.candidate_nano_usd += sums.candidate_nano_usd


def _cells(name: str, sums: Summary) -> tuple[str, list[Any]]:
    return name, [
        shown.count(sums.jobs),
        shown.usd(sums.current_nano_usd),
        shown.usd(sums.candidate_nano_usd),
        signed(sums.difference_nano_usd),
    ]
