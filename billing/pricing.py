"""Prices: pure functions from a plan version and measured work to nanocredits.

A price rounds once, half to even, to its rule's step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from saas_litellm.base.money import NANO, divide_half_even

BASIS_POINTS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What a call consumed, as far as prices can depend on it. ``input_tokens`` includes cached."""

    provider_cost_nano_usd: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatJob:
    job_type: str
    price_nanocredits: int
    max_provider_cost_nano_usd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPrice:
    job_type: str
    alias: str
    kind: Literal["markup", "tokens"]
    markup_basis_points: int = 0
    input_nanocredits_per_1k: int = 0
    cached_nanocredits_per_1k: int = 0
    output_nanocredits_per_1k: int = 0
    step_nanocredits: int = 1

    def matches(self, *, job_type: str, alias: str) -> bool:
        return self.job_type in {"", job_type} and self.alias in {"", alias}

    @property
    def specificity(self) -> tuple[bool, bool]:
        """Job type + alias, then job type, then alias, then any."""
        return bool(self.job_type), bool(self.alias)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A plan version in memory; immutable, so it may be kept for the life of the process."""

    version_id: int
    nanocredits_per_usd: int
    job_rules: tuple[FlatJob, ...]
    call_rules: tuple[CallPrice, ...]

    def flat_rule(self, job_type: str) -> FlatJob | None:
        """The flat rule of that job type, else the one for any type, else None."""
        by_type = {rule.job_type: rule for rule in self.job_rules}
        return by_type.get(job_type) or by_type.get("")

    def call_rule(self, *, job_type: str, alias: str) -> CallPrice | None:
        """The most specific rule that matches a metered call."""
        matching = [
            rule for rule in self.call_rules if rule.matches(job_type=job_type, alias=alias)
        ]
        return max(matching, key=lambda rule: rule.specificity, default=None)

    def covers(self, *, job_type: str, alias: str) -> bool:
        return bool(self.flat_rule(job_type) or self.call_rule(job_type=job_type, alias=alias))

    def call_price(self, *, job_type: str, alias: str, measure: Measure) -> int:
        """Nanocredits for one call; 0 inside a flat job. The plan must cover the pair."""
        rule = None if self.flat_rule(job_type) else self.call_rule(job_type=job_type, alias=alias)
        return _price(rule, measure, self.nanocredits_per_usd) if rule else 0

    def worst_call_price(self, *, job_type: str, alias: str, measure: Measure) -> int:
        """The most that a call within ``measure`` can cost, however much of it is cached."""
        shares = {0, measure.input_tokens}
        return max(
            self.call_price(
                job_type=job_type,
                alias=alias,
                measure=Measure(
                    provider_cost_nano_usd=measure.provider_cost_nano_usd,
                    input_tokens=measure.input_tokens,
                    cached_tokens=cached,
                    output_tokens=measure.output_tokens,
                ),
            )
            for cached in shares
        )

    def nano_usd(self, nanocredits: int) -> int:
        """The value of credits in nano-USD at this version's rate."""
        return divide_half_even(nanocredits * NANO, self.nanocredits_per_usd)


def _price(rule: CallPrice, measure: Measure, nanocredits_per_usd: int) -> int:
    """One fraction, so that nothing is rounded before the step."""
    if rule.kind == "markup":
        numerator = (
            measure.provider_cost_nano_usd
            * (BASIS_POINTS + rule.markup_basis_points)
            * nanocredits_per_usd
        )
        denominator = BASIS_POINTS * NANO
    else:
        numerator = (
            (measure.input_tokens - measure.cached_tokens) * rule.input_nanocredits_per_1k
            + measure.cached_tokens * rule.cached_nanocredits_per_1k
            + measure.output_tokens * rule.output_nanocredits_per_1k
        )
        denominator = 1000
    step = rule.step_nanocredits
    return divide_half_even(numerator, denominator * step) * step
