"""Management of price plans: list, draft, activate, assign."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from billing import plan_specs, plans
from billing.models import PlanAssignment, PlanVersion, PricePlan
from billing.plan_specs import VersionSpec
from saas_litellm.base.refusals import Invalid, NotFound
from teams import directory
from teams.api import Body
from teams.operator_api import Moment, management
from teams.operators import Operator


class CreatePlan(Body):
    slug: str = Field(min_length=1, max_length=63)
    name: str = Field("", max_length=200)


class Activate(Body):
    effective_from: Moment | None = Field(None, description="Default: now.")


class Assign(Body):
    team_id: str | None = Field(None, max_length=63)
    organization_id: str | None = Field(None, max_length=63)
    effective_from: Moment | None = Field(None, description="Default: now.")


class ChoosePlan(Body):
    plan: str = Field(description="job_based, consumption_usd, consumption_tokens or any other.")
    effective_from: Moment | None = Field(None, description="Default: now.")


class PlanView(BaseModel):
    slug: str
    name: str
    is_default: bool
    versions: list[dict[str, Any]]


class PlanList(BaseModel):
    plans: list[PlanView]


class VersionView(BaseModel):
    plan: str
    version: int
    state: Literal["draft", "fixed", "active"]
    effective_from: datetime | None
    job_rules: list[dict[str, Any]]
    call_rules: list[dict[str, Any]]


class AssignmentView(BaseModel):
    plan: str
    team_id: str | None
    organization_id: str | None
    effective_from: datetime


def find_version(slug: str, number: int) -> PlanVersion:
    """Raises NotFound."""
    version = (
        PlanVersion.objects.select_related("plan").filter(plan__slug=slug, number=number).first()
    )
    if version is None:
        raise NotFound(f"There is no version {number} of a plan {slug}.")
    return version


def _shown(plan: PricePlan) -> dict[str, Any]:
    return {
        "slug": plan.slug,
        "name": plan.name,
        "is_default": plan.is_default,
        "versions": [
            plan_specs.shown(version)
            for version in plan.versions.select_related("plan").order_by("-number")[:50]
        ],
    }


def _shown_assignment(assignment: PlanAssignment) -> dict[str, Any]:
    return {
        "plan": assignment.plan.slug,
        "team_id": assignment.team.slug if assignment.team else None,
        "organization_id": assignment.organization.slug if assignment.organization else None,
        "effective_from": assignment.effective_from,
    }


@management("GET", permission="billing.view_priceplan", answer=PlanList, summary="List price plans")
def list_plans(operator: Operator) -> dict[str, Any]:
    """Every plan with its versions, newest first."""
    return {"plans": [_shown(plan) for plan in PricePlan.objects.all()]}


@management(
    "POST",
    permission="billing.add_priceplan",
    body=CreatePlan,
    answer=PlanView,
    status=201,
    summary="Create a price plan",
)
def create_plan(operator: Operator, body: CreatePlan) -> dict[str, Any]:
    """A plan without versions: draft one, then activate it."""
    return _shown(plan_specs.create_plan(slug=body.slug, name=body.name, actor=operator.actor))


@management(
    "GET", permission="billing.view_priceplan", answer=PlanView, summary="Show a price plan"
)
def show_plan(operator: Operator, slug: str) -> dict[str, Any]:
    """The plan and its versions; the three presets exist from the first time they are asked for."""
    return _shown(plans.find(slug))


@management(
    "POST",
    permission="billing.add_planversion",
    body=VersionSpec,
    answer=VersionView,
    status=201,
    summary="Draft a plan version",
)
def draft_version(operator: Operator, body: VersionSpec, slug: str) -> dict[str, Any]:
    """A draft charges nobody until it is activated; repricing and shadowing may try it first."""
    version = plan_specs.draft(plan=plans.find(slug), spec=body, actor=operator.actor)
    return plan_specs.shown(version)


@management(
    "POST",
    permission="billing.change_planversion",
    body=Activate,
    answer=VersionView,
    summary="Activate a plan version",
)
def activate_version(operator: Operator, body: Activate, slug: str, number: int) -> dict[str, Any]:
    """For good, from a moment on. Jobs created before it keep the version they have."""
    version = plans.activate(
        version=find_version(slug, number),
        actor=operator.actor,
        effective_from=body.effective_from,
    )
    return plan_specs.shown(version)


@management(
    "POST",
    permission="billing.add_planassignment",
    body=Assign,
    answer=AssignmentView,
    status=201,
    summary="Assign a plan to a team or an organization",
)
def assign_plan(operator: Operator, body: Assign, slug: str) -> dict[str, Any]:
    """A team's own assignment wins over its organization's."""
    if (body.team_id is None) == (body.organization_id is None):
        raise Invalid("Send team_id or organization_id, one of them.", param="team_id")
    assignment = plans.assign(
        plan=plans.find(slug),
        team=directory.find_team(body.team_id) if body.team_id else None,
        organization=(
            directory.find_organization(body.organization_id) if body.organization_id else None
        ),
        actor=operator.actor,
        effective_from=body.effective_from,
    )
    return _shown_assignment(assignment)


@management(
    "POST",
    permission="billing.add_planassignment",
    body=ChoosePlan,
    answer=AssignmentView,
    status=201,
    summary="Choose a team's plan by name",
)
def choose_plan(operator: Operator, body: ChoosePlan, team_id: str) -> dict[str, Any]:
    """job_based, consumption_usd and consumption_tokens are always there."""
    assignment = plans.assign(
        plan=plans.find(body.plan),
        team=directory.find_team(team_id),
        actor=operator.actor,
        effective_from=body.effective_from,
    )
    return _shown_assignment(assignment)
