"""Worked examples of provider cost, to the nano-USD, and what a hold must cover."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import costs
from jobs.usage import Usage
from saas_litellm.base.money import femto
from teams.prices import LongContextTier, Rates, UnitPrices

pytestmark = pytest.mark.any_database

# Per token: 3 in, 0.30 cached, 3.75 and 6 written, 15 out, in millionths of a USD.
RATES = Rates(
    input=femto("0.000003"),
    cached_read=femto("0.0000003"),
    cache_write=femto("0.00000375"),
    cache_write_1h=femto("0.000006"),
    output=femto("0.000015"),
)
LONG = Rates(input=femto("0.000006"), output=femto("0.0000225"))
SHEET = UnitPrices(base=RATES, tiers=(LongContextTier(above_tokens=200_000, rates=LONG),))


def cost(**counts: int) -> int:
    return costs.provider_cost_nano_usd(prices=SHEET, usage=Usage.checked(**counts))


def test_each_kind_of_token_is_priced_once() -> None:
    # 1,000 in: 500 read from cache, 200 written for 5 minutes, 100 for an hour, 200 plain; 50 out.
    # 200×3 + 500×0.3 + 200×3.75 + 100×6 + 50×15 = 600 + 150 + 750 + 600 + 750 = 2,850 micro-USD.
    figures = {"prompt_tokens": 1000, "cached_tokens": 500, "cache_write_tokens": 300}
    assert cost(**figures, cache_write_1h_tokens=100, completion_tokens=50) == 2_850_000


def test_a_long_context_tier_applies_to_the_whole_request_one_token_above_its_edge() -> None:
    assert cost(prompt_tokens=200_000, completion_tokens=10) == 200_000 * 3_000 + 150_000
    assert cost(prompt_tokens=200_001, completion_tokens=10) == 200_001 * 6_000 + 225_000


def test_a_price_below_the_nano_usd_rounds_once_half_to_even() -> None:
    # 12.5 nano-USD per thousand tokens, which no nano-USD price per token could hold.
    sheet = UnitPrices(base=Rates(input=femto("0.0000000000125"), output=0))
    priced = [
        costs.provider_cost_nano_usd(prices=sheet, usage=Usage(prompt_tokens=tokens))
        for tokens in (40, 120, 200, 1000)
    ]
    assert priced == [0, 2, 2, 12]


def test_figures_that_a_provider_got_wrong_are_cut_to_sense() -> None:
    usage = Usage.checked(prompt_tokens=10, cached_tokens=50, completion_tokens=-3)
    assert (usage.cached_tokens, usage.completion_tokens) == (10, 0)


tokens = st.integers(0, 400_000)


@given(prompt=tokens, cached=tokens, written=tokens, hour=tokens, out=tokens)
def test_the_worst_case_covers_every_mix(
    prompt: int, cached: int, written: int, hour: int, out: int
) -> None:
    usage = Usage.checked(
        prompt_tokens=prompt,
        cached_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=hour,
        completion_tokens=out,
    )
    real = costs.provider_cost_nano_usd(prices=SHEET, usage=usage)
    assert real <= costs.worst_cost_nano_usd(prices=SHEET, prompt_tokens=prompt, output_tokens=out)
