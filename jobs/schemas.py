"""Request bodies of the team endpoints: an allow-list, so that what reaches litellm is known."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator

from teams.api import Body, Query

Text = Annotated[str, Field(max_length=200)]
Json = dict[str, Any]


class ImageUrl(Body):
    url: str = Field(pattern=r"^(https://|data:image/)", max_length=8_000_000)
    detail: Literal["auto", "low", "high"] | None = None


class Part(Body):
    """One part of a message's content."""

    type: Literal["text", "image_url", "refusal"]
    text: str | None = None
    image_url: ImageUrl | None = None
    refusal: str | None = None
    cache_control: Json | None = None

    @model_validator(mode="after")
    def has_what_its_type_names(self) -> Part:
        if getattr(self, self.type) is None:
            raise ValueError(f"a part of type {self.type} needs the field {self.type}")
        return self


class CalledFunction(Body):
    name: str = Field(min_length=1, max_length=200)
    arguments: str


class ToolCall(Body):
    id: str = Field(min_length=1, max_length=200)
    type: Literal["function"] = "function"
    function: CalledFunction
    # Clients that put a stream's pieces together leave it in; it goes no further.
    index: int | None = Field(None, exclude=True)


class Message(Body):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    name: Text | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: Text | None = None
    refusal: str | None = None

    @model_validator(mode="after")
    def says_something(self) -> Message:
        if self.content is None and not (self.tool_calls or self.refusal):
            raise ValueError("content is missing")
        return self


class Function(Body):
    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None


class Tool(Body):
    type: Literal["function"]
    function: Function


class Cache(Body):
    ttl: int = Field(
        ge=0,
        le=30 * 24 * 3600,
        description="Seconds for which the same request of this team gets the same answer; 0: none.",
    )


class ChatFields(Body):
    """OpenAI's chat fields, which go to the provider as they were sent."""

    messages: list[Message] = Field(min_length=1, max_length=4096)
    temperature: float | int | None = Field(None, ge=0, le=2)
    top_p: float | int | None = Field(None, ge=0, le=1)
    max_tokens: int | None = Field(
        None,
        ge=1,
        le=10_000_000,
        description="The longest answer. Without it the alias's default is sent: 1,024, unless the"
        " operator chose another.",
    )
    max_completion_tokens: int | None = Field(None, ge=1, le=10_000_000)
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    n: int | None = Field(None, ge=1, le=16)
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    presence_penalty: float | int | None = Field(None, ge=-2, le=2)
    frequency_penalty: float | int | None = Field(None, ge=-2, le=2)
    logit_bias: dict[str, float | int] | None = None
    response_format: Json | None = None
    tools: list[Tool] | None = Field(None, max_length=256)
    tool_choice: Literal["none", "auto", "required"] | Json | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    user: Text | None = None
    cache: Cache | None = None

    @model_validator(mode="after")
    def bounds_output_once(self) -> ChatFields:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("send max_tokens or max_completion_tokens, not both")
        return self

    def openai_params(self) -> Json:
        """The fields for the provider, as sent: nothing added, nothing null."""
        names = set(ChatFields.model_fields) - {"messages", "cache"}
        return self.model_dump(include=names, exclude_none=True, exclude_unset=True)

    def plain_messages(self) -> list[Json]:
        return plain(self.messages)


class CallRequest(ChatFields):
    """One LLM call: the message list, and OpenAI's chat fields."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "messages": [{"role": "user", "content": "Summarise our contract in one line."}],
                "purpose": "summary",
                "max_tokens": 200,
            }
        }
    )

    model: str | None = Field(None, min_length=1, max_length=200, description="An alias.")
    purpose: Text = ""
    call_metadata: Json = Field(default_factory=dict)


def plain(messages: list[Message]) -> list[Json]:
    """Messages as OpenAI's JSON: nothing added but a content that is null."""
    return [
        message.model_dump(exclude_none=True, exclude_unset=True)
        | ({"content": None} if message.content is None else {})
        for message in messages
    ]


class CreateJob(Body):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "team_id": "acme-corp",
                "job_type": "document_analysis",
                "metadata": {"document_id": "doc_123"},
            }
        }
    )

    team_id: str | None = Field(
        None,
        min_length=1,
        max_length=63,
        description="A team's key decides it, and another is refused. Needed without one, and with"
        " an operator's key that sends no X-Team-Id.",
    )
    job_type: str = Field(min_length=1, max_length=100)
    user_id: Text = ""
    external_task_id: Text = ""
    metadata: Json = Field(default_factory=dict)
    max_credits: Decimal | None = Field(
        None, ge=0, le=10**9, strict=False, description="The job's cap in credits."
    )
    reserve: bool = Field(False, description="Set the whole cap aside now, for this job alone.")
    quote_id: UUID | None = Field(
        None,
        strict=False,
        description="From /api/jobs/quote: the job never pays more than its p95.",
    )


class CreateAndCall(CreateJob, CallRequest):
    """A job and its first call; ``job_metadata`` is another name for ``metadata``."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "team_id": "acme-corp",
                "job_type": "document_analysis",
                "messages": [{"role": "user", "content": "Summarise our contract in one line."}],
            }
        }
    )

    job_metadata: Json = Field(default_factory=dict)
    complete: bool = Field(
        False,
        description="The job ends with this call: completed if it delivered anything, else failed."
        " The answer's costs are then the whole job's.",
    )


class QuoteJob(Body):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "team_id": "acme-corp",
                "job_type": "document_analysis",
                "messages": [{"role": "user", "content": "Summarise our contract in one line."}],
                "expected_calls": 3,
            }
        }
    )

    team_id: str | None = Field(None, min_length=1, max_length=63)
    job_type: str = Field(min_length=1, max_length=100)
    model: str | None = Field(None, min_length=1, max_length=200, description="An alias.")
    messages: list[Message] = Field(
        default_factory=list, max_length=4096, description="A typical call's messages."
    )
    expected_calls: int | None = Field(None, ge=1, le=10_000)


class CompleteJob(Body):
    status: Literal["completed", "failed"] = "completed"
    metadata: Json = Field(default_factory=dict)
    error_message: str = Field("", max_length=2000)
    outcome: Literal["", "full", "partial", "none"] = ""


class CancelJob(Body):
    reason: str = Field("", max_length=500)


class PatchMetadata(Body):
    metadata: Json


class ListJobs(Query):
    status: Literal["pending", "in_progress", "completed", "failed", "cancelled"] | None = None
    job_type: str | None = None
    user_id: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    metadata: dict[str, str] = Field(default_factory=dict, description="As metadata.KEY=value.")
    cursor: str | None = Field(None, max_length=200)
    limit: int = Field(50, ge=1, le=200)


class UsageQuery(Query):
    period: str | None = Field(None, pattern=r"^\d{4}-\d{2}(-\d{2})?$")
    start: datetime | None = None
    end: datetime | None = None
    group_by: Literal["job_type", "day", "user"] | None = None
