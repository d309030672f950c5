"""One call's rows and money, one call at a time. Sync, each function a transaction.

The call's state is what makes a settlement happen exactly once, and it is decided under its job's
lock. `opening` and `settling` do the same for many calls at once.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction

from billing import ledger
from billing.models import Hold
from jobs import admission, lifecycle, settling, telling, tries
from jobs.admission import Order
from jobs.cases import Settlement
from jobs.docket import Docket
from jobs.models import Attempt, Call, CostLine, Job
from jobs.open_calls import OpenCall, Outcome
from jobs.opening import Opening, open_all
from jobs.routing import Candidate
from saas_litellm.base import alarms, clock, rows
from teams import catalog
from teams.models import ApiKey

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


def open_call(*, job: Job, api_key: ApiKey | None, order: Order) -> OpenCall:
    """Resolve, price the worst case and set it aside: job caps first, the wallet last.

    Where the plan clamps and the caller left the output's length open, a worst case that credits
    do not cover is made shorter instead of refused. Raises JobClosed, TeamPaused,
    ModelNotAllowed, ModelUnavailable, Invalid, JobCapExceeded, BudgetExceeded,
    InsufficientCredits; nothing is left behind then.
    """
    resolved = catalog.resolve(team=job.team, name=order.model, kind=order.kind)
    opening = Opening(order=order, resolved=resolved, team=job.team, api_key=api_key, job_id=job.pk)
    (opened,) = open_all([opening])
    if isinstance(opened, Exception):
        raise opened
    return opened


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
    cost = tries.cost_of(tries.unit_prices(opened, failed), outcome)
    with transaction.atomic():
        lifecycle.lock(call.job_id)
        stored = Call.objects.get(pk=call.pk)
        if stored.status != Call.Status.DISPATCHED:
            return None
        tries.end(failed, outcome, at=clock.now()).save()
        if cost:
            rows.insert([tries.cost_line(stored, failed, CostLine.Kind.ATTEMPT, cost)])
            stored.provider_cost_nano_usd += cost
            stored.save(update_fields=["provider_cost_nano_usd"])
            lifecycle.account_for_attempt(job_id=call.job_id, cost_nano_usd=cost)
        attempt = _begin(opened, candidate, number=failed.number + 1)
    tries.tell_breaker(failed, outcome, health=None)
    return attempt


def settle(*, opened: OpenCall, attempt: Attempt | None, outcome: Outcome) -> Call:
    """Settle one call: ``settling.settle_all``."""
    (call,) = settling.settle_all([Settlement(opened=opened, attempt=attempt, outcome=outcome)])
    return call


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
        docket = Docket.open([job_id])
        call = Call.objects.select_related("job__team", "team", "alias").get(pk=call_id)
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
            rows.insert([tries.cost_line(call, attempt, CostLine.Kind.ESTIMATE, estimate)])
        if call.hold_id is not None:
            ledger.release(Hold.objects.get(pk=call.hold_id))
        docket.account_for(call, freed=admission.reservation_of(call), booked_nano_usd=booked)
        docket.write()
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
