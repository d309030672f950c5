"""Putting prices in force: a version from a date, and teams on a plan."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from billing import candidates, plan_specs, plan_teams, plan_words, plans
from billing.models import PlanVersion
from saas_litellm.base import clock
from saas_litellm.base.admin import actor
from saas_litellm.base.refusals import Refusal
from saas_litellm.plan_pages import shell
from teams.models import Organization, Team

_MOST_OWNERS = 200
_SUGGESTED = 200


class FromForm(forms.Form):
    """From now, or from a date and time in UTC."""

    use_required_attribute = False
    begins = forms.ChoiceField(
        label="In effect",
        choices=[("now", "now"), ("date", "from this moment on (UTC)")],
        widget=forms.RadioSelect,
        initial="now",
    )
    effective_from = forms.DateTimeField(
        label="Moment, UTC",
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"],
    )

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("begins") == "now":
            # Whoever typed a date did not mean now.
            if given.get("effective_from") is not None:
                self.add_error("effective_from", "There is a moment, but now is chosen: which one?")
            given["effective_from"] = None
        elif "effective_from" not in self.errors and given.get("effective_from") is None:
            self.add_error("effective_from", "Give the day and the time, or choose now.")
        return given


class AssignForm(FromForm):
    """Teams, or organizations as a whole, by their ids."""

    teams = forms.CharField(
        label="Teams",
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Their ids, one or several, with spaces or lines between.",
    )
    organizations = forms.CharField(
        label="Organizations",
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="All their teams, but those with a plan of their own.",
    )
    field_order = ("teams", "organizations", "begins", "effective_from")

    def clean_teams(self) -> list[Team]:
        return _found(Team, self.cleaned_data["teams"])

    def clean_organizations(self) -> list[Organization]:
        return _found(Organization, self.cleaned_data["organizations"])

    def clean(self) -> dict[str, Any]:
        given = super().clean()
        if not self.errors and not given["teams"] and not given["organizations"]:
            raise forms.ValidationError("Name a team or an organization.")
        return given


@shell.page("billing.change_planversion")
def activate(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """What it would replace and for how many teams; then, for good."""
    version = shell.found_version(slug, number)
    plan = version.plan
    if version.activated_at is not None:
        # The second click of two, or a page that was left open.
        shell.say(request, f"{version} is active already, {_since(version)}.")
        return redirect("prices:plan", slug)
    form = FromForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            plans.activate(
                version=version,
                actor=actor(request),
                effective_from=form.cleaned_data["effective_from"],
            )
        except Refusal as refusal:
            form.add_error(None, refusal.message)
        else:
            shell.say(request, f"{version} is active, {_since(version)}.")
            return redirect("prices:plan", slug)
    current = plans.in_effect(plan)
    return shell.framed(
        request,
        "activate.html",
        f"Activate {version}",
        plan=plan,
        version=version,
        form=form,
        sentences=plan_words.sentences(plan_specs.spec_of(version)),
        objection=candidates.objection(plans.read(version)),
        current=current,
        current_sentences=plan_words.sentences(plan_specs.spec_of(current)) if current else [],
        planned=plan.versions.filter(
            activated_at__isnull=False, effective_from__gt=clock.now()
        ).order_by("effective_from")[:10],
        teams=plan_teams.on(plan).count(),
    )


@shell.page("billing.add_planassignment")
def assign(request: HttpRequest, slug: str) -> HttpResponse:
    """Put teams on the plan, from now or from a date."""
    plan = shell.found_plan(slug)
    named = {name: request.GET[name] for name in ("teams", "organizations") if name in request.GET}
    form = AssignForm(request.POST or None, initial=named)
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        try:
            made = plan_teams.assign_all(
                plan=plan,
                teams=given["teams"],
                organizations=given["organizations"],
                effective_from=given["effective_from"],
                actor=actor(request),
            )
        except Refusal as refusal:
            form.add_error(None, refusal.message)
        else:
            shell.say(request, _said(plan.name, len(made)))
            return redirect("prices:plan", slug)
    return shell.framed(
        request,
        "assign.html",
        f"Put teams on {plan.name}",
        plan=plan,
        form=form,
        current=plans.in_effect(plan),
        known=Team.objects.order_by("slug").values_list("slug", flat=True)[:_SUGGESTED],
    )


def _said(name: str, made: int) -> str:
    if not made:
        return f"All of them are on {name} by then already; nothing was changed."
    return f"{made} assignment{'' if made == 1 else 's'} to {name}. Jobs begun before keep theirs."


def _since(version: PlanVersion) -> str:
    return f"from {version.effective_from:%-d %b %Y %H:%M} UTC on"


def _found(model: Any, text: str) -> list[Any]:
    slugs = list(dict.fromkeys(re.split(r"[\s,;]+", text.strip()))) if text.strip() else []
    if len(slugs) > _MOST_OWNERS:
        raise forms.ValidationError(f"At most {_MOST_OWNERS} at a time.")
    rows = {row.slug: row for row in model.objects.filter(slug__in=slugs)}
    unknown = [slug for slug in slugs if slug not in rows]
    if unknown:
        raise forms.ValidationError(f"There is no {', '.join(unknown)}.")
    return [rows[slug] for slug in slugs]
