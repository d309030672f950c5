"""An answer in pieces: what all streams have in common, and the one that litellm reads."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from jobs.gateway import neutral, reading
from jobs.gateway.boot import litellm
from jobs.gateway.types import Chunk, FailureKind, ProviderFailure, Target, has_output
from jobs.usage import Usage


def count_usage(
    *, model: str, messages: Sequence[Mapping[str, Any]], tools: Any = None, text: str = ""
) -> Usage:
    """Count with the model's tokenizer, or the nearest one. Sync, milliseconds for long texts."""
    library = litellm()
    prompt = library.token_counter(model=model, messages=list(messages), tools=tools)
    completion = library.token_counter(model=model, text=text) if text else 0
    return Usage.checked(prompt_tokens=prompt, completion_tokens=completion, source="estimate")


class Stream(ABC):
    """Iterate it for batches of chunks, then ask for its usage; close it in any case.

    A batch is what arrived together, and never empty. Iterating raises ProviderFailure, also for
    a stream that ends before the provider has finished.
    """

    def __init__(self, *, target: Target, messages: list[dict[str, Any]], tools: Any) -> None:
        self._target = target
        self._messages = messages
        self._tools = tools
        self._text: list[str] = []
        self.provider_request_id = ""

    @abstractmethod
    def __aiter__(self) -> AsyncIterator[list[Chunk]]: ...

    @abstractmethod
    async def aclose(self) -> None:
        """Close the connection to the provider at once; twice is fine, and it never raises."""

    @abstractmethod
    def reported_usage(self) -> Usage | None:
        """What the provider counted of an answer that it sent to the end."""

    @abstractmethod
    def _begun_usage(self) -> Usage | None:
        """What the provider counted of an answer that was cut."""

    async def counted(self) -> Usage:
        """Its usage; a thread counts tokens where the provider did not."""
        reported = self.reported_usage()
        return reported if reported is not None else await asyncio.to_thread(self.usage)

    def usage(self) -> Usage:
        """The provider's usage if it sent one to the end, else the tokenizer's count (sync)."""
        reported = self.reported_usage()
        if reported is not None:
            return reported
        counted = count_usage(
            model=self._target.model,
            messages=self._messages,
            tools=self._tools,
            text="".join(self._text),
        )
        known = self._begun_usage()
        if known is None:
            return counted
        # A cut stream that had told its prompt (Anthropic does so first): only the rest is counted.
        return Usage.checked(
            prompt_tokens=known.prompt_tokens or counted.prompt_tokens,
            cached_tokens=known.cached_tokens,
            cache_write_tokens=known.cache_write_tokens,
            cache_write_1h_tokens=known.cache_write_1h_tokens,
            completion_tokens=max(known.completion_tokens, counted.completion_tokens),
            source="estimate",
        )


class LibraryStream(Stream):
    """A stream that litellm reads, one chunk a batch."""

    def __init__(
        self, response: Any, *, target: Target, messages: list[dict[str, Any]], tools: Any
    ) -> None:
        super().__init__(target=target, messages=messages, tools=tools)
        self._response = response
        self._final_usage: Any = None

    async def __aiter__(self) -> AsyncIterator[list[Chunk]]:
        try:
            async for piece in self._response:
                self.provider_request_id = self.provider_request_id or str(piece.id or "")
                if getattr(piece, "usage", None) is not None:
                    self._final_usage = piece.usage
                chunk = self._chunk(piece)
                if chunk is not None:
                    yield [chunk]
        except asyncio.CancelledError:
            raise
        except Exception as error:
            raise reading.failure(error, secret=self._target.api_key) from error
        if not self._was_finished_by_provider():
            raise ProviderFailure(FailureKind.CONNECTION, detail="the stream ended before its end")

    def reported_usage(self) -> Usage | None:
        if self._reported() is None or not self._final_usage:
            return None
        return reading.usage(self._final_usage) if self._was_finished_by_provider() else None

    def _begun_usage(self) -> Usage | None:
        reported = self._reported()
        return reading.usage(reported) if reported is not None else None

    async def aclose(self) -> None:
        with contextlib.suppress(Exception):
            await self._response.aclose()

    def _chunk(self, piece: Any) -> Chunk | None:
        choices, is_output = [], False
        for choice in piece.choices:
            delta = neutral.delta(choice.delta)
            finish_reason = neutral.finish_reason(choice.finish_reason)
            if finish_reason and not self._was_finished_by_provider():
                finish_reason = None
            if not delta and finish_reason is None:
                continue
            is_output = is_output or has_output(delta)
            self._text.append(neutral.text(delta))
            choices.append(
                {
                    "index": choice.index,
                    "delta": delta,
                    "finish_reason": finish_reason,
                    **neutral.beside(choice),
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
