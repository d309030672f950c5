"""Profit by hand, by day, by anything; kept days that equal the work; drift and thin margins."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import plans
from jobs import drift, margins, profit, refunds, rollups
from jobs.drift import Window
from jobs.models import CostLine, Job, ProfitDay, RollupDay
from jobs.profit import Filters, Sums
from saas_litellm import verification
from saas_litellm.base.csv_files import csv_answer
from saas_litellm.base.models import Alarm
from saas_litellm.base.money import femto
from saas_litellm.base.refusals import Invalid
from teams import prices
from teams.models import Team
from teams.prices import Rates, UnitPrices
from tests import factories, work
from tests.work import Clock

pytestmark = pytest.mark.django_db
MARCH, MAY = date(2026, 3, 1), date(2026, 5, 1)
DOUBLE: dict[str, Any] = {"call_rules": [{"kind": "markup", "markup_percent": 100}]}


@pytest.fixture(autouse=True)
def clock(monkeypatch: Any) -> Clock:
    return Clock(monkeypatch)


def customer(name: str, spec: dict[str, Any]) -> Team:
    company = factories.company(name=name, plan="", alias=f"{name}-chat", model=f"demo/{name}")
    plans.assign(plan=work.plan(f"plan-{name}", **spec), team=company.team, actor="test")
    return company.team


def done(team: Team, *prompts: int, job_type: str = "contract", status: str = "completed") -> Job:
    job = work.job(team, job_type)
    for prompt in prompts:
        work.call(job, prompt=prompt)
    return work.close(job, status)


def rows(group_by: str, **filters: Any) -> dict[str, tuple[int, int, int]]:
    """Jobs, revenue and cost in micro-USD, by key."""
    found = profit.report(start=MARCH, end=MAY, group_by=group_by, filters=Filters(**filters))
    return {
        key: (row.jobs, row.revenue_nano_usd // 1000, row.provider_cost_nano_usd // 1000)
        for key, row in found.rows
    }


@pytest.fixture
def business(clock: Clock) -> tuple[Team, Team]:
    """Alice: two jobs at cost × 2 on 10 and 11 March, one refunded by half. Bob: one flat job."""
    alice = customer("alice", DOUBLE)
    bob = customer("bob", {"job_rules": [{"credits": 1}]})
    clock.set(2026, 3, 10, 23, 59, 59)
    done(alice, 1000)  # cost 0.01, price 0.02 USD
    clock.set(2026, 3, 11)
    halved = done(alice, 2000, 1000, job_type="letter")  # cost 0.03, price 0.06
    refunds.refund_job(
        job=halved, nanocredits=300_000_000, reason="", actor="t", idempotency_key="k"
    )
    clock.set(2026, 4, 2)
    done(bob, 20_000)  # cost 0.20, price 0.10
    done(bob, 100, status="failed")  # cost 0.001
    clock.set(2026, 4, 20)
    return alice, bob


EXPECTED = {
    "team": {"alice": (2, 50_000, 40_000), "bob": (2, 100_000, 201_000)},
    "organization": {"alice-org": (2, 50_000, 40_000), "bob-org": (2, 100_000, 201_000)},
    "job_type": {"contract": (3, 120_000, 211_000), "letter": (1, 30_000, 30_000)},
    "alias": {
        "(job prices)": (4, 100_000, 0),
        "alice-chat": (0, 50_000, 40_000),
        "bob-chat": (0, 0, 201_000),
    },
    "day": {
        "2026-03-10": (1, 20_000, 10_000),
        "2026-03-11": (1, 30_000, 30_000),
        "2026-04-02": (2, 100_000, 201_000),
    },
    "month": {"2026-03": (2, 50_000, 40_000), "2026-04": (2, 100_000, 201_000)},
}


@pytest.mark.parametrize("is_rolled", [False, True])
@pytest.mark.parametrize("group_by", EXPECTED)
def test_profit_by_hand_from_the_work_and_from_kept_days(
    business: Any, group_by: str, is_rolled: bool
) -> None:
    assert rollups.roll_due() * is_rolled == 40 * is_rolled
    RollupDay.objects.filter(day__day=11).update(is_dirty=True)
    assert rows(group_by) == EXPECTED[group_by]
    assert verification.verify() == []


def test_filters_leave_only_what_they_name(business: Any) -> None:
    rollups.roll_due()
    assert rows("job_type", team="alice") == {
        "contract": (1, 20_000, 10_000),
        "letter": (1, 30_000, 30_000),
    }
    assert rows("team", job_type="letter") == {"alice": (1, 30_000, 30_000)}
    assert rows("day", alias="alice-chat", organization="alice-org") == {
        "2026-03-10": (0, 20_000, 10_000),
        "2026-03-11": (0, 30_000, 30_000),
    }
    losing = Job.objects.get(team__slug="bob", status="completed")
    assert rows("team", job_id=losing.pk) == {"bob": (1, 100_000, 200_000)}


def test_jobs_are_listed_with_the_greatest_loss_first(business: Any) -> None:
    found = profit.report(start=MARCH, end=MAY, group_by="job")
    margins_ = [row.margin_nano_usd // 1000 for _, row in found.rows]
    assert margins_ == [-100_000, -1000, 0, 10_000]
    assert found.total.margin_nano_usd == sum(margins_) * 1000


def test_a_correction_that_no_call_explains_stands_by_itself(business: Any, clock: Clock) -> None:
    rollups.roll_due()
    day = date(2026, 3, 11)
    CostLine.objects.create(
        kind="correction", model="m", day=day, amount_nano_usd=7_000_000, created_at=clock.moment
    )
    rollups.mark_dirty([day])
    for _ in range(2):
        assert rows("team")["(corrections)"] == (0, 0, 7000)
        assert rows("day")["2026-03-11"] == (1, 30_000, 37_000)
        rollups.roll_due()
    assert rollups.compare() == []


def test_tampering_with_a_kept_row_is_found(business: Any) -> None:
    rollups.roll_due()
    assert rollups.compare() == []
    row = ProfitDay.objects.filter(price_nano_usd__gt=0).first()
    ProfitDay.objects.filter(pk=row.pk if row else 0).update(price_nano_usd=1)
    (difference,) = rollups.compare()
    assert "price_nano_usd is 1" in difference
    assert [v.invariant for v in verification.verify()] == ["I6"]
    rollups.rebuild()
    assert rollups.compare() == []


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    story=st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 5000), st.booleans(), st.booleans()),
        max_size=8,
    )
)
def test_kept_days_equal_the_work_whatever_happened(clock: Clock, story: Any) -> None:
    with transaction.atomic():
        clock.set(2026, 3, 2, 12)
        team = customer("alice", DOUBLE)
        for days, prompt, is_refunded, is_rolled in story:
            clock.moment += timedelta(days=days, hours=1)
            job = done(team, prompt, job_type=f"type{prompt % 2}")
            clock.moment += timedelta(hours=3)
            for _ in range(is_refunded):
                refunds.refund_job(
                    job=job, nanocredits=None, reason="", actor="t", idempotency_key=str(job.pk)
                )
            for _ in range(is_rolled):
                rollups.roll_due()
        assert rollups.compare() == []
        whole = profit.report(start=date(2026, 1, 1), end=date(2027, 1, 1)).total
        assert whole.jobs == len(story)
        assert whole.revenue_nano_usd == sum(
            job.price_nano_usd - job.refunded_nano_usd for job in Job.objects.all()
        )
        transaction.set_rollback(True)


@pytest.mark.parametrize(
    ("price", "cost", "percent"),
    [(300, 100, "66.67"), (200, 100, "50.00"), (100, 300, "-200.00"), (0, 5, None), (-5, 5, None)],
)
def test_margin_in_percent(price: int, cost: int, percent: str | None) -> None:
    sums = Sums(price_nano_usd=price, provider_cost_nano_usd=cost)
    assert sums.margin_percent == (percent and Decimal(percent))


def test_a_csv_never_runs_as_a_formula() -> None:
    text = csv_answer([{"key": "=1+1", "margin_usd": Decimal("-1.5")}], filename="x").content
    assert text.decode().splitlines() == ["key,margin_usd", "'=1+1,-1.5"]


@pytest.mark.parametrize(
    "wrong", [{"start": MAY, "end": MARCH}, {"start": MARCH, "end": MAY, "group_by": "model"}]
)
def test_a_report_of_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        profit.report(**wrong)


def test_drift_splits_exactly_into_price_cache_and_tokens() -> None:
    # 1,000 tokens in (200 cached) and 100 out a job; then 1,100 in (110 cached), 120 out, dearer.
    sheet = UnitPrices(
        base=Rates(input=femto("0.00001"), cached_read=femto("0.000001"), output=femto("0.00003"))
    )
    before = Window(jobs=10, cost=112_000_000, prompt=10_000, cached=2000, completion=1000)
    after = Window(jobs=10, cost=200_000_000, prompt=11_000, cached=1100, completion=1200)
    found = drift.compare(alias="a", job_type="t", before=before, after=after, prices=sheet)
    # At old prices: 9,900 × 10 + 1,100 × 1 + 1,200 × 30 = 136.1 milli-USD; with 20 % cached it
    # would be 8,800 × 10 + 2,200 × 1 + 36,000 = 126.2.
    assert (found.before, found.after) == (11_200_000, 20_000_000)
    assert (found.price, found.cache, found.tokens) == (6_390_000, 990_000, 1_420_000)
    assert found.price + found.cache + found.tokens == found.after - found.before
    assert found.percent == Decimal("78.6")


def test_a_price_rise_is_found_and_alarmed(clock: Clock) -> None:
    team = customer("alice", DOUBLE)
    for _ in range(20):
        done(team, 1000)
    clock.moment += timedelta(days=10)
    dearer = UnitPrices(base=Rates(input=femto("0.00002"), output=femto("0.00003")))
    prices.publish(price_key="demo/alice", prices=dearer, source="test")
    for _ in range(20):
        done(team, 1000)
    clock.moment += timedelta(hours=1)
    (found,) = drift.find()
    assert (found.alias, found.job_type, found.percent) == (
        "alice-chat",
        "contract",
        Decimal("100.0"),
    )
    assert (found.price, found.cache, found.tokens) == (10_000_000, 0, 0)
    assert drift.sound() == 1
    assert Alarm.objects.get().kind == "cost.drift"
    assert drift.find(percent=101) == []
    assert drift.find(least_jobs=21) == []


def test_a_team_below_its_plans_floor_is_alarmed(clock: Clock) -> None:
    thin = customer("alice", {**DOUBLE, "margin_floor_percent": 60})
    customer("bob", {**DOUBLE, "margin_floor_percent": 40})
    done(thin, 1000)
    done(Team.objects.get(slug="bob"), 1000)
    clock.moment += timedelta(days=1)
    assert margins.sound() == 1
    assert Alarm.objects.get(kind="margin.thin").subject == "team alice, plan plan-alice"
    clock.moment += timedelta(days=30)
    assert margins.sound() == 0
