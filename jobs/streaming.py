"""Server-sent events: frames leave as they arrive, and a reader that leaves stops the provider."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from django.conf import settings
from django.http import StreamingHttpResponse

from jobs import metering, presentation
from jobs.gateway import Chunk
from jobs.metering import Run
from jobs.models import Call
from saas_litellm.base import http

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


async def respond(
    run: Run, *, request_id: str, opening: dict[str, Any] | None = None
) -> StreamingHttpResponse:
    """An SSE answer to an admitted run.

    Waits for the provider's first chunk for a while, so that a refusal is a real HTTP status:
    raises that Refusal. ``opening`` fields are added to the first frame.
    """
    first = asyncio.ensure_future(run.chunks.get())
    try:
        opened = await asyncio.shield(run.admitted)
        await asyncio.wait([first], timeout=settings.FIRST_CHUNK_SECONDS)
        if first.done() and first.result() is None:
            await asyncio.shield(run.settled)
            if run.refusal is not None:
                raise run.refusal
    except BaseException:
        first.cancel()
        if not run.settled.done():
            run.stop(metering.CLIENT_GONE)
        raise
    frames = _frames(
        run,
        first,
        frame_of=_framer(opened.call.pk, opened.alias.name, opening),
        request_id=request_id,
    )
    response = StreamingHttpResponse(frames, content_type="text/event-stream")
    response["Cache-Control"] = "no-cache"
    response["X-Accel-Buffering"] = "no"
    return response


async def _frames(
    run: Run,
    pending: asyncio.Future[Chunk | None],
    *,
    frame_of: Callable[[list[dict[str, Any]], dict[str, Any]], bytes],
    request_id: str,
) -> AsyncIterator[bytes]:
    is_over = False
    try:
        while True:
            # asyncio.wait leaves the pending read alone when the silence is broken by a comment.
            await asyncio.wait([pending], timeout=settings.KEEP_ALIVE_SECONDS)
            if not pending.done():
                yield KEEP_ALIVE
                continue
            chunk = pending.result()
            if chunk is None:
                break
            pending = asyncio.ensure_future(run.chunks.get())
            yield frame_of(chunk.choices, {})
        is_over = True
        call = await asyncio.shield(run.settled)
        if run.refusal is not None:
            yield _event(http.error_body(run.refusal, request_id=request_id))
            return
        yield frame_of([], _closing(call))
        yield DONE
    finally:
        pending.cancel()
        if not is_over:
            run.stop(metering.CLIENT_GONE)


def _framer(
    call_id: Any, alias: str, opening: dict[str, Any] | None
) -> Callable[[list[dict[str, Any]], dict[str, Any]], bytes]:
    """A function that makes OpenAI chunk frames; the first one carries ``opening`` as well."""
    head = {
        "id": f"chatcmpl-{call_id.hex}",
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": alias,
    }
    once = [opening or {}]

    def frame(choices: list[dict[str, Any]], more: dict[str, Any]) -> bytes:
        extra = once.pop() if once else {}
        return _event({**head, "choices": choices, **extra, **more})

    return frame


def _closing(call: Call) -> dict[str, Any]:
    usage = presentation.usage_of(call)
    return {
        "usage": {
            "prompt_tokens": usage["prompt_tokens"],
            "completion_tokens": usage["completion_tokens"],
            "total_tokens": usage["tokens_used"],
        },
        "job_id": call.job_id,
        "call_id": call.pk,
        "costs": presentation.costs_of_call(call),
    }


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + http.encode(body) + b"\n\n"
