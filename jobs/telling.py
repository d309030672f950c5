"""What jobs and calls tell the outbox, in the transaction that changes them.

Nothing is read for it unless somebody listens.
"""

from __future__ import annotations

from typing import Any

from jobs.models import Call, Job
from saas_litellm.base import events, outbox
from saas_litellm.base.events import ClosedJobTold, JobTold
from saas_litellm.base.money import from_nano

_CLOSED: dict[str, type[ClosedJobTold]] = {
    Job.Status.COMPLETED: events.JobCompleted,
    Job.Status.FAILED: events.JobFailed,
    Job.Status.CANCELLED: events.JobCancelled,
}


def created(job: Job) -> None:
    _tell(events.JobCreated, job, status=Job.Status.PENDING)


def started(job: Job) -> None:
    _tell(events.JobStarted, job, status=Job.Status.IN_PROGRESS)


def closed(job: Job) -> None:
    """Of a job read after all that its end moved."""
    shape = _CLOSED[job.status]
    if job.closed_at is None or not _is_heard(shape, job):
        return
    _tell(
        shape,
        job,
        status=job.status,
        closed_at=job.closed_at,
        outcome=job.outcome,
        error_message=job.error_message,
        successful_calls=job.successful_calls,
        failed_calls=job.failed_calls,
        total_tokens=job.total_tokens,
        credits_charged=from_nano(job.charged_nanocredits),
        credits_refunded=from_nano(job.refunded_nanocredits),
        total_cost_usd=from_nano(job.price_nano_usd - job.refunded_nano_usd),
    )


def call_failed(call: Call) -> None:
    """Of a call that ended with an error; any other tells nothing."""
    if not call.error_code or not _is_heard(events.CallFailed, call):
        return
    job, team, at = call.job, call.team, call.finished_at
    assert at is not None, "it has ended"
    outbox.emit(
        events.CallFailed,
        team_id=team.pk,
        organization_id=team.organization_id,
        object_id=str(call.pk),
        told=lambda: events.CallFailed(
            call_id=call.pk,
            job_id=job.pk,
            team_id=team.slug,
            job_type=job.job_type,
            model=call.alias.name,
            purpose=call.purpose,
            error_code=call.error_code,
            is_output_delivered=call.is_output_delivered,
            credits_charged=from_nano(call.charged_nanocredits),
            finished_at=at,
        ),
    )


def _is_heard(shape: type[events.Told], row: Job | Call) -> bool:
    return outbox.is_heard(shape, team_id=row.team_id, organization_id=None)


def _tell(shape: type[JobTold], job: Job, **more: Any) -> None:
    if not _is_heard(shape, job):
        return
    outbox.emit(
        shape,
        team_id=job.team_id,
        organization_id=job.team.organization_id,
        object_id=str(job.pk),
        told=lambda: shape(
            job_id=job.pk,
            team_id=job.team.slug,
            job_type=job.job_type,
            user_id=job.user_id,
            external_task_id=job.external_task_id,
            created_at=job.created_at,
            **more,
        ),
    )
