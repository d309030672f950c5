"""Which teams are on which plan, and putting many on one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from billing import plans
from billing.models import PlanAssignment, PricePlan
from saas_litellm.base import clock
from teams.models import Organization, Team


def by_plan(*, at: datetime | None = None) -> dict[int | None, int]:
    """How many teams each plan prices then (now when None); None: those without an assignment,
    who are on the default plan."""
    counted = _teams(at or clock.now()).values_list("of_plan").annotate(Count("pk")).order_by()
    return dict(counted)


def on(plan: PricePlan, *, at: datetime | None = None) -> QuerySet[Any]:
    """The teams that plan prices then, by name; ``of_plan`` is None for those without a choice."""
    teams = _teams(at or clock.now())
    found = teams.filter(of_plan=plan.pk)
    if plan.is_default:
        found = found | teams.filter(of_plan=None)
    return found.order_by("slug")


def assign_all(
    *,
    plan: PricePlan,
    teams: Sequence[Team] = (),
    organizations: Sequence[Organization] = (),
    effective_from: datetime | None = None,
    actor: str,
) -> list[PlanAssignment]:
    """Put these on the plan from a moment (now when None), all or none; raises as ``assign`` does.

    Who is on it by then already, by an assignment of its own, is passed over: asking twice is the
    same as asking once.
    """
    then = effective_from or clock.now()
    owners: list[dict[str, Any]] = [{"team": team} for team in teams]
    owners += [{"organization": organization} for organization in organizations]
    with transaction.atomic():
        return [
            plans.assign(plan=plan, effective_from=effective_from, actor=actor, **owner)
            for owner in owners
            if _newest(then, owner) != plan.pk
        ]


def _teams(at: datetime) -> QuerySet[Any]:
    """Each with the plan assigned to it: its own wins over its organization's."""
    newest = PlanAssignment.objects.filter(effective_from__lte=at).order_by("-effective_from")
    return Team.objects.annotate(
        of_plan=Coalesce(
            Subquery(newest.filter(team=OuterRef("pk")).values("plan_id")[:1]),
            Subquery(newest.filter(organization=OuterRef("organization_id")).values("plan_id")[:1]),
        )
    )


def _newest(at: datetime, owner: dict[str, Any]) -> int | None:
    assigned = PlanAssignment.objects.filter(effective_from__lte=at, **owner)
    return assigned.order_by("-effective_from").values_list("plan_id", flat=True).first()
