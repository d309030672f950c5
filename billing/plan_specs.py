"""Price plans as people write them: credits, USD and per cent instead of integers.

One shape for the management API, the ``plan`` command's files and what both show.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from django.db import IntegrityError, transaction
from pydantic import Field

from billing import plans
from billing.models import CallRule, JobRule, PlanVersion, PricePlan
from billing.models.plans import FailedJobs, Rule
from billing.refusals import PlanNotReady
from saas_litellm.base import audit
from saas_litellm.base.money import NANO, InexactAmount, from_nano, nano, plain
from saas_litellm.base.refusals import Invalid
from teams.api import Body
from teams.models import slug_validator

Credits = Annotated[Decimal, Field(strict=False, ge=0, le=10**9)]
Percent = Annotated[Decimal, Field(strict=False, ge=0, le=100)]
Name = Annotated[str, Field(max_length=100)]


class TierSpec(Body):
    """``up_to`` in jobs, tokens or USD; credits per job, 1,000 tokens or USD."""

    up_to: Decimal | None = Field(None, strict=False, gt=0, le=10**15)
    credits: Credits = Decimal(0)
    flat_credits: Credits = Decimal(0)


class RuleSpec(Body):
    job_type: Name = ""
    rounding_credits: Decimal = Field(
        Decimal("0.000000001"), strict=False, gt=0, le=10**9, description="Multiples of this."
    )
    margin_floor_percent: Percent | None = None
    floor_refuses: bool = False
    failed_jobs: Literal["free", "delivered"] | None = None


class JobRuleSpec(RuleSpec):
    kind: Literal["flat", "minimum", "package"] = "flat"
    credits: Credits
    package_tokens: int = Field(1000, ge=1, le=10**9)
    max_provider_cost_usd: Decimal = Field(Decimal(1), strict=False, gt=0, le=10**6)


class CallRuleSpec(RuleSpec):
    alias: Annotated[str, Field(max_length=63)] = ""
    kind: Literal["markup", "tokens", "tiered"]
    markup_percent: Decimal = Field(Decimal(0), strict=False, ge=0, le=10**6)
    input_credits_per_1k: Credits = Decimal(0)
    cached_credits_per_1k: Credits = Decimal(0)
    output_credits_per_1k: Credits = Decimal(0)
    unit_credits: Credits | None = Field(
        None, description="Per image, second of audio, 1,000 characters of speech, or search."
    )
    metric: Literal["jobs", "tokens", "cost"] = "tokens"
    mode: Literal["graduated", "volume"] = "graduated"
    tiers: list[TierSpec] = Field(default_factory=list, max_length=50)
    included: Decimal = Field(Decimal(0), strict=False, ge=0, le=10**15)
    minimum_credits: Credits = Decimal(0)
    cache_hit_percent: Percent = Decimal(0)
    clamp_output: bool = False


class VersionSpec(Body):
    """A plan version: what a credit is worth, and the rules."""

    credits_per_usd: Decimal = Field(Decimal(10), strict=False, gt=0, le=10**9)
    partial_share_percent: Percent = Decimal(100)
    none_share_percent: Percent = Decimal(100)
    monthly_minimum_credits: Credits = Decimal(0)
    margin_floor_percent: Percent | None = None
    job_rules: list[JobRuleSpec] = Field(default_factory=list, max_length=500)
    call_rules: list[CallRuleSpec] = Field(default_factory=list, max_length=500)


def create_plan(*, slug: str, name: str, actor: str) -> PricePlan:
    """Raises Invalid for a bad or taken slug, or the name of a preset."""
    if slug in {*plans.PRESETS, "shadows"} or PricePlan.objects.filter(slug=slug).exists():
        raise Invalid(f"There is a plan {slug} already.", param="slug")
    if not slug_validator.regex.fullmatch(slug):  # type: ignore[union-attr]
        raise Invalid(str(slug_validator.message), param="slug")
    with transaction.atomic():
        plan = PricePlan.objects.create(slug=slug, name=name or slug)
        audit.record(
            actor=actor, action="plan.create", target=f"plan:{slug}", after={"name": plan.name}
        )
    return plan


def draft(*, plan: PricePlan, spec: VersionSpec, actor: str) -> PlanVersion:
    """A new draft with these rules. Raises Invalid (amounts), PlanNotReady (rules that clash)."""
    try:
        with transaction.atomic():
            version = plans.draft(plan=plan, **_version_columns(spec))
            for number, job_rule in enumerate(spec.job_rules):
                _create(JobRule, version, _job_columns(job_rule), f"job_rules.{number}")
            for number, call_rule in enumerate(spec.call_rules):
                _create(CallRule, version, _call_columns(call_rule), f"call_rules.{number}")
            plans.read(version)
            audit.record(actor=actor, action="plan.draft", target=f"plan:{version}")
    except InexactAmount as error:
        raise Invalid(str(error), param="rules") from error
    return version


def shown(version: PlanVersion) -> dict[str, Any]:
    """The version as its spec reads, and its state."""
    return {
        "plan": version.plan.slug,
        "version": version.number,
        "state": _state(version),
        "effective_from": version.effective_from,
        "credits_per_usd": from_nano(version.nanocredits_per_usd),
        "partial_share_percent": _percent(version.partial_share_basis_points),
        "none_share_percent": _percent(version.none_share_basis_points),
        "monthly_minimum_credits": from_nano(version.monthly_minimum_nanocredits),
        "margin_floor_percent": _percent(version.margin_floor_basis_points),
        "job_rules": [_shown_job_rule(rule) for rule in version.job_rules.order_by("id")],
        "call_rules": [_shown_call_rule(rule) for rule in version.call_rules.order_by("id")],
    }


def _state(version: PlanVersion) -> str:
    if version.activated_at is not None:
        return "active"
    return "draft" if version.fixed_at is None else "fixed"


def _create(
    model: type[JobRule | CallRule], version: PlanVersion, columns: dict[str, Any], param: str
) -> None:
    try:
        with transaction.atomic():
            model.objects.create(version=version, **columns)
    except IntegrityError as error:
        raise PlanNotReady(
            f"{param}: another rule matches the same job type and alias, or an amount is out of"
            " range.",
            param=param,
        ) from error


def _version_columns(spec: VersionSpec) -> dict[str, Any]:
    return {
        "nanocredits_per_usd": nano(spec.credits_per_usd),
        "partial_share_basis_points": _basis_points(spec.partial_share_percent),
        "none_share_basis_points": _basis_points(spec.none_share_percent),
        "monthly_minimum_nanocredits": nano(spec.monthly_minimum_credits),
        "margin_floor_basis_points": _maybe_basis_points(spec.margin_floor_percent),
    }


def _rule_columns(spec: RuleSpec) -> dict[str, Any]:
    return {
        "job_type": spec.job_type,
        "step_nanocredits": nano(spec.rounding_credits),
        "margin_floor_basis_points": _maybe_basis_points(spec.margin_floor_percent),
        "is_floor_hard": spec.floor_refuses,
    }


def _job_columns(spec: JobRuleSpec) -> dict[str, Any]:
    return {
        **_rule_columns(spec),
        "kind": spec.kind,
        "price_nanocredits": nano(spec.credits),
        "package_tokens": spec.package_tokens,
        "max_provider_cost_nano_usd": nano(spec.max_provider_cost_usd),
        "failed_jobs": spec.failed_jobs or "",
    }


def _call_columns(spec: CallRuleSpec) -> dict[str, Any]:
    return {
        **_rule_columns(spec),
        "alias": spec.alias,
        "kind": spec.kind,
        "markup_basis_points": _basis_points(spec.markup_percent),
        "input_nanocredits_per_1k": nano(spec.input_credits_per_1k),
        "cached_nanocredits_per_1k": nano(spec.cached_credits_per_1k),
        "output_nanocredits_per_1k": nano(spec.output_credits_per_1k),
        "unit_nanocredits": None if spec.unit_credits is None else nano(spec.unit_credits),
        "metric": spec.metric,
        "mode": spec.mode,
        "tiers": [_tier_columns(tier, spec.metric) for tier in spec.tiers],
        "included_quantity": _quantity(spec.included, spec.metric),
        "minimum_nanocredits": nano(spec.minimum_credits),
        "cache_hit_basis_points": _basis_points(spec.cache_hit_percent),
        "is_clamping": spec.clamp_output,
        "failed_jobs": spec.failed_jobs or FailedJobs.DELIVERED,
    }


def _tier_columns(tier: TierSpec, metric: str) -> dict[str, Any]:
    return {
        "up_to": None if tier.up_to is None else _quantity(tier.up_to, metric),
        "nanocredits": nano(tier.credits),
        "flat_nanocredits": nano(tier.flat_credits),
    }


def _quantity(amount: Decimal, metric: str) -> int:
    """Jobs and tokens are whole; USD of provider cost becomes nano-USD."""
    if metric == CallRule.Metric.COST:
        return nano(amount)
    if amount != int(amount):
        raise InexactAmount(f"{amount} {metric} is not a whole number")
    return int(amount)


def _basis_points(percent: Decimal) -> int:
    points = percent * 100
    if points != int(points):
        raise InexactAmount(f"{percent} % has more than 2 decimal places")
    return int(points)


def _maybe_basis_points(percent: Decimal | None) -> int | None:
    return None if percent is None else _basis_points(percent)


def _percent(points: int | None) -> Decimal | None:
    return None if points is None else plain(Decimal(points) / 100)


def _shown_rule(rule: Rule) -> dict[str, Any]:
    return {
        "job_type": rule.job_type,
        "rounding_credits": from_nano(rule.step_nanocredits),
        "margin_floor_percent": _percent(rule.margin_floor_basis_points),
        "floor_refuses": rule.is_floor_hard,
    }


def _shown_job_rule(rule: JobRule) -> dict[str, Any]:
    return {
        **_shown_rule(rule),
        "kind": rule.kind,
        "credits": from_nano(rule.price_nanocredits),
        "package_tokens": rule.package_tokens,
        "max_provider_cost_usd": from_nano(rule.max_provider_cost_nano_usd),
        "failed_jobs": rule.effective_failed_jobs,
    }


def _shown_call_rule(rule: CallRule) -> dict[str, Any]:
    scale = NANO if rule.metric == CallRule.Metric.COST else 1
    return {
        **_shown_rule(rule),
        "alias": rule.alias,
        "kind": rule.kind,
        "markup_percent": _percent(rule.markup_basis_points),
        "input_credits_per_1k": from_nano(rule.input_nanocredits_per_1k),
        "cached_credits_per_1k": from_nano(rule.cached_nanocredits_per_1k),
        "output_credits_per_1k": from_nano(rule.output_nanocredits_per_1k),
        "unit_credits": None if rule.unit_nanocredits is None else from_nano(rule.unit_nanocredits),
        "metric": rule.metric,
        "mode": rule.mode,
        "tiers": [
            {
                "up_to": None if tier["up_to"] is None else plain(Decimal(tier["up_to"]) / scale),
                "credits": from_nano(tier["nanocredits"]),
                "flat_credits": from_nano(tier["flat_nanocredits"]),
            }
            for tier in rule.tiers
        ],
        "included": plain(Decimal(rule.included_quantity) / scale),
        "minimum_credits": from_nano(rule.minimum_nanocredits),
        "cache_hit_percent": _percent(rule.cache_hit_basis_points),
        "clamp_output": rule.is_clamping,
        "failed_jobs": rule.failed_jobs,
    }
