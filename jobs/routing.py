"""Routing: which deployment a call asks, and which next when one fails.

Deployments come in the order of their priority, and by chance in proportion to their weights
within one. What is worth a second try is tried again where it failed, after a pause with jitter;
then it is the next deployment's turn. None of this happens after a first token.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from django.conf import settings

from jobs.gateway import FailureKind, ProviderFailure
from saas_litellm.base import clock
from teams import catalog, limits
from teams.catalog import PricedDeployment, ResolvedAlias
from teams.refusals import ModelUnavailable

# May well go better a moment later, here or elsewhere.
_PASSING = frozenset(
    {
        FailureKind.RATE_LIMITED,
        FailureKind.TIMEOUT,
        FailureKind.CONNECTION,
        FailureKind.SERVER_ERROR,
        FailureKind.GARBLED,
    }
)
# This deployment is set up wrongly: only another can answer.
_MISCONFIGURED = frozenset({FailureKind.CREDENTIALS, FailureKind.NOT_FOUND})
# A provider that asks for a longer pause than this is passed over instead of waited for.
LONGEST_WAIT_SECONDS = 2.0
_FIRST_WAIT_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A deployment that a call may be sent to, and the key to sign in with."""

    priced: PricedDeployment
    api_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Whom to ask next, after how long a pause."""

    candidate: Candidate
    wait_seconds: float = 0.0


class Route:
    """One call's way through its deployments. Belongs to the task that drives the call."""

    def __init__(
        self,
        candidates: Iterable[Candidate],
        *,
        after_context_window: Iterable[Candidate] = (),
        after_content_filter: Iterable[Candidate] = (),
    ) -> None:
        self._queue = list(candidates)
        fallbacks = (
            (FailureKind.CONTEXT_WINDOW, list(after_context_window)),
            (FailureKind.CONTENT_FILTERED, list(after_content_filter)),
        )
        self._fallbacks = {kind: others for kind, others in fallbacks if others}
        self._current: Candidate | None = None
        self._tries = 0

    @property
    def first(self) -> Candidate | None:
        """Whom a call that has not begun asks first."""
        return self._queue[0] if self._queue else None

    def next(self, failure: ProviderFailure | None = None) -> Step | None:
        """The first step, or the one after a failure; None when nothing more is worth a try."""
        if failure is None:
            return self._advance()
        if failure.kind in self._fallbacks:
            self._queue = self._fallbacks.pop(failure.kind)
            return self._advance()
        if failure.kind in _PASSING:
            return self._again(failure) or self._advance()
        return self._advance() if failure.kind in _MISCONFIGURED else None

    def _advance(self) -> Step | None:
        if not self._queue:
            return None
        self._current, self._tries = self._queue.pop(0), 1
        return Step(candidate=self._current)

    def _again(self, failure: ProviderFailure) -> Step | None:
        """The same deployment once more, unless another should rather be asked."""
        if self._current is None or self._tries > settings.CALL_RETRIES:
            return None
        asked_for = failure.retry_after_seconds
        is_full = failure.kind is FailureKind.RATE_LIMITED
        if (asked_for or 0) > LONGEST_WAIT_SECONDS or (is_full and self._queue):
            return None
        jitter = random.uniform(0, _FIRST_WAIT_SECONDS * 2**self._tries)  # noqa: S311 - no secret
        wait = (asked_for or 0) + jitter
        self._tries += 1
        return Step(candidate=self._current, wait_seconds=wait)


def is_free(candidate: Candidate) -> bool:
    """Whether neither a breaker nor limits have a say before it is asked."""
    health = candidate.priced.health
    is_cooling = health is not None and health.open_until is not None
    return not is_cooling and not limits.rules_of(candidate.priced.deployment)


def is_fault(failure: ProviderFailure | None) -> bool:
    """Whether a failure tells against the deployment rather than against the request."""
    return failure is not None and failure.kind in _PASSING | _MISCONFIGURED


def route(resolved: ResolvedAlias) -> Route:
    """The way through the alias's deployments that are not cooling down.

    Raises ModelUnavailable (with Retry-After) when every one is, or none can be signed in to.
    """
    first = _candidates(resolved.deployments)
    if not first:
        raise ModelUnavailable(retry_after_seconds=_until_open(resolved.deployments))
    return Route(
        first,
        after_context_window=_candidates(resolved.after_context_window),
        after_content_filter=_candidates(resolved.after_content_filter),
    )


def _candidates(deployments: Iterable[PricedDeployment]) -> list[Candidate]:
    now = clock.now()
    ready = [
        priced
        for priced in deployments
        if priced.health is None
        or priced.health.open_until is None
        or priced.health.open_until <= now
    ]
    found = []
    for priced in sorted(ready, key=_turn):
        try:
            found.append(Candidate(priced=priced, api_key=catalog.open_secret(priced)))
        except ModelUnavailable:
            continue
    return found


def _turn(priced: PricedDeployment) -> tuple[int, float]:
    """Sorts by priority, then draws by weight: the smallest of exponential waiting times at the
    rates of the weights belongs to each in proportion (a weight of 0 comes last)."""
    weight = priced.deployment.weight
    return (
        priced.deployment.priority,
        random.expovariate(weight) if weight else float("inf"),
    )


def _until_open(deployments: Iterable[PricedDeployment]) -> int | None:
    moments = [
        priced.health.open_until
        for priced in deployments
        if priced.health is not None and priced.health.open_until is not None
    ]
    if not moments:
        return None
    return max(1, round((min(moments) - clock.now()).total_seconds()))
