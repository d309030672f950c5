"""Tries at providers: what one came to, what it cost, and what its deployment's breaker hears of it."""

from __future__ import annotations

from datetime import datetime

from jobs import costs
from jobs.models import Attempt, Call, CostLine
from jobs.open_calls import OpenCall, Outcome
from saas_litellm.base import clock, rows
from teams import health as breakers
from teams.catalog import PricedDeployment
from teams.models import DeploymentHealth
from teams.prices import UnitPrices

# What ``end`` says of an attempt.
ENDED = ("ended_at", "provider_request_id", "failure", "failure_status", "failure_detail")


def of(opened: OpenCall, attempt: Attempt) -> PricedDeployment:
    """The deployment that was asked, as it was when the call was admitted."""
    return next(
        priced
        for priced in opened.resolved.eligible
        if priced.deployment.pk == attempt.deployment_id
    )


def unit_prices(opened: OpenCall, attempt: Attempt) -> UnitPrices:
    """The unit prices, pinned when the call was admitted, of the deployment that was asked."""
    return of(opened, attempt).prices


def cost_of(prices: UnitPrices, outcome: Outcome) -> int:
    """What the provider charges for an outcome, in nano-USD."""
    if not outcome.is_costed:
        return 0
    return costs.provider_cost_nano_usd(prices=prices, usage=outcome.usage)


def end(attempt: Attempt, outcome: Outcome, *, at: datetime | None) -> Attempt:
    """The attempt's row as it ended."""
    attempt.ended_at = at
    attempt.provider_request_id = _storable(outcome.provider_request_id)[:200]
    attempt.failure, attempt.failure_status = outcome.failure, outcome.failure_status
    attempt.failure_detail = _storable(outcome.failure_detail)[:500]
    return attempt


def _storable(text: str) -> str:
    """Providers may send what no database column takes."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def cost_line(call: Call, attempt: Attempt, kind: str, amount_nano_usd: int) -> CostLine:
    return rows.new(
        CostLine,
        call=call,
        attempt=attempt,
        kind=kind,
        amount_nano_usd=amount_nano_usd,
        created_at=clock.now(),
    )


def tell_breaker(attempt: Attempt, outcome: Outcome, health: DeploymentHealth | None) -> None:
    """Tell the deployment's breaker how it did."""
    if outcome.is_fault:
        breakers.failed(
            deployment_id=attempt.deployment_id,
            reason=outcome.failure,
            pause_seconds=outcome.pause_seconds,
        )
    elif outcome.is_output_delivered:
        breakers.answered(health)
