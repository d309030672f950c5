"""What a caller may set: of the client, of a job, of a call. Fields are the server's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypedDict
from uuid import UUID

# One user's words, or OpenAI's message list.
Messages = str | Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """In seconds. ``connect``: until there is a connection; ``read``: the longest silence (a stream
    breaks it every 15 s; a plain call may be silent until it is done, and only ``total`` ends it);
    ``total``: for a request with all its retries, and for a whole stream.

    The server gives up on a call after 600 s.
    """

    connect: float = 5.0
    read: float = 60.0
    total: float = 660.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often, besides the first time, and how long to wait, in seconds.

    The wait doubles from ``first_wait`` to ``longest_wait``, less up to half of it by chance, and
    is never shorter than the server's Retry-After. ``count=0``: no retries.
    """

    count: int = 4
    first_wait: float = 0.5
    longest_wait: float = 8.0


class CacheOptions(TypedDict):
    """``ttl``: seconds for which the same request gets the same answer; 0: none."""

    ttl: int


class CallOptions(TypedDict, total=False):
    """Of one call: ``model`` is an alias (default: the team's), the rest OpenAI's chat fields."""

    model: str
    purpose: str
    call_metadata: Mapping[str, Any]
    temperature: float
    top_p: float
    max_tokens: int
    max_completion_tokens: int
    stop: str | Sequence[str]
    n: int
    seed: int
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[str, float]
    response_format: Mapping[str, Any]
    tools: Sequence[Mapping[str, Any]]
    tool_choice: Literal["none", "auto", "required"] | Mapping[str, Any]
    parallel_tool_calls: bool
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"]
    logprobs: bool
    top_logprobs: int
    user: str
    cache: CacheOptions


class JobOptions(TypedDict, total=False):
    """Of a job. ``max_credits`` is its cap, which ``reserve`` sets aside at once; with the
    ``quote_id`` of a quote the job never pays more than the quote's p95."""

    user_id: str
    external_task_id: str
    metadata: Mapping[str, Any]
    max_credits: Decimal | float
    reserve: bool
    quote_id: UUID | str


class OneCallOptions(CallOptions, JobOptions, total=False):
    """Of a job made for one call."""


class JobFilter(TypedDict, total=False):
    """``metadata``: text values that the jobs' metadata must have; ``limit``: jobs a page."""

    status: Literal["pending", "in_progress", "completed", "failed", "cancelled"]
    job_type: str
    user_id: str
    created_after: datetime
    created_before: datetime
    metadata: Mapping[str, str]
    limit: int


Outcome = Literal["full", "partial", "none"]
GroupBy = Literal["job_type", "day", "user"]
