"""Budgets: how much a team, a key or an organization may spend in a day, week, month or in all.

A hold takes from every budget it falls under in the transaction that takes it from the wallet
(`ledger.book`); it remembers those rows and gives back to them, whatever the clock says by then. A
hard budget is never exceeded: what would exceed it is refused or, at a settlement, overrun. A soft
one only raises an alarm.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.db import transaction
from django.db.models import F, Q

from billing import telling
from billing.models import Budget, BudgetPeriod
from saas_litellm.base import alarms, audit, clock
from saas_litellm.base.money import MAX_AMOUNT, from_nano
from saas_litellm.base.refusals import Invalid
from saas_litellm.base.standing import Memory
from teams.models import ApiKey, Organization, Team

_EVER = date(1970, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spender:
    """On whose behalf credits are set aside."""

    team_id: int
    organization_id: int
    api_key_id: int | None = None


def starts_on(period: str, moment: datetime) -> date:
    """The first day (UTC) of the period that a moment lies in; weeks begin on Monday."""
    day = moment.date()
    match period:
        case Budget.Period.DAY:
            return day
        case Budget.Period.WEEK:
            return day - timedelta(days=day.weekday())
        case Budget.Period.MONTH:
            return day.replace(day=1)
    return _EVER


def current(spender: Spender, memory: Memory | None = None) -> list[int]:
    """The ids, in order, of the period rows that work begun now counts in; they are made if need be.

    With a ``memory`` the budgets, and rows that were met before, are not asked for again.
    """
    memory = memory or Memory(None)
    budgets = memory.recall(("budgets", spender), lambda: _of(spender))
    now = clock.now()
    wanted = {pk: starts_on(period, now) for pk, period in budgets}
    if not wanted:
        return []
    return memory.recall(("periods", tuple(wanted.items())), lambda: _made(wanted))


def _of(spender: Spender) -> list[tuple[int, str]]:
    """The budgets that count what it spends, with their periods."""
    owned = Q(team=spender.team_id) | Q(organization=spender.organization_id)
    if spender.api_key_id is not None:
        owned |= Q(api_key=spender.api_key_id)
    return list(Budget.objects.filter(owned, is_active=True).values_list("pk", "period"))


def _made(wanted: dict[int, date]) -> list[int]:
    rows = _rows(wanted)
    missing = set(wanted) - set(rows)
    if missing:
        BudgetPeriod.objects.bulk_create(
            [BudgetPeriod(budget_id=pk, starts_on=wanted[pk]) for pk in sorted(missing)],
            ignore_conflicts=True,
        )
        rows = _rows(wanted)
    return sorted(rows.values())


def create(
    *,
    owner: Team | ApiKey | Organization,
    period: str,
    limit_nanocredits: int,
    actor: str,
    is_hard: bool = True,
    is_by_team: bool = False,
) -> Budget:
    """A budget from now on: what was spent before, in the same period, does not count in it.

    Raises Invalid for an unknown period, a limit that is not positive, or a team's own that is
    not a soft one.
    """
    _check_limit(limit_nanocredits)
    if period not in Budget.Period.values:
        raise Invalid("period must be day, week, month or total.", param="period")
    if is_by_team and (is_hard or not isinstance(owner, Team)):
        raise Invalid("A team makes soft budgets for itself only.", param="is_hard")
    columns = {Team: "team", ApiKey: "api_key", Organization: "organization"}
    with transaction.atomic():
        budget = Budget.objects.create(
            **{columns[type(owner)]: owner},
            period=period,
            limit_nanocredits=limit_nanocredits,
            is_hard=is_hard,
            is_by_team=is_by_team,
        )
        audit.record(
            actor=actor,
            action="budget.create",
            target=f"budget:{budget.pk}",
            after={
                "owner": str(owner),
                "period": period,
                "limit": str(from_nano(limit_nanocredits)),
                "is_hard": is_hard,
            },
        )
    return budget


def change(
    *,
    budget: Budget,
    actor: str,
    limit_nanocredits: int | None = None,
    is_hard: bool | None = None,
    is_active: bool | None = None,
) -> Budget:
    """Change what is given. A limit below what is used already only refuses what comes next.

    A team's own that is made a hard one is its own no more.
    """
    given: dict[str, int | bool | None] = {
        "limit_nanocredits": limit_nanocredits,
        "is_hard": is_hard,
        "is_active": is_active,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if limit_nanocredits is not None:
        _check_limit(limit_nanocredits)
    if is_hard:
        given["is_by_team"] = changes["is_by_team"] = False
    with transaction.atomic():
        # The caller's row may carry a form's new values already.
        before = Budget.objects.filter(pk=budget.pk).values(*given).get()
        Budget.objects.filter(pk=budget.pk).update(**changes)
        # A new limit may be crossed anew.
        BudgetPeriod.objects.filter(budget=budget).update(alerted_at=None)
        was, now = audit.difference(before, {**before, **changes})
        audit.record(
            actor=actor,
            action="budget.change",
            target=f"budget:{budget.pk}",
            before=was,
            after=now,
        )
    budget.refresh_from_db()
    return budget


def alert() -> int:
    """Sound an alarm for each period that reached its limit, once; returns how many."""
    reached = BudgetPeriod.objects.filter(
        alerted_at=None,
        budget__is_active=True,
        used_nanocredits__gte=F("budget__limit_nanocredits"),
    ).select_related(
        "budget__team__organization", "budget__api_key__team__organization", "budget__organization"
    )
    alerted = 0
    for period in reached[:500]:
        with transaction.atomic():
            claimed = BudgetPeriod.objects.filter(pk=period.pk, alerted_at=None).update(
                alerted_at=clock.now()
            )
            if claimed:
                telling.budget_reached(period)
        if claimed:
            alerted += 1
            alarms.sound(
                kind="budget.reached",
                subject=f"{period.budget} from {period.starts_on}",
                detail=f"{from_nano(period.used_nanocredits)} of"
                f" {from_nano(period.budget.limit_nanocredits)} credits used",
            )
    return alerted


def _rows(wanted: dict[int, date]) -> dict[int, int]:
    which = Q(pk__in=())
    for budget_id, first_day in wanted.items():
        which |= Q(budget=budget_id, starts_on=first_day)
    return dict(BudgetPeriod.objects.filter(which).values_list("budget_id", "pk"))


def _check_limit(nanocredits: int) -> None:
    if not 0 < nanocredits <= MAX_AMOUNT:
        raise Invalid("The limit must be a positive number of credits.", param="limit")
