"""Provider cost: unit prices times token counts, exact, rounded once to nano-USD."""

from __future__ import annotations

from jobs.usage import Usage
from saas_litellm.base.money import FEMTO_PER_NANO, divide_half_even, divide_up
from teams.prices import Rates, UnitPrices


def provider_cost_nano_usd(*, prices: UnitPrices, usage: Usage) -> int:
    """What the provider charges for ``usage``, half-even to the nano-USD.

    Each token is priced once: cached reads, cache writes and audio input are taken out of the
    prompt, reasoning and audio output out of the completion. A long-context tier applies to the
    whole request. A kind without a rate of its own is priced as the kind it belongs to.
    """
    rates = prices.rates_for(usage.prompt_tokens)
    femto = prices.per_request + _prompt_femto(rates, usage) + _completion_femto(rates, usage)
    by_unit = usage.milliunits * (prices.per_unit or 0)
    return divide_half_even(femto * 1000 + by_unit, FEMTO_PER_NANO * 1000)


def worst_cost_nano_usd(
    *, prices: UnitPrices, prompt_tokens: int, output_tokens: int, milliunits: int = 0
) -> int:
    """The most that so many tokens and units can cost, each at its dearest rate; rounded up."""
    reachable = [
        prices.base,
        *(tier.rates for tier in prices.tiers if prompt_tokens > tier.above_tokens),
    ]
    femto = max(
        rates.dearest_input * prompt_tokens + rates.dearest_output * output_tokens
        for rates in reachable
    )
    by_unit = milliunits * (prices.per_unit or 0)
    return divide_up((prices.per_request + femto) * 1000 + by_unit, FEMTO_PER_NANO * 1000)


def _prompt_femto(rates: Rates, usage: Usage) -> int:
    write = _or(rates.cache_write, rates.input)
    short_writes = usage.cache_write_tokens - usage.cache_write_1h_tokens
    plain = (
        usage.prompt_tokens
        - usage.cached_tokens
        - usage.cache_write_tokens
        - usage.audio_input_tokens
    )
    return (
        plain * rates.input
        + usage.cached_tokens * _or(rates.cached_read, rates.input)
        + short_writes * write
        + usage.cache_write_1h_tokens * _or(rates.cache_write_1h, write)
        + usage.audio_input_tokens * _or(rates.audio_input, rates.input)
    )


def _completion_femto(rates: Rates, usage: Usage) -> int:
    plain = usage.completion_tokens - usage.reasoning_tokens - usage.audio_output_tokens
    return (
        plain * rates.output
        + usage.reasoning_tokens * _or(rates.reasoning, rates.output)
        + usage.audio_output_tokens * _or(rates.audio_output, rates.output)
    )


def _or(rate: int | None, otherwise: int) -> int:
    return otherwise if rate is None else rate
