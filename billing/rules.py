"""Rules of price plans in words, for those who ask what priced a job or a call."""

from __future__ import annotations

from decimal import Decimal

from billing.pricing import CallPrice, JobPrice, Plan
from saas_litellm.base import shown
from saas_litellm.base.money import from_nano, plain

_METRICS = {"jobs": "jobs", "tokens": "tokens", "cost": "provider cost"}


def of_job(plan: Plan, *, job_type: str) -> str:
    """What the job as a whole pays."""
    rule = plan.job_rule(job_type)
    if rule is None:
        return "No price of its own: its calls are priced one by one."
    return f"{_which(rule.job_type)}: {_of_job(rule)}"


def of_call(plan: Plan, *, job_type: str, alias: str) -> str:
    """What one call of that alias pays in a job of that type."""
    rule = plan.rule_for(job_type=job_type, alias=alias)
    if isinstance(rule, CallPrice):
        return f"{_which(rule.job_type, rule.alias)}: {_of_call(rule, plan)}"
    if isinstance(rule, JobPrice):
        return "In the job's package" if rule.kind == "package" else "In the job's flat price"
    return "No rule"


def _of_job(rule: JobPrice) -> str:
    price = shown.counted(from_nano(rule.price_nanocredits), "credit")
    if rule.kind == "flat":
        return f"flat, {price} a completed job"
    if rule.kind == "minimum":
        return f"at least {price} a completed job; its calls are priced one by one"
    return f"{price} for each started {rule.package_tokens:,} tokens"


def _of_call(rule: CallPrice, plan: Plan) -> str:
    if rule.kind == "markup":
        rate = from_nano(plan.nanocredits_per_usd)
        return f"provider cost + {_per_cent(rule.markup_basis_points)}, {rate} credits a USD"
    if rule.kind == "tokens":
        return (
            f"credits per 1,000 tokens: {from_nano(rule.input_nanocredits_per_1k)} in,"
            f" {from_nano(rule.cached_nanocredits_per_1k)} cached,"
            f" {from_nano(rule.output_nanocredits_per_1k)} out"
        )
    assert rule.tiers is not None, "a tiered rule has tiers"
    return f"{rule.tiers.mode} tiers over the month's {_METRICS[rule.metric]}"


def _which(job_type: str, alias: str | None = None) -> str:
    named = [job_type or "any job"]
    if alias is not None:
        named.append(alias or "any alias")
    return ", ".join(named)


def _per_cent(basis_points: int) -> str:
    return f"{plain(Decimal(basis_points) / 100)} %"
