"""A stream of OpenAI's own format, read as it arrives: each batch is what came in one piece."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp
import orjson

from jobs.gateway import boot, direct, neutral
from jobs.gateway.frames import Frames
from jobs.gateway.retelling import failure_of
from jobs.gateway.streams import Stream
from jobs.gateway.types import Chunk, FailureKind, ProviderFailure, Target, has_output
from jobs.usage import Usage

_DONE = b"[DONE]"
# How long a provider may take to end a response whose last word it has said: the connection can
# be used again only then.
_ENDING_SECONDS = 1.0
# Nobody may ask for so many; a provider that makes them up must not fill memory or take time.
_MOST_CHOICES = 128
_ending: set[asyncio.Task[None]] = set()


class DirectStream(Stream):
    """What litellm's wrapper would give, by the same rules, but for what it loses: a refusal, and
    of several choices the first frame and the finish reason of all but the first."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        *,
        target: Target,
        messages: list[dict[str, Any]],
        params: Mapping[str, Any],
    ) -> None:
        super().__init__(target=target, messages=messages, tools=params.get("tools"))
        self._response = response
        self._params = params
        self._frames = Frames()
        self._is_done = False
        # Places of choices that have had their first frame, and their last; few, mostly one.
        self._begun: tuple[int, ...] = ()
        self._finished: tuple[int, ...] = ()
        self._usage: Mapping[str, Any] | None = None
        self._last_text = ""
        self._repeats = 1

    async def __aiter__(self) -> AsyncIterator[list[Chunk]]:
        while not self._is_done:
            block = await self._block()
            try:
                events = self._frames.feed(block) if block else self._frames.end()
            except ValueError as error:
                raise ProviderFailure(FailureKind.GARBLED, detail=str(error)) from error
            chunks: list[Chunk] = []
            odd = self._read(events, chunks)
            if chunks:
                yield chunks
            if odd is not None and block:
                raise await self._failure(odd)
            if not block:
                break
            # The next may be long in coming, and of this one nothing is needed any more.
            del block, events, chunks
        if not self._finished:
            raise ProviderFailure(FailureKind.CONNECTION, detail="the stream ended before its end")

    def reported_usage(self) -> Usage | None:
        return self._begun_usage() if self._finished else None

    def _begun_usage(self) -> Usage | None:
        try:
            return direct.usage_of(self._usage)
        except (ValueError, TypeError):
            return None

    async def aclose(self) -> None:
        response = self._response
        if self._is_done and not response.content.at_eof():
            task = asyncio.create_task(_end(response), name="end-of-stream")
            _ending.add(task)
            task.add_done_callback(_ending.discard)
        else:
            response.close()

    async def _block(self) -> bytes:
        """What has arrived, b"" at the end; a connection lost after the last word is an end."""
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            if self._finished:
                return b""
            raise direct.lost(error, self._target) from error

    def _read(self, events: list[bytes], chunks: list[Chunk]) -> bytes | None:
        """Add the chunks of these events; returns the first that is not as OpenAI sends it."""
        for event in events:
            if event.startswith(_DONE):
                self._is_done = True
                return None
            try:
                self._add(orjson.loads(event), chunks)
            except (ValueError, TypeError, AttributeError, KeyError):
                return event
        return None

    def _add(self, frame: Any, chunks: list[Chunk]) -> None:
        """Raises ValueError, or what reading nonsense raises."""
        if frame.get("error"):
            raise ValueError("an error")
        if not self.provider_request_id and (given := frame.get("id")):
            self.provider_request_id = str(given)
        if usage := frame.get("usage"):
            self._usage = dict(usage)
        choices: Sequence[Any] = frame.get("choices") or ()
        if len(choices) == 1 and (word := self._next_word(choices[0])):
            self._watch(word)
            self._text.append(word["content"])
            chunks.append(Chunk([_choice(choices[0]["index"], word, None, {})], has_output=True))
            return
        begun: list[dict[str, Any]] = []
        ended: list[dict[str, Any]] = []
        for choice in choices:
            place = choice.get("index") or 0
            if not isinstance(place, int) or not 0 <= place < _MOST_CHOICES:
                raise ValueError("no place of a choice")
            delta = self._delta(choice.get("delta"), place)
            if delta:
                begun.append(_choice(place, delta, None, neutral.beside(choice)))
            reason = choice.get("finish_reason")
            if reason == "error":
                raise ValueError("an error")
            if reason and place not in self._finished:
                self._finished += (place,)
                ended.append(_choice(place, {}, direct.finish_reason(reason), {}))
        if begun:
            self._watch(begun[0]["delta"])
            self._text += [neutral.text(choice["delta"]) for choice in begun]
            chunks.append(Chunk(begun, any(has_output(choice["delta"]) for choice in begun)))
        # After what it ends, also where both came in one frame.
        if ended:
            chunks.append(Chunk(ended, has_output=False))

    def _next_word(self, choice: Mapping[str, Any]) -> dict[str, str] | None:
        """The delta of a frame that brings one more word and nothing else, as nearly all do."""
        delta, reason = choice.get("delta"), choice.get("finish_reason")
        if type(delta) is not dict or len(delta) != 1 or reason or choice.get("logprobs"):
            return None
        text = delta.get("content")
        is_next = type(text) is str and text and choice.get("index") in self._begun
        return delta if is_next else None

    def _delta(self, given: Any, place: int) -> dict[str, Any]:
        """Empty for what says nothing. A choice has its role in its first frame and nowhere else."""
        delta = neutral.delta(given) if given else {}
        role = delta.pop("role", None)
        for index, call in enumerate(delta.get("tool_calls", ())):
            call.setdefault("index", index)
        is_said = has_output(delta) or "reasoning_content" in delta
        if place not in self._begun and (is_said or role):
            self._begun += (place,)
            return {"role": "assistant", **delta}
        return delta if is_said else {}

    def _watch(self, delta: Mapping[str, Any]) -> None:
        """Raises ValueError for a model that says the same for ever, as litellm has it."""
        text = delta.get("content") or ""
        self._repeats = self._repeats + 1 if len(text) > 2 and text == self._last_text else 1
        self._last_text = text
        if self._repeats > 1 and self._is_stuck():
            raise ValueError("repeating itself")

    def _is_stuck(self) -> bool:
        return self._repeats > int(boot.litellm().REPEATED_STREAMING_CHUNK_LIMIT)

    async def _failure(self, event: bytes) -> ProviderFailure:
        if self._is_stuck():
            return ProviderFailure(FailureKind.SERVER_ERROR, detail="the model repeats itself")
        return await failure_of(
            target=self._target,
            messages=self._messages,
            params={**self._params, "stream": True},
            event=event,
        )


def _choice(
    place: int, delta: dict[str, Any], reason: str | None, beside: dict[str, Any]
) -> dict[str, Any]:
    return {"index": place, "delta": delta, "finish_reason": reason, **beside}


async def _end(response: aiohttp.ClientResponse) -> None:
    """Read to the end, so that the connection is free for the next; else close it."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_ENDING_SECONDS):
            while await response.content.readany():
                pass
    response.close()
