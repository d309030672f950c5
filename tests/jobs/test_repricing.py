"""Prices again: the books reproduced to the nanocredit, and candidates tried on real jobs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import plan_specs, plans
from billing.models import PlanVersion
from jobs import repricing, shadows
from jobs.models import Job, ShadowDay
from jobs.shadows import AlreadyShadowing
from saas_litellm import verification
from teams.models import Team
from tests import factories, work
from tests.work import Clock

pytestmark = pytest.mark.django_db
PLANS: dict[str, dict[str, Any]] = {
    "flat": {"job_rules": [{"credits": "0.5"}]},
    "markup": {"call_rules": [{"kind": "markup", "markup_percent": "33.33"}]},
    "package": {"job_rules": [{"kind": "package", "credits": "0.1", "package_tokens": 700}]},
    "minimum": {
        "job_rules": [{"kind": "minimum", "credits": "0.25"}],
        "call_rules": [{"kind": "tokens", "input_credits_per_1k": "0.07", "failed_jobs": "free"}],
    },
    "graduated": {
        "partial_share_percent": 40,
        "call_rules": [
            {"kind": "tiered", "tiers": [{"up_to": 3000, "credits": 1}, {"credits": "0.33"}]}
        ],
    },
    "volume": {
        "call_rules": [
            {
                "kind": "tiered",
                "mode": "volume",
                "tiers": [{"up_to": 3000, "credits": 1}, {"credits": "0.5"}],
            }
        ],
    },
}


@pytest.fixture(autouse=True)
def clock(monkeypatch: Any) -> Clock:
    return Clock(monkeypatch)


def customer(name: str, spec: dict[str, Any]) -> Team:
    company = factories.company(name=name, plan="", alias="chat")
    plans.assign(plan=work.plan(f"plan-{name}", **spec), team=company.team, actor="test")
    return company.team


def candidate(**spec: Any) -> PlanVersion:
    plan = plan_specs.create_plan(slug="candidate", name="", actor="test")
    return plan_specs.draft(plan=plan, spec=plan_specs.VersionSpec(**spec), actor="test")


stories = st.lists(
    st.tuples(
        st.lists(st.integers(0, 2500), max_size=4),
        st.sampled_from(["completed", "completed", "failed", "cancelled"]),
        st.sampled_from(["", "full", "partial", "none"]),
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("name", PLANS)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(stories=stories)
def test_the_current_plan_reproduces_the_books_to_the_nanocredit(
    clock: Clock, name: str, stories: Any
) -> None:
    with transaction.atomic():
        team = customer("alice", PLANS[name])
        began = clock.moment
        for prompts, status, outcome in stories:
            job = work.job(team)
            for prompt in prompts:
                work.call(job, prompt=prompt, delivered=prompt > 100)
            clock.moment += timedelta(seconds=1)
            work.close(job, status, outcome=outcome * (status == "completed"))
        assert verification.verify() == []
        plan = plans.load(plans.version_for(team).pk)
        again = {
            repriced.job_id: repriced.candidate_nanocredits
            for repriced in repricing.reprice(plan=plan, since=began)
        }
        booked = {
            job.pk: job.net_nanocredits + job.overrun_nanocredits for job in Job.objects.all()
        }
        assert again == booked
        transaction.set_rollback(True)


def test_a_candidate_on_real_jobs_by_hand(clock: Clock) -> None:
    alice = customer("alice", PLANS["flat"])
    bob = customer("bob", {"call_rules": [{"kind": "markup", "markup_percent": 100}]})
    for team, prompts in ((alice, [2000, 3000]), (alice, [8000]), (bob, [1000])):
        job = work.job(team)
        for prompt in prompts:
            work.call(job, prompt=prompt)
        work.close(job)
    # Half a credit (0.05 USD) a job against 20 % on cost: costs are 0.05, 0.08 and 0.01 USD.
    version = candidate(call_rules=[{"kind": "markup", "markup_percent": 20}])
    repriced = repricing.reprice(plan=plans.read(version), since=clock.moment - timedelta(days=1))
    total, teams, losing = repricing.summarize(repriced)
    assert (total.jobs, total.current_nano_usd, total.candidate_nano_usd) == (
        3,
        120_000_000,
        168_000_000,
    )
    assert teams["alice"].candidate_nano_usd - teams["alice"].current_nano_usd == 56_000_000
    assert teams["bob"].candidate_nano_usd - teams["bob"].current_nano_usd == -8_000_000
    assert list(teams) == ["alice", "bob"]
    assert losing == []
    assert PlanVersion.objects.get(pk=version.pk).fixed_at is None


def test_jobs_that_would_turn_to_loss_are_named(clock: Clock) -> None:
    team = customer("alice", {"call_rules": [{"kind": "markup"}]})
    job = work.job(team)
    work.call(job, prompt=8000)
    work.close(job)
    plan = plans.read(candidate(**PLANS["flat"]))
    _, _, losing = repricing.summarize(
        repricing.reprice(plan=plan, since=clock.moment - timedelta(days=1))
    )
    assert [row.job_id for row in losing] == [job.pk]


def test_a_tiered_candidate_counts_from_the_start_of_the_month(clock: Clock) -> None:
    team = customer("alice", {"call_rules": [{"kind": "markup"}]})
    for day in (11, 20):
        clock.set(2026, 3, day)
        job = work.job(team)
        work.call(job, prompt=3000)
        work.close(job)
    plan = plans.read(candidate(**PLANS["graduated"]))
    clock.set(2026, 3, 21)
    since = clock.moment - timedelta(days=5)
    (row,) = repricing.reprice(plan=plan, since=since)
    assert row.candidate_nanocredits == 990_000_000  # 3,000 tokens in the second tier


def test_a_shadow_prices_each_day_and_charges_nothing(clock: Clock) -> None:
    team = customer("alice", {"call_rules": [{"kind": "markup"}]})
    version = candidate(**PLANS["flat"])
    shadow = shadows.start(version=version, team=None, actor="test")
    with pytest.raises(AlreadyShadowing):
        shadows.start(version=version, team=None, actor="test")
    for day, prompts in ((10, [1000, 1000]), (11, [9000])):
        clock.set(2026, 3, day, 23, 59)
        for prompt in prompts:
            job = work.job(team)
            work.call(job, prompt=prompt)
            work.close(job)
    before = work.balance(team)
    clock.set(2026, 3, 12)
    shadows.price_due()
    shadows.price_due()
    days = ShadowDay.objects.order_by("day").values_list(
        "day__day", "jobs", "real_nano_usd", "shadow_nano_usd"
    )
    assert list(days) == [(10, 2, 20_000_000, 100_000_000), (11, 1, 90_000_000, 50_000_000)]
    assert work.balance(team) == before
    shadows.stop(shadow=shadow, actor="test")
    job = work.job(team)
    work.call(job, prompt=1000)
    clock.set(2026, 3, 12, 1)
    work.close(job)
    shadows.price_due()
    assert ShadowDay.objects.count() == 2


def test_a_shadowed_draft_is_fixed_and_can_still_be_activated(clock: Clock) -> None:
    version = candidate(**PLANS["flat"])
    shadows.start(version=version, team=None, actor="test")
    version.refresh_from_db()
    with pytest.raises(TypeError):
        version.job_rules.get().save()
    plans.activate(version=version, actor="test")
    assert version.activated_at is not None
