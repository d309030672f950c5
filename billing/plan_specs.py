"""Price plans as people write them: credits, USD and per cent instead of integers.

One shape for the management API, the ``plan`` command's files and what both show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Annotated, Any, Literal

from django.db import IntegrityError, transaction
from pydantic import Field

from billing import plans, tiers
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


def draft(
    *, plan: PricePlan, spec: VersionSpec, actor: str, number: int | None = None
) -> PlanVersion:
    """A new draft with these rules. Raises Invalid (amounts), PlanNotReady (rules that clash).

    ``number`` says which version it is to be: the same spec sent twice is then one draft, and
    another spec under a number that is taken is refused (PlanNotReady).
    """
    try:
        with transaction.atomic():
            if number is not None and plan.versions.filter(number=number).exists():
                return _same(plan, number, spec)
            version = plans.draft(plan=plan, number=number, **version_columns(spec))
            write_rules(version, spec)
            audit.record(actor=actor, action="plan.draft", target=f"plan:{version}")
    except IntegrityError:
        # Another request took the number between the look and the insert.
        if number is None:
            raise
        return _same(plan, number, spec)
    except InexactAmount as error:
        raise Invalid(str(error), param="rules") from error
    return version


def spec_of(version: PlanVersion) -> VersionSpec:
    """The spec that would draft this version again."""
    columns = shown(version)
    return VersionSpec(**{name: columns[name] for name in VersionSpec.model_fields})


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
        "job_rules": [_shown_job_rule(rule) for rule in _in_order(version.job_rules.all())],
        "call_rules": [_shown_call_rule(rule) for rule in _in_order(version.call_rules.all())],
    }


def _in_order(rules: Iterable[Any]) -> list[Any]:
    """As they were drafted; sorted here, so that rows read ahead are made use of."""
    return sorted(rules, key=lambda rule: rule.pk)


def _state(version: PlanVersion) -> str:
    if version.activated_at is not None:
        return "active"
    return "draft" if version.fixed_at is None else "fixed"


def _same(plan: PricePlan, number: int, spec: VersionSpec) -> PlanVersion:
    version = plan.versions.get(number=number)
    if exact(spec_of(version)) != exact(spec):
        raise PlanNotReady(f"Somebody else drafted {version} meanwhile: look at it first.")
    return version


def exact(spec: VersionSpec) -> dict[str, Any]:
    """For comparing: what a failed job pays by default is written out."""
    columns = spec.model_dump()
    for rule in columns["job_rules"]:
        unsaved = JobRule(kind=rule["kind"], failed_jobs=rule["failed_jobs"] or "")
        rule["failed_jobs"] = str(unsaved.effective_failed_jobs)
    for rule in columns["call_rules"]:
        rule["failed_jobs"] = rule["failed_jobs"] or str(FailedJobs.DELIVERED)
    return columns


def write_rules(version: PlanVersion, spec: VersionSpec) -> None:
    """Into a draft without any. Raises Invalid, PlanNotReady."""
    for number, job_rule in enumerate(spec.job_rules):
        _create(JobRule, version, job_columns, job_rule, f"job_rules.{number}")
    for number, call_rule in enumerate(spec.call_rules):
        _create(CallRule, version, call_columns, call_rule, f"call_rules.{number}")
    plans.read(version)


def _create(
    model: type[JobRule | CallRule],
    version: PlanVersion,
    columns_of: Callable[[Any], dict[str, Any]],
    spec: RuleSpec,
    param: str,
) -> None:
    try:
        with transaction.atomic():
            model.objects.create(version=version, **columns_of(spec))
    except InexactAmount as error:
        raise Invalid(str(error), param=param) from error
    except tiers.BadTiers as error:
        raise PlanNotReady(str(error), param=param) from error
    except IntegrityError as error:
        raise PlanNotReady(
            f"{param}: another rule matches the same job type and alias, or an amount is out of"
            " range.",
            param=param,
        ) from error


def version_columns(spec: VersionSpec) -> dict[str, Any]:
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


def job_columns(spec: JobRuleSpec) -> dict[str, Any]:
    return {
        **_rule_columns(spec),
        "kind": spec.kind,
        "price_nanocredits": nano(spec.credits),
        "package_tokens": spec.package_tokens,
        "max_provider_cost_nano_usd": nano(spec.max_provider_cost_usd),
        "failed_jobs": spec.failed_jobs or "",
    }


def call_columns(spec: CallRuleSpec) -> dict[str, Any]:
    """Raises BadTiers for a tiered rule whose tiers are no tariff."""
    stored = [_tier_columns(tier, spec.metric) for tier in spec.tiers]
    if spec.kind == "tiered":
        tiers.parse(stored)
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
        "tiers": stored,
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


def _shown_quantity(quantity: int | None, scale: int) -> Decimal | None:
    return None if quantity is None else plain(Decimal(quantity) / scale)


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
                "up_to": _shown_quantity(tier.get("up_to"), scale),
                "credits": from_nano(tier.get("nanocredits", 0)),
                "flat_credits": from_nano(tier.get("flat_nanocredits", 0)),
            }
            for tier in rule.tiers
        ],
        "included": plain(Decimal(rule.included_quantity) / scale),
        "minimum_credits": from_nano(rule.minimum_nanocredits),
        "cache_hit_percent": _percent(rule.cache_hit_basis_points),
        "clamp_output": rule.is_clamping,
        "failed_jobs": rule.failed_jobs,
    }
