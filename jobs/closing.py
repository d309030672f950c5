"""The end of a job: complete, fail, cancel or expire it, and settle its own price.

A completed job pays what its plan asks of the whole: a flat price, up to a minimum, or a share by
its outcome. A failed or cancelled one pays what its rules say of failure. An operator who fails or
cancels a job waives it: everything charged is given back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction

from billing import ledger, plans
from billing.models import Hold
from billing.pricing import Plan
from jobs import lifecycle, refunds, telling
from jobs.docket import Docket, caps_beyond
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
        docket = Docket.open([job.pk])
        locked = docket.jobs[job.pk]
        locked.team = job.team
        if locked.status == status:
            return locked
        if not locked.is_open:
            raise JobClosed(f"This job is {locked.status} already.")
        said: dict[str, Any] = {
            "error_message": error_message,
            "outcome": outcome,
            "is_waived": is_waived and status != Status.COMPLETED,
        }
        if metadata:
            said["metadata"] = lifecycle.merged_metadata(locked, metadata)
        ending = Ending(
            job=locked,
            status=status,
            actor=actor,
            said=said,
            is_delivered=locked.calls.filter(is_output_delivered=True).exists(),
        )
        held = own_hold(locked)
        book = ledger.Book.open(
            account_ids=[locked.account_id],
            period_ids=held.budget_period_ids if held is not None else (),
            pool_ids=[held.pk] if held is not None else (),
        )
        excess = end(ending, docket, book, held)
        if excess is None:
            raise CallsInFlight(retry_after_seconds=1)
        book.write()
        docket.write()
        give_back_and_tell(ending, excess)
        locked.refresh_from_db()
        locked.team = job.team
        if locked.is_waived:
            audit.record(
                actor=actor,
                action="job.waive",
                target=f"job:{job.pk}",
                reason=error_message,
                after={
                    "status": status,
                    "credits_refunded": str(from_nano(locked.refunded_nanocredits)),
                },
            )
    return locked


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a job is to end. ``job`` is locked; ``said``: its columns that say more than the status."""

    job: Job
    status: str
    actor: str
    is_delivered: bool
    said: Mapping[str, Any] = field(default_factory=dict)


def own_hold(job: Job) -> Hold | None:
    """What the locked job has set aside for itself: calls have drawn on it."""
    return Hold.objects.filter(pk=job.hold_id).first() if job.hold_id else None


def end(ending: Ending, docket: Docket, book: ledger.Book, held: Hold | None) -> int | None:
    """Close the job and settle its own price; None, and nothing done, while calls run.

    Returns how much of what its calls were charged its outcome gives back, in nanocredits. The book
    has its account, the periods of its hold, and the hold as a pool.
    """
    job, now = ending.job, clock.now()
    times = {"closed_at": now, "last_activity_at": now}
    if not docket.end(
        job,
        status=ending.status,
        changes={**ending.said, **times},
        reason=str(ending.said.get("error_message", "")),
        actor=ending.actor,
    ):
        return None
    plan = plans.load(job.plan_version_id)
    charged_by_calls = job.charged_nanocredits
    due = plan.closed_price(
        job_type=job.job_type,
        charged_by_calls=charged_by_calls,
        ending=job.ending(is_delivered=ending.is_delivered),
        outcome=job.outcome,
    )
    if flat := plan.flat_rule(job.job_type):
        job.held_nanocredits -= flat.held_nanocredits
    docket.account_for_base(job, _charge(ending, plan, due - charged_by_calls, book, held))
    return max(0, charged_by_calls - due) if job.status == Status.COMPLETED else 0


def give_back_and_tell(ending: Ending, excess_nanocredits: int) -> None:
    """What the end gives back and tells, once all before it is written."""
    if _give_back(ending, excess_nanocredits):
        ending.job.refresh_from_db()
    telling.closed(ending.job)


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


def ending_of_single(job: Job, *, is_delivered: bool, actor: str) -> Ending:
    """A job that was made for one call: completed if it delivered anything, else failed."""
    return Ending(
        job=job,
        status=Status.COMPLETED if is_delivered else Status.FAILED,
        actor=actor,
        is_delivered=is_delivered,
        said={} if is_delivered else {"error_message": "its call delivered nothing"},
    )


def close_single(job: Job, *, actor: str) -> Job:
    """End a job that was made for one call. Raises CallsInFlight while the call runs."""
    is_delivered = job.calls.filter(is_output_delivered=True).exists()
    ending = ending_of_single(job, is_delivered=is_delivered, actor=actor)
    return close(job=job, status=ending.status, actor=actor, **ending.said)


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


def _charge(
    ending: Ending, plan: Plan, price: int, book: ledger.Book, held: Hold | None
) -> ledger.Charge:
    """Close the job's hold: a charge where the job itself costs something, else a release."""
    job = ending.job
    if price <= 0:
        if held is not None:
            book.release(held)
        return book.nothing(job.account_id)
    reserved = book.amount_of(held) if held is not None else 0
    return book.settle(
        account_id=job.account_id,
        held=held,
        bill=ledger.Bill(
            price_nanocredits=price,
            nanocredits_per_usd=plan.nanocredits_per_usd,
            plan_version_id=plan.version_id,
            reference=f"job:{job.pk}",
            reason=f"{job.job_type} {job.status}",
            actor=ending.actor,
            labels={"team": job.team.slug, "job_type": job.job_type},
            caps={name: max(0, room - reserved) for name, room in caps_beyond(job).items()},
        ),
    )


def _give_back(ending: Ending, excess: int) -> bool:
    """Refund what the outcome, the rules on failure, or an operator's waiver give back."""
    job, actor, key = ending.job, ending.actor, f"closing:{ending.job.pk}"
    if excess:
        refunds.spread(job=job, nanocredits=excess, reason=job.outcome, actor=actor, key=key)
        return True
    if job.status == Status.COMPLETED or not ending.is_delivered:
        return False
    plan = plans.load(job.plan_version_id)
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
    return bool(free)
