"""Prices: pure functions from a plan version and measured work to nanocredits.

A price rounds once, half to even, to its rule's step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from billing.tiers import Package, Tiers
from saas_litellm.base.money import NANO, divide_half_even, divide_up

BASIS_POINTS = 10_000
# How a job ended, as far as its own price depends on it: a failed or cancelled one may have
# delivered output, and one that an operator waived costs nothing.
Ending = Literal["completed", "failed_delivered", "failed_empty", "waived"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What a call consumed, as far as prices can depend on it. ``input_tokens`` includes cached."""

    provider_cost_nano_usd: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    # Thousandths of what is sold by the piece: images, seconds, 1,000 characters, searches.
    milliunits: int = 0
    # The first call of its job that delivers output stands for the job where jobs are counted.
    is_first_of_job: bool = True
    is_cache_hit: bool = False

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What rules share. ``is_free_if_failed``: a failed or cancelled job gets its price back."""

    rule_id: int = 0
    job_type: str = ""
    step_nanocredits: int = 1
    is_free_if_failed: bool = False
    margin_floor_basis_points: int | None = None
    is_floor_hard: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPrice(Rule):
    kind: Literal["flat", "minimum", "package"]
    price_nanocredits: int
    package_tokens: int = 1000
    max_provider_cost_nano_usd: int = NANO

    @property
    def package(self) -> Package:
        return Package(size=self.package_tokens, nanocredits=self.price_nanocredits)

    @property
    def held_nanocredits(self) -> int:
        """What is set aside when such a job is created."""
        return 0 if self.kind == "package" else self.price_nanocredits


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPrice(Rule):
    alias: str = ""
    kind: Literal["markup", "tokens", "tiered"]
    markup_basis_points: int = 0
    input_nanocredits_per_1k: int = 0
    cached_nanocredits_per_1k: int = 0
    output_nanocredits_per_1k: int = 0
    unit_nanocredits: int | None = None
    metric: str = "tokens"
    tiers: Tiers | None = None
    minimum_nanocredits: int = 0
    cache_hit_basis_points: int = 0
    is_clamping: bool = False

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
    job_rules: tuple[JobPrice, ...]
    call_rules: tuple[CallPrice, ...]
    partial_share_basis_points: int = BASIS_POINTS
    none_share_basis_points: int = BASIS_POINTS
    monthly_minimum_nanocredits: int = 0
    margin_floor_basis_points: int | None = None

    def job_rule(self, job_type: str) -> JobPrice | None:
        """The rule of that job type, else the one for any type, else None."""
        by_type = {rule.job_type: rule for rule in self.job_rules}
        return by_type.get(job_type) or by_type.get("")

    def flat_rule(self, job_type: str) -> JobPrice | None:
        rule = self.job_rule(job_type)
        return rule if rule is not None and rule.kind == "flat" else None

    def package_rule(self, job_type: str) -> JobPrice | None:
        rule = self.job_rule(job_type)
        return rule if rule is not None and rule.kind == "package" else None

    def call_rule(self, *, job_type: str, alias: str) -> CallPrice | None:
        """The rule that prices a call by itself; None where the job's rule does it."""
        job_rule = self.job_rule(job_type)
        if job_rule is not None and job_rule.kind != "minimum":
            return None
        matching = [
            rule for rule in self.call_rules if rule.matches(job_type=job_type, alias=alias)
        ]
        return max(matching, key=lambda rule: rule.specificity, default=None)

    def rule_for(self, *, job_type: str, alias: str) -> Rule | None:
        """Whichever rule decides what a call costs."""
        rule = self.job_rule(job_type)
        if rule is not None and rule.kind != "minimum":
            return rule
        return self.call_rule(job_type=job_type, alias=alias)

    def prices_units(self, *, job_type: str, alias: str) -> bool:
        """Whether work that is counted in units, not in tokens, has a price."""
        rule = self.rule_for(job_type=job_type, alias=alias)
        if isinstance(rule, JobPrice):
            return rule.kind == "flat"
        if not isinstance(rule, CallPrice):
            return False
        if rule.kind == "tokens":
            return rule.unit_nanocredits is not None
        return rule.kind == "markup" or rule.metric != "tokens"

    def covers(self, *, job_type: str, alias: str) -> bool:
        return self.rule_for(job_type=job_type, alias=alias) is not None

    def quantity(self, *, job_type: str, alias: str, measure: Measure) -> int | None:
        """What the call adds to its rule's count; None where nothing is counted."""
        if self.package_rule(job_type):
            return measure.total_tokens
        rule = self.call_rule(job_type=job_type, alias=alias)
        if rule is None or rule.tiers is None:
            return None
        return {
            "jobs": int(measure.is_first_of_job),
            "tokens": measure.total_tokens,
            "cost": measure.provider_cost_nano_usd,
        }[rule.metric]

    def call_price(
        self, *, job_type: str, alias: str, measure: Measure, counted_before: int = 0
    ) -> int:
        """Nanocredits for one call that delivered output; 0 inside a flat job.

        ``counted_before`` is where the count of a package or of tiers stood. Volume tiers may
        give back: the price is negative then.
        """
        package = self.package_rule(job_type)
        if package is not None:
            after = counted_before + measure.total_tokens
            return package.package.total(after) - package.package.total(counted_before)
        rule = self.call_rule(job_type=job_type, alias=alias)
        if rule is None:
            return 0
        if rule.tiers is not None:
            added = self.quantity(job_type=job_type, alias=alias, measure=measure) or 0
            return _tiered_price(rule, rule.tiers, measure, counted_before, added)
        return _priced(rule, measure, self.nanocredits_per_usd, divide_half_even)

    def worst_call_price(
        self, *, job_type: str, alias: str, measure: Measure, counted_before: int = 0
    ) -> int:
        """The most that a call within ``measure`` can cost, however much of it is cached.

        ``counted_before`` may have grown by the time the call settles, never shrunk.
        """
        package = self.package_rule(job_type)
        if package is not None:
            return package.package.worst(before=counted_before, quantity=measure.total_tokens)
        rule = self.call_rule(job_type=job_type, alias=alias)
        if rule is None:
            return 0
        if rule.tiers is not None:
            added = self.quantity(job_type=job_type, alias=alias, measure=measure) or 0
            worst = rule.tiers.worst(before=counted_before, quantity=added)
            if measure.is_cache_hit:
                # A share of the worst: rounded up, so that the hold covers it.
                return divide_up(worst * rule.cache_hit_basis_points, BASIS_POINTS)
            return max(worst, rule.minimum_nanocredits)
        return max(
            _priced(
                rule, replace(measure, cached_tokens=cached), self.nanocredits_per_usd, divide_up
            )
            for cached in {0, measure.input_tokens}
        )

    @property
    def is_tiered(self) -> bool:
        """Whether a call's price depends on what the month had before it."""
        return any(rule.tiers is not None for rule in self.call_rules)

    def share_basis_points(self, outcome: str) -> int:
        """The share of its price that a job with this outcome pays."""
        shares = {"partial": self.partial_share_basis_points, "none": self.none_share_basis_points}
        return shares.get(outcome, BASIS_POINTS)

    def is_free_if_failed(self, *, job_type: str, alias: str) -> bool:
        """Whether a failed or cancelled job's calls of that alias cost nothing."""
        rule = self.rule_for(job_type=job_type, alias=alias)
        return rule is not None and rule.is_free_if_failed

    def closed_price(
        self, *, job_type: str, charged_by_calls: int, ending: Ending, outcome: str = ""
    ) -> int:
        """What a closed job costs in all, in nanocredits: its calls, or more, or less.

        ``charged_by_calls`` is already without calls that a failure gives back.
        """
        rule = self.job_rule(job_type)
        floor = rule.held_nanocredits if rule is not None else 0
        if ending == "completed":
            whole, share = max(floor, charged_by_calls), self.share_basis_points(outcome)
            step = rule.step_nanocredits if rule is not None else 1
            if share == BASIS_POINTS:
                return whole
            return min(whole, divide_half_even(whole * share, BASIS_POINTS * step) * step)
        is_due = ending == "failed_delivered" and rule is not None and not rule.is_free_if_failed
        return max(charged_by_calls, floor) if is_due else charged_by_calls

    def nano_usd(self, nanocredits: int) -> int:
        """The value of credits in nano-USD at this version's rate."""
        return divide_half_even(nanocredits * NANO, self.nanocredits_per_usd)


def _tiered_price(
    rule: CallPrice, tiers: Tiers, measure: Measure, before: int, quantity: int
) -> int:
    after = before + quantity
    price = tiers.total(after) - tiers.total(before)
    if measure.is_cache_hit:
        return _share(rule, price)
    is_included = price == 0 and after <= tiers.included
    if rule.minimum_nanocredits and not is_included:
        return max(price, rule.minimum_nanocredits)
    return price


def _priced(
    rule: CallPrice, measure: Measure, nanocredits_per_usd: int, divide: Callable[[int, int], int]
) -> int:
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
            + measure.milliunits * (rule.unit_nanocredits or 0)
        )
        denominator = 1000
    step = rule.step_nanocredits
    if measure.is_cache_hit:
        return (
            divide(numerator * rule.cache_hit_basis_points, denominator * BASIS_POINTS * step)
            * step
        )
    return max(divide(numerator, denominator * step) * step, rule.minimum_nanocredits)


def _share(rule: CallPrice, price: int) -> int:
    step = rule.step_nanocredits
    return divide_half_even(price * rule.cache_hit_basis_points, BASIS_POINTS * step) * step
