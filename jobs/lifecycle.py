"""The life of a job: the only module that writes job rows.

TRANSITIONS is the whole lifecycle. Every step is a compare-and-set on the status, in one
transaction with its history row and with the money that moves because of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings
from django.db import transaction
from django.db.models import F

from billing import ledger, plans
from billing.models import Hold
from jobs.models import Call, Job, StatusChange
from jobs.refusals import CallsInFlight, JobCapExceeded, JobClosed
from saas_litellm.base import clock
from saas_litellm.base.refusals import Invalid, NotFound
from teams import keys
from teams.models import ApiKey, Team

Status = Job.Status
TRANSITIONS: Mapping[str, frozenset[str]] = {
    Status.PENDING: frozenset(
        {Status.IN_PROGRESS, Status.COMPLETED, Status.FAILED, Status.CANCELLED}
    ),
    Status.IN_PROGRESS: frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED}),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}
METADATA_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """What a call sets aside under its job's caps: nanocredits, and nano-USD of provider cost."""

    nanocredits: int
    cost_nano_usd: int


def create(
    *,
    team: Team,
    api_key: ApiKey | None,
    job_type: str,
    user_id: str = "",
    external_task_id: str = "",
    metadata: Mapping[str, Any] | None = None,
    max_nanocredits: int | None = None,
) -> Job:
    """Open a job under the team's plan of now; a flat price is held at once.

    Raises TeamPaused and its like, InsufficientCredits, and JobCapExceeded when the flat price
    alone is above the cap.
    """
    keys.require_running(team)
    version = plans.version_for(team)
    flat = plans.load(version.pk).flat_rule(job_type)
    price = flat.price_nanocredits if flat else 0
    if max_nanocredits is not None and price > max_nanocredits:
        raise JobCapExceeded(needed=price, available=max_nanocredits)
    now = clock.now()
    with transaction.atomic():
        account = ledger.account_of(team)
        job = Job(
            team=team,
            api_key=api_key,
            plan_version=version,
            account_id=account.pk,
            job_type=job_type,
            user_id=user_id,
            external_task_id=external_task_id,
            metadata=dict(metadata or {}),
            max_nanocredits=max_nanocredits,
            held_nanocredits=price,
            max_provider_cost_nano_usd=flat.max_provider_cost_nano_usd if flat else None,
            created_at=now,
            last_activity_at=now,
        )
        job.hold = ledger.hold(
            account_id=account.pk,
            amount_nanocredits=price,
            reference=f"job:{job.pk}",
            expires_at=None,
        )
        job.save(force_insert=True)
        _record(job.pk, from_status="", to_status=Status.PENDING)
    return job


def find(*, team: Team, job_id: UUID) -> Job:
    """The team's job of that id; raises NotFound for a stranger's as for none."""
    job = (
        Job.objects.select_related("team__organization", "hold")
        .filter(pk=job_id, team=team)
        .first()
    )
    if job is None:
        raise NotFound("There is no job with this id.")
    return job


def reserve(*, job: Job, reservation: Reservation) -> None:
    """Admit one call under the job's caps, inside the caller's transaction.

    Raises JobClosed or JobCapExceeded.
    """
    now = clock.now()
    if job.status == Status.PENDING and _move(job.pk, Status.PENDING, Status.IN_PROGRESS):
        Job.objects.filter(pk=job.pk).update(started_at=now)
    within_credits = (
        Job.objects.filter(pk=job.pk, status=Status.IN_PROGRESS)
        .exclude(
            max_nanocredits__lt=F("charged_nanocredits")
            + F("held_nanocredits")
            + reservation.nanocredits
        )
        .exclude(
            max_provider_cost_nano_usd__lt=F("provider_cost_nano_usd")
            + F("held_cost_nano_usd")
            + reservation.cost_nano_usd
        )
    )
    admitted = within_credits.update(
        in_flight=F("in_flight") + 1,
        held_nanocredits=F("held_nanocredits") + reservation.nanocredits,
        held_cost_nano_usd=F("held_cost_nano_usd") + reservation.cost_nano_usd,
        last_activity_at=now,
    )
    if admitted == 1:
        return
    job = Job.objects.get(pk=job.pk)
    if not job.is_open:
        raise JobClosed
    cap = job.max_nanocredits
    left = (
        reservation.nanocredits
        if cap is None
        else cap - job.charged_nanocredits - job.held_nanocredits
    )
    raise JobCapExceeded(needed=reservation.nanocredits, available=max(0, left))


def room_beyond(*, job_id: UUID) -> int | None:
    """What the cap leaves beyond everything held and charged; None without a cap.

    The caller holds the job row's lock, so the answer stays true to the end of its transaction.
    """
    job = Job.objects.get(pk=job_id)
    if job.max_nanocredits is None:
        return None
    return max(0, job.max_nanocredits - job.charged_nanocredits - job.held_nanocredits)


def lock(job_id: UUID) -> None:
    """Take the row's lock on both databases, by an UPDATE that changes nothing."""
    Job.objects.filter(pk=job_id).update(in_flight=F("in_flight"))


def account_for(*, call: Call, freed: Reservation | None, correction_nano_usd: int = 0) -> None:
    """Move the finished call into its job's totals, inside the settling transaction.

    ``freed`` is None when an abandoned call settles late: its reservation was given back and the
    call counted then, and ``correction_nano_usd`` takes the estimated cost out again.
    """
    on_time = freed is not None
    freed = freed or Reservation(nanocredits=0, cost_nano_usd=0)
    is_success = call.status == Call.Status.SETTLED and not call.error_code
    Job.objects.filter(pk=call.job_id).update(
        in_flight=F("in_flight") - int(on_time),
        held_nanocredits=F("held_nanocredits") - freed.nanocredits,
        held_cost_nano_usd=F("held_cost_nano_usd") - freed.cost_nano_usd,
        successful_calls=F("successful_calls") + int(is_success),
        failed_calls=F("failed_calls") + int(on_time) - int(is_success),
        total_tokens=F("total_tokens") + call.total_tokens,
        total_latency_ms=F("total_latency_ms") + call.latency_ms,
        charged_nanocredits=F("charged_nanocredits") + call.charged_nanocredits,
        overrun_nanocredits=F("overrun_nanocredits") + call.overrun_nanocredits,
        price_nano_usd=F("price_nano_usd") + call.price_nano_usd,
        provider_cost_nano_usd=F("provider_cost_nano_usd")
        + call.provider_cost_nano_usd
        - correction_nano_usd,
        last_activity_at=clock.now(),
    )


def close(
    *,
    job: Job,
    status: str,
    actor: str,
    metadata: Mapping[str, Any] | None = None,
    error_message: str = "",
    outcome: str = "",
) -> Job:
    """Complete, fail or cancel a job; the same status again changes nothing.

    A completed job pays its flat price; a failed or cancelled one gets it back. Charges of its
    calls stand. Raises JobClosed (closed otherwise) and, unless cancelling, CallsInFlight.
    """
    with transaction.atomic():
        changes: dict[str, Any] = {
            "error_message": error_message,
            "outcome": outcome,
            "closed_at": clock.now(),
            "last_activity_at": clock.now(),
        }
        if metadata:
            changes["metadata"] = _merged(job, metadata)
        if not _close_row(job.pk, status=status, changes=changes, reason=error_message):
            job.refresh_from_db()
            if job.status == status:
                return job
            if job.is_open:
                raise CallsInFlight(retry_after_seconds=1)
            raise JobClosed(f"This job is {job.status} already.")
        _settle_flat_price(job, is_charged=status == Status.COMPLETED, actor=actor)
        job.refresh_from_db()
    return job


def merge_metadata(*, job: Job, metadata: Mapping[str, Any]) -> Job:
    """Shallow-merge into an open or closed job's metadata; raises Invalid beyond 16 KiB."""
    with transaction.atomic():
        lock(job.pk)
        job.refresh_from_db()
        merged = _merged(job, metadata)
        Job.objects.filter(pk=job.pk).update(metadata=merged, last_activity_at=clock.now())
        job.refresh_from_db()
    return job


def expire_idle() -> int:
    """Fail every open job that was idle past its limit and has nothing in flight."""
    idle_since = clock.now() - timedelta(hours=settings.JOB_IDLE_HOURS)
    idle = Job.objects.filter(
        status__in=Job.OPEN, in_flight=0, last_activity_at__lt=idle_since
    ).select_related("hold")
    expired = 0
    for job in idle[:500]:
        try:
            close(job=job, status=Status.FAILED, actor="worker", error_message="expired")
        except (JobClosed, CallsInFlight):
            continue
        expired += 1
    return expired


def closed_among(job_ids: set[UUID]) -> set[UUID]:
    """Which of these jobs are closed."""
    return set(
        Job.objects.filter(pk__in=job_ids).exclude(status__in=Job.OPEN).values_list("pk", flat=True)
    )


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Raise Invalid for metadata larger than 16 KiB as JSON."""
    if len(orjson.dumps(metadata)) > METADATA_BYTES:
        raise Invalid("metadata is larger than 16 KiB in all.", param="metadata")


def _merged(job: Job, metadata: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**job.metadata, **metadata}
    check_metadata(merged)
    return merged


def _close_row(job_id: UUID, *, status: str, changes: Mapping[str, Any], reason: str) -> bool:
    """Compare-and-set to a closed status; only a cancellation may leave calls running."""
    for from_status in Job.OPEN:
        if status not in TRANSITIONS[from_status]:
            continue
        candidates = Job.objects.filter(pk=job_id, status=from_status)
        if status != Status.CANCELLED:
            candidates = candidates.filter(in_flight=0)
        if candidates.update(status=status, **changes):
            _record(job_id, from_status=from_status, to_status=status, reason=reason)
            return True
    return False


def _move(job_id: UUID, from_status: str, to_status: str) -> bool:
    if not Job.objects.filter(pk=job_id, status=from_status).update(status=to_status):
        return False
    _record(job_id, from_status=from_status, to_status=to_status)
    return True


def _record(job_id: UUID, *, from_status: str, to_status: str, reason: str = "") -> None:
    StatusChange.objects.create(
        job_id=job_id,
        from_status=from_status,
        to_status=to_status,
        at=clock.now(),
        reason=reason[:500],
    )


def _settle_flat_price(job: Job, *, is_charged: bool, actor: str) -> None:
    if job.hold_id is None:
        return
    held = Hold.objects.get(pk=job.hold_id)
    if not is_charged:
        ledger.release(held)
        Job.objects.filter(pk=job.pk).update(
            held_nanocredits=F("held_nanocredits") - held.amount_nanocredits
        )
        return
    plan = plans.load(job.plan_version_id)
    charge = ledger.settle(
        account_id=held.account_id,
        held=held,
        bill=ledger.Bill(
            price_nanocredits=held.amount_nanocredits,
            nanocredits_per_usd=plan.nanocredits_per_usd,
            plan_version_id=job.plan_version_id,
            reference=f"job:{job.pk}",
            reason=f"{job.job_type} completed",
            actor=actor,
            labels={"team": job.team.slug, "job_type": job.job_type},
        ),
        room_nanocredits=0,
    )
    Job.objects.filter(pk=job.pk).update(
        held_nanocredits=F("held_nanocredits") - held.amount_nanocredits,
        charged_nanocredits=F("charged_nanocredits") + charge.charged_nanocredits,
        price_nano_usd=F("price_nano_usd") + charge.price_nano_usd,
    )
