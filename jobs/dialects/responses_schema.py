"""The request body of OpenAI's Responses API, as far as it needs no stored state."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from jobs.schemas import Cache, ImageUrl, Json, Text
from teams.api import Body


class TextPart(Body):
    type: Literal["input_text", "output_text"]
    text: str
    # What our own answers carry, handed back by the client.
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class ImagePart(Body):
    type: Literal["input_image"]
    image_url: str = Field(pattern=r"^(https://|data:image/)", max_length=8_000_000)
    detail: Literal["auto", "low", "high"] | None = None

    def chat(self) -> Json:
        url = ImageUrl(url=self.image_url, detail=self.detail)
        return {"type": "image_url", "image_url": url.model_dump(exclude_none=True)}


class RefusalPart(Body):
    type: Literal["refusal"]
    refusal: str


class MessageItem(Body):
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[TextPart | ImagePart | RefusalPart]
    id: Text | None = None
    status: Text | None = None
    phase: Text | None = None


class FunctionCallItem(Body):
    type: Literal["function_call"]
    call_id: str = Field(min_length=1, max_length=200)
    name: str = Field(min_length=1, max_length=200)
    arguments: str
    id: Text | None = None
    status: Text | None = None
    namespace: Text | None = None


class FunctionOutputItem(Body):
    type: Literal["function_call_output"]
    call_id: str = Field(min_length=1, max_length=200)
    output: str | list[TextPart]
    id: Text | None = None
    status: Text | None = None


class ReasoningItem(Body):
    """What a model thought before: no other deployment could read it, so it goes no further."""

    type: Literal["reasoning"]
    id: Text | None = None
    summary: list[Any] | None = None
    content: list[Any] | None = None
    encrypted_content: str | None = None
    status: Text | None = None


def _type_of(item: Any) -> str:
    kind = item.get("type") if isinstance(item, dict) else getattr(item, "type", None)
    return kind if isinstance(kind, str) else "message"


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionOutputItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")],
    Discriminator(_type_of),
]


class FunctionTool(Body):
    """A function of the caller's own; the provider's built-in tools cannot be metered here."""

    type: Literal["function"]
    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None


class NamedTool(Body):
    type: Literal["function"]
    name: str = Field(min_length=1, max_length=128)


class TextFormat(Body):
    model_config = ConfigDict(populate_by_name=True)

    type: Literal["text", "json_object", "json_schema"]
    name: Text | None = None
    description: str | None = None
    json_schema: Json | None = Field(None, alias="schema")
    strict: bool | None = None


class TextSettings(Body):
    format: TextFormat | None = None
    verbosity: Literal["medium"] | None = None


class Reasoning(Body):
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class StreamOptions(Body):
    include_obfuscation: bool | None = None


class ResponsesRequest(Body):
    """OpenAI's response, without stored state. ``metadata`` is kept on the call."""

    model_config = ConfigDict(json_schema_extra={"example": {"model": "demo", "input": "Hello"}})

    model: str = Field(min_length=1, max_length=200, description="An alias.")
    input: str | Annotated[list[Item], Field(min_length=1, max_length=4096)]
    instructions: str | None = None
    max_output_tokens: int | None = Field(None, ge=1, le=10_000_000)
    temperature: float | int | None = Field(None, ge=0, le=2)
    top_p: float | int | None = Field(None, ge=0, le=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[FunctionTool] | None = Field(None, max_length=256)
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    text: TextSettings | None = None
    reasoning: Reasoning | None = None
    metadata: dict[str, str] | None = Field(None, max_length=16)
    user: Text | None = None
    safety_identifier: Text | None = None
    prompt_cache_key: Text | None = None
    # Nothing is stored, so there is nothing to go on from: send the whole conversation as input.
    store: Literal[False] | None = None
    previous_response_id: None = None
    conversation: None = None
    background: Literal[False] | None = None
    include: list[Literal["reasoning.encrypted_content"]] | None = None
    truncation: Literal["disabled"] | None = None
    service_tier: Literal["auto", "default"] | None = None
    cache: Cache | None = None
