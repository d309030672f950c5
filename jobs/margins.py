"""Thin margins: a plan's rolling margin for a team below the floor that the plan sets."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import F, Sum

from billing.models import PlanVersion
from billing.pricing import BASIS_POINTS
from jobs.models import Job
from saas_litellm.base import alarms, clock
from saas_litellm.base.money import from_nano

WINDOW = timedelta(days=30)


def sound() -> int:
    """An alarm for each team and plan version under its floor over 30 days; returns how many."""
    floors = {
        version.pk: version.margin_floor_basis_points or 0
        for version in PlanVersion.objects.filter(margin_floor_basis_points__isnull=False)
    }
    rows = (
        Job.objects.filter(closed_at__gte=clock.now() - WINDOW, plan_version__in=floors)
        .order_by()
        .values_list("team__slug", "plan_version_id", "plan_version__plan__slug")
        .annotate(
            revenue=Sum(F("price_nano_usd") - F("refunded_nano_usd")),
            cost=Sum("provider_cost_nano_usd"),
        )
    )
    thin = 0
    for team, version_id, plan, revenue, cost in rows:
        if cost * BASIS_POINTS > revenue * (BASIS_POINTS - floors[version_id]):
            thin += 1
            alarms.sound(
                kind="margin.thin",
                subject=f"team {team}, plan {plan}",
                detail=f"30 days: revenue {from_nano(revenue)} USD, cost {from_nano(cost)} USD",
            )
    return thin
