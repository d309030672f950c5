"""Answers while they arrive."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Generic, Self

import httpx

from saas_litellm_client import _repairs, _wire
from saas_litellm_client._frames import Chunk, StreamedAnswer
from saas_litellm_client._repairs import Talk
from saas_litellm_client._requests import Request
from saas_litellm_client._transport import AsyncTransport
from saas_litellm_client.answers import Answer, Call, Model


class AsyncStream(StreamedAnswer):
    """An answer's chunks, once. It is asked for when it is entered or iterated, whichever is first.

    Leaving the loop or the ``with`` block early stops the model; what it said is charged.
    """

    def __init__(
        self,
        transport: AsyncTransport,
        request: Request[Answer],
        *,
        total: float | None,
        on_close: Callable[[AsyncStream], None] | None = None,
    ) -> None:
        super().__init__()
        self._transport, self._request, self._on_close = transport, request, on_close
        self._total = total
        self._response: httpx.Response | None = None
        self._attempts: _wire.Attempts | None = None
        self._is_begun = False

    async def open(self) -> Self:
        """Ask, if that was not done: raises the ApiError of a refusal, before the first chunk."""
        if self._response is None:
            attempts = self._transport.settings.attempts(self._total)
            self._response = await self._transport.open(self._request, attempts)
            self._attempts = attempts
        return self

    async def close(self) -> None:
        if self._response is not None:
            await self._response.aclose()
        if self._on_close is not None:
            self._on_close(self)

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        """Raises ApiError, StreamCut, ConnectionFailed, TimedOut; RuntimeError the second time."""
        if self._is_begun:
            raise RuntimeError("A stream is read once.")
        self._is_begun = True
        try:
            await self.open()
            assert self._response is not None
            assert self._attempts is not None
            received = self._response.aiter_bytes()
            while not self.is_complete:
                with _wire.stream_errors():
                    piece = await anext(received, None)
                if piece is None:
                    break
                self._attempts.seconds_left()
                for chunk in self.take(piece):
                    yield chunk
            self.end()
        finally:
            await self.close()


class AsyncStructuredStream(Generic[Model]):
    """An object while it arrives: a dict that grows, unchecked; at the end ``result()``, validated.

    What does not fit is asked for again, by calls that are not streamed.
    """

    def __init__(
        self, stream: AsyncStream, talk: Talk[Model], *, again: Callable[[], Awaitable[Call]]
    ) -> None:
        self.stream = stream
        self._talk, self._again = talk, again
        self._result: Model | None = None

    async def result(self) -> Model:
        """Reads the stream to its end, if that was not done. Raises NotStructured."""
        if self._result is None:
            async for _ in self:
                pass
        assert self._result is not None, "a stream that ends well has a result"
        return self._result

    async def close(self) -> None:
        await self.stream.close()

    async def __aenter__(self) -> Self:
        await self.stream.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        seen: dict[str, Any] | None = None
        try:
            async for _ in self.stream:
                found = _repairs.partial(self.stream.text)
                if found and found != seen:
                    seen = found
                    yield found
        finally:
            await self.close()
        self._result = self._talk.hear(self.stream.text, refusal=self.stream.refusal)
        while self._result is None:
            better = await self._again()
            self._result = self._talk.hear(better.text, refusal=better.response.refusal)
