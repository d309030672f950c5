"""The life of a job: the only module that writes job rows.

TRANSITIONS is the whole lifecycle. Every step is a compare-and-set on the status, in one
transaction with its history row and with the money that moves because of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from django.db import transaction
from django.db.models import F

from billing import ledger, plans
from billing.budgets import Spender
from billing.pricing import JobPrice
from jobs import telling
from jobs.models import Call, Job, Quote, StatusChange
from jobs.refusals import JobCapExceeded, JobClosed, QuoteUsed
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
    is_reserving: bool = False,
    quote: Quote | None = None,
    is_single: bool = False,
    actor: str = "",
) -> Job:
    """Open a job under the team's plan of now, or under its quote's.

    A flat price or a minimum is held at once; a reserving job holds its whole cap, from which its
    calls are held and into which they return what they do not use. A single job was made for one
    call and ends with it. Raises TeamPaused and its
    like, Invalid (reserving without a cap), QuoteUsed, BudgetExceeded, InsufficientCredits, and
    JobCapExceeded when the job's own price is above the cap.
    """
    keys.require_running(team)
    if is_reserving and not max_nanocredits:
        raise Invalid("reserve needs max_credits above 0.", param="reserve")
    version_id = quote.plan_version_id if quote else plans.version_for(team).pk
    plan = plans.load(version_id)
    rule = plan.job_rule(job_type)
    price = rule.held_nanocredits if rule else 0
    if max_nanocredits is not None and price > max_nanocredits:
        raise JobCapExceeded(needed=price, available=max_nanocredits)
    flat = plan.flat_rule(job_type)
    now = clock.now()
    with transaction.atomic():
        account = ledger.account_of(team)
        job = Job(
            team=team,
            api_key=api_key,
            plan_version_id=version_id,
            account_id=account.pk,
            job_type=job_type,
            user_id=user_id,
            external_task_id=external_task_id,
            metadata=dict(metadata or {}),
            max_nanocredits=max_nanocredits,
            is_single=is_single,
            quote_nanocredits=quote.p95_nanocredits if quote else None,
            held_nanocredits=price if flat else 0,
            max_provider_cost_nano_usd=_cost_bound(flat, quote),
            created_at=now,
            last_activity_at=now,
        )
        job.hold = ledger.hold(
            account_id=account.pk,
            amount_nanocredits=(max_nanocredits or 0) if is_reserving else price,
            reference=f"job:{job.pk}",
            expires_at=None,
            spender=spender_of(job),
        )
        job.save(force_insert=True)
        if quote is not None:
            _use_quote(quote, job)
        by = actor or f"team:{team.slug}"
        _record(job.pk, from_status="", to_status=Status.PENDING, actor=by)
        telling.created(job)
    return job


def spender_of(job: Job, api_key_id: int | None = None) -> Spender:
    """Whose budgets the job's credits count in."""
    return Spender(
        team_id=job.team_id,
        organization_id=job.team.organization_id,
        api_key_id=api_key_id or job.api_key_id,
    )


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
    if job.status == Status.PENDING and _start(job):
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


def caps_beyond(*, job: Job) -> dict[str, int]:
    """What the job's own limits leave beyond everything held and charged, by their names.

    The caller holds the job row's lock and read the row under it, so the answer stays true.
    """
    spoken_for = job.charged_nanocredits + job.held_nanocredits
    limits = {"job_cap": job.max_nanocredits, "quote": job.quote_nanocredits}
    return {name: max(0, limit - spoken_for) for name, limit in limits.items() if limit is not None}


def lock(job_id: UUID) -> None:
    """Take the row's lock on both databases, by an UPDATE that changes nothing."""
    Job.objects.filter(pk=job_id).update(in_flight=F("in_flight"))


def account_for(
    *,
    call: Call,
    freed: Reservation | None,
    booked_nano_usd: int = 0,
    is_package: bool = False,
) -> None:
    """Move the finished call into its job's totals, inside the settling transaction.

    ``freed`` is None when an abandoned call settles late: its reservation was given back and the
    call counted then. ``booked_nano_usd`` is the part of its cost that the job has in its total
    already: of earlier attempts, or an estimate.
    ``is_package``: the job's package rule counts the call's quantity.
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
        counted_tokens=F("counted_tokens") + (call.quantity or 0) * int(is_package),
        total_latency_ms=F("total_latency_ms") + call.latency_ms,
        charged_nanocredits=F("charged_nanocredits") + call.charged_nanocredits,
        overrun_nanocredits=F("overrun_nanocredits") + call.overrun_nanocredits,
        price_nano_usd=F("price_nano_usd") + call.price_nano_usd,
        provider_cost_nano_usd=F("provider_cost_nano_usd")
        + call.provider_cost_nano_usd
        - booked_nano_usd,
        last_activity_at=clock.now(),
    )


def account_for_attempt(*, job_id: UUID, cost_nano_usd: int) -> None:
    """Move the cost of a failed attempt into the job's totals, inside its transaction."""
    Job.objects.filter(pk=job_id).update(
        provider_cost_nano_usd=F("provider_cost_nano_usd") + cost_nano_usd
    )


def close_row(
    *, job: Job, status: str, changes: Mapping[str, Any], reason: str, actor: str
) -> bool:
    """Compare-and-set to a closed status, in the caller's transaction; False if nothing changed.

    Only a cancellation may leave calls running.
    """
    for from_status in Job.OPEN:
        if status not in TRANSITIONS[from_status]:
            continue
        candidates = Job.objects.filter(pk=job.pk, status=from_status)
        if status != Status.CANCELLED:
            candidates = candidates.filter(in_flight=0)
        if candidates.update(status=status, **changes):
            _record(job.pk, from_status=from_status, to_status=status, reason=reason, actor=actor)
            return True
    return False


def account_for_base(*, job: Job, charge: ledger.Charge, freed_nanocredits: int) -> None:
    """Move the job's own price into its totals, inside the closing transaction."""
    Job.objects.filter(pk=job.pk).update(
        held_nanocredits=F("held_nanocredits") - freed_nanocredits,
        charged_nanocredits=F("charged_nanocredits") + charge.charged_nanocredits,
        overrun_nanocredits=F("overrun_nanocredits") + charge.overrun_nanocredits,
        price_nano_usd=F("price_nano_usd") + charge.price_nano_usd,
        base_charged_nanocredits=charge.charged_nanocredits,
        base_overrun_nanocredits=charge.overrun_nanocredits,
        base_price_nano_usd=charge.price_nano_usd,
    )


def account_for_refund(*, job_id: UUID, nanocredits: int, nano_usd: int, is_base: bool) -> None:
    """Move a refund into the job's totals, inside the refunding transaction."""
    base = int(is_base)
    Job.objects.filter(pk=job_id).update(
        refunded_nanocredits=F("refunded_nanocredits") + nanocredits,
        refunded_nano_usd=F("refunded_nano_usd") + nano_usd,
        base_refunded_nanocredits=F("base_refunded_nanocredits") + base * nanocredits,
        base_refunded_nano_usd=F("base_refunded_nano_usd") + base * nano_usd,
    )


def merge_metadata(*, job: Job, metadata: Mapping[str, Any]) -> Job:
    """Shallow-merge into an open or closed job's metadata; raises Invalid beyond 16 KiB."""
    with transaction.atomic():
        lock(job.pk)
        job.refresh_from_db()
        merged = merged_metadata(job, metadata)
        Job.objects.filter(pk=job.pk).update(metadata=merged, last_activity_at=clock.now())
        job.refresh_from_db()
    return job


def closed_among(job_ids: set[UUID]) -> set[UUID]:
    """Which of these jobs are closed."""
    return set(
        Job.objects.filter(pk__in=job_ids).exclude(status__in=Job.OPEN).values_list("pk", flat=True)
    )


def check_metadata(metadata: Mapping[str, Any], *, param: str = "metadata") -> None:
    """Raise Invalid for metadata larger than 16 KiB as JSON."""
    if len(orjson.dumps(metadata)) > METADATA_BYTES:
        raise Invalid(f"{param} is larger than 16 KiB in all.", param=param)


def merged_metadata(job: Job, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The job's metadata with these keys over it; raises Invalid beyond 16 KiB."""
    merged = {**job.metadata, **metadata}
    check_metadata(merged)
    return merged


def _use_quote(quote: Quote, job: Job) -> None:
    used = Quote.objects.filter(pk=quote.pk, job=None, valid_until__gt=clock.now()).update(job=job)
    if used != 1:
        raise QuoteUsed


def _cost_bound(flat: JobPrice | None, quote: Quote | None) -> int | None:
    """What the calls of a job whose price does not follow them may cost, in nano-USD."""
    if flat is not None:
        return flat.max_provider_cost_nano_usd
    return quote.worst_cost_nano_usd if quote is not None else None


def _start(job: Job) -> bool:
    moved = Job.objects.filter(pk=job.pk, status=Status.PENDING).update(status=Status.IN_PROGRESS)
    if not moved:
        return False
    _record(
        job.pk,
        from_status=Status.PENDING,
        to_status=Status.IN_PROGRESS,
        actor=f"team:{job.team.slug}",
    )
    telling.started(job)
    return True


def _record(
    job_id: UUID, *, from_status: str, to_status: str, actor: str, reason: str = ""
) -> None:
    StatusChange.objects.create(
        job_id=job_id,
        from_status=from_status,
        to_status=to_status,
        at=clock.now(),
        reason=reason[:500],
        actor=actor[:200],
    )
