"""Budgets: a bound on spending by day, week, month or in all, never exceeded."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from django.db import transaction

from billing import budgets, ledger, plans
from billing.models import Account, Budget, BudgetPeriod
from billing.refusals import BudgetExceeded, InsufficientCredits
from saas_litellm import verification
from saas_litellm.base.models import Alarm
from saas_litellm.base.money import NANO
from saas_litellm.base.refusals import Invalid
from teams import keys
from tests import factories, work
from tests.billing.test_ledger import in_threads
from tests.work import Clock


@pytest.fixture
def clock(monkeypatch: Any) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def team_on_one(db: None, clock: Clock) -> Any:
    """Alice's team on a plan of 1 credit per 1,000 tokens in; a hold is 0.027 credits."""
    company = factories.company(plan="")
    plan = work.plan("one", call_rules=[{"kind": "tokens", "input_credits_per_1k": 1}])
    plans.assign(plan=plan, team=company.team, actor="test")
    return company.team


def budget(owner: Any, period: str, tenths: int, *, is_hard: bool = True) -> Budget:
    return budgets.create(
        owner=owner,
        period=period,
        limit_nanocredits=tenths * NANO // 10,
        actor="test",
        is_hard=is_hard,
    )


@pytest.mark.parametrize(
    ("period", "first"),
    [
        ("day", date(2026, 3, 12)),
        ("week", date(2026, 3, 9)),
        ("month", date(2026, 3, 1)),
        ("total", date(1970, 1, 1)),
    ],
)
def test_when_a_period_starts(period: str, first: date) -> None:
    assert budgets.starts_on(period, datetime(2026, 3, 12, 23, 59, 59, tzinfo=UTC)) == first


def test_a_hard_budget_refuses_what_would_exceed_it_and_starts_anew(
    clock: Clock, team_on_one: Any
) -> None:
    team = team_on_one
    budget(team, "day", 2)
    clock.set(2026, 3, 12, 23)
    job = work.job(team)
    work.call(job, prompt=190)
    with pytest.raises(BudgetExceeded) as refused:
        work.call(job, prompt=10)
    assert str(refused.value.figures["credits_available"]) == "0.01"
    assert refused.value.code == "budget_exceeded"
    clock.set(2026, 3, 13)
    work.call(job, prompt=150)
    used = BudgetPeriod.objects.order_by("starts_on").values_list("used_nanocredits", flat=True)
    assert list(used) == [190_000_000, 150_000_000]
    assert verification.verify() == []


def test_a_hold_gives_back_to_the_period_it_took_from(clock: Clock, team_on_one: Any) -> None:
    budget(team_on_one, "day", 100)
    clock.set(2026, 3, 12, 23, 59)
    opened = work.start(work.job(team_on_one))
    clock.set(2026, 3, 13)
    work.finish(opened, prompt=100)
    (row,) = BudgetPeriod.objects.values_list("starts_on", "used_nanocredits", "held_nanocredits")
    assert row == (date(2026, 3, 12), 100_000_000, 0)


def test_a_settlement_takes_no_more_than_a_hard_budget_leaves(team_on_one: Any) -> None:
    budget(team_on_one, "total", 2)
    call = work.call(work.job(team_on_one), prompt=900)  # far beyond its hold
    assert call.charged_nanocredits == 200_000_000
    assert (call.overrun_nanocredits, call.overrun_reason) == (700_000_000, "budget")
    assert verification.verify() == []


def test_every_budget_or_none_is_taken_from(team_on_one: Any) -> None:
    team = team_on_one
    key = keys.issue(team=team, actor="test")[0]
    wide = budget(team, "total", 100)
    budget(team.organization, "month", 100)
    budget(key, "week", 1)
    job = work.job(team)
    for _ in range(2):
        work.start(job, api_key=key)
    with pytest.raises(BudgetExceeded):
        work.start(job, api_key=key)
    rows = BudgetPeriod.objects.order_by("budget_id").values_list("held_nanocredits", flat=True)
    held = Account.objects.get(team=team).held_nanocredits
    assert list(rows) == [held, held, held]
    # Without that key only the other two count.
    work.start(job)
    assert BudgetPeriod.objects.get(budget=wide).held_nanocredits > held
    assert verification.verify() == []


def test_a_soft_budget_only_raises_an_alarm_once(team_on_one: Any) -> None:
    soft = budget(team_on_one, "month", 1, is_hard=False)
    job = work.job(team_on_one)
    for _ in range(3):
        work.call(job, prompt=100)
    assert budgets.alert() == 1
    assert budgets.alert() == 0
    assert Alarm.objects.get(kind="budget.reached").sightings == 1
    budgets.change(budget=soft, limit_nanocredits=NANO // 5, actor="test")
    assert budgets.alert() == 1


def test_an_inactive_budget_bounds_nothing(team_on_one: Any) -> None:
    tight = budget(team_on_one, "total", 1)
    budgets.change(budget=tight, is_active=False, actor="test")
    job = work.job(team_on_one)
    for _ in range(3):
        work.call(job, prompt=100)
    assert BudgetPeriod.objects.count() == 0


def test_a_flat_price_counts_in_the_budget_from_the_start(db: None, clock: Clock) -> None:
    team = factories.team(plan="")
    budget(team, "day", 15)
    work.job(team)  # 1 credit
    with pytest.raises(BudgetExceeded):
        work.job(team)
    assert verification.verify() == []


@pytest.mark.parametrize("limit", [0, -1, 5 * 10**18])
def test_a_limit_that_is_none_is_refused(team_on_one: Any, limit: int) -> None:
    with pytest.raises(Invalid):
        budgets.create(owner=team_on_one, period="day", limit_nanocredits=limit, actor="t")
    with pytest.raises(Invalid):
        budgets.create(owner=team_on_one, period="year", limit_nanocredits=1, actor="t")
    assert not Budget.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_forty_holds_at_once_on_a_budget_for_ten() -> None:
    team = factories.team(credits_=100)
    budget(team, "month", 100)
    account = ledger.account_of(team)
    spender = budgets.Spender(team_id=team.pk, organization_id=team.organization_id)

    def take(number: int) -> Any:
        with transaction.atomic():
            return ledger.hold(
                account_id=account.pk,
                amount_nanocredits=NANO,
                reference=f"h{number}",
                expires_at=None,
                spender=spender,
            )

    results = in_threads(40, take)
    assert sum(isinstance(result, BudgetExceeded) for result in results) == 30
    assert BudgetPeriod.objects.get().held_nanocredits == 10 * NANO
    account.refresh_from_db()
    assert account.held_nanocredits == 10 * NANO
    assert not any(isinstance(result, InsufficientCredits) for result in results)
