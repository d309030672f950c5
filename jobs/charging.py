"""Charging a call: its price by the job's plan version, taken from its hold, once."""

from __future__ import annotations

from billing import budgets, counters, ledger, plans
from billing.models import Hold
from billing.pricing import Measure, Plan
from jobs import admission, lifecycle, margins
from jobs.models import Call, Job
from jobs.usage import Usage
from saas_litellm.base import alarms


def charge(call: Call, *, usage: Usage | None, cost: int, is_late: bool) -> ledger.Charge:
    """Price and settle a call inside the settling transaction, read under its job's lock.

    ``usage`` is None when nothing was delivered: it costs nothing. ``cost`` is nano-USD.
    ``is_late``: the hold of an abandoned call is gone already. Sets the call's quantities.
    """
    job = call.job
    plan = plans.load(job.plan_version_id)
    price = _price(call, job, plan, usage, cost) if usage is not None else 0
    stored = Hold.objects.filter(pk=call.hold_id).first() if call.hold_id else None
    held = None if is_late else stored
    if held is None and price == 0:
        return ledger.nothing(account_id=job.account_id)
    if stored is not None:
        period_ids = list(stored.budget_period_ids)
    else:
        period_ids = budgets.current(lifecycle.spender_of(job, call.api_key_id))
    return ledger.settle(
        account_id=job.account_id,
        held=held,
        budget_period_ids=period_ids,
        bill=ledger.Bill(
            price_nanocredits=price,
            nanocredits_per_usd=plan.nanocredits_per_usd,
            plan_version_id=plan.version_id,
            reference=f"call:{call.pk}",
            reason=f"call of job {call.job_id}",
            actor=f"team:{job.team.slug}",
            labels={"team": job.team.slug, "job_type": job.job_type, "alias": call.alias.name},
            caps=lifecycle.caps_beyond(job=job),
        ),
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


def is_package(call: Call) -> bool:
    return plans.load(call.job.plan_version_id).package_rule(call.job.job_type) is not None


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


def _price(call: Call, job: Job, plan: Plan, usage: Usage, cost: int) -> int:
    """The price, and on the call where the rule's count stood and what this call added."""
    where = {"job_type": job.job_type, "alias": call.alias.name}
    if job.gives_back(plan, call.alias.name):
        return 0
    rule = plan.call_rule(**where)
    counts_jobs = rule is not None and rule.tiers is not None and rule.metric == "jobs"
    measure = measure_of(
        usage,
        cost=cost,
        is_first_of_job=not (counts_jobs and _has_counted(job)),
        is_cache_hit=call.is_cache_hit,
    )
    quantity = plan.quantity(**where, measure=measure)
    before = 0
    if quantity is not None:
        before = job.counted_tokens
        if rule is not None:
            before = counters.advance(team_id=job.team_id, rule_id=rule.rule_id, quantity=quantity)
        call.quantity_before, call.quantity = before, quantity
    return plan.call_price(**where, measure=measure, counted_before=before)


def _has_counted(job: Job) -> bool:
    return Call.objects.filter(job=job, quantity__gt=0).exists()
