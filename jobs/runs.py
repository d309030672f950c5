"""A call in flight: what was asked, what has been delivered so far, and how it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs import cache, failures, gateway
from jobs.calls import OpenCall, Order
from jobs.gateway import Answer, Chunk, Embedding, Media, ProviderFailure
from jobs.models import Call
from jobs.pipe import Pipe
from jobs.refusals import JobClosed, Restarting
from saas_litellm.base.limiter import Admission
from saas_litellm.base.refusals import Refusal

# Chunks a slow reader may fall behind before the provider is no longer read.
WAITING_CHUNKS = 256
CLIENT_GONE = "client_gone"
JOB_CANCELLED = "job_cancelled"
SHUTDOWN = "shutdown"
# When another process may have taken this one's place.
RESTART_SECONDS = 1


@dataclass(slots=True)
class Progress:
    """What the provider has delivered so far."""

    answer: Answer | Embedding | Media | None = None
    stream: gateway.Stream | None = None
    # What a stream has passed on, if it is to be kept.
    sent: list[list[dict[str, Any]]] = field(default_factory=list)
    is_output_delivered: bool = False
    finish_reason: str = ""
    first_token_at: Any = None
    failure: ProviderFailure | None = None
    # The parts of a plain answer that was played back.
    played: Sequence[Any] | None = None

    @property
    def delivered(self) -> Sequence[Any] | None:
        """A plain answer's choices or vectors, wherever they came from."""
        return self.answer.parts if self.answer is not None else self.played


@dataclass(slots=True, eq=False)
class Run:
    """One call in flight."""

    order: Order
    progress: Progress = field(default_factory=Progress)
    opened: OpenCall | None = None
    # Set once the call is admitted or refused; chunks follow, then their end.
    admitted: asyncio.Future[OpenCall] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    chunks: Pipe = field(default_factory=lambda: Pipe(WAITING_CHUNKS))
    settled: asyncio.Future[Call] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    stop_reason: str = ""
    # Set before it settles: a single job closes with its call, and that cancels nothing.
    is_decided: bool = False
    is_reader_gone: bool = False
    # How its attempts were counted under their deployments' own limits.
    places: list[Admission] = field(default_factory=list)
    upstream: asyncio.Task[None] | None = None

    def stop(self, reason: str) -> None:
        """Stop asking the provider; what it delivered so far is settled."""
        self.is_reader_gone = self.is_reader_gone or reason == CLIENT_GONE
        if self.is_decided:
            return
        if self._is_read_along and reason == CLIENT_GONE:
            # Others read along: the last of them to leave stops it.
            return
        self.stop_reason = self.stop_reason or reason
        if self.opened is not None and self.opened.caching and self.opened.recording:
            cache.forget(self.opened.caching.key, self.opened.recording)
        if self.upstream is not None:
            self.upstream.cancel()

    @property
    def _is_read_along(self) -> bool:
        """Whether others read the answer that this one asked for."""
        recording = self.opened.recording if self.opened is not None else None
        return recording is not None and recording.readers > 0 and not self.is_hit

    @property
    def is_hit(self) -> bool:
        """Whether it plays an answer back instead of asking a provider."""
        return self.opened is not None and self.opened.call.is_cache_hit

    @property
    def refusal(self) -> Refusal | None:
        """What the caller is told when the call did not end well."""
        if self.stop_reason == JOB_CANCELLED:
            return JobClosed("The job was cancelled while this call ran.")
        if self.stop_reason == SHUTDOWN:
            return Restarting(retry_after_seconds=RESTART_SECONDS)
        if self.progress.failure is not None:
            return failures.refusal_for(self.progress.failure)
        return None


async def pass_on(run: Run, chunks: Sequence[Chunk]) -> None:
    """Hand chunks to the reader, and to whoever keeps or shares the answer."""
    opened = run.opened
    if opened is not None and opened.is_answer_kept:
        run.progress.sent += [chunk.choices for chunk in chunks]
    if opened is not None and opened.recording is not None and not run.is_hit:
        recording = opened.recording
        recording.add(chunk.choices for chunk in chunks)
        recording.is_output = recording.is_output or any(chunk.has_output for chunk in chunks)
    if not run.is_reader_gone:
        await run.chunks.put(chunks)


def finish_reason(choices: Iterable[Mapping[str, Any]]) -> str:
    """The first that any of the choices has; empty without one."""
    for choice in choices:
        if reason := choice.get("finish_reason"):
            return str(reason)
    return ""
