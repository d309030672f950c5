"""One call's rows and money: open, dispatch, settle, abandon. Sync, each function a transaction.

The call's state is what makes a settlement happen exactly once: it moves by compare-and-set, and
the rows are always taken in the order job, call, hold, account.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from billing import ledger
from billing.models import Hold
from jobs import admission, charging, costs, lifecycle, rollups
from jobs.admission import Order, Placing, output_bound
from jobs.models import Attempt, Call, CostLine, Job
from jobs.refusals import JobClosed
from jobs.usage import Usage
from saas_litellm.base import alarms, clock
from saas_litellm.base.refusals import PaymentRequired
from teams import catalog, keys
from teams.models import Alias, ApiKey, Deployment
from teams.prices import UnitPrices

__all__ = ["OpenCall", "Order", "Outcome", "abandon_expired", "dispatch", "open_call", "settle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCall:
    """An admitted call: its row, and how to place it."""

    call: Call
    job: Job
    alias: Alias
    deployment: Deployment
    api_key: str | None
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a call ended, as its driver saw it."""

    usage: Usage
    latency_ms: int
    is_output_delivered: bool
    # False when the provider turned the request down and so charges nothing for it.
    is_costed: bool = True
    finish_reason: str = ""
    error_code: str = ""
    first_token_at: datetime | None = None
    provider_request_id: str = ""
    failure: str = ""
    failure_status: int | None = None
    failure_detail: str = ""


def open_call(*, job: Job, api_key: ApiKey | None, order: Order) -> OpenCall:
    """Resolve, price the worst case and set it aside: job caps first, the wallet last.

    Where the plan clamps and the caller left the output's length open, a worst case that credits
    do not cover is made shorter instead of refused. Raises JobClosed, TeamPaused,
    ModelNotAllowed, ModelUnavailable, Invalid, JobCapExceeded, BudgetExceeded,
    InsufficientCredits; nothing is left behind then.
    """
    if not job.is_open:
        raise JobClosed
    keys.require_running(job.team)
    resolved = catalog.resolve(team=job.team, name=order.model)
    field, max_tokens = output_bound(order.params, resolved.alias)
    secret = catalog.open_secret(resolved.deployments[0].deployment)
    placing = Placing(job=job, api_key=api_key, order=order, resolved=resolved)
    try:
        call = admission.admit(placing, max_tokens=max_tokens)
    except PaymentRequired as refusal:
        shorter = admission.clamped(placing, refusal, max_tokens=max_tokens)
        if shorter is None or field in order.params:
            raise
        call = admission.admit(placing, max_tokens=shorter)
    return OpenCall(
        call=call,
        job=job,
        alias=resolved.alias,
        deployment=resolved.deployments[0].deployment,
        api_key=secret,
        params={**order.params, field: call.max_output_tokens // int(order.params.get("n") or 1)},
    )


def dispatch(opened: OpenCall) -> Attempt | None:
    """Record, before the provider is asked, that it may be; None when the call was swept."""
    now = clock.now()
    with transaction.atomic():
        moved = Call.objects.filter(pk=opened.call.pk, status=Call.Status.HELD).update(
            status=Call.Status.DISPATCHED, dispatched_at=now
        )
        if moved != 1:
            return None
        return Attempt.objects.create(
            call_id=opened.call.pk, deployment=opened.deployment, number=1, started_at=now
        )


def settle(*, opened: OpenCall, attempt: Attempt | None, outcome: Outcome) -> Call:
    """Charge what was delivered, close the hold, book the cost, move the totals: once.

    Returns the call as it stands; a second settlement, or one that lost to another process,
    changes nothing. A call found abandoned settles late: its estimated cost is reversed and it
    is charged at most what is available now.
    """
    call = opened.call
    with transaction.atomic():
        lifecycle.lock(call.job_id)
        stored = Call.objects.select_related("job__team", "alias").get(pk=call.pk)
        is_late = stored.status == Call.Status.ABANDONED
        if stored.status not in {*Call.RUNNING, Call.Status.ABANDONED}:
            return stored
        cost = _cost(stored, outcome) if attempt is not None and outcome.is_costed else 0
        charge = charging.charge(stored, usage=_charged_usage(outcome), cost=cost, is_late=is_late)
        reversed_nano_usd = stored.provider_cost_nano_usd if is_late else 0
        if is_late:
            _lift_abandonment(stored, attempt)
            rollups.mark_dirty([stored.finished_at.date()] if stored.finished_at else [])
        result = _result(outcome, cost, charge)
        for name, value in result.items():
            setattr(stored, name, value)
        stored.save(update_fields=[*result, "quantity_before", "quantity"])
        if attempt is not None:
            _finish_attempt(stored, attempt, outcome, cost)
        lifecycle.account_for(
            call=stored,
            freed=None if is_late else admission.reservation_of(stored),
            correction_nano_usd=reversed_nano_usd,
            is_package=charging.is_package(stored),
        )
    if charge.overrun_nanocredits:
        alarms.sound(
            kind="call.overrun",
            subject=f"team {opened.job.team.slug}",
            detail=f"call {call.pk}: {charge.overrun_nanocredits} nanocredits not taken"
            f" ({charge.overrun_reason})",
        )
    charging.flag_thin_margin(stored)
    return stored


def abandon_expired() -> int:
    """Close every running call whose process must have died; returns how many.

    One that was never dispatched cost nothing. One that was is booked at its worst-case provider
    cost, as an estimate to reconcile. The team pays for neither.
    """
    expired = Call.objects.filter(status__in=Call.RUNNING, expires_at__lt=clock.now()).values_list(
        "pk", "job_id"
    )
    return sum(_abandon(call_id, job_id) for call_id, job_id in expired[:500])


def _abandon(call_id: Any, job_id: Any) -> bool:
    with transaction.atomic():
        lifecycle.lock(job_id)
        call = Call.objects.get(pk=call_id)
        if call.status not in Call.RUNNING:
            return False
        attempt = call.attempts.order_by("-number").first()
        cost = call.held_cost_nano_usd if attempt else 0
        call.status = Call.Status.ABANDONED if attempt else Call.Status.FAILED
        call.error_code = "abandoned"
        call.finished_at = clock.now()
        call.provider_cost_nano_usd = cost
        call.save(update_fields=["status", "error_code", "finished_at", "provider_cost_nano_usd"])
        if attempt:
            _book(call, attempt, CostLine.Kind.ESTIMATE, cost)
        if call.hold_id is not None:
            ledger.release(Hold.objects.get(pk=call.hold_id))
        lifecycle.account_for(call=call, freed=admission.reservation_of(call))
        alarms.sound(
            kind="call.abandoned", subject=f"team {call.team.slug}", detail=f"call {call.pk}"
        )
    return True


def _cost(call: Call, outcome: Outcome) -> int:
    return costs.provider_cost_nano_usd(
        prices=UnitPrices.from_json(call.unit_prices), usage=outcome.usage
    )


def _charged_usage(outcome: Outcome) -> Usage | None:
    """What the team pays for; None when nothing was delivered."""
    return outcome.usage if outcome.is_output_delivered else None


def _result(outcome: Outcome, cost: int, charge: ledger.Charge) -> dict[str, Any]:
    is_settled = outcome.is_output_delivered
    return {
        "status": Call.Status.SETTLED if is_settled else Call.Status.FAILED,
        "usage": outcome.usage.as_json(),
        "usage_source": outcome.usage.source,
        "prompt_tokens": outcome.usage.prompt_tokens,
        "cached_tokens": outcome.usage.cached_tokens,
        "completion_tokens": outcome.usage.completion_tokens,
        "total_tokens": outcome.usage.total_tokens,
        "latency_ms": outcome.latency_ms,
        "first_token_at": outcome.first_token_at,
        "finished_at": clock.now(),
        "finish_reason": outcome.finish_reason,
        "error_code": outcome.error_code,
        "is_output_delivered": outcome.is_output_delivered,
        "provider_cost_nano_usd": cost,
        "price_nanocredits": charge.charged_nanocredits + charge.overrun_nanocredits,
        "charged_nanocredits": charge.charged_nanocredits,
        "overrun_nanocredits": charge.overrun_nanocredits,
        "overrun_reason": charge.overrun_reason,
        "price_nano_usd": charge.price_nano_usd,
    }


def _finish_attempt(call: Call, attempt: Attempt, outcome: Outcome, cost: int) -> None:
    Attempt.objects.filter(pk=attempt.pk).update(
        ended_at=call.finished_at,
        provider_request_id=outcome.provider_request_id[:200],
        failure=outcome.failure,
        failure_status=outcome.failure_status,
        failure_detail=outcome.failure_detail[:500],
    )
    if cost:
        _book(call, attempt, CostLine.Kind.ATTEMPT, cost)


def _lift_abandonment(call: Call, attempt: Attempt | None) -> None:
    if attempt is not None and call.provider_cost_nano_usd:
        _book(call, attempt, CostLine.Kind.REVERSAL, -call.provider_cost_nano_usd)


def _book(call: Call, attempt: Attempt, kind: str, amount_nano_usd: int) -> None:
    CostLine.objects.create(
        call=call,
        attempt=attempt,
        kind=kind,
        amount_nano_usd=amount_nano_usd,
        created_at=clock.now(),
    )
