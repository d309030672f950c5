"""Worked examples of prices; every expected figure was computed by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.pricing import CallPrice, JobPrice, Measure, Plan
from billing.tiers import Tier, Tiers
from saas_litellm.base.money import NANO

pytestmark = pytest.mark.any_database

TEN_PER_USD = 10 * NANO


def plan(*rules: CallPrice, flat: tuple[JobPrice, ...] = ()) -> Plan:
    return Plan(version_id=1, nanocredits_per_usd=TEN_PER_USD, job_rules=flat, call_rules=rules)


def rule(kind: str = "markup", **more: Any) -> CallPrice:
    return CallPrice(**{"job_type": "", "alias": "", "kind": kind, **more})  # type: ignore[arg-type]


def measure(cost: int = 0, tokens_in: int = 0, cached: int = 0, out: int = 0) -> Measure:
    return Measure(
        provider_cost_nano_usd=cost, input_tokens=tokens_in, cached_tokens=cached, output_tokens=out
    )


def price(of: Plan, what: Measure, job_type: str = "x", alias: str = "chat") -> int:
    return of.call_price(job_type=job_type, alias=alias, measure=what)


@pytest.mark.parametrize(
    ("rules", "what", "nanocredits"),
    [
        # 0.00124 USD at cost, 10 credits a USD: 0.0124 credits.
        (rule(), measure(cost=1_240_000), 12_400_000),
        # The same with 50 % on top: 0.0186 credits.
        (rule(markup_basis_points=5000), measure(cost=1_240_000), 18_600_000),
        # 1 nano-USD with 0.01 % on top is 10.001 nanocredits: rounds to 10.
        (rule(markup_basis_points=1), measure(cost=1), 10),
        # 5 nano-USD of cost in steps of 100: 50 is a tie, and goes to the even multiple, 0.
        (rule(step_nanocredits=100), measure(cost=5), 0),
        # 15 nano-USD: 150, a tie between 100 and 200, and 2 is even.
        (rule(step_nanocredits=100), measure(cost=15), 200),
        # 10,000 tokens a credit: 1,200 in (400 of them cached at a tenth) and 300 out:
        # 800 × 0.1/1000 + 400 × 0.01/1000 + 300 × 0.1/1000 = 0.114 credits.
        (
            rule(
                "tokens",
                input_nanocredits_per_1k=NANO // 10,
                cached_nanocredits_per_1k=NANO // 100,
                output_nanocredits_per_1k=NANO // 10,
            ),
            measure(tokens_in=1200, cached=400, out=300),
            114_000_000,
        ),
        (rule(), measure(cost=0), 0),
    ],
)
def test_a_call_costs_what_its_rule_says(rules: CallPrice, what: Measure, nanocredits: int) -> None:
    assert price(plan(rules), what) == nanocredits


def test_the_most_specific_rule_counts() -> None:
    of = plan(
        rule(markup_basis_points=0),
        rule(alias="chat", markup_basis_points=1000),
        rule(job_type="x", markup_basis_points=2000),
        rule(job_type="x", alias="chat", markup_basis_points=3000),
    )
    cost = measure(cost=1000)
    prices = [
        price(of, cost, *pair) for pair in (("y", "z"), ("y", "chat"), ("x", "z"), ("x", "chat"))
    ]
    assert prices == [10_000, 11_000, 12_000, 13_000]


def test_calls_of_a_flat_job_price_nothing() -> None:
    flat = JobPrice(
        kind="flat", job_type="x", price_nanocredits=NANO, max_provider_cost_nano_usd=NANO
    )
    of = plan(rule(), flat=(flat,))
    assert price(of, measure(cost=1000)) == 0
    assert price(of, measure(cost=1000), job_type="other") == 10_000


@given(cost=st.integers(0, 10**15), less=st.integers(0, 10**15), points=st.integers(0, 100_000))
def test_a_cheaper_call_never_costs_more(cost: int, less: int, points: int) -> None:
    of = plan(rule(markup_basis_points=points, step_nanocredits=1000))
    assert price(of, measure(cost=min(cost, less))) <= price(of, measure(cost=cost))


@given(tokens=st.integers(0, 10**7), share=st.floats(0, 1), out=st.integers(0, 10**6))
def test_the_worst_case_covers_any_share_of_cached_tokens(
    tokens: int, share: float, out: int
) -> None:
    of = plan(
        rule(
            "tokens",
            input_nanocredits_per_1k=7,
            cached_nanocredits_per_1k=11,
            output_nanocredits_per_1k=13,
        )
    )
    real = measure(tokens_in=tokens, cached=int(tokens * share), out=out)
    worst = of.worst_call_price(job_type="x", alias="chat", measure=real)
    assert price(of, real) <= worst


def test_a_cached_answer_costs_its_share_of_the_full_price() -> None:
    cached = Measure(
        provider_cost_nano_usd=1_240_000,
        input_tokens=1000,
        cached_tokens=0,
        output_tokens=0,
        is_cache_hit=True,
    )
    assert price(plan(rule()), cached) == 0  # unless the plan says otherwise
    assert price(plan(rule(cache_hit_basis_points=2500)), cached) == 3_100_000
    by_tiers = Tiers(mode="graduated", tiers=(Tier(up_to=None, nanocredits=NANO),), unit=1000)
    tiered = rule("tiered", tiers=by_tiers, cache_hit_basis_points=5000)
    assert price(plan(tiered), cached) == NANO // 2


def test_a_minimum_per_call_holds_for_every_kind_of_rule() -> None:
    tiny = measure(cost=1, tokens_in=1)
    assert price(plan(rule(minimum_nanocredits=500)), tiny) == 500
    assert price(plan(rule("tokens", minimum_nanocredits=500)), tiny) == 500
