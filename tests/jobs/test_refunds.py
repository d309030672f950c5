"""Refunds: of a job or a call, whole or in part, at most what was taken, once for each key."""

from __future__ import annotations

from typing import Any

import pytest

from billing import lots, plans
from billing.models import Entry, Lot
from billing.refusals import IdempotencyKeyReused, RefundBeyondCharge
from jobs import profit, refunds, rollups
from jobs.models import Call, Job, RollupDay
from saas_litellm import verification
from saas_litellm.base.money import NANO
from saas_litellm.base.refusals import Invalid
from teams.models import Team
from tests import factories, work
from tests.billing.test_ledger import in_threads
from tests.work import Clock, balance, paid


@pytest.fixture
def clock(monkeypatch: Any) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def team(db: None, clock: Clock) -> Team:
    company = factories.company(plan="")
    plan = work.plan(
        "theirs",
        job_rules=[{"job_type": "floor", "kind": "minimum", "credits": 1}],
        call_rules=[{"kind": "markup"}],
    )
    plans.assign(plan=plan, team=company.team, actor="test")
    return company.team


def closed_job(team: Team, *prompts: int, job_type: str = "contract") -> Job:
    job = work.job(team, job_type)
    for prompt in prompts:
        work.call(job, prompt=prompt)
    return work.close(job)


def refund(job: Job, credits_: str | None, key: str = "k") -> list[Entry]:
    nanocredits = None if credits_ is None else round(float(credits_) * NANO)
    return refunds.refund_job(
        job=job, nanocredits=nanocredits, reason="sorry", actor="test", idempotency_key=key
    )


def test_a_part_of_a_job_comes_off_its_newest_charges(team: Team) -> None:
    job = closed_job(team, 1000, 2000)  # 0.1 and 0.2 credits
    refund(job, "0.25")
    refunded = Call.objects.order_by("created_at", "charged_nanocredits").values_list(
        "refunded_nanocredits", flat=True
    )
    assert list(refunded) == [50_000_000, 200_000_000]
    assert paid(job) == "0.05"
    assert job.refunded_nano_usd == 25_000_000
    assert balance(team) == "99.95"
    assert verification.verify() == []


def test_the_rest_can_be_given_back_and_then_nothing_more(team: Team) -> None:
    job = closed_job(team, 1000, job_type="floor")
    refund(job, "0.3")
    refund(job, None, "rest")
    assert (paid(job), balance(team)) == ("0", "100")
    with pytest.raises(RefundBeyondCharge):
        refund(job, "0.000000001", "more")
    with pytest.raises(RefundBeyondCharge):
        refund(job, None, "all again")
    lots.fold_all()
    assert Lot.objects.get().remaining_nanocredits == 100 * NANO
    assert verification.verify() == []


def test_the_same_key_again_gives_nothing_more(team: Team) -> None:
    job = closed_job(team, 1000, 2000)
    first = refund(job, "0.25")
    assert refund(job, "0.25") == first
    with pytest.raises(IdempotencyKeyReused):
        refund(job, "0.1")
    assert paid(job) == "0.05"


def test_overrun_is_never_refunded(team: Team) -> None:
    job = work.job(team)
    call = work.call(job, prompt=2_000_000)  # 200 credits; 100 are there
    work.close(job)
    assert (call.charged_nanocredits, call.overrun_nanocredits) == (100 * NANO, 100 * NANO)
    with pytest.raises(RefundBeyondCharge):
        refund(job, "100.5")
    refund(job, None)
    assert balance(team) == "100"
    assert verification.verify() == []


def test_one_call_is_refunded_by_itself(team: Team) -> None:
    job = work.job(team)
    call = work.call(job, prompt=1000)
    work.call(job, prompt=2000)
    named: dict[str, Any] = {"reason": "", "actor": "test", "idempotency_key": "k"}
    entry = refunds.refund_call(call=call, nanocredits=None, **named)
    assert refunds.refund_call(call=call, nanocredits=None, **named) == entry
    assert (paid(call), paid(job)) == ("0", "0.2")
    with pytest.raises(RefundBeyondCharge):
        refunds.refund_call(call=call, nanocredits=1, **{**named, "idempotency_key": "x"})
    assert verification.verify() == []


def test_an_open_job_is_not_refunded(team: Team) -> None:
    job = work.job(team)
    work.call(job, prompt=1000)
    with pytest.raises(Invalid):
        refund(job, None)


def test_a_refund_changes_the_profit_of_the_days_of_the_work(team: Team, clock: Clock) -> None:
    job = closed_job(team, 1000, job_type="floor")
    day = clock.moment.date()
    clock.set(2026, 3, 12, 5)
    rollups.roll_due()
    clock.set(2026, 3, 20)
    refund(job, None)
    assert RollupDay.objects.get(day=day).is_dirty
    for _ in range(2):
        total = profit.report(start=day, end=clock.moment.date(), group_by="day").total
        assert (total.price_nano_usd, total.refunded_nano_usd) == (100_000_000, 100_000_000)
        assert total.margin_nano_usd == -10_000_000
        rollups.roll_due()
    assert rollups.compare() == []


@pytest.mark.django_db(transaction=True)
def test_twelve_refunds_at_once_give_back_at_most_the_charge(monkeypatch: Any) -> None:
    company = factories.company()
    job = closed_job(company.team, 1000)
    results = in_threads(12, lambda number: refund(job, "0.03", f"key{number}"))
    assert sum(isinstance(result, list) for result in results) == 3
    assert sum(isinstance(result, RefundBeyondCharge) for result in results) == 9
    assert paid(job) == "0.01"
    assert verification.verify() == []
