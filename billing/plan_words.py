"""A plan version in sentences, as its seller would say them."""

from __future__ import annotations

from decimal import Decimal

from billing.plan_specs import CallRuleSpec, JobRuleSpec, RuleSpec, TierSpec, VersionSpec
from saas_litellm.base.money import plain

_UNITS = {"jobs": "job", "tokens": "1,000 tokens", "cost": "USD of provider cost"}
_COUNTED = {"jobs": "jobs", "tokens": "tokens", "cost": "USD of provider cost"}
_LEAST_STEP = Decimal("0.000000001")


def sentences(spec: VersionSpec) -> list[str]:
    """The price of each kind of job, the particular before the general; then what holds for all."""
    jobs = sorted(spec.job_rules, key=lambda rule: (not rule.job_type, rule.job_type))
    calls = sorted(
        spec.call_rules,
        key=lambda rule: (not rule.job_type, not rule.alias, rule.job_type, rule.alias),
    )
    has_particular = any(rule.job_type for rule in [*jobs, *calls])
    others = "every other job" if has_particular else "every job"
    said = [f"{rule.job_type or others}: {_job_price(rule)}{_extras(rule)}" for rule in jobs]
    said += [
        f"{_matched(rule, others, calls)}: {_call_price(rule, spec)}{_extras(rule)}"
        for rule in calls
    ]
    return [*said, *_of_all(spec)]


def credits_of(amount: Decimal) -> str:
    """1 credit, 2.5 credits."""
    return f"{number(amount)} credit{'' if amount == 1 else 's'}"


def number(amount: Decimal) -> str:
    return f"{plain(amount):,f}"


def _job_price(rule: JobRuleSpec) -> str:
    price = credits_of(rule.credits)
    if rule.kind == "package":
        return f"{price} for each started {rule.package_tokens:,} tokens of a job"
    if rule.kind == "minimum":
        return f"at least {price} per completed job, whatever its calls cost"
    bound = number(rule.max_provider_cost_usd)
    return f"{price} per completed job (its calls may cost you at most ${bound})"


def _matched(rule: CallRuleSpec, others: str, calls: list[CallRuleSpec]) -> str:
    if rule.alias:
        return f"{rule.job_type or others}, calls of {rule.alias}"
    has_alias = any(one.alias and one.job_type == rule.job_type for one in calls)
    return f"{rule.job_type or others}{', other calls' if has_alias else ''}"


def _call_price(rule: CallRuleSpec, spec: VersionSpec) -> str:
    if rule.kind == "markup":
        added = f" + {number(rule.markup_percent)} %" if rule.markup_percent else ""
        price = f"provider cost{added}, at {number(spec.credits_per_usd)} credits per USD"
    elif rule.kind == "tokens":
        price = (
            f"{number(rule.input_credits_per_1k)} credits per 1,000 tokens in,"
            f" {number(rule.cached_credits_per_1k)} cached,"
            f" {number(rule.output_credits_per_1k)} out"
        )
        if rule.unit_credits is not None:
            price += f"; {credits_of(rule.unit_credits)} per image, second, 1,000 characters or"
            price += " search"
    else:
        price = _tiers(rule)
    if rule.minimum_credits:
        price += f"; at least {credits_of(rule.minimum_credits)} a call"
    if rule.cache_hit_percent:
        price += f"; a cached answer costs {number(rule.cache_hit_percent)} %"
    return price + ("; asks for less output when credits run short" if rule.clamp_output else "")


def _tiers(rule: CallRuleSpec) -> str:
    mode = "each part at its own price" if rule.mode == "graduated" else "all at the tier reached"
    free = (
        f"the first {number(rule.included)} {_COUNTED[rule.metric]} free, then "
        if rule.included
        else ""
    )
    parts = [_tier(tier, rule.metric) for tier in rule.tiers]
    return f"by the month's {_COUNTED[rule.metric]}, {mode}: {free}{'; '.join(parts)}"


def _tier(tier: TierSpec, metric: str) -> str:
    reach = "beyond" if tier.up_to is None else f"up to {number(tier.up_to)}"
    flat = f" and {credits_of(tier.flat_credits)} once" if tier.flat_credits else ""
    return f"{reach} {credits_of(tier.credits)} per {_UNITS[metric]}{flat}"


def _extras(rule: RuleSpec) -> str:
    said = ""
    if rule.failed_jobs == "free":
        said += "; nothing if the job fails"
    elif rule.failed_jobs == "delivered":
        said += "; a failed job pays for what was delivered"
    if rule.rounding_credits != _LEAST_STEP:
        said += f"; rounded to {number(rule.rounding_credits)}"
    if rule.margin_floor_percent is not None:
        what = "refused" if rule.floor_refuses else "flagged"
        said += f"; {what} when less than {number(rule.margin_floor_percent)} % would be left"
    return said


def _of_all(spec: VersionSpec) -> list[str]:
    worth = (1 / spec.credits_per_usd).quantize(Decimal("0.000001"))
    worth = worth.quantize(Decimal("0.01")) if worth == round(worth, 2) else plain(worth)
    said = [f"A credit is worth ${worth} ({number(spec.credits_per_usd)} credits per USD)"]
    shares = [("partial", spec.partial_share_percent), ("none", spec.none_share_percent)]
    said += [
        f"A job completed with outcome {name} pays {number(share)} % of its price"
        for name, share in shares
        if share != 100
    ]
    if spec.monthly_minimum_credits:
        said.append(f"Each team pays at least {credits_of(spec.monthly_minimum_credits)} a month")
    if spec.margin_floor_percent is not None:
        said.append(
            f"An alarm when a team's margin of 30 days is below {number(spec.margin_floor_percent)} %"
        )
    return said
