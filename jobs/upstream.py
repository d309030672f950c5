"""Asking a deployment for a run's answer, plain or as a stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from jobs import gateway
from jobs.calls import OpenCall, Order
from jobs.gateway import Answer, Chunk, Embedding, FailureKind, Media, ProviderFailure
from jobs.routing import Candidate
from jobs.runs import Run, finish_reason, pass_on
from saas_litellm.base import clock
from teams.models import Alias

logger = logging.getLogger(__name__)


async def pause(run: Run, seconds: float) -> None:
    """Wait, unless the run is stopped."""
    run.upstream = asyncio.create_task(asyncio.sleep(seconds), name="pause")
    await asyncio.gather(run.upstream, return_exceptions=True)


async def attempt(run: Run, opened: OpenCall, candidate: Candidate, deadline: float) -> None:
    """Ask one deployment; what comes of it is in the run's progress. ``deadline``: the loop's time."""
    run.upstream = asyncio.create_task(_ask(run, opened, candidate, deadline), name="upstream")
    if run.stop_reason:
        run.upstream.cancel()
    (error,) = await asyncio.gather(run.upstream, return_exceptions=True)
    if isinstance(error, Exception):
        logger.error("call %s failed inside", opened.call.pk, exc_info=error)
        run.progress.failure = ProviderFailure(FailureKind.GARBLED, detail=repr(error))


async def _ask(run: Run, opened: OpenCall, candidate: Candidate, deadline: float) -> None:
    progress, deployment = run.progress, candidate.priced.deployment
    credential = candidate.priced.credential
    left = deadline - asyncio.get_running_loop().time()
    target = gateway.Target(
        model=deployment.model,
        api_key=candidate.api_key,
        api_base=(credential.api_base or None) if credential else None,
        extra=credential.extra if credential else {},
        timeout_seconds=min(left, deployment.timeout_seconds or left),
    )
    try:
        async with asyncio.timeout(target.timeout_seconds) as patience:
            if run.order.is_stream:
                # Once words arrive, the stream may take as long as the call.
                await _read_stream(run, target, opened, lambda: patience.reschedule(deadline))
            else:
                progress.answer = await _read_whole(run.order, target, opened)
                progress.is_output_delivered = progress.answer.has_output
                progress.finish_reason = finish_reason(progress.answer.choices)
    except ProviderFailure as failure:
        progress.failure = failure
    except TimeoutError:
        progress.failure = ProviderFailure(FailureKind.TIMEOUT, detail="no answer in time")


async def _read_whole(
    order: Order, target: gateway.Target, opened: OpenCall
) -> Answer | Embedding | Media:
    if order.kind in Alias.BY_UNIT:
        return await gateway.MAKERS[order.kind](
            target=target, media=order.media, params=opened.params, milliunits=order.milliunits
        )
    if order.kind == Alias.Kind.EMBEDDING:
        return await gateway.embed(target=target, texts=order.texts, params=opened.params)
    return await gateway.complete(target=target, messages=order.messages, params=opened.params)


async def _read_stream(
    run: Run, target: gateway.Target, opened: OpenCall, on_output: Callable[[], None]
) -> None:
    """Pass chunks on as they come together, from the first with output: until then another
    deployment may answer."""
    progress = run.progress
    stream = await gateway.open_stream(
        target=target, messages=run.order.messages, params=opened.params
    )
    progress.stream = stream
    opening: list[Chunk] = []
    try:
        async for chunks in stream:
            for chunk in chunks:
                progress.finish_reason = finish_reason(chunk.choices) or progress.finish_reason
            if progress.is_output_delivered:
                await pass_on(run, chunks)
            else:
                opening += chunks
                if any(chunk.has_output for chunk in chunks):
                    progress.is_output_delivered = True
                    progress.first_token_at = clock.now()
                    on_output()
                    await pass_on(run, opening)
                    opening = []
            # The next may be long in coming, and of these nothing is needed any more.
            del chunks, chunk
        if opening:
            await pass_on(run, opening)
    finally:
        await stream.aclose()
