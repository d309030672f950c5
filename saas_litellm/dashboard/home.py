"""The admin's first page: am I making money, on whom, who runs dry, is anything wrong right now?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest

from billing.models import Entry, PlanVersion
from jobs.models import Job
from saas_litellm import help_pages
from saas_litellm.base import clock
from saas_litellm.dashboard import figures, health, navigation, periods
from teams.models import Alias, ApiKey, Deployment, ProviderCredential, Team

FIRST_JOB = f"{help_pages.PREFIX}quickstart.html#one-job"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing to do before a first job can be sold."""

    text: str
    link: str
    is_done: bool


def context(request: HttpRequest, given: dict[str, Any]) -> dict[str, Any]:
    """unfold's DASHBOARD_CALLBACK. Each part is shown to those who may see what it sums."""
    user = request.user
    period = periods.of_query(request.GET.dict(), today=clock.now().date())
    given |= {"title": "Overview", "period": period, "period_names": periods.NAMES.items()}
    if user.has_perm("jobs.view_profitday"):
        given["figures"] = found = figures.of(period)
        given["money"] = health.of_money(found.now)
        given["steps"] = [] if Job.objects.exists() else steps()
    if user.has_perm("billing.view_account"):
        given["dry"] = health.running_dry()
    if user.has_perm("teams.view_deploymenthealth"):
        given |= {"supply": health.of_supply(), "health_hours": health.HEALTH_HOURS}
    if user.has_perm("base.view_alarm"):
        given |= {"alarms": health.alarms(), "alarm_days": health.ALARM_DAYS}
    return given


def steps() -> list[Step]:
    """From an empty platform to its first job, in order; shown as long as there is none."""
    serving = Deployment.objects.filter(is_active=True)
    is_priced = PlanVersion.objects.filter(activated_at__isnull=False).exists()

    def step(text: str, page: str, *, is_done: bool) -> Step:
        return Step(text=text, link=navigation.address(page), is_done=is_done)

    return [
        step(
            "Save a provider's key as a credential (the built-in demo model needs none)",
            "teams_providercredential_changelist",
            is_done=ProviderCredential.objects.exists()
            or serving.filter(model__startswith="demo/").exists(),
        ),
        step(
            "Add a model: an alias and a deployment behind it",
            "teams_alias_changelist",
            is_done=Alias.objects.filter(deployments__in=serving).exists(),
        ),
        step(
            "Grant it to teams with an access group",
            "teams_accessgroup_changelist",
            is_done=Alias.objects.filter(access_groups__is_active=True).exists(),
        ),
        step(
            "A price: your plan's"
            if is_priced
            else "A price: 1 credit a completed job (job_based), until you set another",
            "prices:plans",
            # There is always one in effect.
            is_done=True,
        ),
        step(
            "Create an organization, and its first team",
            "teams_organization_changelist",
            is_done=Team.objects.exists(),
        ),
        step(
            "Give it credits: top up, on its page",
            "teams_team_changelist",
            is_done=Entry.objects.filter(kind=Entry.Kind.GRANT).exists(),
        ),
        step(
            "Issue an API key, on the same page",
            "teams_team_changelist",
            is_done=ApiKey.objects.exists(),
        ),
        # With the first job this list is gone.
        Step(text="Send the first job with it", link=FIRST_JOB, is_done=False),
    ]
