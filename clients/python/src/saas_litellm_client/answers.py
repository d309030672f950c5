"""What the server answers. Credits and USD are exact decimals; fields it adds later are let be."""

from __future__ import annotations

import builtins
import json
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Model = TypeVar("Model", bound=BaseModel)


def _floats(value: Any) -> Any:
    """Numbers of the caller's own as Python reads JSON; only the server's amounts are decimals."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, dict):
        return {name: _floats(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_floats(part) for part in value]
    return value


Json = Annotated[dict[str, Any], BeforeValidator(_floats)]


class Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Function(Answer):
    name: str
    arguments: str


class ToolCall(Answer):
    """A tool that the model wants called."""

    id: str
    type: str = "function"
    function: Function

    @property
    def name(self) -> str:
        return self.function.name

    @property
    def arguments(self) -> dict[str, Any]:
        """Raises ValueError for what is no JSON object: models do write such a thing."""
        read = json.loads(self.function.arguments or "{}")
        if not isinstance(read, dict):
            raise ValueError("the arguments are not a JSON object")  # noqa: TRY004 - the model's
        return read

    def parse(self, model: builtins.type[Model]) -> Model:
        """The arguments as a pydantic object; raises pydantic's ValidationError, a ValueError."""
        return model.model_validate_json(self.function.arguments or "{}")

    def result(self, content: str) -> dict[str, Any]:
        """The message that tells the model what came of it."""
        return {"role": "tool", "tool_call_id": self.id, "content": content}


class Usage(Answer):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class CallCosts(Answer):
    credits: Decimal
    total_cost_usd: Decimal


class Response(Answer):
    content: str | None = None
    finish_reason: str | None = None
    tool_calls: list[ToolCall] | None = None
    refusal: str | None = None
    logprobs: Json | None = None
    choices: list[Json] | None = None


class CallFacts(Answer):
    """``model`` is the alias; ``cached``: the answer came from the team's cache."""

    model: str
    tokens_used: int
    prompt_tokens: int
    completion_tokens: int
    latency_ms: int
    cached: bool


class Call(Answer):
    """One LLM call and what it cost."""

    call_id: UUID
    job_id: UUID
    response: Response
    metadata: CallFacts
    costs: CallCosts

    @property
    def text(self) -> str:
        return self.response.content or ""

    @property
    def tool_calls(self) -> list[ToolCall]:
        return self.response.tool_calls or []

    @property
    def usage(self) -> Usage:
        facts = self.metadata
        return Usage(
            prompt_tokens=facts.prompt_tokens,
            completion_tokens=facts.completion_tokens,
            total_tokens=facts.tokens_used,
        )

    @property
    def message(self) -> dict[str, Any]:
        """The answer as a message, to go on with."""
        return message_of(self.response.content, self.tool_calls, self.response.refusal)


class CreatedJob(Answer):
    job_id: UUID
    team_id: str
    job_type: str
    status: str
    created_at: datetime


class OneCall(Call, CreatedJob):
    """A job of one call, closed with it: ``costs`` is what the whole job cost."""


class JobCosts(Answer):
    total_calls: int
    successful_calls: int
    failed_calls: int
    total_tokens: int
    total_cost_usd: Decimal
    avg_latency_ms: int
    credits_charged: Decimal
    credit_applied: bool
    credits_remaining: Decimal


class CallLine(Answer):
    """``error`` is a code; None when the call went well."""

    call_id: UUID
    purpose: str
    model: str
    tokens: int
    latency_ms: int
    error: str | None


class ClosedJob(Answer):
    job_id: UUID
    status: str
    completed_at: datetime
    costs: JobCosts
    calls: list[CallLine]


class ListedJob(CreatedJob):
    user_id: str
    external_task_id: str
    metadata: Json
    completed_at: datetime | None
    total_calls: int
    credits_charged: Decimal
    total_cost_usd: Decimal


class StatusStep(Answer):
    from_status: str | None = Field(alias="from")
    to_status: str = Field(alias="to")
    at: datetime
    reason: str


class JobDetails(ListedJob):
    outcome: str | None
    max_credits: Decimal | None
    error_message: str
    started_at: datetime | None
    costs: JobCosts
    status_history: list[StatusStep]


class JobPage(Answer):
    jobs: list[ListedJob]
    next_cursor: str | None


class CallCostLine(CallCosts):
    call_id: UUID
    purpose: str
    model: str
    status: str


class JobBill(Answer):
    job_id: UUID
    status: str
    costs: JobCosts
    calls: list[CallCostLine]


class JobMetadata(Answer):
    job_id: UUID
    metadata: Json
    updated_at: datetime


class QuoteCredits(Answer):
    expected: Decimal
    p95: Decimal
    worst_case: Decimal


class QuoteBasis(Answer):
    """``source``: "history" of so many jobs, or "worst_case" while they are too few."""

    jobs: int
    source: str


class Quote(Answer):
    quote_id: UUID
    job_type: str
    credits: QuoteCredits
    basis: QuoteBasis
    valid_until: datetime


class Rates(Answer):
    credits_per_usd: Decimal


class Runway(Answer):
    """Days that the credits last at the pace of late; None: nothing was spent."""

    days: Decimal | None
    days_at_fastest: Decimal | None
    days_at_slowest: Decimal | None
    credits_per_day: Decimal
    basis_days: int


class Lot(Answer):
    lot_id: int
    kind: str
    credits_granted: Decimal
    credits_remaining: Decimal
    priority: int
    granted_at: datetime
    expires_at: datetime | None


class Balance(Answer):
    """In credits: what the wallet owns, has set aside, and can still spend."""

    team_id: str
    balance: Decimal
    held: Decimal
    available: Decimal
    credit_limit: Decimal
    mode: str
    rates: Rates
    runway: Runway
    lots: list[Lot]


class UsageSums(Answer):
    jobs: int
    completed_jobs: int
    failed_jobs: int
    calls: int
    failed_calls: int
    total_tokens: int
    credits_charged: Decimal
    total_cost_usd: Decimal


class UsageRow(UsageSums):
    """One group of ``group_by``, whose field is set."""

    job_type: str | None = None
    day: str | None = None
    user: str | None = None


class TeamUsage(Answer):
    team_id: str
    start: datetime
    end: datetime
    summary: UsageSums
    rows: list[UsageRow]


def message_of(
    content: str | None, tool_calls: list[ToolCall], refusal: str | None
) -> dict[str, Any]:
    """An assistant's message, for the next call's message list."""
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if tool_calls:
        message["tool_calls"] = [called.model_dump() for called in tool_calls]
    if refusal:
        message["refusal"] = refusal
    return message
