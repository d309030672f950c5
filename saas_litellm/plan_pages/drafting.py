"""Drafting a version: a new one from an old one, a draft changed, and prices while typing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from billing import plan_specs, plans, revisions
from billing.models import PlanVersion, PricePlan
from billing.plan_specs import JobRuleSpec, VersionSpec
from jobs.models import Job
from saas_litellm.base.admin import actor
from saas_litellm.base.refusals import Refusal
from saas_litellm.plan_pages import preview, rows, shell, version_form
from saas_litellm.plan_pages.version_form import VersionForm
from teams.models import Alias

# Where the names of job types that the form suggests come from, and how many of them.
_LATEST_JOBS = 1000
_MOST_NAMES = 100


@shell.page("billing.add_planversion")
def new_version(request: HttpRequest, slug: str) -> HttpResponse:
    """``?from=2`` begins with the prices of version 2; otherwise with those in effect."""
    plan = shell.found_plan(slug)
    source = _source(request, plan)
    spec = plan_specs.spec_of(source) if source else _simplest()
    title = f"New prices for {plan.name}"

    def save(form: VersionForm, given: VersionSpec) -> PlanVersion:
        number = form.version.cleaned_data["number"] or plans.next_number(plan)
        return plan_specs.draft(plan=plan, spec=given, number=number, actor=actor(request))

    hidden = {"number": plans.next_number(plan)}
    return _form_page(request, plan, title=title, spec=spec, hidden=hidden, save=save)


@shell.page("billing.change_planversion")
def edit_version(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    version = shell.found_version(slug, number)
    if version.fixed_at is not None:
        shell.refuse(request, f"{version} is no draft any more: make a new version from it.")
        return redirect("prices:plan", slug)

    def save(form: VersionForm, given: VersionSpec) -> PlanVersion:
        opened = form.version.cleaned_data["opened"]
        return revisions.revise(version=version, spec=given, opened=opened, actor=actor(request))

    return _form_page(
        request,
        version.plan,
        title=f"Draft {version.number} of {version.plan.name}",
        spec=plan_specs.spec_of(version),
        hidden={"opened": revisions.fingerprint(version)},
        save=save,
    )


@require_POST
@shell.page("billing.add_planversion")
def live_preview(request: HttpRequest, slug: str) -> HttpResponse:
    """The prices of the form as it stands, as a piece of HTML; changes nothing."""
    plan = shell.found_plan(slug)
    found = preview.of(VersionForm(request.POST), plan=plan)
    return render(request, "admin/plans/preview.html", {"preview": found})


def _form_page(
    request: HttpRequest,
    plan: PricePlan,
    *,
    title: str,
    spec: VersionSpec,
    hidden: dict[str, Any],
    save: Any,
) -> HttpResponse:
    """Shows the form, tries it out ("preview", "more"), or saves it and goes on."""
    if len(spec.job_rules) > rows.MOST_RULES or len(spec.call_rules) > rows.MOST_RULES:
        shell.refuse(request, "Too many rules for a form: draft this plan over the API.")
        return redirect("prices:plan", plan.slug)
    if request.method != "POST":
        form = VersionForm(spec=spec, hidden=hidden)
        tried = preview.of_spec(spec, plan=plan)
    else:
        sent = version_form.grown(request.POST) if "more" in request.POST else request.POST
        form = VersionForm(sent)
        tried = preview.of(form, plan=plan)
        wanted = None if {"preview", "more"} & set(request.POST) or form.is_wrong else form.spec()
        if wanted is not None:
            try:
                version = save(form, wanted)
            except Refusal as refusal:
                form.refuse(refusal)
            else:
                return _saved(request, plan, version)
    return shell.framed(
        request,
        "version_form.html",
        title,
        plan=plan,
        form=form,
        preview=tried,
        job_types=_job_types(),
        aliases=Alias.objects.order_by("name").values_list("name", flat=True)[:_MOST_NAMES],
    )


def _saved(request: HttpRequest, plan: PricePlan, version: PlanVersion) -> HttpResponse:
    shell.say(request, f"Saved as draft {version.number}. Nobody is charged by it yet.")
    if "then_what_if" in request.POST:
        return redirect(f"{reverse('prices:what_if')}?version={version.pk}")
    return redirect("prices:plan", plan.slug)


def _source(request: HttpRequest, plan: PricePlan) -> PlanVersion | None:
    asked = request.GET.get("from", "")
    if asked.isdecimal():
        return shell.found_version(plan.slug, int(asked))
    return plans.in_effect(plan)


def _simplest() -> VersionSpec:
    """What a first plan begins with."""
    return VersionSpec(job_rules=[JobRuleSpec(credits=Decimal(1))])


def _job_types() -> list[str]:
    closed = Job.objects.filter(closed_at__isnull=False).order_by("-closed_at")
    return sorted(set(closed.values_list("job_type", flat=True)[:_LATEST_JOBS]))[:_MOST_NAMES]
