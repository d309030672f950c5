"""Monthly minimums: what a team's plan asks for a calendar month, less what the team spent in it."""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet, Sum

from billing import ledger, plans
from billing.models import (
    Account,
    Entry,
    MonthlyMinimum,
    PlanAssignment,
    PlanVersion,
    PricePlan,
)
from saas_litellm.base import alarms, clock
from saas_litellm.base.money import divide_half_even
from teams.models import Organization, Team

# Calls that began in the month may still settle; their deadline is far below this.
_GRACE = timedelta(hours=1)


def charge_due() -> int:
    """Charge last month's minimums, each team's once; returns how many teams were looked at."""
    ended = (clock.now() - _GRACE).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    month = (ended - timedelta(days=1)).date().replace(day=1)
    asking = PlanVersion.objects.filter(
        activated_at__isnull=False, monthly_minimum_nanocredits__gt=0, effective_from__lt=ended
    )
    plans_asking = {version.plan_id for version in asking}
    if not plans_asking:
        return 0
    teams = (
        _maybe_on(plans_asking)
        .filter(created_at__lt=ended)
        .exclude(organization__status=Organization.Status.CLOSED)
        .exclude(pk__in=MonthlyMinimum.objects.filter(month=month).values("team"))
        .select_related("organization")
    )
    return sum(charge(team=team, month=month) is not None for team in teams.iterator(500))


def _maybe_on(plan_ids: set[int]) -> QuerySet[Team]:
    """Teams that one of these plans was ever assigned to, or every team if it is the default."""
    if PricePlan.objects.filter(pk__in=plan_ids, is_default=True).exists():
        return Team.objects.all()
    assigned = PlanAssignment.objects.filter(plan__in=plan_ids)
    return Team.objects.filter(
        Q(pk__in=assigned.values("team")) | Q(organization__in=assigned.values("organization"))
    )


def charge(*, team: Team, month: date) -> MonthlyMinimum | None:
    """One team's month: at most the plan's minimum by its days, less the month's net charges.

    The version in effect as the month ends asks; a team that came onto the plan within the month
    pays by days. None when the plan asks nothing or another worker was first.
    """
    begins, ends = _bounds(month)
    last_moment = ends - timedelta(microseconds=1)
    version = plans.version_for(team, at=last_moment)
    if version.monthly_minimum_nanocredits == 0:
        return None
    assigned = plans.assignment_of(team, at=last_moment)
    since = max(begins, team.created_at, assigned.effective_from if assigned else begins)
    days = (ends.date() - since.astimezone(UTC).date()).days
    minimum = divide_half_even(
        version.monthly_minimum_nanocredits * days, (ends.date() - begins.date()).days
    )
    try:
        with transaction.atomic():
            return _charge_once(team, month, version, days, minimum)
    except IntegrityError:
        return None


def spent(*, account: Account, team: Team, month: date) -> int:
    """Net nanocredits the team's work was charged in that month."""
    begins, ends = _bounds(month)
    lines = Entry.objects.filter(
        account=account,
        labels__team=team.slug,
        price_nano_usd__isnull=False,
        created_at__gte=begins,
        created_at__lt=ends,
    ).exclude(reference__startswith="minimum:")
    return -int(lines.aggregate(total=Sum("amount_nanocredits"))["total"] or 0)


def _charge_once(
    team: Team, month: date, version: PlanVersion, days: int, minimum: int
) -> MonthlyMinimum:
    account = ledger.account_of(team)
    before = spent(account=account, team=team, month=month)
    price = max(0, minimum - before)
    reference = f"minimum:{team.pk}:{month:%Y-%m}"
    taken = ledger.nothing(account_id=account.pk)
    if price:
        taken = ledger.settle(
            account_id=account.pk,
            held=None,
            bill=ledger.Bill(
                price_nanocredits=price,
                nanocredits_per_usd=version.nanocredits_per_usd,
                plan_version_id=version.pk,
                reference=reference,
                reason=f"minimum for {month:%Y-%m}",
                actor="worker",
                labels={"team": team.slug},
            ),
        )
    if taken.overrun_nanocredits:
        alarms.sound(
            kind="minimum.unpaid",
            subject=f"team {team.slug}",
            detail=f"{taken.overrun_nanocredits} nanocredits of {month:%Y-%m} were not there",
        )
    return MonthlyMinimum.objects.create(
        team=team,
        month=month,
        plan_version=version,
        days=days,
        minimum_nanocredits=minimum,
        spent_nanocredits=before,
        charged_nanocredits=taken.charged_nanocredits,
        overrun_nanocredits=taken.overrun_nanocredits,
        price_nano_usd=taken.price_nano_usd,
    )


def _bounds(month: date) -> tuple[datetime, datetime]:
    begins = datetime(month.year, month.month, 1, tzinfo=UTC)
    return begins, begins + timedelta(days=calendar.monthrange(month.year, month.month)[1])
