"""What happens to a call whose process is slow, dead or late, and to jobs nobody finishes."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from billing.models import Account, Entry, Hold
from jobs import calls, closing, lifecycle
from jobs.calls import OpenCall, Order, Outcome
from jobs.models import Call, CostLine, Job
from jobs.refusals import CallsInFlight, JobClosed
from jobs.usage import Usage
from saas_litellm import verification
from saas_litellm.base import clock
from saas_litellm.base.money import NANO
from tests import factories

ORDER = Order(messages=[{"role": "user", "content": "hi"}], params={})
# 100 × 10 + 20 × 30 = 1,600 micro-USD; 10 credits a USD: 0.016 credits.
DONE = Outcome(
    usage=Usage(prompt_tokens=100, completion_tokens=20), latency_ms=5, is_output_delivered=True
)
PRICE = 16_000_000


def opened(**more: Any) -> OpenCall:
    alice = factories.company(**more)
    job = lifecycle.create(team=alice.team, api_key=None, job_type="x")
    return calls.open_call(job=job, api_key=None, order=ORDER)


def expire() -> None:
    Call.objects.update(expires_at=clock.now() - timedelta(seconds=1))
    Hold.objects.update(expires_at=clock.now() - timedelta(seconds=1))


@pytest.mark.django_db
def test_a_call_that_was_never_dispatched_costs_nobody_anything() -> None:
    call = opened()
    expire()
    assert calls.abandon_expired() == 1
    assert calls.dispatch(call) is None
    assert not CostLine.objects.exists()
    assert Call.objects.get().status == "failed"
    assert Account.objects.get().held_nanocredits == 0
    assert verification.verify() == []


@pytest.mark.django_db
def test_a_settlement_that_arrives_late_reverses_the_estimate_and_charges() -> None:
    call = opened()
    attempt = calls.dispatch(call)
    expire()
    assert calls.abandon_expired() == 1
    worst = Call.objects.get().provider_cost_nano_usd
    settled = calls.settle(opened=call, attempt=attempt, outcome=DONE)
    assert settled.charged_nanocredits == PRICE
    lines = list(CostLine.objects.values_list("kind", "amount_nano_usd"))
    assert lines == [("estimate", worst), ("reversal", -worst), ("attempt", 1_600_000)]
    job = Job.objects.get()
    assert (job.in_flight, job.successful_calls, job.failed_calls) == (0, 1, 0)
    assert job.provider_cost_nano_usd == 1_600_000
    assert verification.verify() == []


@pytest.mark.django_db
def test_a_late_settlement_takes_what_is_left_and_the_rest_is_overrun() -> None:
    call = opened(credits_=1)
    attempt = calls.dispatch(call)
    expire()
    calls.abandon_expired()
    other = lifecycle.create(team=call.job.team, api_key=None, job_type="x")
    Account.objects.get()
    drain = calls.open_call(job=other, api_key=None, order=ORDER)
    usage = Usage(prompt_tokens=9_990_000 // 100, completion_tokens=0)  # 0.999 USD: 9.99 credits
    huge = Outcome(usage=usage, latency_ms=1, is_output_delivered=True)
    calls.settle(opened=drain, attempt=calls.dispatch(drain), outcome=huge)
    settled = calls.settle(opened=call, attempt=attempt, outcome=DONE)
    assert settled.charged_nanocredits == 0
    assert settled.overrun_nanocredits == PRICE
    assert Account.objects.get().balance_nanocredits == 0
    assert verification.verify() == []


@pytest.mark.django_db
def test_settling_twice_charges_once() -> None:
    call = opened()
    attempt = calls.dispatch(call)
    for _ in range(2):
        assert calls.settle(opened=call, attempt=attempt, outcome=DONE).charged_nanocredits == PRICE
    assert Entry.objects.filter(kind="charge").count() == 1
    assert verification.verify() == []


@pytest.mark.django_db(transaction=True)
def test_a_settlement_and_a_sweep_at_once_leave_the_books_right() -> None:
    call = opened()
    attempt = calls.dispatch(call)
    expire()
    gate = threading.Barrier(6)

    def run(number: int) -> None:
        gate.wait()
        if number % 2:
            calls.abandon_expired()
        else:
            calls.settle(opened=call, attempt=attempt, outcome=DONE)
        connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Call.objects.get().status == "settled"
    assert Account.objects.get().balance_nanocredits == 100 * NANO - PRICE
    assert Account.objects.get().held_nanocredits == 0
    assert verification.verify() == []


@pytest.mark.django_db
def test_an_idle_job_is_failed_as_expired_and_its_flat_price_given_back() -> None:
    alice = factories.company(plan="job_based")
    lifecycle.create(team=alice.team, api_key=None, job_type="x")
    assert closing.expire_idle() == 0
    Job.objects.update(last_activity_at=clock.now() - timedelta(hours=25))
    assert closing.expire_idle() == 1
    job = Job.objects.get()
    assert (job.status, job.error_message) == ("failed", "expired")
    account = Account.objects.get()
    assert (account.held_nanocredits, account.balance_nanocredits) == (0, 100 * NANO)
    assert verification.verify() == []


@pytest.mark.django_db
def test_a_flat_job_bounds_what_its_calls_may_cost_the_founder() -> None:
    alice = factories.company(plan="job_based")
    job = lifecycle.create(team=alice.team, api_key=None, job_type="x")
    Job.objects.update(max_provider_cost_nano_usd=1000)
    with pytest.raises(lifecycle.JobCapExceeded):
        calls.open_call(job=job, api_key=None, order=ORDER)


@pytest.mark.django_db
def test_a_job_with_a_call_in_flight_can_be_cancelled_but_not_completed() -> None:
    call = opened()
    attempt = calls.dispatch(call)
    with pytest.raises(CallsInFlight):
        closing.close(job=call.job, status="completed", actor="t")
    closing.close(job=call.job, status="cancelled", actor="t")
    calls.settle(opened=call, attempt=attempt, outcome=DONE)
    assert Job.objects.get().charged_nanocredits == PRICE
    with pytest.raises(JobClosed):
        calls.open_call(job=Job.objects.get(), api_key=None, order=ORDER)
    assert verification.verify() == []


def test_every_status_but_the_open_ones_is_final() -> None:
    final = {status for status, onward in lifecycle.TRANSITIONS.items() if not onward}
    assert final == set(Job.Status.values) - set(Job.OPEN)
