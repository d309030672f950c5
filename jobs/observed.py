"""A call as those who watch the platform see it: counted, timed, traced, its ids in log lines."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from jobs.gateway import ProviderFailure
from jobs.models import Call
from jobs.open_calls import OpenCall
from jobs.routing import Candidate
from saas_litellm.base import clock
from saas_litellm.base.money import NANO
from saas_litellm.base.telemetry import context, metrics, tracing

OK, CACHED = "ok", "cached"


class InFlight:
    """Around an admitted call; gives its span for ``settled``."""

    __slots__ = ("_span",)

    def __init__(self, opened: OpenCall) -> None:
        context.bind(job_id=opened.job.pk, call_id=opened.call.pk)
        about = {"job.id": opened.job.pk, "call.id": opened.call.pk, "alias": opened.alias.name}
        self._span = tracing.span("call", about=about)

    def __enter__(self) -> Any:
        span = self._span.__enter__()
        metrics.IN_FLIGHT.inc()
        return span

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        metrics.IN_FLIGHT.dec()
        self._span.__exit__(kind, error, traceback)


def settled(span: Any, opened: OpenCall, ended: Call) -> None:
    """What the call came to: tokens, provider cost and charge, and how long it took."""
    alias = opened.alias.name
    outcome = ended.error_code or (CACHED if ended.is_cache_hit else OK)
    metrics.CALLS.labels(alias, outcome).inc()
    if ended.status == Call.Status.SETTLED:
        metrics.TOKENS.labels(alias, "prompt").inc(ended.prompt_tokens)
        metrics.TOKENS.labels(alias, "output").inc(ended.completion_tokens)
    metrics.PROVIDER_COST.inc(ended.provider_cost_nano_usd / NANO)
    # Volume tiers may give back, which a counter cannot.
    metrics.CHARGED.inc(max(0, ended.charged_nanocredits) / NANO)
    style = "stream" if ended.is_stream else "plain"
    seconds = (clock.now() - ended.created_at).total_seconds()
    metrics.CALL_SECONDS.labels(style).observe(seconds)
    if ended.first_token_at is not None:
        first = (ended.first_token_at - ended.created_at).total_seconds()
        metrics.FIRST_CHUNK_SECONDS.observe(first)
    tracing.note(span, outcome=outcome, tokens=ended.total_tokens, is_stream=ended.is_stream)


def attempt(candidate: Candidate) -> AbstractContextManager[Any]:
    """Around one try at a provider."""
    deployment = candidate.priced.deployment
    about = {"model": deployment.model, "deployment.id": deployment.pk}
    return tracing.span("attempt", about=about)


def attempted(span: Any, candidate: Candidate, failure: ProviderFailure | None) -> None:
    provider = candidate.priced.deployment.model.split("/", maxsplit=1)[0]
    outcome = str(failure.kind) if failure else OK
    metrics.ATTEMPTS.labels(provider, outcome).inc()
    tracing.note(span, outcome=outcome)
