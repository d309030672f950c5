"""Placing one request at one deployment, whole or streamed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from jobs.gateway import boot, direct, neutral, reading
from jobs.gateway.boot import litellm
from jobs.gateway.direct import Plain
from jobs.gateway.direct_stream import DirectStream
from jobs.gateway.library import asked
from jobs.gateway.retelling import retold
from jobs.gateway.streams import LibraryStream, Stream, count_usage
from jobs.gateway.types import Answer, Embedding, FailureKind, ProviderFailure, Target
from jobs.usage import Usage


async def shut_down() -> None:
    """Close the connections of the running loop, and litellm's."""
    await direct.close()
    await boot.close()


async def complete(
    *, target: Target, messages: list[dict[str, Any]], params: Mapping[str, Any]
) -> Answer:
    """The whole answer. Raises ProviderFailure."""
    response = await direct.answered(target=target, messages=messages, params=params)
    if response is None:
        response = await asked("acompletion", target, {"messages": messages, **params})
    read = response if isinstance(response, Plain) else _read(response)
    # All zeros mean that the provider sent none.
    usage = read.usage if read.usage is not None and read.usage.total_tokens else None
    if usage is None:
        usage = await asyncio.to_thread(
            count_usage,
            model=target.model,
            messages=messages,
            tools=params.get("tools"),
            text="".join(neutral.text(choice["message"]) for choice in read.choices),
        )
    return Answer(
        choices=read.choices,
        usage=usage,
        provider_request_id=read.provider_request_id,
        created=read.created,
    )


def _read(response: Any) -> Plain:
    """An answer as litellm gives it. Raises ProviderFailure."""
    try:
        choices = [
            {
                "index": choice.index,
                "message": neutral.message(choice.message),
                "finish_reason": neutral.finish_reason(choice.finish_reason) or "stop",
                **neutral.beside(choice),
            }
            for choice in response.choices
        ]
    except (AttributeError, TypeError) as error:
        raise ProviderFailure(FailureKind.GARBLED, detail=repr(error)) from error
    if not choices:
        raise ProviderFailure(FailureKind.GARBLED, detail="an answer without choices")
    return Plain(
        choices=choices,
        usage=reading.usage(getattr(response, "usage", None)),
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
    response = await direct.post(target=target, messages=messages, params=params, is_stream=True)
    if response is not None and response.status == 200:
        return DirectStream(response, target=target, messages=messages, params=params)
    asking = {**params, "stream": True, "stream_options": {"include_usage": True}}
    if response is None:
        read = await asked("acompletion", target, {"messages": messages, **asking})
    else:
        heard = await direct.said(response, target)
        read = await retold(target=target, messages=messages, params=asking, said=heard)
    return LibraryStream(read, target=target, messages=messages, tools=params.get("tools"))


def _count_texts(model: str, texts: list[str] | list[list[int]]) -> Usage:
    counted = sum(
        litellm().token_counter(model=model, text=text) if isinstance(text, str) else len(text)
        for text in texts
    )
    return Usage.checked(prompt_tokens=counted, source="estimate")


def _field(given: Any, name: str) -> Any:
    return given[name] if isinstance(given, Mapping) else getattr(given, name)
