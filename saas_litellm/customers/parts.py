"""The parts of a customer's page; each is shown to those who may see what it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Prefetch, Q
from django.urls import reverse

from billing import budgets, plans
from billing.models import Budget, BudgetPeriod, PlanAssignment, PlanVersion
from jobs.facts import Sums
from jobs.models import Job
from saas_litellm.base import clock, shown
from saas_litellm.base.money import from_nano
from saas_litellm.customers import spending, wallets
from saas_litellm.customers.spending import Spending
from saas_litellm.customers.wallets import Wallet
from teams.models import ApiKey, Membership, Organization, Team

May = Callable[[str], bool]
KEYS, JOBS, BUDGETS, LINES, MEMBERS = 12, 8, 12, 8, 12
STATES = {"active": "ok", "paused": "warn", "suspended": "bad", "closed": "bad"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure with all its digits behind it; ``state`` is ok, warn, bad or nothing."""

    name: str
    value: str
    exact: str
    note: str = ""
    state: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    key: ApiKey
    state: str
    is_usable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """``margin`` is empty for who may not see it; ``refund`` where something can be given back."""

    job: Job
    credits: str
    margin: str
    is_loss: bool
    refund: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRow:
    budget: Budget
    whose: str
    used: str
    limit: str
    is_reached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView:
    """The version that jobs made now are priced by, where it comes from, and what comes next."""

    version: PlanVersion | None
    assigned: PlanAssignment | None
    coming: Sequence[PlanAssignment]


def members_of(team: Team) -> Sequence[Membership]:
    """The first of those who see the team's own page."""
    return list(team.memberships.select_related("user").order_by("user__username")[:MEMBERS])


def money_figures(wallet: Wallet) -> list[Figure]:
    lasts, note = wallets.lasting(wallet.runway)
    is_empty = wallet.available <= 0
    limit = wallet.credit_limit
    return [
        credit_figure(
            "Available",
            wallet.available,
            note=f"{shown.credit_amount(limit)} of credit limit in it" if limit else "",
            state="bad" if is_empty else "",
        ),
        credit_figure("Balance", wallet.balance),
        credit_figure("Held", wallet.held, note="set aside for work that runs"),
        Figure(name="Lasts", value=lasts, exact=lasts, note=note),
    ]


def work_figures(found: Spending, *, with_profit: bool) -> list[Figure]:
    sums, days = found.sums, f"last {spending.DAYS} days"
    figures = [
        credit_figure("Spent", found.spent_nanocredits, note=f"{days}, {sums.jobs:,} jobs"),
    ]
    if with_profit:
        figures += [
            _usd("Revenue", sums.revenue_nano_usd, note=days),
            _usd("Provider cost", sums.provider_cost_nano_usd, note=days),
            _margin(sums),
        ]
    return figures


def keys_of(team: Team) -> list[KeyRow]:
    """The newest keys, with the state each is in."""
    keys = ApiKey.objects.filter(team=team).select_related("replaced_by")[:KEYS]
    return [_key(key) for key in keys]


def jobs_of(team: Team, *, may: May) -> list[JobRow]:
    """The newest jobs."""
    with_profit, may_refund = may("jobs.view_profitday"), may("jobs.refund_job")
    return [
        JobRow(
            job=job,
            credits=shown.credit_amount(job.net_nanocredits),
            margin=shown.usd(job.margin_nano_usd) if with_profit else "",
            is_loss=job.margin_nano_usd < 0,
            refund=reverse("admin:jobs_job_refund", args=[job.pk])
            if may_refund and not job.is_open and job.net_nanocredits > 0
            else "",
        )
        for job in Job.objects.filter(team=team)[:JOBS]
    ]


def budgets_of(owner: Team | Organization) -> list[BudgetRow]:
    """Active budgets that bind the owner: its own, its keys' and its organization's."""
    if isinstance(owner, Team):
        binding = Q(team=owner) | Q(api_key__team=owner) | Q(organization=owner.organization_id)
    else:
        binding = Q(organization=owner)
    now = clock.now()
    starts = {period: budgets.starts_on(period, now) for period in Budget.Period.values}
    current = BudgetPeriod.objects.filter(starts_on__in=set(starts.values()))
    rows = (
        Budget.objects.filter(binding, is_active=True)
        .select_related("team", "api_key", "organization")
        .prefetch_related(Prefetch("periods", queryset=current, to_attr="current"))
    )
    return [_budget(row, starts) for row in rows[:BUDGETS]]


def plan_of_team(team: Team) -> PlanView:
    now = clock.now()
    coming = PlanAssignment.objects.filter(
        Q(team=team) | Q(organization=team.organization_id), effective_from__gt=now
    )
    return PlanView(
        version=plans.standing_version(team, at=now),
        assigned=plans.assignment_of(team, at=now),
        coming=_soonest(coming),
    )


def plan_of_organization(organization: Organization) -> PlanView:
    now = clock.now()
    own = PlanAssignment.objects.filter(organization=organization)
    assigned = own.filter(effective_from__lte=now).select_related("plan", "organization").first()
    return PlanView(
        version=None, assigned=assigned, coming=_soonest(own.filter(effective_from__gt=now))
    )


def limits_of(owner: Team | Organization) -> list[tuple[str, str]]:
    """What is limited, and to how much; nothing where nothing is."""
    limits = (
        ("Requests a minute", owner.requests_per_minute),
        ("Tokens a minute", owner.tokens_per_minute),
        ("Calls at once", owner.calls_in_flight),
    )
    return [(name, shown.count(limit)) for name, limit in limits if limit is not None]


def _soonest(assignments: Any) -> list[PlanAssignment]:
    found = assignments.select_related("plan", "team", "organization")
    return list(found.order_by("effective_from")[:3])


def _key(key: ApiKey) -> KeyRow:
    now: datetime = clock.now()
    is_usable = key.is_usable_at(now)
    if key.revoked_at is not None:
        state = f"revoked {key.revoked_at:%Y-%m-%d}"
    elif not is_usable:
        state = f"ended {key.expires_at:%Y-%m-%d}"
    elif key.replaced_by is not None:
        state = f"replaced by {key.replaced_by}, ends {key.expires_at:%Y-%m-%d %H:%M}"
    elif key.expires_at is not None:
        state = f"active until {key.expires_at:%Y-%m-%d}"
    else:
        state = "active"
    return KeyRow(key=key, state=state, is_usable=is_usable)


def _budget(budget: Budget, starts: dict[Any, Any]) -> BudgetRow:
    rows = getattr(budget, "current", ())
    row = next((row for row in rows if row.starts_on == starts[budget.period]), None)
    used = row.used_nanocredits + row.held_nanocredits if row else 0
    kind = "key" if budget.api_key_id else "team" if budget.team_id else "organization"
    return BudgetRow(
        budget=budget,
        whose=f"{kind} {budget.owner}",
        used=shown.credit_amount(used),
        limit=shown.credit_amount(budget.limit_nanocredits),
        is_reached=used >= budget.limit_nanocredits,
    )


def _margin(sums: Sums) -> Figure:
    share = sums.margin_percent
    return _usd(
        "Margin",
        sums.margin_nano_usd,
        note="" if share is None else f"{shown.percent(share)} of revenue",
        state="bad" if sums.margin_nano_usd < 0 else "",
    )


def credit_figure(name: str, nanocredits: int, *, note: str = "", state: str = "") -> Figure:
    return Figure(
        name=name,
        value=shown.credit_amount(nanocredits),
        exact=f"{from_nano(nanocredits)} credits",
        note=note,
        state=state,
    )


def _usd(name: str, nano_usd: int, *, note: str = "", state: str = "") -> Figure:
    return Figure(
        name=name,
        value=shown.usd(nano_usd),
        exact=f"{from_nano(nano_usd)} USD",
        note=note,
        state=state,
    )
