"""Request bodies of the OpenAI paths: what the official clients send, and nothing unknown."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from jobs.schemas import Cache, ChatFields, Json, Text
from teams.api import Body

Model = Annotated[str, Field(min_length=1, max_length=200, description="An alias.")]


class StreamOptions(Body):
    include_usage: bool = False
    include_obfuscation: bool | None = None


class ChatCompletionRequest(ChatFields):
    """OpenAI's chat completion. ``metadata`` is kept on the call and not forwarded."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}
        }
    )

    model: Model
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: dict[str, str] | None = Field(None, max_length=16)
    # Nothing is ever stored for OpenAI's own dashboards, and a tier would change the price.
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None
    # Hints to OpenAI about the end user and its prompt cache: accepted, not forwarded.
    safety_identifier: Text | None = None
    prompt_cache_key: Text | None = None

    def kept_metadata(self) -> Json:
        return dict(self.metadata or {})


Tokens = Annotated[list[Annotated[int, Field(ge=0, le=2**31)]], Field(min_length=1)]


class EmbeddingsRequest(Body):
    """OpenAI's embeddings: texts, or texts as token ids."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"model": "embed", "input": ["one text", "another"]}}
    )

    model: Model
    input: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, max_length=2048)]
        | Tokens
        | Annotated[list[Tokens], Field(min_length=1, max_length=2048)]
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1, le=65_536)
    user: Text | None = None
    cache: Cache | None = None

    def texts(self) -> list[str] | list[list[int]]:
        """The inputs as a list, whichever of OpenAI's four shapes they came in."""
        given = self.input
        if isinstance(given, str):
            return [given]
        return [given] if isinstance(given[0], int) else given

    def params(self) -> Json:
        return self.model_dump(include={"dimensions", "user"}, exclude_none=True)
