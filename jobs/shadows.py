"""Shadow plans: a candidate prices closed jobs beside the real plan, and charges nothing.

A job's usage is frozen once it is closed, so the worker prices it then, off the path of any call,
to the same figures that pricing it live would have given.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta

from django.db import transaction

from billing import plans
from billing.models import PlanVersion
from jobs import repricing
from jobs.models import Shadow, ShadowDay
from jobs.repricing import Summary
from saas_litellm.base import audit, clock
from saas_litellm.base.refusals import Conflict
from teams.models import Team


class AlreadyShadowing(Conflict):
    code = "already_shadowing"
    default_message = "This plan version shadows that team already."


def start(*, version: PlanVersion, team: Team | None, actor: str) -> Shadow:
    """Price every job that closes from now on by ``version`` too; fixes a draft for good.

    Raises PlanNotReady for a version that could not price every job, AlreadyShadowing.
    """
    with transaction.atomic():
        plans.fix(version)
        if Shadow.objects.filter(version=version, team=team, ended_at=None).exists():
            raise AlreadyShadowing
        shadow = Shadow.objects.create(version=version, team=team, started_at=clock.now())
        audit.record(
            actor=actor,
            action="shadow.start",
            target=f"plan:{version}",
            team=team.slug if team else "",
        )
    return shadow


def stop(*, shadow: Shadow, actor: str) -> None:
    """End it after the jobs closed so far; its days stay."""
    with transaction.atomic():
        if Shadow.objects.filter(pk=shadow.pk, ended_at=None).update(ended_at=clock.now()):
            audit.record(actor=actor, action="shadow.stop", target=f"plan:{shadow.version}")
    shadow.refresh_from_db()


def price_due() -> int:
    """Bring every shadow's days up to date; returns how many days were priced.

    The open day is priced anew at each run, so its figures move until it is over.
    """
    priced = 0
    now = clock.now()
    horizon = now - timedelta(days=2)
    running = Shadow.objects.exclude(ended_at__lt=horizon).select_related("version", "team")
    for shadow in running:
        newest = shadow.days.order_by("-day").values_list("day", flat=True).first()
        first = shadow.started_at.astimezone(UTC).date()
        if newest is not None:
            # A day that was over, with all its late calls, at its last pricing stays as it is.
            first = newest - timedelta(days=1)
        for day in _days(max(first, shadow.started_at.astimezone(UTC).date()), now):
            priced += _price_day(shadow, day)
    return priced


def _price_day(shadow: Shadow, day: date) -> int:
    begins = max(_midnight(day), shadow.started_at)
    ends = min(_midnight(day) + timedelta(days=1), shadow.ended_at or clock.now())
    if begins >= ends:
        return 0
    plan = plans.load(shadow.version_id)
    sums: dict[str, Summary] = defaultdict(Summary)
    for job in repricing.reprice(plan=plan, since=begins, until=ends, team=shadow.team):
        sums[job.team].add(job)
    team_ids = dict(Team.objects.filter(slug__in=sums).values_list("slug", "pk"))
    ShadowDay.objects.bulk_create(
        [
            ShadowDay(
                shadow=shadow,
                team_id=team_ids[slug],
                day=day,
                jobs=summed.jobs,
                provider_cost_nano_usd=summed.provider_cost_nano_usd,
                real_nano_usd=summed.current_nano_usd,
                shadow_nano_usd=summed.candidate_nano_usd,
            )
            for slug, summed in sums.items()
        ],
        update_conflicts=True,
        unique_fields=["shadow", "team", "day"],
        update_fields=["jobs", "provider_cost_nano_usd", "real_nano_usd", "shadow_nano_usd"],
    )
    return 1


def _days(first: date, now: datetime) -> list[date]:
    return [first + timedelta(days=n) for n in range((now.date() - first).days + 1)]


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC)
