"""Price plans: draft, activate, assign, and the version a team is on."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from django.db import IntegrityError, transaction

from billing import pricing
from billing.models import CallRule, JobRule, PlanAssignment, PlanVersion, PricePlan
from billing.refusals import PlanNotReady
from saas_litellm.base import audit, clock
from saas_litellm.base.money import NANO
from teams.models import Organization, Team

# The three names of the API: one credit a job, markup on cost, credits by tokens.
PRESETS = ("job_based", "consumption_usd", "consumption_tokens")
_NANOCREDITS_PER_1K_TOKENS = NANO // 10  # 10,000 tokens a credit


def draft(*, plan: PricePlan) -> PlanVersion:
    """A new version without rules, next in number."""
    newest = plan.versions.order_by("-number").first()
    return PlanVersion.objects.create(plan=plan, number=(newest.number if newest else 0) + 1)


def activate(
    *, version: PlanVersion, actor: str, effective_from: datetime | None = None
) -> PlanVersion:
    """Fix a draft for good, in effect from a moment (now when None).

    Raises PlanNotReady when it is active already, or when some job would have no price.
    """
    now = clock.now()
    with transaction.atomic():
        activated = PlanVersion.objects.filter(pk=version.pk, activated_at=None).update(
            activated_at=now, effective_from=effective_from or now
        )
        if activated != 1:
            raise PlanNotReady("This plan version is active already.")
        version.refresh_from_db()
        if not _read(version).covers(job_type="", alias=""):
            raise PlanNotReady(
                "Some jobs would have no price: add a job rule or a call rule that matches any."
            )
        audit.record(actor=actor, action="plan.activate", target=f"plan:{version}")
    return version


def assign(
    *,
    plan: PricePlan,
    actor: str,
    team: Team | None = None,
    organization: Organization | None = None,
    effective_from: datetime | None = None,
) -> PlanAssignment:
    """Put one team, or every team of one organization, on a plan from a moment (now when None)."""
    with transaction.atomic():
        assignment = PlanAssignment.objects.create(
            plan=plan,
            team=team,
            organization=organization,
            effective_from=effective_from or clock.now(),
        )
        audit.record(
            actor=actor,
            action="plan.assign",
            target=f"team:{team.slug}" if team else f"organization:{organization}",
            plan=plan.slug,
        )
    return assignment


def version_for(team: Team) -> PlanVersion:
    """The plan version that a job of this team, created now, is priced by.

    The team's own assignment wins over its organization's; without one it is the default plan.
    """
    now = clock.now()
    assignments = PlanAssignment.objects.filter(effective_from__lte=now).order_by("-effective_from")
    assigned = (
        assignments.filter(team=team).first()
        or assignments.filter(organization=team.organization_id).first()
    )
    versions = PlanVersion.objects.filter(
        activated_at__isnull=False, effective_from__lte=now
    ).order_by("-effective_from", "-number")
    if assigned is not None:
        version = versions.filter(plan=assigned.plan_id).first()
        if version is not None:
            return version
    return versions.filter(plan__is_default=True).first() or ensure_preset("job_based")


@lru_cache(maxsize=1024)
def load(version_id: int) -> pricing.Plan:
    """An active version's rules, kept in memory: they can never change."""
    return _read(PlanVersion.objects.get(pk=version_id, activated_at__isnull=False))


def ensure_preset(name: str) -> PlanVersion:
    """The plan behind one of PRESETS, made on first use; ``job_based`` is the platform default."""
    if name not in PRESETS:
        raise ValueError(f"{name!r} is none of {', '.join(PRESETS)}")
    existing = PlanVersion.objects.filter(plan__slug=name, activated_at__isnull=False)
    found = existing.order_by("-number").first()
    if found is not None:
        return found
    try:
        with transaction.atomic():
            return _create_preset(name)
    except IntegrityError:
        # Another process made it between the look and the insert.
        return existing.order_by("-number").get()


def _create_preset(name: str) -> PlanVersion:
    plan = PricePlan.objects.create(
        slug=name, name=name.replace("_", " ").capitalize(), is_default=name == "job_based"
    )
    version = draft(plan=plan)
    if name == "job_based":
        JobRule.objects.create(version=version, price_nanocredits=NANO)
    elif name == "consumption_usd":
        CallRule.objects.create(version=version, kind=CallRule.Kind.MARKUP)
    else:
        CallRule.objects.create(
            version=version,
            kind=CallRule.Kind.TOKENS,
            input_nanocredits_per_1k=_NANOCREDITS_PER_1K_TOKENS,
            cached_nanocredits_per_1k=_NANOCREDITS_PER_1K_TOKENS,
            output_nanocredits_per_1k=_NANOCREDITS_PER_1K_TOKENS,
        )
    return activate(version=version, actor="system")


def _read(version: PlanVersion) -> pricing.Plan:
    return pricing.Plan(
        version_id=version.pk,
        nanocredits_per_usd=version.nanocredits_per_usd,
        job_rules=tuple(
            pricing.FlatJob(
                job_type=rule.job_type,
                price_nanocredits=rule.price_nanocredits,
                max_provider_cost_nano_usd=rule.max_provider_cost_nano_usd,
            )
            for rule in version.job_rules.all()
        ),
        call_rules=tuple(
            pricing.CallPrice(
                job_type=rule.job_type,
                alias=rule.alias,
                kind="markup" if rule.kind == CallRule.Kind.MARKUP else "tokens",
                markup_basis_points=rule.markup_basis_points,
                input_nanocredits_per_1k=rule.input_nanocredits_per_1k,
                cached_nanocredits_per_1k=rule.cached_nanocredits_per_1k,
                output_nanocredits_per_1k=rule.output_nanocredits_per_1k,
                step_nanocredits=rule.step_nanocredits,
            )
            for rule in version.call_rules.all()
        ),
    )
