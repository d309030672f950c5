"""One call's rows and money: open, dispatch, settle, abandon. Sync, each function a transaction.

The call's state is what makes a settlement happen exactly once: it moves by compare-and-set, and
the rows are always taken in the order job, call, hold, account.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from django.db import transaction

from billing import ledger
from billing.models import Hold
from jobs import admission, charging, costs, lifecycle, payloads, replays, rollups, routing, telling
from jobs.admission import Order, Placing, output_bound
from jobs.models import Attempt, Call, CostLine, Job
from jobs.open_calls import OpenCall, Outcome
from jobs.refusals import JobClosed
from jobs.routing import Candidate, Route
from jobs.usage import Usage
from saas_litellm.base import alarms, clock, idempotency
from saas_litellm.base.idempotency import Claim
from saas_litellm.base.refusals import PaymentRequired
from teams import catalog, keys
from teams import health as breakers
from teams.catalog import PricedDeployment, ResolvedAlias
from teams.models import ApiKey, DeploymentHealth
from teams.prices import UnitPrices

__all__ = [
    "OpenCall",
    "Order",
    "Outcome",
    "abandon_expired",
    "dispatch",
    "open_call",
    "settle",
    "try_again",
]
# What a settlement writes besides its result.
_SETTLED_WITH = ("deployment", "unit_prices", "saved_nano_usd", "quantity_before", "quantity")


def open_call(
    *,
    job: Job,
    api_key: ApiKey | None,
    order: Order,
    resolved: ResolvedAlias | None = None,
    claim: Claim | None = None,
    is_cache_hit: bool = False,
) -> OpenCall:
    """Resolve, price the worst case and set it aside: job caps first, the wallet last.

    Where the plan clamps and the caller left the output's length open, a worst case that credits
    do not cover is made shorter instead of refused. Raises JobClosed, TeamPaused,
    ModelNotAllowed, ModelUnavailable, Invalid, JobCapExceeded, BudgetExceeded,
    InsufficientCredits; nothing is left behind then. With a ``claim`` it is to be called in a
    transaction, and raises InProgress when another call holds that claim.
    """
    if not job.is_open:
        raise JobClosed
    keys.require_running(job.team)
    resolved = resolved or catalog.resolve(team=job.team, name=order.model, kind=order.kind)
    field, max_tokens = output_bound(order.params, resolved.alias)
    route = Route(()) if is_cache_hit else routing.route(resolved)
    call_id = uuid4()
    if claim is not None:
        idempotency.take(claim, reference=f"call:{call_id}")
    placing = Placing(
        job=job,
        api_key=api_key,
        order=order,
        resolved=resolved,
        call_id=call_id,
        is_cache_hit=is_cache_hit,
    )
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
        resolved=resolved,
        route=route,
        claim=claim,
        kept_request=_request_to_keep(order) if payloads.is_kept(job.team) else None,
        params=_bounded(order, field, call),
    )


def _request_to_keep(order: Order) -> dict[str, Any]:
    return {"messages": order.prompt, **order.params}


def _bounded(order: Order, field: str, call: Call) -> dict[str, Any]:
    """The order's params with each answer's output bounded by what was held."""
    if not field:
        return dict(order.params)
    return {**order.params, field: call.max_output_tokens // int(order.params.get("n") or 1)}


def dispatch(opened: OpenCall, candidate: Candidate | None = None) -> Attempt | None:
    """Record, before the provider is asked, that it may be; None when the call was swept.

    Without a candidate it is the route's first.
    """
    if candidate is None:
        step = opened.route.next()
        assert step is not None, "a route has a first step"
        candidate = step.candidate
    now = clock.now()
    with transaction.atomic():
        moved = Call.objects.filter(pk=opened.call.pk, status=Call.Status.HELD).update(
            status=Call.Status.DISPATCHED, dispatched_at=now
        )
        if moved != 1:
            return None
        return _begin(opened, candidate, number=1)


def try_again(
    *, opened: OpenCall, failed: Attempt, outcome: Outcome, candidate: Candidate
) -> Attempt | None:
    """Book a failed attempt and record the next one; None when the call was swept or stopped.

    What the failed attempt may have cost is the founder's: no price ever follows from it.
    """
    call = opened.call
    cost = _cost(_prices(opened, failed), outcome)
    with transaction.atomic():
        lifecycle.lock(call.job_id)
        stored = Call.objects.get(pk=call.pk)
        if stored.status != Call.Status.DISPATCHED:
            return None
        _finish_attempt(stored, failed, outcome, cost)
        if cost:
            stored.provider_cost_nano_usd += cost
            stored.save(update_fields=["provider_cost_nano_usd"])
            lifecycle.account_for_attempt(job_id=call.job_id, cost_nano_usd=cost)
        attempt = _begin(opened, candidate, number=failed.number + 1)
    _report(failed, outcome)
    return attempt


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
        cost = full_cost = 0
        if attempt is not None:
            prices = _prices(opened, attempt)
            stored.deployment_id, stored.unit_prices = attempt.deployment_id, prices.as_json()
            cost = full_cost = _cost(prices, outcome)
        elif stored.is_cache_hit and outcome.unit_prices:
            stored.unit_prices = dict(outcome.unit_prices)
            full_cost = _cost(UnitPrices.from_json(stored.unit_prices), outcome)
            stored.saved_nano_usd = full_cost
        booked = stored.provider_cost_nano_usd
        estimated = _lift_abandonment(stored, attempt) if is_late else 0
        charge = charging.charge(
            stored, usage=_charged_usage(outcome), cost=full_cost, is_late=is_late
        )
        if is_late:
            rollups.mark_dirty([stored.finished_at.date()] if stored.finished_at else [])
        result = _result(outcome, booked - estimated + cost, charge)
        for name, value in result.items():
            setattr(stored, name, value)
        stored.save(update_fields=[*result, *_SETTLED_WITH])
        if attempt is not None:
            _finish_attempt(stored, attempt, outcome, cost)
        if opened.claim is not None:
            replays.settle(opened.claim, call=stored, parts=outcome.parts)
        if opened.kept_request is not None:
            payloads.keep(
                stored, team=stored.job.team, request=opened.kept_request, answer=outcome.parts
            )
        lifecycle.account_for(
            call=stored,
            freed=None if is_late else admission.reservation_of(stored),
            booked_nano_usd=booked,
            is_package=charging.is_package(stored),
        )
        if not is_late:
            telling.call_failed(stored)
    if attempt is not None:
        _report(attempt, outcome, health=_health(opened, attempt))
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
        estimate = call.held_cost_nano_usd if attempt else 0
        booked = call.provider_cost_nano_usd
        call.status = Call.Status.ABANDONED if attempt else Call.Status.FAILED
        call.error_code = "abandoned"
        call.finished_at = clock.now()
        call.provider_cost_nano_usd = booked + estimate
        call.save(update_fields=["status", "error_code", "finished_at", "provider_cost_nano_usd"])
        if attempt:
            _book(call, attempt, CostLine.Kind.ESTIMATE, estimate)
        if call.hold_id is not None:
            ledger.release(Hold.objects.get(pk=call.hold_id))
        lifecycle.account_for(
            call=call, freed=admission.reservation_of(call), booked_nano_usd=booked
        )
        telling.call_failed(call)
        alarms.sound(
            kind="call.abandoned", subject=f"team {call.team.slug}", detail=f"call {call.pk}"
        )
    return True


def _begin(opened: OpenCall, candidate: Candidate, *, number: int) -> Attempt:
    return Attempt.objects.create(
        call_id=opened.call.pk,
        deployment=candidate.priced.deployment,
        number=number,
        started_at=clock.now(),
    )


def _of_attempt(opened: OpenCall, attempt: Attempt) -> PricedDeployment:
    return next(
        priced
        for priced in opened.resolved.eligible
        if priced.deployment.pk == attempt.deployment_id
    )


def unit_prices(opened: OpenCall, attempt: Attempt) -> dict[str, Any]:
    """The prices that an attempt is metered by, as they are stored."""
    return _prices(opened, attempt).as_json()


def _prices(opened: OpenCall, attempt: Attempt) -> UnitPrices:
    """The unit prices, pinned when the call was admitted, of the deployment that was asked."""
    return _of_attempt(opened, attempt).prices


def _health(opened: OpenCall, attempt: Attempt) -> DeploymentHealth | None:
    return _of_attempt(opened, attempt).health


def _report(attempt: Attempt, outcome: Outcome, health: DeploymentHealth | None = None) -> None:
    """Tell the deployment's breaker how it did."""
    if outcome.is_fault:
        breakers.failed(
            deployment_id=attempt.deployment_id,
            reason=outcome.failure,
            pause_seconds=outcome.pause_seconds,
        )
    elif outcome.is_output_delivered:
        breakers.answered(health)


def _cost(prices: UnitPrices, outcome: Outcome) -> int:
    if not outcome.is_costed:
        return 0
    return costs.provider_cost_nano_usd(prices=prices, usage=outcome.usage)


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
        # A failed attempt ends while its call goes on.
        ended_at=call.finished_at or clock.now(),
        provider_request_id=outcome.provider_request_id[:200],
        failure=outcome.failure,
        failure_status=outcome.failure_status,
        failure_detail=outcome.failure_detail[:500],
    )
    if cost:
        _book(call, attempt, CostLine.Kind.ATTEMPT, cost)


def _lift_abandonment(call: Call, attempt: Attempt | None) -> int:
    """Reverse the estimate that was booked for the attempt; returns it, in nano-USD."""
    estimate = CostLine.objects.filter(attempt=attempt, kind=CostLine.Kind.ESTIMATE).first()
    if attempt is None or estimate is None or not estimate.amount_nano_usd:
        return 0
    amount: int = estimate.amount_nano_usd
    _book(call, attempt, CostLine.Kind.REVERSAL, -amount)
    return amount


def _book(call: Call, attempt: Attempt, kind: str, amount_nano_usd: int) -> None:
    CostLine.objects.create(
        call=call,
        attempt=attempt,
        kind=kind,
        amount_nano_usd=amount_nano_usd,
        created_at=clock.now(),
    )
