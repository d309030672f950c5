"""The built-in demo model: a litellm custom provider, streamed, deterministic, without a key."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from litellm import CustomLLM
from litellm.types.utils import (
    Choices,
    EmbeddingResponse,
    GenericStreamingChunk,
    Message,
    ModelResponse,
    Usage,
)

PROVIDER = "demo"
CHUNK_SECONDS = 0.015
BYTES_PER_TOKEN = 4
_EXAMPLES: Mapping[str, Any] = {
    "string": "demo",
    "integer": 1,
    "number": 1.5,
    "boolean": True,
    "array": [],
    "null": None,
}


class DemoProvider(CustomLLM):  # type: ignore[misc] # litellm is loosely typed
    async def acompletion(self, *args: Any, **kwargs: Any) -> ModelResponse:
        asked = _Asked(kwargs)
        message = Message(content=asked.text or None, role="assistant")
        if asked.tool_call:
            message = Message(content=None, role="assistant", tool_calls=[asked.tool_call])
        response: ModelResponse = kwargs.get("model_response") or ModelResponse()
        response.choices = [Choices(index=0, message=message, finish_reason=asked.finish_reason)]
        response.created = int(time.time())
        response.usage = Usage(**asked.usage)
        return response

    async def astreaming(self, *args: Any, **kwargs: Any) -> AsyncIterator[GenericStreamingChunk]:
        asked = _Asked(kwargs)
        if asked.tool_call:
            tool_use = {**asked.tool_call, "index": 0}
            yield _chunk(tool_use=tool_use)
        for word in asked.words:
            yield _chunk(text=word)
            await asyncio.sleep(CHUNK_SECONDS)
        yield _chunk(is_finished=True, finish_reason=asked.finish_reason, usage=asked.usage)

    async def aembedding(self, *args: Any, **kwargs: Any) -> EmbeddingResponse:
        texts = kwargs.get("input") or []
        texts = [texts] if isinstance(texts, str) else texts
        rows = [
            {"object": "embedding", "index": index, "embedding": _vector(str(text))}
            for index, text in enumerate(texts)
        ]
        tokens = sum(_tokens(str(text)) for text in texts)
        usage = Usage(prompt_tokens=tokens, completion_tokens=0, total_tokens=tokens)
        return EmbeddingResponse(model=PROVIDER, data=rows, usage=usage)


class _Asked:
    """What a request asks for, and the answer that is always the same for it."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.params: Mapping[str, Any] = given.get("optional_params") or {}
        messages = given.get("messages") or []
        self.tool_call = self._called_tool()
        whole = "" if self.tool_call else self._answer(messages)
        limit = self.params.get("max_completion_tokens") or self.params.get("max_tokens")
        kept = whole.encode()[: int(limit) * BYTES_PER_TOKEN] if limit else whole.encode()
        self.text = kept.decode(errors="ignore")
        self.words = [word + " " for word in self.text.split(" ")]
        self.words[-1] = self.words[-1][:-1]
        self.finish_reason = (
            "tool_calls" if self.tool_call else "length" if len(self.text) < len(whole) else "stop"
        )
        prompt = _tokens(json.dumps(messages, ensure_ascii=False))
        completion = _tokens(self.text or json.dumps(self.tool_call))
        self.usage = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }

    def _answer(self, messages: list[Mapping[str, Any]]) -> str:
        schema = (self.params.get("response_format") or {}).get("json_schema", {}).get("schema")
        if schema:
            return json.dumps(_example(schema))
        users = [message for message in messages if message.get("role") == "user"]
        content = users[-1].get("content") if users else ""
        if isinstance(content, list):
            content = " ".join(part.get("text", "") for part in content)
        asked = str(content or "")[:60]
        return (
            f"You wrote: “{asked}”. This is the built-in demo model: it needs no key, always"
            " answers in this way, and is metered, priced and charged like any other. Add a"
            " provider credential in the admin to get real answers."
        )

    def _called_tool(self) -> dict[str, Any] | None:
        tools, choice = self.params.get("tools") or [], self.params.get("tool_choice")
        if not tools or choice in (None, "auto", "none"):
            return None
        function = tools[0]["function"]
        if isinstance(choice, Mapping):
            wanted = choice.get("function", {}).get("name")
            function = next(
                (tool["function"] for tool in tools if tool["function"]["name"] == wanted), function
            )
        arguments = json.dumps(_example(function.get("parameters") or {"type": "object"}))
        return {
            "id": f"demo-{function['name']}",
            "type": "function",
            "function": {"name": function["name"], "arguments": arguments},
        }


def _example(schema: Mapping[str, Any]) -> Any:
    """The simplest instance of a schema."""
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind != "object":
        return _EXAMPLES.get(kind)
    properties = schema.get("properties") or {}
    return {name: _example(properties.get(name) or {}) for name in schema.get("required") or ()}


def _vector(text: str) -> list[float]:
    """A unit vector that is always the same for a text."""
    digest = hashlib.sha256(text.encode()).digest()
    parts = [byte - 127.5 for byte in digest]
    length = math.sqrt(sum(part * part for part in parts))
    return [part / length for part in parts]


def _tokens(text: str) -> int:
    return math.ceil(len(text.encode()) / BYTES_PER_TOKEN)


def _chunk(
    *,
    text: str = "",
    tool_use: Any = None,
    is_finished: bool = False,
    finish_reason: str = "",
    usage: Any = None,
) -> GenericStreamingChunk:
    return GenericStreamingChunk(
        text=text,
        tool_use=tool_use,
        is_finished=is_finished,
        finish_reason=finish_reason,
        usage=usage,
        index=0,
    )
