"""The request body of Anthropic's Messages API: what its clients send, and nothing unknown."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag, model_validator

from jobs.schemas import Cache, Json, Text
from teams.api import Body

CacheControl = Json | None


class TextBlock(Body):
    type: Literal["text"]
    text: str
    cache_control: CacheControl = None
    citations: None = None


class ImageSource(Body):
    type: Literal["base64", "url"]
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"] | None = None
    data: str | None = Field(None, pattern=r"^[A-Za-z0-9+/=\s]*$")
    url: str | None = Field(None, pattern=r"^https://", max_length=8192)

    @model_validator(mode="after")
    def has_what_its_type_names(self) -> ImageSource:
        if self.type == "url" and self.url is None:
            raise ValueError("a source of type url needs the field url")
        if self.type == "base64" and (self.data is None or self.media_type is None):
            raise ValueError("a source of type base64 needs the fields media_type and data")
        return self


class ImageBlock(Body):
    type: Literal["image"]
    source: ImageSource
    cache_control: CacheControl = None


class ToolUseBlock(Body):
    type: Literal["tool_use"]
    id: str = Field(min_length=1, max_length=200)
    name: str = Field(min_length=1, max_length=200)
    input: Json
    cache_control: CacheControl = None
    caller: Json | None = None


class ToolResultBlock(Body):
    type: Literal["tool_result"]
    tool_use_id: str = Field(min_length=1, max_length=200)
    content: str | list[TextBlock | ImageBlock] = ""
    is_error: bool = False
    cache_control: CacheControl = None


class ThinkingBlock(Body):
    """What a model thought before: no other deployment could read it, so it goes no further."""

    type: Literal["thinking", "redacted_thinking"]
    thinking: str = ""
    signature: str = ""
    data: str = ""


def _type_of(block: Any) -> str | None:
    kind = block.get("type") if isinstance(block, dict) else getattr(block, "type", None)
    return "thinking" if kind == "redacted_thinking" else kind


Block = Annotated[
    Annotated[TextBlock, Tag("text")]
    | Annotated[ImageBlock, Tag("image")]
    | Annotated[ToolUseBlock, Tag("tool_use")]
    | Annotated[ToolResultBlock, Tag("tool_result")]
    | Annotated[ThinkingBlock, Tag("thinking")],
    Discriminator(_type_of),
]


class Turn(Body):
    role: Literal["user", "assistant"]
    content: str | list[Block]


class Tool(Body):
    """A tool of the caller's own; the provider's server tools cannot be metered, so are not here."""

    type: Literal["custom"] | None = None
    name: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,128}$")
    description: str | None = None
    input_schema: Json
    strict: bool | None = None
    cache_control: CacheControl = None


class ToolChoice(Body):
    type: Literal["auto", "any", "tool", "none"]
    name: Text | None = None
    disable_parallel_tool_use: bool | None = None

    @model_validator(mode="after")
    def names_its_tool(self) -> ToolChoice:
        if self.type == "tool" and not self.name:
            raise ValueError("a choice of type tool needs the field name")
        return self


class Thinking(Body):
    type: Literal["enabled", "disabled"]
    budget_tokens: int | None = Field(None, ge=1)


class Metadata(Body):
    user_id: str | None = Field(None, max_length=256)


class MessagesRequest(Body):
    """Anthropic's message. ``metadata`` is kept on the call and not forwarded."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "model": "demo",
                "max_tokens": 200,
                "messages": [{"role": "user", "content": "Hello"}],
            }
        }
    )

    model: str = Field(min_length=1, max_length=200, description="An alias.")
    max_tokens: int = Field(ge=1, le=10_000_000)
    messages: list[Turn] = Field(min_length=1, max_length=4096)
    system: str | list[TextBlock] | None = None
    stop_sequences: list[str] | None = Field(None, max_length=16)
    temperature: float | int | None = Field(None, ge=0, le=1)
    top_p: float | int | None = Field(None, ge=0, le=1)
    stream: bool | None = None
    tools: list[Tool] | None = Field(None, max_length=256)
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    metadata: Metadata | None = None
    # A tier would change the price.
    service_tier: Literal["auto", "standard_only"] | None = None
    cache: Cache | None = None
