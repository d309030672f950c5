"""Charging a call: its price by the job's plan version, and the bill that takes it from its hold."""

from __future__ import annotations

from uuid import UUID

from billing import counters, ledger, plans
from billing.pricing import CallPrice, Measure, Plan
from jobs import admission, margins
from jobs.docket import caps_beyond
from jobs.models import Call, Job
from jobs.usage import Usage
from saas_litellm.base import alarms


def turn(call: Call) -> tuple[int, int]:
    """Sorts calls by the count that their price moves: those rows are locked in one order."""
    rule = _counting_rule(call)
    return (call.team_id, rule.rule_id) if rule is not None else (0, 0)


def is_counted(call: Call) -> bool:
    """Whether its price moves the count of a rule's tiers."""
    return _counting_rule(call) is not None


def _counting_rule(call: Call) -> CallPrice | None:
    rule = _plan_of(call).call_rule(job_type=call.job.job_type, alias=call.alias.name)
    return rule if rule is not None and rule.tiers is not None else None


def price(call: Call, *, usage: Usage | None, cost: int, counted: set[UUID]) -> int:
    """The price in nanocredits, in the settling transaction, under the lock of the call's job.

    ``usage`` is None when nothing was delivered: that costs nothing. ``cost`` is nano-USD. Sets on
    the call where the rule's count stood and what this call added, and moves that count: the team's
    of the month, or of a package the job's. ``counted``: the jobs that this transaction has counted.
    """
    if usage is None:
        return 0
    job, plan = call.job, _plan_of(call)
    where = {"job_type": job.job_type, "alias": call.alias.name}
    if job.gives_back(plan, call.alias.name):
        return 0
    rule = plan.call_rule(**where)
    counts_jobs = rule is not None and rule.tiers is not None and rule.metric == "jobs"
    measure = measure_of(
        usage,
        cost=cost,
        is_first_of_job=not (counts_jobs and (job.pk in counted or _has_counted(job))),
        is_cache_hit=call.is_cache_hit,
    )
    quantity = plan.quantity(**where, measure=measure)
    before = 0
    if quantity is not None:
        before = job.counted_tokens
        if rule is not None:
            before = counters.advance(team_id=job.team_id, rule_id=rule.rule_id, quantity=quantity)
        if plan.package_rule(job.job_type) is not None:
            job.counted_tokens += quantity
        if quantity > 0:
            counted.add(job.pk)
        call.quantity_before, call.quantity = before, quantity
    return plan.call_price(**where, measure=measure, counted_before=before)


def bill(call: Call, price_nanocredits: int) -> ledger.Bill:
    """The call's bill, within what its job's own limits leave now."""
    job, plan = call.job, _plan_of(call)
    return ledger.Bill(
        price_nanocredits=price_nanocredits,
        nanocredits_per_usd=plan.nanocredits_per_usd,
        plan_version_id=plan.version_id,
        reference=f"call:{call.pk}",
        reason=f"call of job {call.job_id}",
        actor=f"team:{job.team.slug}",
        labels={"team": job.team.slug, "job_type": job.job_type, "alias": call.alias.name},
        caps=caps_beyond(job),
    )


def measure_of(
    usage: Usage, *, cost: int, is_first_of_job: bool = True, is_cache_hit: bool = False
) -> Measure:
    """What prices see of a call. ``cost`` of a cache hit is what its answer once cost."""
    return Measure(
        provider_cost_nano_usd=cost,
        input_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.completion_tokens,
        milliunits=usage.milliunits,
        is_first_of_job=is_first_of_job,
        is_cache_hit=is_cache_hit,
    )


def flag_thin_margin(call: Call) -> None:
    """Sound an alarm when the job's cost so far has pushed past its rule's margin floor."""
    job = call.job
    plan = plans.load(job.plan_version_id)
    rule = plan.rule_for(job_type=job.job_type, alias=call.alias.name)
    if rule is None or rule.margin_floor_basis_points is None:
        return
    row = Job.objects.get(pk=job.pk)
    value = admission.job_value_nano_usd(
        plan, job_type=job.job_type, nanocredits=row.charged_nanocredits
    )
    if admission.is_below_floor(
        cost=row.provider_cost_nano_usd, value=value, floor=rule.margin_floor_basis_points
    ):
        if margins.is_heard():
            margins.tell(
                kind="floor",
                team=job.team.slug,
                plan=job.plan_version.plan.slug,
                revenue=value,
                cost=row.provider_cost_nano_usd,
                key=f"job:{job.pk}",
                job_id=job.pk,
            )
        alarms.sound(
            kind="margin.floor",
            subject=f"team {job.team.slug}, {job.job_type}",
            detail=f"job {job.pk}: cost {row.provider_cost_nano_usd} of {value} nano-USD",
        )


def _has_counted(job: Job) -> bool:
    return Call.objects.filter(job=job, quantity__gt=0).exists()


def _plan_of(call: Call) -> Plan:
    return plans.load(call.job.plan_version_id)
