"""Anything, in any order: the books agree after every step.

A random story of jobs and calls under every kind of plan, with caps, budgets, pools and quotes,
with grants, refills, expiries, refunds, sweeps of killed processes and late settlements. No step
may fail but by a refusal, and every invariant holds after each.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from billing import budgets, expiry, ledger, lots, minimums, plans, recurring, thresholds
from billing.models import Account, BudgetPeriod, Entry
from jobs import calls, quotes, refunds, rollups
from jobs.calls import OpenCall
from jobs.models import Attempt, Call, Job
from saas_litellm import verification
from saas_litellm.base.money import NANO
from saas_litellm.base.refusals import Refusal
from tests import factories, work
from tests.jobs.test_repricing import PLANS
from tests.work import Clock

_names = itertools.count()


class Business(RuleBasedStateMachine):
    """One team, one account. ``monkeypatch`` is set by the test that runs the machine."""

    monkeypatch: Any

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock(self.monkeypatch)
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        number = next(_names)
        self.team = factories.company(name=f"team{number}", credits_=5, plan="").team
        self.plans = [
            work.plan(f"plan{number}-{name}", **spec, monthly_minimum_credits=1)
            for name, spec in PLANS.items()
        ]
        self.jobs: list[Job] = []
        self.running: list[OpenCall] = []
        self.dead: list[tuple[OpenCall, Attempt | None]] = []
        self.numbers = itertools.count()

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.atomic.__exit__(None, None, None)

    @property
    def account(self) -> Account:
        return ledger.account_of(self.team)

    def key(self) -> str:
        return f"key{next(self.numbers)}"

    @rule(number=st.integers(0, len(PLANS) - 1))
    def change_plan(self, number: int) -> None:
        self.clock.moment += timedelta(minutes=1)
        plans.assign(plan=self.plans[number], team=self.team, actor="test")

    @rule(cap=st.none() | st.integers(1, 20), is_reserving=st.booleans(), is_quoted=st.booleans())
    def open_job(self, cap: int | None, is_reserving: bool, is_quoted: bool) -> None:
        with suppress(Refusal), transaction.atomic():
            quote = None
            for _ in range(is_quoted):
                quote = quotes.give(
                    team=self.team, job_type="contract", model=None, messages=[], expected_calls=1
                )
            self.jobs.append(
                work.job(
                    self.team,
                    max_nanocredits=cap and cap * NANO // 10,
                    is_reserving=is_reserving,
                    quote=quote,
                )
            )

    @precondition(lambda self: self.jobs)
    @rule(which=st.integers(0, 9), max_tokens=st.integers(1, 3000))
    def start_call(self, which: int, max_tokens: int) -> None:
        job = self.jobs[which % len(self.jobs)]
        with suppress(Refusal), transaction.atomic():
            self.running.append(work.start(job, params={"max_tokens": max_tokens}))

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 9), prompt=st.integers(0, 6000), delivered=st.booleans())
    def finish_call(self, which: int, prompt: int, delivered: bool) -> None:
        opened = self.running.pop(which % len(self.running))
        work.finish(opened, prompt=prompt, delivered=delivered)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 9), was_dispatched=st.booleans())
    def kill_process(self, which: int, was_dispatched: bool) -> None:
        opened = self.running.pop(which % len(self.running))
        attempt = calls.dispatch(opened) if was_dispatched else None
        Call.objects.filter(pk=opened.call.pk).update(
            expires_at=self.clock.moment - timedelta(seconds=1)
        )
        Call.objects.get(pk=opened.call.pk)
        self.dead.append((opened, attempt))
        assert calls.abandon_expired() == 1

    @precondition(lambda self: self.dead)
    @rule(prompt=st.integers(0, 6000))
    def settle_late(self, prompt: int) -> None:
        opened, attempt = self.dead.pop()
        usage = work.Usage(prompt_tokens=prompt)
        outcome = work.Outcome(usage=usage, latency_ms=1, is_output_delivered=True)
        calls.settle(opened=opened, attempt=attempt, outcome=outcome)

    @precondition(lambda self: self.jobs)
    @rule(
        which=st.integers(0, 9),
        status=st.sampled_from(["completed", "failed", "cancelled"]),
        outcome=st.sampled_from(["", "partial", "none"]),
        is_waived=st.booleans(),
    )
    def close_job(self, which: int, status: str, outcome: str, is_waived: bool) -> None:
        with suppress(Refusal):
            work.close(
                self.jobs[which % len(self.jobs)], status, outcome=outcome, is_waived=is_waived
            )

    @precondition(lambda self: self.jobs)
    @rule(which=st.integers(0, 9), tenths=st.none() | st.integers(1, 30))
    def refund(self, which: int, tenths: int | None) -> None:
        with suppress(Refusal):
            refunds.refund_job(
                job=self.jobs[which % len(self.jobs)],
                nanocredits=tenths and tenths * NANO // 10,
                reason="test",
                actor="test",
                idempotency_key=self.key(),
            )

    @rule(tenths=st.integers(1, 50), days=st.none() | st.integers(1, 20))
    def grant(self, tenths: int, days: int | None) -> None:
        ledger.grant(
            account=self.account,
            amount_nanocredits=tenths * NANO // 10,
            paid_nano_usd=tenths,
            expires_at=days and self.clock.moment + timedelta(days=days),
            actor="test",
            idempotency_key=self.key(),
        )

    @rule(tenths=st.integers(-40, 40).filter(bool))
    def adjust(self, tenths: int) -> None:
        ledger.adjust(
            account=self.account,
            amount_nanocredits=tenths * NANO // 10,
            reason="test",
            actor="test",
            idempotency_key=self.key(),
        )

    @rule(tenths=st.integers(0, 20))
    def limit_credit(self, tenths: int) -> None:
        with suppress(Refusal), transaction.atomic():
            ledger.set_credit_limit(
                account=self.account, limit_nanocredits=tenths * NANO // 10, actor="test"
            )

    @rule(period=st.sampled_from(["day", "week", "month", "total"]), tenths=st.integers(1, 40))
    def set_budget(self, period: str, tenths: int) -> None:
        budgets.create(
            owner=self.team, period=period, limit_nanocredits=tenths * NANO // 10, actor="test"
        )

    @rule()
    def refill(self) -> None:
        recurring.create(
            account=self.account,
            kind="promotional",
            period="weekly",
            amount_nanocredits=NANO,
            cap_nanocredits=4 * NANO,
            lot_days=3,
            actor="test",
        )

    @rule(hours=st.integers(1, 400))
    def time_passes(self, hours: int) -> None:
        # Calls of this machine's processes settle before the night; the dead were swept.
        while self.running:
            work.finish(self.running.pop(), prompt=10)
        self.clock.moment += timedelta(hours=hours)
        recurring.grant_due()
        expiry.expire_due()
        minimums.charge_due()
        thresholds.fire()
        budgets.alert()
        rollups.roll_due()

    @rule()
    def fold(self) -> None:
        lots.fold_all()

    @invariant()
    def books_agree(self) -> None:
        assert verification.verify() == []

    @invariant()
    def no_hard_budget_is_exceeded(self) -> None:
        for period in BudgetPeriod.objects.select_related("budget"):
            spoken_for = period.used_nanocredits + period.held_nanocredits
            assert spoken_for <= period.budget.limit_nanocredits

    @invariant()
    def no_cap_and_no_quote_is_exceeded(self) -> None:
        for job in Job.objects.all():
            for limit in (job.max_nanocredits, job.quote_nanocredits):
                assert limit is None or job.charged_nanocredits <= limit
        assert not Entry.objects.filter(amount_nanocredits=0).exists()


@pytest.mark.long
@pytest.mark.django_db
def test_the_books_agree_after_every_step_of_any_story(monkeypatch: Any) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    Business.monkeypatch = monkeypatch
    run_state_machine_as_test(
        Business,
        settings=settings(
            max_examples=20,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
