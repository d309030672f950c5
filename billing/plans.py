"""Price plans: draft, activate, assign, and the version a team is on."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, cast

from django.db import IntegrityError, transaction
from django.db.models import Min, Q

from billing import pricing, tiers
from billing.models import CallRule, JobRule, PlanAssignment, PlanVersion, PricePlan
from billing.models.plans import FailedJobs
from billing.refusals import AssignmentTaken, PlanNotReady
from saas_litellm.base import audit, clock
from saas_litellm.base.money import NANO
from saas_litellm.base.refusals import Invalid, NotFound
from saas_litellm.base.standing import Memory
from teams.models import Alias, Organization, Team

# The three names of the API: one credit a job, markup on cost, credits by tokens.
PRESETS = ("job_based", "consumption_usd", "consumption_tokens")
_TYPING_TIME = timedelta(minutes=5)
_NANOCREDITS_PER_1K_TOKENS = NANO // 10  # 10,000 tokens a credit


def draft(*, plan: PricePlan, number: int | None = None, **settings: Any) -> PlanVersion:
    """A new version without rules, next in number; ``settings`` are PlanVersion's own columns."""
    return PlanVersion.objects.create(plan=plan, number=number or next_number(plan), **settings)


def next_number(plan: PricePlan) -> int:
    newest = plan.versions.order_by("-number").first()
    return (newest.number if newest else 0) + 1


def activate(
    *, version: PlanVersion, actor: str, effective_from: datetime | None = None
) -> PlanVersion:
    """Fix a draft for good, in effect from a moment (now when None).

    Raises PlanNotReady when it is active already, when some job would have no price, when a rule
    could never apply or names no alias, or when another version takes effect at that moment; and
    Invalid for a moment in the past.
    """
    starts = _from_now_on(effective_from)
    try:
        with transaction.atomic():
            # Fixing first takes the row's lock: no rule can be added behind the check's back.
            activated = PlanVersion.objects.filter(pk=version.pk, activated_at=None).update(
                activated_at=clock.now(),
                fixed_at=version.fixed_at or clock.now(),
                effective_from=starts,
            )
            if activated != 1:
                raise PlanNotReady("This plan version is active already.")
            version.refresh_from_db()
            check(version)
            audit.record(
                actor=actor,
                action="plan.activate",
                target=f"plan:{version}",
                after={"effective_from": starts.isoformat()},
            )
    except IntegrityError as error:
        raise PlanNotReady("Another version of this plan takes effect at that moment.") from error
    return version


def fix(version: PlanVersion) -> pricing.Plan:
    """Make a draft immutable without putting it in effect; raises PlanNotReady as activate does."""
    with transaction.atomic():
        PlanVersion.objects.filter(pk=version.pk, fixed_at=None).update(fixed_at=clock.now())
        version.refresh_from_db()
        check(version)
    return load(version.pk)


def check(version: PlanVersion) -> None:
    """Raise PlanNotReady unless every call has exactly one price and every rule can apply."""
    check_rules(read(version))


def check_rules(plan: pricing.Plan) -> None:
    """What ``check`` asks of a version, of rules that may not be saved yet."""
    if not plan.covers(job_type="", alias=""):
        raise PlanNotReady(
            "Some jobs would have no price: add a job rule or a call rule that matches any."
        )
    priced_whole = {rule.job_type for rule in plan.job_rules if rule.kind != "minimum"}
    priced_by_call = {rule.job_type for rule in plan.job_rules if rule.kind == "minimum"}
    for rule in plan.call_rules:
        is_reached = (
            rule.job_type not in priced_whole
            and ("" not in priced_whole or rule.job_type in priced_by_call)
            if rule.job_type
            else "" not in priced_whole or bool(priced_by_call)
        )
        if not is_reached:
            raise PlanNotReady(
                f"Two rules match the same calls: the call rule for {rule.job_type or 'any job'},"
                f" {rule.alias or 'any alias'} never applies, because a job rule prices those jobs"
                " as a whole. Remove one of them."
            )
    named = {rule.alias for rule in plan.call_rules if rule.alias}
    unknown = named - set(Alias.objects.filter(name__in=named).values_list("name", flat=True))
    if unknown:
        raise PlanNotReady(f"There is no alias {', '.join(sorted(unknown))}.")


def assign(
    *,
    plan: PricePlan,
    actor: str,
    team: Team | None = None,
    organization: Organization | None = None,
    effective_from: datetime | None = None,
) -> PlanAssignment:
    """Put one team, or every team of one organization, on a plan from a moment (now when None).

    Jobs already created keep the plan version they were created under. Raises PlanNotReady when
    the plan has no version in effect by then, Invalid for a moment in the past, and
    AssignmentTaken when that owner has another plan from the same moment.
    """
    starts = _from_now_on(effective_from)
    in_effect = plan.versions.filter(activated_at__isnull=False, effective_from__lte=starts)
    if not in_effect.exists():
        raise PlanNotReady(f"The plan {plan.slug} has no version in effect by then: activate one.")
    try:
        with transaction.atomic():
            assignment = PlanAssignment.objects.create(
                plan=plan, team=team, organization=organization, effective_from=starts
            )
            audit.record(
                actor=actor,
                action="plan.assign",
                target=f"team:{team.slug}" if team else f"organization:{organization}",
                after={"plan": plan.slug, "effective_from": starts.isoformat()},
            )
    except IntegrityError as error:
        raise AssignmentTaken from error
    return assignment


def find(slug: str) -> PricePlan:
    """The plan of that name; the three presets are made on first use. Raises NotFound."""
    return ensure_preset(slug).plan if slug in PRESETS else look_up(slug)


def look_up(slug: str) -> PricePlan:
    """The plan of that name, for whoever only looks: makes no preset. Raises NotFound."""
    plan = PricePlan.objects.filter(slug=slug).first()
    if plan is None:
        raise NotFound(f"There is no plan {slug}.")
    return plan


def assignment_of(team: Team, *, at: datetime) -> PlanAssignment | None:
    """The assignment in force then: the team's own wins over its organization's."""
    assignments = PlanAssignment.objects.filter(effective_from__lte=at).order_by("-effective_from")
    return (
        assignments.filter(team=team).first()
        or assignments.filter(organization=team.organization_id).first()
    )


def version_for(team: Team, *, at: datetime | None = None) -> PlanVersion:
    """The plan version that a job of this team, created then (now when None), is priced by.

    Without an assignment it is the default plan, made on first use.
    """
    return standing_version(team, at=at) or ensure_preset("job_based")


def standing_version(team: Team, *, at: datetime | None = None) -> PlanVersion | None:
    """``version_for``, for whoever only looks: None where the default plan was never used yet."""
    now = at or clock.now()
    assigned = assignment_of(team, at=now)
    versions = PlanVersion.objects.filter(
        activated_at__isnull=False, effective_from__lte=now
    ).order_by("-effective_from", "-number")
    if assigned is not None:
        version = versions.filter(plan=assigned.plan_id).first()
        if version is not None:
            return version
    return versions.filter(plan__is_default=True).first()


def recalled_version_id(memory: Memory, team: Team) -> int:
    """The id of ``version_for``'s version, until something planned puts another in its place."""
    return memory.recall(
        ("plan", team.pk),
        lambda: version_for(team).pk,
        until=lambda _, asked_at: _next_change(team, after=asked_at),
    )


def _next_change(team: Team, *, after: datetime) -> datetime | None:
    """When the next version of any plan, or the team's next assignment, takes effect."""
    assigned = Q(team=team) | Q(organization=team.organization_id)
    planned = [
        PlanVersion.objects.filter(activated_at__isnull=False, effective_from__gt=after),
        PlanAssignment.objects.filter(assigned, effective_from__gt=after),
    ]
    moments = [rows.aggregate(first=Min("effective_from"))["first"] for rows in planned]
    return min((moment for moment in moments if moment is not None), default=None)


def in_effect(plan: PricePlan, *, at: datetime | None = None) -> PlanVersion | None:
    """The version that this plan prices new jobs by then (now when None), if it has any."""
    active = plan.versions.filter(activated_at__isnull=False, effective_from__lte=at or clock.now())
    return active.select_related("plan").order_by("-effective_from", "-number").first()


@lru_cache(maxsize=1024)
def load(version_id: int) -> pricing.Plan:
    """A fixed version's rules, kept in memory: they can never change."""
    return read(PlanVersion.objects.get(pk=version_id, fixed_at__isnull=False))


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


def read(version: PlanVersion) -> pricing.Plan:
    """A version's rules as they stand, a draft's too. Raises PlanNotReady for tiers that are none."""
    return compose(
        version,
        job_rules=version.job_rules.order_by("id"),
        call_rules=version.call_rules.order_by("id"),
    )


def compose(
    version: PlanVersion, *, job_rules: Iterable[JobRule], call_rules: Iterable[CallRule]
) -> pricing.Plan:
    """The plan that these rows make, saved or not; unsaved rules need a ``pk`` each all the same."""
    return pricing.Plan(
        version_id=version.pk or 0,
        nanocredits_per_usd=version.nanocredits_per_usd,
        partial_share_basis_points=version.partial_share_basis_points,
        none_share_basis_points=version.none_share_basis_points,
        monthly_minimum_nanocredits=version.monthly_minimum_nanocredits,
        margin_floor_basis_points=version.margin_floor_basis_points,
        job_rules=tuple(_job_price(rule) for rule in job_rules),
        call_rules=tuple(_call_price(rule) for rule in call_rules),
    )


def _job_price(rule: JobRule) -> pricing.JobPrice:
    return pricing.JobPrice(
        **_shared(rule),
        kind=cast(Any, rule.kind),
        price_nanocredits=rule.price_nanocredits,
        package_tokens=rule.package_tokens,
        max_provider_cost_nano_usd=rule.max_provider_cost_nano_usd,
    )


def _call_price(rule: CallRule) -> pricing.CallPrice:
    return pricing.CallPrice(
        **_shared(rule),
        alias=rule.alias,
        kind=cast(Any, rule.kind),
        markup_basis_points=rule.markup_basis_points,
        input_nanocredits_per_1k=rule.input_nanocredits_per_1k,
        cached_nanocredits_per_1k=rule.cached_nanocredits_per_1k,
        output_nanocredits_per_1k=rule.output_nanocredits_per_1k,
        unit_nanocredits=rule.unit_nanocredits,
        metric=rule.metric,
        tiers=_tiers(rule) if rule.kind == CallRule.Kind.TIERED else None,
        minimum_nanocredits=rule.minimum_nanocredits,
        cache_hit_basis_points=rule.cache_hit_basis_points,
        is_clamping=rule.is_clamping,
    )


def _shared(rule: JobRule | CallRule) -> dict[str, Any]:
    return {
        "rule_id": rule.pk,
        "job_type": rule.job_type,
        "step_nanocredits": rule.step_nanocredits,
        "is_free_if_failed": rule.effective_failed_jobs == FailedJobs.FREE,
        "margin_floor_basis_points": rule.margin_floor_basis_points,
        "is_floor_hard": rule.is_floor_hard,
    }


def _tiers(rule: CallRule) -> tiers.Tiers:
    try:
        return tiers.Tiers(
            mode="volume" if rule.mode == CallRule.Mode.VOLUME else "graduated",
            tiers=tiers.parse(rule.tiers),
            unit=tiers.UNITS[rule.metric],
            included=rule.included_quantity,
            step=rule.step_nanocredits,
        )
    except tiers.BadTiers as error:
        raise PlanNotReady(f"The tiers of the rule {rule}: {error}") from error


def _from_now_on(moment: datetime | None) -> datetime:
    """The moment, or now for one just past: a form takes a while to be filled in."""
    now = clock.now()
    if moment is None or now - _TYPING_TIME <= moment < now:
        return now
    if moment < now:
        raise Invalid(
            "effective_from lies in the past: what was priced stays priced.",
            param="effective_from",
        )
    return moment
