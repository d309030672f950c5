"""One business operation, from the first call to the bill."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from types import TracebackType
from typing import Any, Self, Unpack
from uuid import UUID

from saas_litellm_client import _endings, _requests, errors
from saas_litellm_client._repairs import Talk
from saas_litellm_client._requests import Request
from saas_litellm_client._transport import AsyncTransport
from saas_litellm_client.answers import (
    Call,
    ClosedJob,
    CreatedJob,
    JobBill,
    JobDetails,
    Model,
)
from saas_litellm_client.async_streams import AsyncStream, AsyncStructuredStream
from saas_litellm_client.options import CallOptions, Messages, Outcome


class Endings:
    """Jobs being closed: tasks of their own, which the cancellation of whoever waits spares."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def surely(self, ending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(ending)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        await asyncio.shield(task)

    async def finished(self) -> None:
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        # Looked at, or asyncio would log it as forgotten when nobody waits any more.
        if not task.cancelled():
            task.exception()


class AsyncJob:
    """A job as a context manager: leaving it completes it, an exception fails it with the
    exception's type, and cancellation cancels it. Whoever closes it inside is left alone.

    ``closed`` is its bill.
    """

    def __init__(
        self,
        transport: AsyncTransport,
        endings: Endings,
        *,
        creation: Request[CreatedJob] | None = None,
        job_id: UUID | None = None,
    ) -> None:
        self._transport, self._creation, self._id = transport, creation, job_id
        self._endings = endings
        self._streams: set[AsyncStream] = set()
        self._closed: ClosedJob | None = None

    @property
    def id(self) -> UUID:
        """Raises RuntimeError before the job is opened."""
        if self._id is None:
            raise RuntimeError("Open the job first: `with client.job(...) as job`, or job.open().")
        return self._id

    @property
    def is_closed(self) -> bool:
        """Whether it was closed here."""
        return self._closed is not None

    @property
    def closed(self) -> ClosedJob:
        """The bill. Raises RuntimeError before the job was closed here."""
        if self._closed is None:
            raise RuntimeError("This job was not closed here yet.")
        return self._closed

    async def open(self) -> Self:
        """Make the job, if that was not done. Without ``with`` it stays open until it is closed."""
        if self._id is None and self._creation is not None:
            self._id = (await self._transport.send(self._creation)).job_id
        return self

    async def call(
        self,
        messages: Messages,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[CallOptions],
    ) -> Call:
        """One LLM call. ``timeout``: seconds in all, retries included."""
        request = _requests.call(
            job_id=self.id, messages=messages, options=options, key=idempotency_key
        )
        return await self._transport.send(request, total=timeout)

    def stream(
        self,
        messages: Messages,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncStream:
        """One LLM call, answered in chunks. It is asked for when it is entered or iterated."""
        request = _requests.stream(
            job_id=self.id, messages=messages, options=options, key=idempotency_key
        )
        made = AsyncStream(self._transport, request, total=timeout, on_close=self._streams.discard)
        self._streams.add(made)
        return made

    async def structured(
        self,
        shape: type[Model],
        messages: Messages,
        *,
        repairs: int = 2,
        timeout: float | None = None,
        **options: Unpack[CallOptions],
    ) -> Model:
        """A validated object. What does not fit is sent back with what is wrong, ``repairs`` times
        at most. ``timeout``: seconds for each call. Raises NotStructured."""
        talk = Talk(shape, messages, repairs=repairs)
        found: Model | None = None
        while found is None:
            answer = await self.call(talk.messages, timeout=timeout, **talk.within(options))
            found = talk.hear(answer.text, refusal=answer.response.refusal)
        return found

    def stream_structured(
        self,
        shape: type[Model],
        messages: Messages,
        *,
        repairs: int = 2,
        timeout: float | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncStructuredStream[Model]:
        """The same, with what has arrived of the object while it arrives."""
        talk = Talk(shape, messages, repairs=repairs)

        async def again() -> Call:
            return await self.call(talk.messages, timeout=timeout, **talk.within(options))

        stream = self.stream(talk.messages, timeout=timeout, **talk.within(options))
        return AsyncStructuredStream(stream, talk, again=again)

    async def set_metadata(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Merge into the job's metadata; the whole of it."""
        request = _requests.set_metadata(job_id=self.id, metadata=metadata)
        return (await self._transport.send(request)).metadata

    async def show(self) -> JobDetails:
        return await self._transport.send(_requests.show_job(job_id=self.id))

    async def costs(self) -> JobBill:
        return await self._transport.send(_requests.show_costs(job_id=self.id))

    async def complete(
        self,
        *,
        result: Any = None,
        metadata: Mapping[str, Any] | None = None,
        outcome: Outcome | None = None,
    ) -> ClosedJob:
        """Close the job and settle its price. ``result`` is kept as the metadata's ``result``.

        Waits for calls that still run. Raises JobClosed if it was closed otherwise.
        """
        request = _endings.completion(self.id, result=result, metadata=metadata, outcome=outcome)
        return await self._close(request)

    async def fail(
        self, error: BaseException | str, *, metadata: Mapping[str, Any] | None = None
    ) -> ClosedJob:
        """Close the job as failed; of an exception only the type is told."""
        return await self._close(_endings.failure(self.id, error, metadata=metadata))

    async def cancel(self, reason: str = "") -> ClosedJob:
        """Close the job at once; its running calls stop."""
        return await self._close(_requests.cancel(job_id=self.id, reason=reason))

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self._endings.surely(self._leave(error))

    async def _leave(self, error: BaseException | None) -> None:
        if error is None:
            await self._leave_streams()
            if not self.is_closed:
                await self.complete()
            return
        try:
            await self._leave_streams()
            if not self.is_closed:
                await self._give_up(error)
        except Exception as trouble:
            # The caller's own exception is the one to hear of.
            _endings.log(self.id, trouble)

    async def _leave_streams(self) -> None:
        for stream in tuple(self._streams):
            await stream.close()

    async def _give_up(self, error: BaseException) -> None:
        if _endings.is_failure(error):
            try:
                await self._close(_endings.failure(self.id, error), total=_endings.FAILING_SECONDS)
            except errors.CallsInFlight:
                # Whoever waited for them is gone.
                await self.cancel(type(error).__name__)
        else:
            await self._close(
                _endings.interruption(self.id, error), total=_endings.CANCELLING_SECONDS
            )

    async def _close(self, request: Request[ClosedJob], *, total: float | None = None) -> ClosedJob:
        self._closed = await self._transport.send(request, total=total)
        return self._closed
