"""Thin margins: a plan's rolling margin for a team below the floor that the plan sets."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.db.models import F, Sum

from billing.models import PlanVersion
from billing.pricing import BASIS_POINTS
from jobs.models import Job
from saas_litellm.base import alarms, clock, events, outbox
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
            tell(
                kind="thin",
                team=team,
                plan=plan,
                revenue=revenue,
                cost=cost,
                key=f"thin:{version_id}:{team}:{clock.now():%Y-%m-%d}",
            )
            alarms.sound(
                kind="margin.thin",
                subject=f"team {team}, plan {plan}",
                detail=f"30 days: revenue {from_nano(revenue)} USD, cost {from_nano(cost)} USD",
            )
    return thin


def is_heard() -> bool:
    return outbox.is_heard(events.MarginAlarm, team_id=None, organization_id=None)


def tell(
    *,
    kind: str,
    team: str,
    plan: str,
    revenue: int,
    cost: int,
    key: str,
    job_id: UUID | None = None,
) -> None:
    """Tell operators' listeners, once for a key. ``revenue`` and ``cost`` are nano-USD."""
    outbox.emit(
        events.MarginAlarm,
        team_id=None,
        organization_id=None,
        object_id=f"team:{team}"[:60],
        key=f"margin:{key}",
        told=lambda: events.MarginAlarm(
            team_id=team,
            kind=kind,
            plan=plan,
            job_id=job_id,
            revenue_usd=from_nano(revenue),
            provider_cost_usd=from_nano(cost),
        ),
    )
