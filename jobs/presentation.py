"""What a team sees of its jobs and calls: aliases, credits and USD price; never models or cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from billing.models import Account
from jobs import quotes, shapes
from jobs.models import Call, Job, Quote
from saas_litellm.base.money import from_nano


class CreatedJob(BaseModel):
    job_id: UUID
    team_id: str
    job_type: str
    status: str
    created_at: datetime


class CallAnswer(BaseModel):
    call_id: UUID
    job_id: UUID
    response: shapes.CallResponse
    metadata: shapes.CallFacts
    costs: shapes.CallCosts


class CreatedAndCalled(CreatedJob, CallAnswer):
    pass


class ClosedJob(BaseModel):
    job_id: UUID
    status: str
    completed_at: datetime
    costs: shapes.JobCosts
    calls: list[shapes.CallLine]


class JobView(shapes.ListedJob):
    outcome: str | None
    max_credits: Decimal | None
    error_message: str
    started_at: datetime | None
    costs: shapes.JobCosts
    status_history: list[shapes.StatusStep]


class CostsView(BaseModel):
    job_id: UUID
    status: str
    costs: shapes.JobCosts
    calls: list[shapes.CallCostLine]


class QuoteView(BaseModel):
    quote_id: UUID
    job_type: str
    credits: shapes.QuoteCredits
    basis: shapes.QuoteBasis
    valid_until: datetime


class MetadataView(BaseModel):
    job_id: UUID
    metadata: dict[str, Any]
    updated_at: datetime


class JobList(BaseModel):
    jobs: list[shapes.ListedJob]
    next_cursor: str | None


class UsageView(BaseModel):
    team_id: str
    start: datetime
    end: datetime
    summary: shapes.UsageSums
    rows: list[shapes.UsageRow]


class ModelView(BaseModel):
    id: str
    object: str
    created: int
    owned_by: str


class ModelList(BaseModel):
    object: str
    data: list[ModelView]


class OpenAIAnswer(BaseModel):
    """OpenAI's own shape; its ``model`` is the alias."""

    object: str
    model: str
    usage: dict[str, Any]


class MessageAnswer(BaseModel):
    """Anthropic's own shape; its ``model`` is the alias."""

    id: str
    type: str
    role: str
    model: str
    content: list[dict[str, Any]]
    stop_reason: str
    usage: dict[str, Any]


def created(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.pk,
        "team_id": job.team.slug,
        "job_type": job.job_type,
        "status": job.status,
        "created_at": job.created_at,
    }


def quoted(quote: Quote) -> dict[str, Any]:
    return {
        "quote_id": quote.pk,
        "job_type": quote.job_type,
        "credits": {
            "expected": from_nano(quote.expected_nanocredits),
            "p95": from_nano(quote.p95_nanocredits),
            "worst_case": from_nano(quote.worst_nanocredits),
        },
        "basis": {
            "jobs": quote.basis_jobs,
            "source": "history" if quote.basis_jobs >= quotes.LEAST_JOBS else "worst_case",
        },
        "valid_until": quote.valid_until,
    }


def costs_of(job: Job) -> dict[str, Any]:
    finished = job.successful_calls + job.failed_calls
    account = Account.objects.get(pk=job.account_id)
    return {
        "total_calls": finished + job.in_flight,
        "successful_calls": job.successful_calls,
        "failed_calls": job.failed_calls,
        "total_tokens": job.total_tokens,
        "total_cost_usd": from_nano(job.price_nano_usd - job.refunded_nano_usd),
        "avg_latency_ms": job.total_latency_ms // finished if finished else 0,
        "credits_charged": from_nano(job.net_nanocredits),
        "credit_applied": job.net_nanocredits > 0,
        "credits_remaining": from_nano(account.balance_nanocredits),
    }


def calls_of(job: Job) -> list[dict[str, Any]]:
    return [
        {
            "call_id": call.pk,
            "purpose": call.purpose,
            "model": call.alias.name,
            "tokens": call.total_tokens,
            "latency_ms": call.latency_ms,
            "error": call.error_code or None,
        }
        for call in _calls(job)
    ]


def call_costs_of(job: Job) -> list[dict[str, Any]]:
    return [
        {
            "call_id": call.pk,
            "purpose": call.purpose,
            "model": call.alias.name,
            "status": call.status,
            **costs_of_call(call),
        }
        for call in _calls(job)
    ]


def closed(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.pk,
        "status": job.status,
        "completed_at": job.closed_at,
        "costs": costs_of(job),
        "calls": calls_of(job),
    }


def listed(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.pk,
        "team_id": job.team.slug,
        "job_type": job.job_type,
        "user_id": job.user_id,
        "external_task_id": job.external_task_id,
        "status": job.status,
        "metadata": job.metadata,
        "created_at": job.created_at,
        "completed_at": job.closed_at,
        "total_calls": job.successful_calls + job.failed_calls + job.in_flight,
        "credits_charged": from_nano(job.net_nanocredits),
        "total_cost_usd": from_nano(job.price_nano_usd - job.refunded_nano_usd),
    }


def whole(job: Job) -> dict[str, Any]:
    return {
        **listed(job),
        "outcome": job.outcome or None,
        "max_credits": None if job.max_nanocredits is None else from_nano(job.max_nanocredits),
        "error_message": job.error_message,
        "started_at": job.started_at,
        "costs": costs_of(job),
        "status_history": [
            {
                "from": step.from_status or None,
                "to": step.to_status,
                "at": step.at,
                "reason": step.reason,
            }
            for step in job.history.all()
        ],
    }


def created_and_answered(call: Call, choices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The answer of the first call of a job that was made with it."""
    made = introduced(call)
    if call.job.is_single:
        made["status"] = call.job.status
    return {**made, **answered(call, choices)}


def introduced(call: Call) -> dict[str, Any]:
    """A job as its first call finds it."""
    return {**created(call.job), "status": Job.Status.IN_PROGRESS}


def answered(call: Call, choices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The answer of a plain call; ``choices`` is added when several were asked for."""
    first = choices[0]
    message = first["message"]
    response = {
        "content": message.get("content"),
        "finish_reason": first.get("finish_reason"),
        "tool_calls": message.get("tool_calls"),
        "refusal": message.get("refusal"),
    }
    if first.get("logprobs"):
        response["logprobs"] = first["logprobs"]
    if len(choices) > 1:
        response["choices"] = choices
    return {
        "call_id": call.pk,
        "job_id": call.job_id,
        "response": response,
        "metadata": {
            "model": call.alias.name,
            **usage_of(call),
            "latency_ms": call.latency_ms,
            "cached": call.is_cache_hit,
        },
        "costs": costs_for_caller(call),
    }


def usage_of(call: Call) -> dict[str, int]:
    usage = call.usage or {}
    return {
        "tokens_used": call.total_tokens,
        "prompt_tokens": usage.get("prompt_tokens", 0),
        "completion_tokens": usage.get("completion_tokens", 0),
    }


def openai_usage(call: Call) -> dict[str, Any]:
    """OpenAI's usage object."""
    usage = call.usage or {}
    return {
        "prompt_tokens": usage.get("prompt_tokens", 0),
        "completion_tokens": usage.get("completion_tokens", 0),
        "total_tokens": call.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.get("cached_tokens", 0),
            "audio_tokens": usage.get("audio_input_tokens", 0),
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.get("reasoning_tokens", 0),
            "audio_tokens": usage.get("audio_output_tokens", 0),
        },
    }


def costs_of_call(call: Call) -> dict[str, Decimal]:
    return {
        "credits": from_nano(call.charged_nanocredits - call.refunded_nanocredits),
        "total_cost_usd": from_nano(call.price_nano_usd - call.refunded_nano_usd),
    }


def costs_for_caller(call: Call) -> dict[str, Decimal]:
    """What an answer says it cost: of a job that ended with its one call, the job's whole price."""
    job = call.job
    if not job.is_single or job.is_open:
        return costs_of_call(call)
    return {
        "credits": from_nano(job.net_nanocredits),
        "total_cost_usd": from_nano(job.price_nano_usd - job.refunded_nano_usd),
    }


def _calls(job: Job) -> Iterable[Call]:
    return job.calls.select_related("alias").order_by("created_at", "id")
