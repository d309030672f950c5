"""One call's rows and money: open, dispatch, settle, abandon. Sync, each function a transaction.

The call's state is what makes a settlement happen exactly once: it moves by compare-and-set, and
the rows are always taken in the order job, call, hold, account.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction

from billing import ledger, plans
from billing.models import Hold
from billing.pricing import Measure
from jobs import costs, estimate, lifecycle
from jobs.lifecycle import Reservation
from jobs.models import Attempt, Call, CostLine, Job
from jobs.refusals import JobClosed
from jobs.usage import Usage
from saas_litellm.base import alarms, clock
from saas_litellm.base.refusals import Invalid
from teams import catalog, keys
from teams.models import Alias, ApiKey, Deployment
from teams.prices import UnitPrices


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A call as its caller asked for it; ``params`` are allow-listed OpenAI fields."""

    messages: list[dict[str, Any]]
    params: Mapping[str, Any]
    model: str | None = None
    purpose: str = ""
    call_metadata: Mapping[str, Any] | None = None
    is_stream: bool = False


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

    Raises JobClosed, TeamPaused, ModelNotAllowed, ModelUnavailable, Invalid, JobCapExceeded,
    InsufficientCredits; nothing is left behind then.
    """
    if not job.is_open:
        raise JobClosed
    keys.require_running(job.team)
    resolved = catalog.resolve(team=job.team, name=order.model)
    params, max_tokens = _bounded(order.params, resolved.alias)
    plan = plans.load(job.plan_version_id)
    worst = estimate.worst_case(
        plan=plan,
        job_type=job.job_type,
        resolved=resolved,
        messages=order.messages,
        params=params,
        max_tokens=max_tokens,
    )
    chosen = resolved.deployments[0]
    secret = catalog.open_secret(chosen.deployment)
    now = clock.now()
    lifetime = timedelta(seconds=settings.CALL_DEADLINE_SECONDS + settings.HOLD_GRACE_SECONDS)
    call = Call(
        job=job,
        team=job.team,
        api_key=api_key,
        alias=resolved.alias,
        is_stream=order.is_stream,
        purpose=order.purpose,
        call_metadata=dict(order.call_metadata or {}),
        created_at=now,
        expires_at=now + lifetime,
        unit_prices=chosen.prices.as_json(),
        estimated_prompt_tokens=worst.prompt_tokens,
        max_output_tokens=worst.output_tokens,
        held_nanocredits=worst.price_nanocredits,
        held_cost_nano_usd=worst.cost_nano_usd,
    )
    with transaction.atomic():
        lifecycle.reserve(job=job, reservation=_reservation(call))
        call.hold = ledger.hold(
            account_id=job.account_id,
            amount_nanocredits=worst.price_nanocredits,
            reference=f"call:{call.pk}",
            expires_at=call.expires_at,
        )
        call.save(force_insert=True)
    return OpenCall(
        call=call,
        job=job,
        alias=resolved.alias,
        deployment=chosen.deployment,
        api_key=secret,
        params=params,
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
        stored = Call.objects.get(pk=call.pk)
        is_late = stored.status == Call.Status.ABANDONED
        if stored.status not in {*Call.RUNNING, Call.Status.ABANDONED}:
            return stored
        cost = _cost(stored, outcome) if attempt is not None and outcome.is_costed else 0
        charge = _charge(stored, opened, outcome, cost, is_late=is_late)
        settled = Call.Status.SETTLED if outcome.is_output_delivered else Call.Status.FAILED
        reversed_nano_usd = stored.provider_cost_nano_usd if is_late else 0
        if is_late:
            _lift_abandonment(stored, attempt)
        for name, value in _result(outcome, cost, charge, settled).items():
            setattr(stored, name, value)
        stored.save(update_fields=list(_result(outcome, cost, charge, settled)))
        if attempt is not None:
            _finish_attempt(stored, attempt, outcome, cost)
        lifecycle.account_for(
            call=stored,
            freed=None if is_late else _reservation(stored),
            correction_nano_usd=reversed_nano_usd,
        )
    if charge.overrun_nanocredits:
        alarms.sound(
            kind="call.overrun",
            subject=f"team {opened.job.team.slug}",
            detail=f"call {call.pk}: {charge.overrun_nanocredits} nanocredits not taken",
        )
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
        lifecycle.account_for(call=call, freed=_reservation(call))
        alarms.sound(
            kind="call.abandoned", subject=f"team {call.team.slug}", detail=f"call {call.pk}"
        )
    return True


def _bounded(params: Mapping[str, Any], alias: Alias) -> tuple[dict[str, Any], int]:
    """The params with an output bound in them, and that bound; raises Invalid beyond the alias's."""
    field = "max_completion_tokens" if params.get("max_completion_tokens") else "max_tokens"
    asked = params.get(field)
    limit = alias.default_max_tokens if asked is None else int(asked)
    if limit > alias.max_output_tokens:
        raise Invalid(
            f"{field} may be {alias.max_output_tokens} at most for {alias.name}.", param=field
        )
    return {**params, field: limit}, limit


def _reservation(call: Call) -> Reservation:
    return Reservation(nanocredits=call.held_nanocredits, cost_nano_usd=call.held_cost_nano_usd)


def _cost(call: Call, outcome: Outcome) -> int:
    return costs.provider_cost_nano_usd(
        prices=UnitPrices.from_json(call.unit_prices), usage=outcome.usage
    )


def _charge(
    call: Call, opened: OpenCall, outcome: Outcome, cost: int, *, is_late: bool
) -> ledger.Charge:
    plan = plans.load(opened.job.plan_version_id)
    measure = Measure(
        provider_cost_nano_usd=cost,
        input_tokens=outcome.usage.prompt_tokens,
        cached_tokens=outcome.usage.cached_tokens,
        output_tokens=outcome.usage.completion_tokens,
    )
    price = (
        plan.call_price(job_type=opened.job.job_type, alias=opened.alias.name, measure=measure)
        if outcome.is_output_delivered
        else 0
    )
    held = None
    if call.hold_id is not None and not is_late:
        held = Hold.objects.get(pk=call.hold_id)
    if held is None and price == 0:
        return ledger.nothing(account_id=opened.job.account_id)
    reserved = held.amount_nanocredits if held else 0
    room = lifecycle.room_beyond(job_id=call.job_id) if price > reserved else 0
    return ledger.settle(
        account_id=opened.job.account_id,
        held=held,
        bill=ledger.Bill(
            price_nanocredits=price,
            nanocredits_per_usd=plan.nanocredits_per_usd,
            plan_version_id=plan.version_id,
            reference=f"call:{call.pk}",
            reason=f"call of job {call.job_id}",
            actor=f"team:{opened.job.team.slug}",
            labels={
                "team": opened.job.team.slug,
                "job_type": opened.job.job_type,
                "alias": opened.alias.name,
            },
        ),
        room_nanocredits=room,
    )


def _result(outcome: Outcome, cost: int, charge: ledger.Charge, status: str) -> dict[str, Any]:
    return {
        "status": status,
        "usage": outcome.usage.as_json(),
        "usage_source": outcome.usage.source,
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
