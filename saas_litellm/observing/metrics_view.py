"""`/metrics` in Prometheus' text format, for whoever has METRICS_TOKEN."""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterator

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from saas_litellm.base.bridge import in_database
from saas_litellm.base.money import NANO
from saas_litellm.base.refusals import NotFound, Unauthenticated
from saas_litellm.observing import state


async def metrics(request: HttpRequest) -> HttpResponse:
    """Raises NotFound where no METRICS_TOKEN is set (but while developing), else Unauthenticated
    for another one."""
    token = settings.METRICS_TOKEN
    if not token and not settings.DEBUG:
        raise NotFound("Metrics are off: set METRICS_TOKEN.")
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if token and not hmac.compare_digest(given.encode(), token.encode()):
        raise Unauthenticated("Send METRICS_TOKEN as a bearer token.")
    text = await in_database(_text)
    return HttpResponse(text, content_type=CONTENT_TYPE_LATEST)


def _text() -> bytes:
    counted = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        counted = CollectorRegistry()
        MultiProcessCollector(counted)  # type: ignore[no-untyped-call]
    looked_up = CollectorRegistry()
    looked_up.register(Standing())
    return generate_latest(counted) + generate_latest(looked_up)


class Standing(Collector):
    """What stands in the database: the same whichever process answers, so take the maximum."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        holds = state.holds()
        yield _gauge("saas_holds_open", "Holds that are open.", holds.count)
        yield _gauge("saas_holds_open_credits", "What they hold.", holds.nanocredits / NANO)
        yield _gauge("saas_hold_oldest_seconds", "Age of a call's oldest.", holds.oldest_seconds)
        yield _gauge(
            "saas_sweeper_lag_seconds",
            "For how long the most overdue call has waited for the worker.",
            state.sweeper_lag_seconds(),
        )
        yield _gauge("saas_breakers_open", "Deployments cooling down.", state.breakers_open())
        waiting, oldest = state.queue()
        yield _gauge("saas_webhooks_due", "Webhook messages that are due.", waiting)
        yield _gauge("saas_webhook_oldest_seconds", "For how long the oldest is due.", oldest)
        age = state.worker_age_seconds()
        if age is not None:
            yield _gauge("saas_worker_age_seconds", "Since a worker's last round.", age)
        if (checked := state.last_ledger_check()) is not None:
            yield _gauge("saas_ledger_check_age_seconds", "Since the last check.", checked[0])
            yield _gauge("saas_ledger_check_findings", "Broken invariants it found.", checked[1])
        stats = state.pool()
        if stats:
            pool = GaugeMetricFamily(
                "saas_database_pool",
                "Connections of the process that answered: open, idle, and requests waiting.",
                labels=["state"],
            )
            pool.add_metric(["open"], stats.get("pool_size", 0))
            pool.add_metric(["idle"], stats.get("pool_available", 0))
            pool.add_metric(["waiting"], stats.get("requests_waiting", 0))
            yield pool


def _gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, value=value)
