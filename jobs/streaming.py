"""Server-sent events: frames leave as they arrive, and a reader that leaves stops the provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol

from django.conf import settings

from jobs import presentation
from jobs.gateway import Chunk
from jobs.models import Call
from jobs.refusals import StreamInterrupted
from jobs.replays import Kept
from jobs.runs import CLIENT_GONE, Run
from saas_litellm.base import http
from saas_litellm.base.refusals import Refusal

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


class Wire(Protocol):
    """How one protocol writes a stream: each method gives whole events, or nothing."""

    def opening(self) -> bytes: ...

    def chunk(self, choices: list[dict[str, Any]]) -> bytes: ...

    def closing(self, call: Call) -> bytes: ...

    def error(self, refusal: Refusal) -> bytes: ...


async def respond(run: Run, *, wire_of: Callable[[Call], Wire]) -> http.EventStream:
    """An SSE answer to a run.

    Waits for the provider's first chunk for a while, so that a refusal is a real HTTP status:
    raises that Refusal.
    """
    try:
        opened = await asyncio.shield(run.admitted)
        # Not before: a run that is recorded gets another pipe when it is admitted.
        first = await run.chunks.get(settings.FIRST_CHUNK_SECONDS)
        if first is None:
            await asyncio.shield(run.settled)
            if run.refusal is not None:
                raise run.refusal
    except BaseException:
        if not run.settled.done():
            run.stop(CLIENT_GONE)
        raise
    return http.EventStream(_frames(run, first, wire_of(opened.call)))


def replay(kept: Kept, wire: Wire) -> http.EventStream:
    """A kept stream again, as a stream; one that was cut ends where it was cut."""

    async def frames() -> AsyncGenerator[bytes]:
        if opening := wire.opening():
            yield opening
        for choices in kept.parts:
            yield wire.chunk(choices)
        yield wire.error(StreamInterrupted()) if kept.call.error_code else wire.closing(kept.call)

    return http.EventStream(frames())


async def _frames(run: Run, chunks: list[Chunk] | None, wire: Wire) -> AsyncGenerator[bytes]:
    """What waits together leaves together; ``chunks`` are the first."""
    is_over, patience = False, settings.KEEP_ALIVE_SECONDS
    try:
        if opening := wire.opening():
            yield opening
        while chunks is not None:
            if written := b"".join([wire.chunk(chunk.choices) for chunk in chunks]):
                yield written
            # The next may be long in coming, and of these nothing is needed any more.
            del chunks, written
            chunks = await run.chunks.get(patience)
            if chunks == []:
                yield KEEP_ALIVE
        is_over = True
        call = await asyncio.shield(run.settled)
        yield wire.closing(call) if run.refusal is None else wire.error(run.refusal)
    finally:
        if not is_over:
            run.stop(CLIENT_GONE)


class ChunkWire:
    """OpenAI's chat.completion.chunk frames."""

    def __init__(self, call: Call, *, request_id: str) -> None:
        self._request_id = request_id
        self._head = {
            "id": f"chatcmpl-{call.pk.hex}",
            "object": "chat.completion.chunk",
            "created": int(call.created_at.timestamp()),
            "model": call.alias.name,
        }

    def opening(self) -> bytes:
        return b""

    def chunk(self, choices: list[dict[str, Any]]) -> bytes:
        return self.frame(choices)

    def closing(self, call: Call) -> bytes:
        return DONE

    def error(self, refusal: Refusal) -> bytes:
        return event(http.error_body(refusal, request_id=self._request_id))

    def frame(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return event({**self._head, "choices": choices, **more})


class JobWire(ChunkWire):
    """The same on /api paths: the first frame introduces a new job, the last one says the cost."""

    def __init__(self, call: Call, *, request_id: str, is_new_job: bool) -> None:
        super().__init__(call, request_id=request_id)
        self._introduction: dict[str, Any] = {}
        if is_new_job:
            self._introduction = {**presentation.introduced(call), "call_id": call.pk}

    def chunk(self, choices: list[dict[str, Any]]) -> bytes:
        introduction, self._introduction = self._introduction, {}
        return self.frame(choices, **introduction)

    def closing(self, call: Call) -> bytes:
        usage = presentation.usage_of(call)
        last = self.frame(
            [],
            usage={
                "prompt_tokens": usage["prompt_tokens"],
                "completion_tokens": usage["completion_tokens"],
                "total_tokens": usage["tokens_used"],
            },
            job_id=call.job_id,
            call_id=call.pk,
            costs=presentation.costs_for_caller(call),
        )
        return last + DONE


class OpenAIWire(ChunkWire):
    """The same on /v1: as OpenAI sends them, usage only if it was asked for."""

    def __init__(self, call: Call, *, request_id: str, is_usage_asked: bool) -> None:
        super().__init__(call, request_id=request_id)
        self._is_usage_asked = is_usage_asked

    def chunk(self, choices: list[dict[str, Any]]) -> bytes:
        return self.frame(choices, usage=None) if self._is_usage_asked else self.frame(choices)

    def closing(self, call: Call) -> bytes:
        if not self._is_usage_asked:
            return DONE
        return self.frame([], usage=presentation.openai_usage(call)) + DONE


def event(body: dict[str, Any]) -> bytes:
    return b"data: " + http.encode(body) + b"\n\n"
