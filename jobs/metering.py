"""Metering: drive one call from its hold to its settlement, whatever the client does.

Each call is driven by a task of its own, which nobody cancels: it admits, dispatches, lets an
inner task talk to the provider, and settles. Leaving a stream, or cancelling the job, stops the
inner task only; what was produced until then is settled all the same.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import OperationalError

from jobs import calls, failures, lifecycle, observed, playback, routing, upstream
from jobs.calls import OpenCall, Order, Outcome
from jobs.cases import Settlement
from jobs.gateway import FailureKind, ProviderFailure
from jobs.models import Attempt, Call
from jobs.refusals import Restarting
from jobs.routing import Candidate
from jobs.runs import JOB_CANCELLED, RESTART_SECONDS, SHUTDOWN, Progress, Run
from jobs.settling import settle_all
from jobs.tries import unit_prices
from jobs.usage import Usage
from saas_litellm.base.bridge import in_database
from saas_litellm.base.grouping import Group
from saas_litellm.base.ids import new_id
from saas_litellm.base.limiter import Rule, limiter
from saas_litellm.base.refusals import InternalError
from teams import health as breakers
from teams import limits

logger = logging.getLogger(__name__)

_SETTLE_TRIES = 7
# How long calls that were stopped as the process ends may take to settle.
SETTLING_SECONDS = 5
_settlements: Group[Settlement, Call] = Group(settle_all)

_running: dict[UUID, Run] = {}
_tasks: dict[asyncio.Task[Any], Run] = {}
_is_closed = False
_watcher: asyncio.Task[None] | None = None


def start(*, order: Order, admit: Callable[[], Awaitable[OpenCall]]) -> Run:
    """Begin a call; ``admit`` opens it or raises a Refusal. Raises Restarting while it stops."""
    if _is_closed:
        raise Restarting(retry_after_seconds=RESTART_SECONDS)
    run = Run(order=order)
    task = asyncio.create_task(_drive(run, admit), name="call")
    _tasks[task] = run
    task.add_done_callback(_tasks.pop)
    # A reader that left never looks at these; asyncio would log them as forgotten.
    for future in (run.admitted, run.settled):
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
    return run


async def finished(run: Run) -> tuple[Sequence[Any], Call]:
    """What was delivered (choices or vectors) and the settled call of a plain run; raises the Refusal that ended it."""
    await asyncio.shield(run.admitted)
    call = await asyncio.shield(run.settled)
    if run.refusal is not None:
        raise run.refusal
    delivered = run.progress.delivered
    if delivered is None:
        raise InternalError
    return delivered, call


def stop_job(job_id: UUID) -> None:
    """Stop this process's running calls of a job at once; other processes find out by polling."""
    for run in list(_running.values()):
        if run.opened is not None and run.opened.job.pk == job_id:
            run.stop(JOB_CANCELLED)


def close() -> None:
    """Begin no call from now on: this process stops."""
    global _is_closed  # noqa: PLW0603 - of the process, like its calls
    _is_closed = True


async def drain(grace_seconds: float) -> int:
    """Wait for calls in flight to settle; stop the rest. Returns how many were stopped."""
    if _tasks:
        await asyncio.wait(set(_tasks), timeout=grace_seconds)
    left = [run for run in _tasks.values() if not run.settled.done()]
    for run in left:
        run.stop(SHUTDOWN)
    if _tasks:
        await asyncio.wait(set(_tasks), timeout=SETTLING_SECONDS)
    return len(left)


async def _drive(run: Run, admit: Callable[[], Awaitable[OpenCall]]) -> None:
    try:
        opened = await admit()
    except Exception as error:
        run.admitted.set_exception(error)
        return
    # A stream may last for long: the request behind it need not.
    del admit
    run.opened = opened
    if opened.recording is not None:
        playback.begin(run, opened.recording)
    _running[opened.call.pk] = run
    _watch()
    run.admitted.set_result(opened)
    tokens = 0
    try:
        with observed.InFlight(opened) as span:
            call = await _place_and_settle(run, opened)
            observed.settled(span, opened, call)
        tokens = 0 if call.is_cache_hit else call.total_tokens
        run.settled.set_result(call)
    except Exception as error:
        logger.exception("call %s could not be settled; the sweeper will", opened.call.pk)
        run.settled.set_exception(error)
    finally:
        del _running[opened.call.pk]
        run.chunks.end()
        await playback.end(run, opened)
        await _correct_limits(run, opened, tokens)


async def _place_and_settle(run: Run, opened: OpenCall) -> Call:
    started = time.monotonic()
    deadline = asyncio.get_running_loop().time() + settings.CALL_DEADLINE_SECONDS
    attempt: Attempt | None = None
    if run.is_hit and opened.recording is not None:
        await playback.play(run, opened.recording)
    else:
        attempt = await _place(run, opened, deadline)
        if attempt is None and run.progress.failure is None and not run.stop_reason:
            run.stop_reason = JOB_CANCELLED
    run.is_decided = True
    outcome = await _outcome(run, opened, attempt, int((time.monotonic() - started) * 1000))
    return await _settle_surely(opened, attempt, outcome)


async def _place(run: Run, opened: OpenCall, deadline: float) -> Attempt | None:
    """Ask one deployment after the other until one answers; returns the last attempt."""
    attempt: Attempt | None = None
    step = opened.route.next()
    while step is not None and not run.stop_reason:
        if step.wait_seconds:
            await upstream.pause(run, step.wait_seconds)
        if run.stop_reason or not await _may_call(run, step.candidate):
            step = opened.route.next(run.progress.failure) if not run.stop_reason else None
            continue
        begun = await _begin(run, opened, attempt, step.candidate)
        if begun is None:
            return attempt
        attempt, run.progress = begun, Progress()
        with observed.attempt(step.candidate) as span:
            await upstream.attempt(run, opened, step.candidate, deadline)
            observed.attempted(span, step.candidate, run.progress.failure)
        is_over = asyncio.get_running_loop().time() >= deadline
        failure = run.progress.failure
        if failure is None or run.progress.is_output_delivered or is_over:
            break
        step = opened.route.next(failure)
    return attempt


async def _begin(
    run: Run, opened: OpenCall, failed: Attempt | None, candidate: Candidate
) -> Attempt | None:
    if failed is None:
        # Its hold may have recorded it already.
        return opened.attempt or await in_database(calls.dispatch, opened, candidate)
    outcome = await _outcome(run, opened, failed, 0)
    return await in_database(
        calls.try_again, opened=opened, failed=failed, outcome=outcome, candidate=candidate
    )


async def _may_call(run: Run, candidate: Candidate) -> bool:
    """Whether breaker and limits of the deployment let this call through.

    Neither is asked while the deployment is well and has no limits.
    """
    health, rules = candidate.priced.health, limits.rules_of(candidate.priced.deployment)
    failure: ProviderFailure | None = None
    is_cooling = health is not None and health.open_until is not None
    if health is not None and is_cooling and not await in_database(breakers.may_call, health):
        failure = ProviderFailure(FailureKind.RATE_LIMITED, detail="cooling down")
    if failure is None and rules:
        failure = await _count_at(run, rules)
    run.progress.failure = run.progress.failure or failure
    return failure is None


async def _count_at(run: Run, rules: tuple[Rule, ...]) -> ProviderFailure | None:
    """Count the attempt under its deployment's limits; a failure when they are full."""
    assert run.opened is not None
    call = run.opened.call
    place = await limiter().admit(
        rules,
        tokens=call.estimated_prompt_tokens + call.max_output_tokens,
        ticket=new_id().hex,
        lease_seconds=settings.CALL_DEADLINE_SECONDS,
    )
    if place.refused is None:
        run.places.append(place)
        return None
    return ProviderFailure(
        FailureKind.RATE_LIMITED,
        retry_after_seconds=place.retry_after_seconds,
        detail="its own limits are full",
    )


async def _correct_limits(run: Run, opened: OpenCall, tokens: int) -> None:
    """Turn the estimates into what was used: of all attempts the last one used it."""
    for place in run.places:
        await limiter().settle(place, tokens=tokens if place is run.places[-1] else 0)
    if opened.admission is not None:
        await limiter().settle(opened.admission, tokens=tokens)


async def _outcome(run: Run, opened: OpenCall, attempt: Attempt | None, latency_ms: int) -> Outcome:
    progress, failure = run.progress, run.progress.failure
    recording = opened.recording
    if run.is_hit and recording is not None:
        usage = recording.usage or Usage(source="estimate")
    elif progress.answer is not None:
        usage = progress.answer.usage
    elif progress.stream is not None and progress.is_output_delivered:
        usage = await progress.stream.counted()
    else:
        usage = Usage(prompt_tokens=opened.call.estimated_prompt_tokens, source="estimate")
    if recording is not None and attempt is not None:
        playback.note(recording, progress, usage, unit_prices(opened, attempt).as_json())
    refusal = run.refusal
    source = progress.answer or progress.stream
    return Outcome(
        usage=usage if attempt is not None or run.is_hit else Usage(),
        latency_ms=latency_ms,
        is_output_delivered=progress.is_output_delivered,
        is_costed=progress.is_output_delivered or not failures.is_free(failure),
        finish_reason=progress.finish_reason,
        parts=progress.sent if progress.delivered is None else progress.delivered,
        unit_prices=recording.unit_prices if recording is not None else {},
        error_code=refusal.code if refusal else run.stop_reason,
        first_token_at=progress.first_token_at,
        provider_request_id=source.provider_request_id if source else "",
        failure=failure.kind if failure else "",
        is_fault=routing.is_fault(failure) and not run.stop_reason,
        pause_seconds=failure.retry_after_seconds if failure else None,
        failure_status=failure.status if failure else None,
        failure_detail=failure.detail if failure else "",
    )


async def _settle_surely(opened: OpenCall, attempt: Attempt | None, outcome: Outcome) -> Call:
    """Settle, trying again while the database is briefly away; the sweeper is the last resort."""
    settlement = Settlement(opened=opened, attempt=attempt, outcome=outcome)
    for pause in (*(2.0**n / 4 for n in range(_SETTLE_TRIES - 1)), None):
        try:
            return await _settlements.do(settlement)
        except OperationalError:
            if pause is None:
                raise
            await asyncio.sleep(pause)
    raise AssertionError("unreachable")


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
