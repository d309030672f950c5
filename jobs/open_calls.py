"""What is known of a call between its hold and its settlement, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from jobs.cache import Policy, Recording
from jobs.models import Attempt, Call, Job
from jobs.routing import Route
from jobs.usage import Usage
from saas_litellm.base.idempotency import Claim
from saas_litellm.base.limiter import Admission
from teams.catalog import ResolvedAlias
from teams.models import Alias


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCall:
    """An admitted call: its row, and how to place it."""

    call: Call
    job: Job
    alias: Alias
    resolved: ResolvedAlias
    route: Route
    params: Mapping[str, Any]
    # The idempotency key it holds, if it came with one.
    claim: Claim | None = None
    # What was asked, as far as its team lets it be kept.
    kept_request: Mapping[str, Any] | None = None
    # What is written down of its answer; and whether it plays back instead of asking a provider.
    recording: Recording | None = None
    caching: Policy | None = None
    # How it was counted under its team's limits, which its settlement corrects.
    admission: Admission | None = None
    # The first attempt, where its hold recorded it already.
    attempt: Attempt | None = None

    @property
    def is_answer_kept(self) -> bool:
        """Whether what it delivers is stored when it settles."""
        return self.claim is not None or self.kept_request is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a call ended, as its driver saw it."""

    usage: Usage
    latency_ms: int
    is_output_delivered: bool
    # False when the provider turned the request down and so charges nothing for it.
    is_costed: bool = True
    finish_reason: str = ""
    # What was delivered, for whoever asks again: choices, vectors, or the chunks of a stream.
    parts: Sequence[Any] = ()
    # Of a cache hit: the prices that its answer was metered by.
    unit_prices: Mapping[str, Any] = field(default_factory=dict)
    error_code: str = ""
    first_token_at: datetime | None = None
    provider_request_id: str = ""
    failure: str = ""
    # Whether the failure tells against the deployment, and the pause that its provider asked for.
    is_fault: bool = False
    pause_seconds: float | None = None
    failure_status: int | None = None
    failure_detail: str = ""
