"""Placing one request at one deployment, whole or streamed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from jobs.gateway import neutral, reading
from jobs.gateway.boot import litellm
from jobs.gateway.types import (
    Answer,
    Chunk,
    Embedding,
    FailureKind,
    ProviderFailure,
    Target,
    has_output,
)
from jobs.usage import Usage


async def complete(
    *, target: Target, messages: list[dict[str, Any]], params: Mapping[str, Any]
) -> Answer:
    """The whole answer. Raises ProviderFailure."""
    response = await _ask(target, messages, params)
    try:
        choices = [
            {
                "index": choice.index,
                "message": neutral.message(choice.message),
                "finish_reason": neutral.finish_reason(choice.finish_reason) or "stop",
                **_logprobs(choice),
            }
            for choice in response.choices
        ]
    except (AttributeError, TypeError) as error:
        raise ProviderFailure(FailureKind.GARBLED, detail=repr(error)) from error
    if not choices:
        raise ProviderFailure(FailureKind.GARBLED, detail="an answer without choices")
    text = "".join(_text_of(choice["message"]) for choice in choices)
    return Answer(
        choices=choices,
        usage=await _usage_of(target, messages, params, response, text),
        provider_request_id=str(getattr(response, "id", "") or ""),
        created=int(getattr(response, "created", 0) or 0),
    )


async def embed(
    *, target: Target, texts: list[str] | list[list[int]], params: Mapping[str, Any]
) -> Embedding:
    """One vector a text, in order. Raises ProviderFailure."""
    response = await asked("aembedding", target, {"input": texts, **params})
    try:
        vectors = [list(map(float, _field(row, "embedding"))) for row in response.data]
    except (AttributeError, TypeError, ValueError) as error:
        raise ProviderFailure(FailureKind.GARBLED, detail=repr(error)) from error
    if len(vectors) != len(texts):
        raise ProviderFailure(FailureKind.GARBLED, detail=f"{len(vectors)} of {len(texts)} vectors")
    usage = reading.usage(getattr(response, "usage", None))
    if not usage.total_tokens:
        usage = await asyncio.to_thread(_count_texts, target.model, texts)
    return Embedding(
        vectors=vectors, usage=usage, provider_request_id=str(getattr(response, "id", "") or "")
    )


async def open_stream(
    *, target: Target, messages: list[dict[str, Any]], params: Mapping[str, Any]
) -> Stream:
    """An open stream, not yet read. Raises ProviderFailure."""
    response = await _ask(
        target, messages, {**params, "stream": True, "stream_options": {"include_usage": True}}
    )
    return Stream(response, target=target, messages=messages, tools=params.get("tools"))


def count_usage(
    *, model: str, messages: Sequence[Mapping[str, Any]], tools: Any = None, text: str = ""
) -> Usage:
    """Count with the model's tokenizer, or the nearest one. Sync, milliseconds for long texts."""
    library = litellm()
    prompt = library.token_counter(model=model, messages=list(messages), tools=tools)
    completion = library.token_counter(model=model, text=text) if text else 0
    return Usage.checked(prompt_tokens=prompt, completion_tokens=completion, source="estimate")


class Stream:
    """An answer in pieces. Iterate it, then ask for its usage; close it in any case."""

    def __init__(
        self, response: Any, *, target: Target, messages: list[dict[str, Any]], tools: Any
    ) -> None:
        self._response = response
        self._target = target
        self._messages = messages
        self._tools = tools
        self._text: list[str] = []
        self._final_usage: Any = None
        self.provider_request_id = ""

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        try:
            async for piece in self._response:
                self.provider_request_id = self.provider_request_id or str(piece.id or "")
                if getattr(piece, "usage", None) is not None:
                    self._final_usage = piece.usage
                chunk = self._chunk(piece)
                if chunk is not None:
                    yield chunk
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise reading.failure(error, secret=self._target.api_key) from error
        if not self._was_finished_by_provider():
            raise ProviderFailure(FailureKind.CONNECTION, detail="the stream ended before its end")

    def usage(self) -> Usage:
        """The provider's usage if it sent one to the end, else the tokenizer's count."""
        reported = self._reported()
        if reported is not None and self._was_finished_by_provider() and self._final_usage:
            return reading.usage(self._final_usage)
        counted = count_usage(
            model=self._target.model,
            messages=self._messages,
            tools=self._tools,
            text="".join(self._text),
        )
        if reported is None:
            return counted
        # A cut stream that had told its prompt (Anthropic does so first): only the rest is counted.
        known = reading.usage(reported)
        return Usage.checked(
            prompt_tokens=known.prompt_tokens or counted.prompt_tokens,
            cached_tokens=known.cached_tokens,
            cache_write_tokens=known.cache_write_tokens,
            cache_write_1h_tokens=known.cache_write_1h_tokens,
            completion_tokens=max(known.completion_tokens, counted.completion_tokens),
            source="estimate",
        )

    async def aclose(self) -> None:
        """Close the connection to the provider at once; twice is fine, and it never raises."""
        with contextlib.suppress(Exception):
            await self._response.aclose()

    def _chunk(self, piece: Any) -> Chunk | None:
        choices, is_output = [], False
        for choice in piece.choices:
            delta = neutral.delta(choice.delta)
            finish_reason = neutral.finish_reason(choice.finish_reason)
            if not delta and finish_reason is None:
                continue
            is_output = is_output or has_output(delta)
            self._text.append(_text_of(delta))
            choices.append(
                {
                    "index": choice.index,
                    "delta": delta,
                    "finish_reason": finish_reason,
                    **_logprobs(choice),
                }
            )
        return Chunk(choices, is_output) if choices else None

    def _reported(self) -> Any:
        """Usage as the provider sent it: litellm keeps raw chunks, and makes the last usage up
        from a tokenizer without a word when none of them has any."""
        chunks = getattr(self._response, "chunks", ())
        usages = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None) is not None]
        return usages[-1] if usages else None

    def _was_finished_by_provider(self) -> bool:
        """litellm ends a cut stream with a "stop" of its own, which it does not record: the
        provider's own stands among the raw chunks or, for some formats, beside them."""
        if getattr(self._response, "received_finish_reason", None) is not None:
            return True
        chunks = getattr(self._response, "chunks", ())
        return any(choice.finish_reason for chunk in chunks for choice in chunk.choices)


async def _ask(target: Target, messages: list[dict[str, Any]], params: Mapping[str, Any]) -> Any:
    return await asked("acompletion", target, {"messages": messages, **params})


async def asked(function: str, target: Target, params: Mapping[str, Any]) -> Any:
    """Call one of litellm's functions, without any of its retries. Raises ProviderFailure."""
    library = await asyncio.to_thread(litellm)
    try:
        return await getattr(library, function)(
            model=target.model,
            api_key=target.api_key,
            api_base=target.api_base,
            timeout=target.timeout_seconds,
            max_retries=0,
            num_retries=0,
            **target.extra,
            **params,
        )
    except asyncio.CancelledError:
        raise
    except Exception as error:
        raise reading.failure(error, secret=target.api_key) from error


def _count_texts(model: str, texts: list[str] | list[list[int]]) -> Usage:
    counted = sum(
        litellm().token_counter(model=model, text=text) if isinstance(text, str) else len(text)
        for text in texts
    )
    return Usage.checked(prompt_tokens=counted, source="estimate")


def _field(given: Any, name: str) -> Any:
    return given[name] if isinstance(given, Mapping) else getattr(given, name)


async def _usage_of(
    target: Target,
    messages: list[dict[str, Any]],
    params: Mapping[str, Any],
    response: Any,
    text: str,
) -> Usage:
    """The provider's usage; all zeros mean that it sent none."""
    reported = reading.usage(getattr(response, "usage", None))
    if reported.total_tokens:
        return reported
    return await asyncio.to_thread(
        count_usage, model=target.model, messages=messages, tools=params.get("tools"), text=text
    )


def _text_of(message: Mapping[str, Any]) -> str:
    calls = message.get("tool_calls") or ()
    parts = [message.get("reasoning_content"), message.get("content"), message.get("refusal")]
    for call in calls:
        parts += [call["function"].get("name"), call["function"].get("arguments")]
    return "".join(part for part in parts if part)


def _logprobs(choice: Any) -> dict[str, Any]:
    found = neutral.logprobs(getattr(choice, "logprobs", None))
    return {"logprobs": found} if found else {}
