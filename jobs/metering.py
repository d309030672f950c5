"""Metering: drive one call from its hold to its settlement, whatever the client does.

Each call is driven by a task of its own, which nobody cancels: it admits, dispatches, lets an
inner task talk to the provider, and settles. Leaving a stream, or cancelling the job, stops the
inner task only; what was produced until then is settled all the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import OperationalError

from jobs import calls, failures, gateway, lifecycle
from jobs.calls import OpenCall, Order, Outcome
from jobs.gateway import Answer, Chunk, FailureKind, ProviderFailure
from jobs.models import Attempt, Call
from jobs.refusals import JobClosed
from jobs.usage import Usage
from saas_litellm.base import clock
from saas_litellm.base.bridge import in_database
from saas_litellm.base.refusals import InternalError, Refusal

logger = logging.getLogger(__name__)

# Chunks a slow reader may fall behind before the provider is no longer read.
QUEUE_CHUNKS = 256
_SETTLE_TRIES = 4
CLIENT_GONE = "client_gone"
JOB_CANCELLED = "job_cancelled"

_running: dict[UUID, Run] = {}
_tasks: set[asyncio.Task[Any]] = set()
_watcher: asyncio.Task[None] | None = None


@dataclass(slots=True)
class Progress:
    """What the provider has delivered so far."""

    answer: Answer | None = None
    stream: gateway.Stream | None = None
    is_output_delivered: bool = False
    finish_reason: str = ""
    first_token_at: Any = None
    failure: ProviderFailure | None = None


@dataclass(slots=True, eq=False)
class Run:
    """One call in flight."""

    order: Order
    admit: Callable[[], OpenCall]
    progress: Progress = field(default_factory=Progress)
    opened: OpenCall | None = None
    # Set once the call is admitted or refused; chunks follow, then None.
    admitted: asyncio.Future[OpenCall] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    chunks: asyncio.Queue[Chunk | None] = field(default_factory=lambda: asyncio.Queue(QUEUE_CHUNKS))
    settled: asyncio.Future[Call] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    stop_reason: str = ""
    is_reader_gone: bool = False
    upstream: asyncio.Task[None] | None = None

    def stop(self, reason: str) -> None:
        """Stop asking the provider; what it delivered so far is settled."""
        self.stop_reason = self.stop_reason or reason
        self.is_reader_gone = self.is_reader_gone or reason == CLIENT_GONE
        if self.upstream is not None:
            self.upstream.cancel()

    @property
    def refusal(self) -> Refusal | None:
        """What the caller is told when the call did not end well."""
        if self.stop_reason == JOB_CANCELLED:
            return JobClosed("The job was cancelled while this call ran.")
        if self.progress.failure is not None:
            return failures.refusal_for(self.progress.failure)
        return None


def start(*, order: Order, admit: Callable[[], OpenCall]) -> Run:
    """Begin a call; ``admit`` is sync database code that opens it or raises a Refusal."""
    run = Run(order=order, admit=admit)
    task = asyncio.create_task(_drive(run), name="call")
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    # A reader that left never looks at these; asyncio would log them as forgotten.
    for future in (run.admitted, run.settled):
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return run


async def finished(run: Run) -> tuple[Answer, Call]:
    """The answer and the settled call of a plain run; raises the Refusal that ended it."""
    await asyncio.shield(run.admitted)
    call = await asyncio.shield(run.settled)
    if run.refusal is not None:
        raise run.refusal
    if run.progress.answer is None:
        raise InternalError
    return run.progress.answer, call


async def chunks(run: Run) -> AsyncIterator[Chunk]:
    """The chunks of a stream as they arrive, to its end; look at ``run.refusal`` after."""
    while (chunk := await run.chunks.get()) is not None:
        yield chunk


def stop_job(job_id: UUID) -> None:
    """Stop this process's running calls of a job at once; other processes find out by polling."""
    for run in list(_running.values()):
        if run.opened is not None and run.opened.job.pk == job_id:
            run.stop(JOB_CANCELLED)


async def drain(grace_seconds: float) -> int:
    """Wait for calls in flight to settle; stop the rest. Returns how many were stopped."""
    if _tasks:
        await asyncio.wait(set(_tasks), timeout=grace_seconds)
    left = [run for run in _running.values() if not run.settled.done()]
    for run in left:
        run.stop("shutdown")
    if _tasks:
        await asyncio.wait(set(_tasks), timeout=5)
    return len(left)


async def _drive(run: Run) -> None:
    try:
        opened = await in_database(run.admit)
    except Exception as error:
        run.admitted.set_exception(error)
        return
    run.opened = opened
    _running[opened.call.pk] = run
    _watch()
    run.admitted.set_result(opened)
    try:
        run.settled.set_result(await _place_and_settle(run, opened))
    except Exception as error:
        logger.exception("call %s could not be settled; the sweeper will", opened.call.pk)
        run.settled.set_exception(error)
    finally:
        del _running[opened.call.pk]
        await _end_of_chunks(run)


async def _place_and_settle(run: Run, opened: OpenCall) -> Call:
    started = time.monotonic()
    attempt = None if run.stop_reason else await in_database(calls.dispatch, opened)
    if attempt is not None:
        run.upstream = asyncio.create_task(_ask(run, opened), name="upstream")
        if run.stop_reason:
            run.upstream.cancel()
        await asyncio.wait([run.upstream])
        if not run.upstream.cancelled() and (error := run.upstream.exception()):
            logger.error("call %s failed inside", opened.call.pk, exc_info=error)
            run.progress.failure = ProviderFailure(FailureKind.GARBLED, detail=repr(error))
    elif not run.stop_reason:
        run.stop_reason = JOB_CANCELLED
    latency_ms = int((time.monotonic() - started) * 1000)
    outcome = await _outcome(run, opened, attempt, latency_ms)
    return await _settle_surely(opened, attempt, outcome)


async def _ask(run: Run, opened: OpenCall) -> None:
    progress = run.progress
    target = gateway.Target(
        model=opened.deployment.model,
        api_key=opened.api_key,
        api_base=_api_base(opened),
        extra=opened.deployment.credential.extra if opened.deployment.credential else {},
        timeout_seconds=settings.CALL_DEADLINE_SECONDS,
    )
    try:
        async with asyncio.timeout(settings.CALL_DEADLINE_SECONDS):
            if run.order.is_stream:
                await _read_stream(run, target, opened)
            else:
                progress.answer = await gateway.complete(
                    target=target, messages=run.order.messages, params=opened.params
                )
                progress.is_output_delivered = progress.answer.has_output
                progress.finish_reason = _finish_reason(progress.answer.choices)
    except ProviderFailure as failure:
        progress.failure = failure
    except TimeoutError:
        progress.failure = ProviderFailure(FailureKind.TIMEOUT, detail="deadline of the call")


async def _read_stream(run: Run, target: gateway.Target, opened: OpenCall) -> None:
    progress = run.progress
    stream = await gateway.open_stream(
        target=target, messages=run.order.messages, params=opened.params
    )
    progress.stream = stream
    try:
        async for chunk in stream:
            if chunk.has_output and not progress.is_output_delivered:
                progress.is_output_delivered = True
                progress.first_token_at = clock.now()
            progress.finish_reason = _finish_reason(chunk.choices) or progress.finish_reason
            await run.chunks.put(chunk)
    finally:
        await stream.aclose()


async def _outcome(run: Run, opened: OpenCall, attempt: Attempt | None, latency_ms: int) -> Outcome:
    progress, failure = run.progress, run.progress.failure
    if progress.answer is not None:
        usage = progress.answer.usage
    elif progress.stream is not None and progress.is_output_delivered:
        usage = await asyncio.to_thread(progress.stream.usage)
    else:
        usage = Usage(prompt_tokens=opened.call.estimated_prompt_tokens, source="estimate")
    refusal = run.refusal
    source = progress.answer or progress.stream
    return Outcome(
        usage=usage if attempt is not None else Usage(),
        latency_ms=latency_ms,
        is_output_delivered=progress.is_output_delivered,
        is_costed=progress.is_output_delivered or not failures.is_free(failure),
        finish_reason=progress.finish_reason,
        error_code=refusal.code if refusal else run.stop_reason,
        first_token_at=progress.first_token_at,
        provider_request_id=source.provider_request_id if source else "",
        failure=failure.kind if failure else "",
        failure_status=failure.status if failure else None,
        failure_detail=failure.detail if failure else "",
    )


async def _settle_surely(opened: OpenCall, attempt: Attempt | None, outcome: Outcome) -> Call:
    """Settle, trying again while the database is briefly away; the sweeper is the last resort."""
    for pause in (*(2.0**n / 4 for n in range(_SETTLE_TRIES - 1)), None):
        try:
            return await in_database(calls.settle, opened=opened, attempt=attempt, outcome=outcome)
        except OperationalError:
            if pause is None:
                raise
            await asyncio.sleep(pause)
    raise AssertionError("unreachable")


async def _end_of_chunks(run: Run) -> None:
    """Tell the reader that no more comes; with nobody reading there is nobody to tell."""
    if run.order.is_stream and not run.is_reader_gone:
        await run.chunks.put(None)


def _watch() -> None:
    global _watcher  # noqa: PLW0603 - one per process, started when first needed
    if _watcher is None or _watcher.done():
        _watcher = asyncio.create_task(_stop_cancelled(), name="cancel-watch")


async def _stop_cancelled() -> None:
    """Ask, about once a second while calls run, whether another process closed their jobs."""
    while _running:
        await asyncio.sleep(settings.CANCEL_POLL_SECONDS)
        job_ids = {run.opened.job.pk for run in _running.values() if run.opened}
        try:
            for job_id in await in_database(lifecycle.closed_among, job_ids) if job_ids else ():
                stop_job(job_id)
        except OperationalError:
            logger.warning("could not ask which jobs were cancelled; asking again")


def _api_base(opened: OpenCall) -> str | None:
    credential = opened.deployment.credential
    return (credential.api_base or None) if credential else None


def _finish_reason(choices: list[dict[str, Any]]) -> str:
    return next(
        (str(choice["finish_reason"]) for choice in choices if choice.get("finish_reason")), ""
    )
