"""What bounds a job: its cap set aside, a quote's promise, clamped output, a margin floor."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest

from billing import ledger, plans
from billing.models import Account, Hold
from billing.refusals import InsufficientCredits
from jobs import quotes
from jobs.models import Call, Job, Quote
from jobs.refusals import JobCapExceeded, QuoteUsed
from saas_litellm import verification
from saas_litellm.base.models import Alarm
from saas_litellm.base.money import NANO
from saas_litellm.base.refusals import Invalid
from teams.models import Team
from tests import factories, work
from tests.work import Clock, paid

pytestmark = pytest.mark.django_db
MARKUP = {"call_rules": [{"kind": "markup"}]}


@pytest.fixture(autouse=True)
def clock(monkeypatch: Any) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture(autouse=True)
def _books_agree(db: None) -> Any:
    yield
    assert verification.verify() == []


def customer(spec: dict[str, Any], *, credits_: int = 100) -> Team:
    company = factories.company(credits_=credits_, plan="")
    plans.assign(plan=work.plan("theirs", **spec), team=company.team, actor="test")
    return company.team


def figures(team: Team) -> tuple[int, int]:
    account = Account.objects.get(team=team)
    return account.balance_nanocredits, account.held_nanocredits


def test_a_reserving_job_sets_its_cap_aside_and_its_calls_draw_on_it() -> None:
    team = customer(MARKUP)
    job = work.job(team, max_nanocredits=2 * NANO, is_reserving=True)
    assert figures(team) == (100 * NANO, 2 * NANO)
    opened = work.start(job)
    assert figures(team) == (100 * NANO, 2 * NANO)  # moved within, not added
    pool = Hold.objects.get(reference=f"job:{job.pk}")
    assert pool.amount_nanocredits == 2 * NANO - opened.call.held_nanocredits
    work.finish(opened, prompt=1000)  # 0.1 credits
    pool.refresh_from_db()
    assert pool.amount_nanocredits == 1_900_000_000
    assert figures(team) == (99_900_000_000, 1_900_000_000)
    work.close(job)
    assert figures(team) == (99_900_000_000, 0)


def test_a_reserving_job_keeps_its_credits_from_everyone_else() -> None:
    team = customer(MARKUP, credits_=2)
    job = work.job(team, max_nanocredits=2 * NANO, is_reserving=True)
    with pytest.raises(InsufficientCredits):
        work.start(work.job(team))
    assert paid(work.call(job, prompt=1000)) == "0.1"


def test_an_empty_pool_is_a_cap_that_is_exceeded() -> None:
    team = customer(MARKUP)
    job = work.job(team, max_nanocredits=NANO // 2, is_reserving=True)
    work.start(job)
    with pytest.raises(JobCapExceeded):
        work.start(job)
    assert Call.objects.count() == 1


def test_a_settlement_beyond_its_hold_draws_on_the_pool_and_stops_at_the_cap() -> None:
    team = customer(MARKUP)
    job = work.job(team, max_nanocredits=NANO, is_reserving=True)
    opened = work.start(job)
    call = work.finish(opened, prompt=15_000)  # 1.5 credits
    assert (call.charged_nanocredits, call.overrun_nanocredits) == (NANO, NANO // 2)
    assert call.overrun_reason == "job_cap"
    assert figures(team) == (99 * NANO, 0)


def test_cancelling_gives_the_pool_back_and_a_late_call_still_settles() -> None:
    team = customer(MARKUP)
    job = work.job(team, max_nanocredits=2 * NANO, is_reserving=True)
    opened = work.start(job)
    work.close(job, "cancelled")
    assert figures(team) == (100 * NANO, opened.call.held_nanocredits)
    work.finish(opened, prompt=1000)
    assert figures(team) == (99_900_000_000, 0)


def test_reserving_needs_a_cap_that_the_wallet_covers() -> None:
    team = customer(MARKUP)
    with pytest.raises(Invalid):
        work.job(team, is_reserving=True)
    with pytest.raises(InsufficientCredits):
        work.job(team, max_nanocredits=101 * NANO, is_reserving=True)
    assert not Job.objects.exists()


def test_a_minimum_is_a_pool_that_does_not_stand_in_its_own_way() -> None:
    team = customer({"job_rules": [{"kind": "minimum", "credits": 5}], **MARKUP}, credits_=5)
    job = work.job(team)
    # All 5 credits are held for the minimum, and the call is held from them.
    assert paid(work.call(job, prompt=1000)) == "0.1"
    assert paid(work.close(job)) == "5"


def quote(team: Team, **more: Any) -> Quote:
    given = {"model": None, "messages": work.HELLO, "expected_calls": None, **more}
    return quotes.give(team=team, job_type="contract", **given)


def history(team: Team, prompts: list[int]) -> None:
    for prompt in prompts:
        job = work.job(team)
        work.call(job, prompt=prompt)
        work.close(job)


def test_a_quote_without_history_is_the_worst_case(clock: Clock) -> None:
    team = customer(MARKUP)
    given = quote(team, expected_calls=3)
    assert given.basis_jobs == 0
    assert given.expected_nanocredits == given.p95_nanocredits == given.worst_nanocredits
    job = work.job(team)
    one = work.start(job, params={}).call.held_nanocredits
    assert given.worst_nanocredits == 3 * one


def test_a_quote_from_history_by_hand() -> None:
    team = customer(MARKUP)
    # 19 jobs of 0.1 credits and one of 2: mean 0.195, and the 19th of 20 is the p95.
    history(team, [1000] * 19 + [20_000])
    given = quote(team)
    assert (given.expected_nanocredits, given.p95_nanocredits) == (195_000_000, 100_000_000)
    assert given.worst_nanocredits == 2 * NANO
    assert given.basis_jobs == 20


def test_a_quoted_job_never_pays_more_than_p95_and_the_rest_is_the_founders() -> None:
    team = customer(MARKUP)
    history(team, [1000] * 20)
    job = work.job(team, quote=quote(team))
    assert paid(work.call(job, prompt=600)) == "0.06"
    call = work.call(job, prompt=600)
    assert (paid(call), call.overrun_nanocredits, call.overrun_reason) == (
        "0.04",
        20_000_000,
        "quote",
    )
    assert paid(work.close(job)) == "0.1"


def test_a_quoted_job_cannot_go_on_for_ever() -> None:
    team = customer(MARKUP)
    history(team, [1000] * 20)
    job = work.job(team, quote=quote(team))
    with pytest.raises(JobCapExceeded):
        [work.call(job, prompt=1000) for _ in range(30)]
    job.refresh_from_db()
    assert job.provider_cost_nano_usd <= (job.max_provider_cost_nano_usd or 0)


def test_a_quote_keeps_its_plan_version_when_prices_rise(clock: Clock) -> None:
    team = customer(MARKUP)
    history(team, [1000] * 20)
    given = quote(team)
    clock.moment += timedelta(minutes=10)
    work.activate(plans.find("theirs"), call_rules=[{"kind": "markup", "markup_percent": 900}])
    job = work.job(team, quote=given)
    assert paid(work.call(job, prompt=500)) == "0.05"


def test_a_quote_is_for_one_job_of_its_team_and_type_in_its_time(clock: Clock) -> None:
    team = customer(MARKUP)
    stranger = factories.team(name="charlie", plan="")
    first, second = quote(team), quote(team)
    with pytest.raises(Invalid):
        quotes.find(team=stranger, quote_id=first.pk, job_type="contract")
    with pytest.raises(Invalid):
        quotes.find(team=team, quote_id=first.pk, job_type="letter")
    with pytest.raises(Invalid):
        quotes.find(team=team, quote_id=uuid.uuid4(), job_type="contract")
    work.job(team, quote=first)
    with pytest.raises(QuoteUsed):
        quotes.find(team=team, quote_id=first.pk, job_type="contract")
    with pytest.raises(QuoteUsed):
        work.job(team, quote=first)
    clock.moment += timedelta(hours=1)
    with pytest.raises(QuoteUsed):
        quotes.find(team=team, quote_id=second.pk, job_type="contract")
    assert Job.objects.count() == 1


def test_clamping_asks_for_what_the_credits_cover() -> None:
    team = customer({"call_rules": [{"kind": "markup", "clamp_output": True}]}, credits_=0)
    factories.top_up(team, NANO // 10)  # 0.1 credits: 0.01 USD
    opened = work.start(work.job(team), params={})
    assert 16 <= opened.call.max_output_tokens < opened.alias.default_max_tokens
    assert opened.params["max_tokens"] == opened.call.max_output_tokens
    # One token more would not have been covered.
    assert opened.call.held_nanocredits <= NANO // 10 < opened.call.held_nanocredits + 300_000


def test_clamping_never_changes_what_the_caller_asked_for() -> None:
    team = customer({"call_rules": [{"kind": "markup", "clamp_output": True}]}, credits_=0)
    factories.top_up(team, NANO // 10)
    with pytest.raises(InsufficientCredits):
        work.start(work.job(team), params={"max_tokens": 1000})


def test_clamping_refuses_when_hardly_anything_is_affordable() -> None:
    team = customer({"call_rules": [{"kind": "markup", "clamp_output": True}]}, credits_=0)
    factories.top_up(team, NANO // 1000)
    with pytest.raises(InsufficientCredits):
        work.start(work.job(team), params={})


def test_a_hard_margin_floor_refuses_the_call_that_would_break_it() -> None:
    rule = {"credits": 1, "margin_floor_percent": 50, "floor_refuses": True}
    team = customer({"job_rules": [rule]})  # 0.10 USD: 0.05 may be spent
    job = work.job(team)
    work.call(job, prompt=1000)  # 0.01 USD; the next may cost 0.03 more at worst
    work.call(job, prompt=1000)
    with pytest.raises(JobCapExceeded) as refused:
        work.call(job, prompt=1000)
    assert "USD" not in refused.value.message


def test_a_soft_margin_floor_flags_and_lets_go_on() -> None:
    team = customer({"job_rules": [{"credits": 1, "margin_floor_percent": 50}]})
    job = work.job(team)
    work.call(job, prompt=4000)
    assert not Alarm.objects.exists()
    work.call(job, prompt=2000)
    assert Alarm.objects.get().kind == "margin.floor"
    assert ledger.account_of(team).held_nanocredits == NANO
