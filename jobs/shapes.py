"""What stands inside the answers about jobs and calls, for the schema that clients read."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field


class CallCosts(BaseModel):
    credits: Decimal
    total_cost_usd: Decimal


class JobCosts(BaseModel):
    total_calls: int
    successful_calls: int
    failed_calls: int
    total_tokens: int
    total_cost_usd: Decimal
    avg_latency_ms: int
    credits_charged: Decimal
    credit_applied: bool
    credits_remaining: Decimal


class AnswerFunction(BaseModel):
    name: str
    arguments: str = Field(description="JSON as the model wrote it; not checked.")


class AnswerToolCall(BaseModel):
    id: str
    type: str
    function: AnswerFunction


class CallResponse(BaseModel):
    content: str | None
    finish_reason: str | None
    tool_calls: list[AnswerToolCall] | None
    refusal: str | None
    logprobs: dict[str, Any] | None = Field(None, description="If they were asked for.")
    choices: list[dict[str, Any]] | None = Field(None, description="If n was above 1.")


class CallFacts(BaseModel):
    model: str = Field(description="The alias.")
    tokens_used: int
    prompt_tokens: int
    completion_tokens: int
    latency_ms: int
    cached: bool


class CallLine(BaseModel):
    call_id: UUID
    purpose: str
    model: str
    tokens: int
    latency_ms: int
    error: str | None


class CallCostLine(CallCosts):
    call_id: UUID
    purpose: str
    model: str
    status: str


class StatusStep(BaseModel):
    from_: str | None = Field(alias="from")
    to: str
    at: datetime
    reason: str


class QuoteCredits(BaseModel):
    expected: Decimal
    p95: Decimal
    worst_case: Decimal


class QuoteBasis(BaseModel):
    jobs: int
    source: str


class ListedJob(BaseModel):
    job_id: UUID
    team_id: str
    job_type: str
    user_id: str
    external_task_id: str
    status: str
    metadata: dict[str, Any]
    created_at: datetime
    completed_at: datetime | None
    total_calls: int
    credits_charged: Decimal
    total_cost_usd: Decimal


class UsageSums(BaseModel):
    jobs: int
    completed_jobs: int
    failed_jobs: int
    calls: int
    failed_calls: int
    total_tokens: int
    credits_charged: Decimal
    total_cost_usd: Decimal


class UsageRow(UsageSums):
    """The sums of one group; the field of ``group_by`` says which."""

    job_type: str | None = None
    day: str | None = None
    user: str | None = None
