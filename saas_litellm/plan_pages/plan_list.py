"""All price plans on one page, and one plan with its versions and teams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from billing import plan_specs, plan_teams, plan_words, plans
from billing.models import PlanVersion, PricePlan
from saas_litellm.base import clock
from saas_litellm.base.admin import actor
from saas_litellm.base.refusals import Refusal
from saas_litellm.plan_pages import shell

PLANS_A_PAGE, VERSIONS_A_PAGE, TEAMS_A_PAGE = 50, 20, 100
_PRESETS = {
    "job_based": "1 credit per completed job; the default of every team",
    "consumption_usd": "provider cost, at 10 credits per USD",
    "consumption_tokens": "10,000 tokens a credit",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A version as its plan's page shows it."""

    version: PlanVersion
    state: str
    sentences: list[str]

    @property
    def is_draft(self) -> bool:
        return self.version.fixed_at is None

    @property
    def is_active(self) -> bool:
        return self.version.activated_at is not None


@shell.page("billing.view_priceplan", "billing.view_planversion")
def price_plans(request: HttpRequest) -> HttpResponse:
    """Every plan with what it charges now and how many teams are on it."""
    if request.method == "POST":
        return _create(request)
    everyone = PricePlan.objects.annotate(
        current_id=Subquery(
            PlanVersion.objects.filter(
                plan=OuterRef("pk"),
                activated_at__isnull=False,
                effective_from__lte=clock.now(),
            )
            .order_by("-effective_from", "-number")
            .values("pk")[:1]
        ),
        drafts=Count("versions", filter=Q(versions__activated_at=None)),
    ).order_by("-is_default", "slug")
    listed = Paginator(everyone, PLANS_A_PAGE).get_page(request.GET.get("page"))
    made = set(PricePlan.objects.filter(slug__in=_PRESETS).values_list("slug", flat=True))
    return shell.framed(
        request,
        "plans.html",
        "Price plans",
        listed=listed,
        rows=_rows(list(listed)),
        presets={slug: about for slug, about in _PRESETS.items() if slug not in made},
        may_add=request.user.has_perm("billing.add_priceplan"),
    )


@shell.page("billing.view_priceplan", "billing.view_planversion")
def price_plan(request: HttpRequest, slug: str) -> HttpResponse:
    plan = shell.found_plan(slug)
    newest = _with_rules(plan.versions.order_by("-number"))
    listed = Paginator(newest, VERSIONS_A_PAGE).get_page(request.GET.get("page"))
    current = plans.in_effect(plan)
    return shell.framed(
        request,
        "plan.html",
        plan.name,
        plan=plan,
        listed=listed,
        versions=[
            Shown(version=version, state=_state(version, current), sentences=_sentences(version))
            for version in listed
        ],
        current=current,
        next_number=plans.next_number(plan),
        teams=plan_teams.on(plan).count(),
        may_write=request.user.has_perms(("billing.add_planversion", "billing.change_planversion")),
        may_assign=request.user.has_perm("billing.add_planassignment"),
        may_shadow=request.user.has_perm("jobs.add_shadow"),
    )


@shell.page("billing.view_planassignment", "teams.view_team")
def teams_of_plan(request: HttpRequest, slug: str) -> HttpResponse:
    plan = shell.found_plan(slug)
    teams = plan_teams.on(plan).select_related("organization")
    listed = Paginator(teams, TEAMS_A_PAGE).get_page(request.GET.get("page"))
    return shell.framed(
        request, "plan_teams.html", f"Teams on {plan.name}", plan=plan, listed=listed
    )


@require_POST
@shell.page("billing.add_planversion")
def go_back(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """The prices of an earlier version as a new draft, and on to activating it."""
    version = shell.found_version(slug, number)
    wanted = request.POST.get("number", "")
    try:
        draft = plan_specs.draft(
            plan=version.plan,
            spec=plan_specs.spec_of(version),
            number=int(wanted) if wanted.isdecimal() else None,
            actor=actor(request),
        )
    except Refusal as refusal:
        shell.refuse(request, refusal.message)
        return redirect("prices:plan", slug)
    return redirect("prices:activate", slug, draft.number)


def _create(request: HttpRequest) -> HttpResponse:
    if not request.user.has_perm("billing.add_priceplan"):
        raise PermissionDenied
    slug = request.POST.get("slug", "").strip()
    name = request.POST.get("name", "").strip()
    if slug in _PRESETS:
        return redirect("prices:plan", plans.find(slug).slug)
    try:
        plan = plan_specs.create_plan(slug=slug, name=name[:200], actor=actor(request))
    except Refusal as refusal:
        shell.refuse(request, refusal.message)
        return redirect("prices:plans")
    shell.say(request, f"{plan.name} is there. Now say what it charges.")
    return redirect(reverse("prices:new", args=[plan.slug]))


def _rows(listed: list[Any]) -> list[dict[str, Any]]:
    current = {
        version.pk: version
        for version in _with_rules(
            PlanVersion.objects.filter(pk__in=[plan.current_id for plan in listed])
        )
    }
    teams = plan_teams.by_plan()
    return [
        {
            "plan": plan,
            "version": current.get(plan.current_id),
            "sentences": _sentences(current[plan.current_id]) if plan.current_id else [],
            "teams": teams.get(plan.pk, 0) + (teams.get(None, 0) if plan.is_default else 0),
        }
        for plan in listed
    ]


def _state(version: PlanVersion, current: PlanVersion | None) -> str:
    if version.activated_at is None:
        return "draft" if version.fixed_at is None else "tried, not active"
    if version.pk == (current.pk if current else None):
        return "active"
    return "planned" if (version.effective_from or clock.now()) > clock.now() else "past"


def _with_rules(versions: QuerySet[PlanVersion]) -> QuerySet[PlanVersion]:
    return versions.select_related("plan").prefetch_related("job_rules", "call_rules")


def _sentences(version: PlanVersion) -> list[str]:
    return plan_words.sentences(plan_specs.spec_of(version))
