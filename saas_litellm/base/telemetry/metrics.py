"""The metrics that processes count for themselves; `saas_litellm.observing` shows them.

With PROMETHEUS_MULTIPROC_DIR set, all processes of a machine count into files of that folder, and
each answers for all of them. Amounts of money here are floating-point sums for charts: the books
are exact, these are not.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)
_SHORT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

CALLS = Counter(
    "saas_calls",
    "LLM calls that ended, by how: ok, cached, or the error code that the caller was told.",
    ["alias", "outcome"],
)
CALL_SECONDS = Histogram(
    "saas_call_seconds", "From admission to settlement.", ["style"], buckets=_SECONDS
)
FIRST_CHUNK_SECONDS = Histogram(
    "saas_first_chunk_seconds", "From admission to a stream's first output.", buckets=_SECONDS
)
IN_FLIGHT = Gauge(
    "saas_calls_in_flight", "Calls that run in this process now.", multiprocess_mode="livesum"
)
ATTEMPTS = Counter(
    "saas_attempts",
    "Times that a provider was asked, by how it went: ok, or the kind of failure.",
    ["provider", "outcome"],
)
TOKENS = Counter("saas_tokens", "Tokens of settled calls.", ["alias", "kind"])
PROVIDER_COST = Counter("saas_provider_cost_usd", "What providers charge for settled calls.")
CHARGED = Counter("saas_charged_credits", "What calls were charged; flat prices are of jobs.")
HTTP_REQUESTS = Counter(
    "saas_http_requests", "Requests answered.", ["area", "method", "status_class"]
)
HTTP_SECONDS = Histogram(
    "saas_http_request_seconds",
    "From a request to the start of its answer.",
    ["area"],
    buckets=_SHORT_SECONDS,
)
LIMITER_FALLBACKS = Counter(
    "saas_limiter_fallbacks", "Times that Redis did not answer for the limits."
)
SWEEPS = Counter("saas_sweeps", "Rounds of the worker, by chore and result.", ["chore", "result"])
