"""The end of a job: complete, fail, cancel or expire it, and settle its own price.

A completed job pays what its plan asks of the whole: a flat price, up to a minimum, or a share by
its outcome. A failed or cancelled one pays what its rules say of failure. An operator who fails or
cancels a job waives it: everything charged is given back.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction

from billing import ledger, plans
from billing.models import Hold
from billing.pricing import Plan
from jobs import lifecycle, refunds, telling
from jobs.models import Job
from jobs.refusals import CallsInFlight, JobClosed
from saas_litellm.base import audit, clock
from saas_litellm.base.money import from_nano

Status = Job.Status


def close(
    *,
    job: Job,
    status: str,
    actor: str,
    metadata: Mapping[str, Any] | None = None,
    error_message: str = "",
    outcome: str = "",
    is_waived: bool = False,
) -> Job:
    """Complete, fail or cancel a job; the same status again changes nothing.

    ``is_waived``: an operator's decision that nothing is charged, for a failed or cancelled job.
    Raises JobClosed (closed otherwise) and, unless cancelling, CallsInFlight.
    """
    with transaction.atomic():
        changes: dict[str, Any] = {
            "error_message": error_message,
            "outcome": outcome,
            "is_waived": is_waived and status != Status.COMPLETED,
            "closed_at": clock.now(),
            "last_activity_at": clock.now(),
        }
        if metadata:
            changes["metadata"] = lifecycle.merged_metadata(job, metadata)
        is_closed = lifecycle.close_row(
            job=job, status=status, changes=changes, reason=error_message, actor=actor
        )
        if not is_closed:
            job.refresh_from_db()
            if job.status == status:
                return job
            if job.is_open:
                raise CallsInFlight(retry_after_seconds=1)
            raise JobClosed(f"This job is {job.status} already.")
        job.refresh_from_db()
        plan = plans.load(job.plan_version_id)
        due = _due(job, plan)
        _settle_own_price(job, plan, due - job.charged_nanocredits, actor)
        _give_back(job, plan, due, actor)
        job.refresh_from_db()
        telling.closed(job)
        if job.is_waived:
            audit.record(
                actor=actor,
                action="job.waive",
                target=f"job:{job.pk}",
                reason=error_message,
                after={
                    "status": status,
                    "credits_refunded": str(from_nano(job.refunded_nanocredits)),
                },
            )
    return job


def cancel(*, job: Job, reason: str, actor: str) -> Job:
    """An operator ends a running job; what its calls were charged stands, as its plan says.

    Its running calls stop by themselves and settle what they delivered. A second time changes
    nothing. Raises JobClosed for one that ended otherwise.
    """
    with transaction.atomic():
        lifecycle.lock(job.pk)
        job.refresh_from_db()
        was = job.status
        closed = close(job=job, status=Status.CANCELLED, actor=actor, error_message=reason)
        if was != Status.CANCELLED:
            audit.record(
                actor=actor,
                action="job.cancel",
                target=f"job:{job.pk}",
                reason=reason,
                before={"status": was},
                after={"status": closed.status},
            )
    return closed


def close_single(job: Job, *, actor: str) -> Job:
    """End a job that was made for one call: completed if it delivered anything, else failed.

    Raises CallsInFlight while the call runs.
    """
    is_delivered = job.calls.filter(is_output_delivered=True).exists()
    return close(
        job=job,
        status=Status.COMPLETED if is_delivered else Status.FAILED,
        actor=actor,
        error_message="" if is_delivered else "its call delivered nothing",
    )


def close_left_singles() -> int:
    """End single jobs whose process died between settling the call and closing the job."""
    quiet_since = clock.now() - timedelta(seconds=settings.HOLD_GRACE_SECONDS)
    left = Job.objects.filter(
        status__in=Job.OPEN, is_single=True, in_flight=0, last_activity_at__lt=quiet_since
    ).select_related("hold", "team")
    closed = 0
    for job in left[:500]:
        try:
            close_single(job, actor="worker")
        except (JobClosed, CallsInFlight):
            continue
        closed += 1
    return closed


def expire_idle() -> int:
    """Fail every open job that was idle past its limit and has nothing in flight."""
    idle_since = clock.now() - timedelta(hours=settings.JOB_IDLE_HOURS)
    idle = Job.objects.filter(
        status__in=Job.OPEN, in_flight=0, last_activity_at__lt=idle_since
    ).select_related("hold", "team")
    expired = 0
    for job in idle[:500]:
        try:
            close(job=job, status=Status.FAILED, actor="worker", error_message="expired")
        except (JobClosed, CallsInFlight):
            continue
        expired += 1
    return expired


def _due(job: Job, plan: Plan) -> int:
    """What the job costs in all, in nanocredits, as it closes; its calls were charged already."""
    is_delivered = job.calls.filter(is_output_delivered=True).exists()
    return plan.closed_price(
        job_type=job.job_type,
        charged_by_calls=job.charged_nanocredits,
        ending=job.ending(is_delivered=is_delivered),
        outcome=job.outcome,
    )


def _settle_own_price(job: Job, plan: Plan, price: int, actor: str) -> None:
    """Close the job's hold: a charge where the job itself costs something, else a release."""
    # Read under the job's lock: calls have drawn on it.
    held = Hold.objects.filter(pk=job.hold_id).first() if job.hold_id else None
    flat = plan.flat_rule(job.job_type)
    freed = flat.held_nanocredits if flat else 0
    if price <= 0:
        if held is not None:
            ledger.release(held)
        charge = ledger.nothing(account_id=job.account_id)
    else:
        job.held_nanocredits -= freed
        caps = lifecycle.caps_beyond(job=job)
        reserved = held.amount_nanocredits if held else 0
        charge = ledger.settle(
            account_id=job.account_id,
            held=held,
            bill=ledger.Bill(
                price_nanocredits=price,
                nanocredits_per_usd=plan.nanocredits_per_usd,
                plan_version_id=plan.version_id,
                reference=f"job:{job.pk}",
                reason=f"{job.job_type} {job.status}",
                actor=actor,
                labels={"team": job.team.slug, "job_type": job.job_type},
                caps={name: max(0, room - reserved) for name, room in caps.items()},
            ),
        )
    lifecycle.account_for_base(job=job, charge=charge, freed_nanocredits=freed)


def _give_back(job: Job, plan: Plan, due: int, actor: str) -> None:
    """Refund what the outcome, the rules on failure, or an operator's waiver give back."""
    key = f"closing:{job.pk}"
    if job.status == Status.COMPLETED:
        excess = job.charged_nanocredits - due
        if excess > 0:
            refunds.spread(job=job, nanocredits=excess, reason=job.outcome, actor=actor, key=key)
        return
    free = [
        call
        for call in job.calls.filter(charged_nanocredits__gt=0).select_related("alias")
        if job.gives_back(plan, call.alias.name)
    ]
    for call in free:
        refunds.give_back_call(
            call=call,
            nanocredits=call.charged_nanocredits - call.refunded_nanocredits,
            reason=f"job {job.status}",
            actor=actor,
            key=f"{key}:{call.pk}",
        )
