"""Many calls in one transaction: the same as one after the other."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from billing.models import Account, Entry, Hold
from jobs import calls, quotes
from jobs.models import Call, Job, Payload
from jobs.open_calls import OpenCall
from jobs.opening import open_all
from jobs.refusals import QuoteUsed
from jobs.settling import settle_all
from saas_litellm import verification
from saas_litellm.base import clock
from saas_litellm.base.idempotency import Claim, InProgress
from saas_litellm.base.models import IdempotencyRecord
from saas_litellm.base.money import NANO
from saas_litellm.base.refusals import Refusal
from teams.models import Team
from tests import work
from tests.batches import Ending, Stage, customer, opened_calls, opening, settlement
from tests.jobs.test_repricing import PLANS
from tests.work import Clock

openings = st.tuples(
    st.integers(0, 30),  # which job, the last ones new
    st.integers(1, 3000),  # tokens of output at most
    st.none() | st.integers(0, 9),  # the cap of a new job, in tenths of a credit
    st.sampled_from(["", "", "single", "reserving", "quoted"]),
    st.booleans(),  # by the team's key
)


endings = st.tuples(st.integers(0, 4000), st.booleans())


@pytest.mark.long
@settings(
    max_examples=15,
    deadline=None,
    # To shrink one of these takes minutes.
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    asked=st.lists(openings, min_size=1, max_size=8),
    ends=st.lists(endings, min_size=8, max_size=8),
    order=st.permutations(range(8)),
)
def test_any_batch_does_what_the_same_calls_do_one_after_the_other(
    stage: Stage, asked: list[Any], ends: list[Any], order: list[int]
) -> None:
    with transaction.atomic():
        made = [stage.opening(number, *one) for number, one in enumerate(asked, start=1)]
        seen = [stage.played(made, ends, order, at_once=size) for size in (1, 3, 8)]
        transaction.set_rollback(True)
    assert seen[1] == seen[0]
    assert seen[2] == seen[0]


@pytest.fixture
def stage(db: None, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(Clock(monkeypatch))


@pytest.fixture
def clock_(monkeypatch: pytest.MonkeyPatch, db: None) -> Clock:
    return Clock(monkeypatch)


def test_a_single_job_that_another_call_has_joined_ends_by_all_that_was_delivered(
    clock_: Clock,
) -> None:
    team = customer(PLANS["flat"])
    (first,) = opened_calls(opening(team, number=1, is_single=True))
    (second,) = opened_calls(opening(team, number=2, job=first.job))
    settle_all([settlement(first)])
    assert Job.objects.get().is_open
    settle_all([settlement(second, Ending(is_delivered=False))])
    job = Job.objects.get()
    assert (job.status, job.charged_nanocredits) == ("completed", NANO // 2)
    assert verification.verify() == []


@pytest.mark.parametrize("delivered", [(True, False), (False, True)])
def test_and_so_it_does_when_both_settle_at_once(
    clock_: Clock, delivered: tuple[bool, bool]
) -> None:
    team = customer(PLANS["flat"])
    (first,) = opened_calls(opening(team, number=1, is_single=True))
    (second,) = opened_calls(opening(team, number=2, job=first.job))
    settle_all(
        [
            settlement(call, Ending(is_delivered=is_delivered))
            for call, is_delivered in zip((first, second), delivered, strict=True)
        ]
    )
    job = Job.objects.get()
    assert (job.status, job.charged_nanocredits) == ("completed", NANO // 2)
    assert verification.verify() == []


def test_a_job_that_ends_with_its_call_says_what_was_left_of_its_hold(clock_: Clock) -> None:
    team = customer(PLANS["minimum"])
    (call,) = opened_calls(opening(team, number=1, is_single=True))
    settle_all([settlement(call, Ending(prompt=1000))])
    # Its call took 0.07 of the 0.25 that were set aside; the job itself the 0.18 that were left.
    own = Hold.objects.get(reference=f"job:{call.job.pk}")
    assert (own.amount_nanocredits, own.state) == (180_000_000, "settled")
    assert Job.objects.get().charged_nanocredits == NANO // 4
    assert verification.verify() == []


def test_a_call_that_comes_twice_in_a_batch_settles_once(clock_: Clock) -> None:
    team = customer({"call_rules": [{"kind": "markup"}]})
    (call,) = opened_calls(opening(team, number=1))
    once, twice = settle_all([settlement(call), settlement(call)])
    assert once is twice
    job = Job.objects.get()
    assert (job.in_flight, job.successful_calls) == (0, 1)
    assert Entry.objects.filter(kind=Entry.Kind.CHARGE).count() == 1
    assert verification.verify() == []


def test_a_quote_that_two_ask_for_at_once_is_used_by_one(clock_: Clock) -> None:
    team = customer({"call_rules": [{"kind": "markup"}]})
    quote = quotes.give(team=team, job_type="contract", model=None, messages=[], expected_calls=1)
    both = [opening(team, number=number, quote=quote) for number in (1, 2)]
    with pytest.raises(QuoteUsed), transaction.atomic():
        open_all(both)
    assert not Job.objects.exists()
    opened_calls(both[0])
    with pytest.raises(QuoteUsed), transaction.atomic():
        open_all(both[1:])
    assert Job.objects.get().in_flight == 1
    assert verification.verify() == []


def test_a_key_that_two_send_at_once_is_taken_by_one_and_a_refused_call_frees_its_own(
    clock_: Clock,
) -> None:
    team = customer({"call_rules": [{"kind": "markup"}]})
    dear = opening(team, number=3, max_nanocredits=0)
    made = [
        replace(opening(team, number=1), claim=Claim(scope="b", fingerprint="x")),
        replace(opening(team, number=2), claim=Claim(scope="b", fingerprint="x")),
        replace(dear, claim=Claim(scope="a", fingerprint="x")),
    ]
    first, second, third = open_all(made)
    assert isinstance(first, OpenCall)
    assert isinstance(second, InProgress)
    assert isinstance(third, Refusal)
    assert [row.scope for row in IdempotencyRecord.objects.all()] == ["b"]


def test_what_a_team_forbids_to_keep_while_its_call_runs_is_not_kept(clock_: Clock) -> None:
    team = customer({"call_rules": [{"kind": "markup"}]})
    team.payload_policy, team.payload_retention_days = Team.PayloadPolicy.FULL, 30
    team.save()
    claim = Claim(scope="a", fingerprint="x")
    with transaction.atomic():
        (call,) = opened_calls(replace(opening(team, number=1), claim=claim))
    Team.objects.update(is_replay_kept=False, payload_retention_days=1)
    settle_all([settlement(call)])
    record = IdempotencyRecord.objects.get()
    assert (record.is_done, record.ciphertext) == (True, "")
    payload = Payload.objects.get()
    assert payload.expires_at - payload.created_at == timedelta(days=1)


def test_an_attempt_that_was_recorded_and_never_asked_costs_nothing_in_the_end(
    clock_: Clock,
) -> None:
    team = customer({"call_rules": [{"kind": "markup"}]})
    (call,) = opened_calls(opening(team, number=1))
    Call.objects.update(expires_at=clock.now() - timedelta(seconds=1))
    assert calls.abandon_expired() == 1
    assert Job.objects.get().provider_cost_nano_usd > 0
    settle_all([replace(settlement(call, Ending(is_delivered=False)), attempt=None)])
    assert Job.objects.get().provider_cost_nano_usd == 0
    assert verification.verify() == []


def test_what_a_volume_tier_gives_back_stands_among_the_charges_in_their_order(
    clock_: Clock,
) -> None:
    team = customer(PLANS["volume"])
    job = work.job(team)
    running = opened_calls(*(opening(team, number=number, job=job) for number in (1, 2, 3)))
    # 2.5 credits; then 4.5 tokens in thousands at 0.5, so that 0.25 come back; then 0.05 more.
    ends = [Ending(prompt=2500), Ending(prompt=2000), Ending(prompt=100)]
    settle_all([settlement(*pair) for pair in zip(running, ends, strict=True)])
    entries = Entry.objects.order_by("id").values_list("kind", "balance_after_nanocredits")
    assert [(kind, after / NANO) for kind, after in entries] == [
        ("grant", 100),
        ("charge", 97.5),
        ("adjustment", 97.75),
        ("charge", 97.7),
    ]
    assert verification.verify() == []


def test_a_new_job_and_its_first_call_set_aside_what_they_say_they_do(clock_: Clock) -> None:
    team = customer(PLANS["minimum"])
    (call,) = opened_calls(opening(team, number=1, is_single=True))
    own = Hold.objects.get(reference=f"job:{call.job.pk}")
    assert own.amount_nanocredits == NANO // 4 - call.call.held_nanocredits
    assert Account.objects.get().held_nanocredits == NANO // 4
    assert verification.verify() == []
