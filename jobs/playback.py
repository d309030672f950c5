"""Recordings of answers, from the side of a run: the one that makes it, and those that play it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from jobs import cache
from jobs.cache import Recording
from jobs.calls import OpenCall
from jobs.gateway import Chunk, FailureKind, ProviderFailure
from jobs.pipe import Pipe
from jobs.runs import CLIENT_GONE, WAITING_CHUNKS, Progress, Run, pass_on
from jobs.usage import Usage
from saas_litellm.base import clock


def begin(run: Run, recording: Recording) -> None:
    """Let a slow reader hold up nobody else who reads the same recording. Nobody has begun to
    read yet: that is for after the admission."""
    run.chunks = Pipe()
    if not run.is_hit:
        recording.on_left = lambda: run.stop(CLIENT_GONE) if run.is_reader_gone else None


async def end(run: Run, opened: OpenCall) -> None:
    """Settled or not, nothing more is added; a whole answer that went well is kept."""
    recording = opened.recording
    if recording is None or recording.is_done or opened.caching is None:
        return
    is_whole = run.settled.done() and not run.settled.exception() and run.refusal is None
    recording.failure = run.progress.failure
    if run.stop_reason and recording.failure is None:
        # Those who read along get to know that what they have is not the whole answer.
        recording.failure = ProviderFailure(FailureKind.CONNECTION, detail="the first call ended")
    await cache.keep(opened.caching, recording, is_whole=is_whole and not run.stop_reason)


async def _deliver(run: Run, recording: Recording) -> None:
    """Deliver what a recording has and gets, until it ends."""
    progress = run.progress
    if run.order.is_stream:
        async for parts in recording.read(WAITING_CHUNKS):
            progress.first_token_at = progress.first_token_at or clock.now()
            await pass_on(run, [Chunk(choices, has_output=True) for choices in parts])
    await recording.ended()


async def play(run: Run, recording: Recording) -> None:
    """A reader that leaves stops reading; what it pays is known once the recording has ended."""
    run.upstream = asyncio.create_task(_deliver(run, recording), name="playback")
    if run.stop_reason:
        run.upstream.cancel()
    await asyncio.wait([run.upstream])
    recording.leave()
    await recording.ended()
    progress = run.progress
    progress.failure = recording.failure
    progress.is_output_delivered = recording.is_output
    progress.finish_reason = recording.finish_reason
    if not run.order.is_stream and recording.is_output:
        progress.played = recording.parts


def note(recording: Recording, progress: Progress, usage: Usage, prices: Mapping[str, Any]) -> None:
    """Write down what the answer was and by what it is metered."""
    recording.usage, recording.unit_prices = usage, dict(prices)
    recording.finish_reason = progress.finish_reason
    if progress.answer is not None:
        recording.parts = list(progress.answer.parts)
        recording.is_output = progress.answer.has_output
