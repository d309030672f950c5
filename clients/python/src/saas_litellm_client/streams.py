"""Answers while they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Self

import httpx

from saas_litellm_client import _repairs, _wire
from saas_litellm_client._frames import Chunk, StreamedAnswer
from saas_litellm_client._repairs import Talk
from saas_litellm_client._requests import Request
from saas_litellm_client._transport import Transport
from saas_litellm_client.answers import Answer, Call, Model


class Stream(StreamedAnswer):
    """An answer's chunks, once. It is asked for when it is entered or iterated, whichever is first.

    Leaving the loop or the ``with`` block early stops the model; what it said is charged.
    """

    def __init__(
        self,
        transport: Transport,
        request: Request[Answer],
        *,
        total: float | None,
        on_close: Callable[[Stream], None] | None = None,
    ) -> None:
        super().__init__()
        self._transport, self._request, self._on_close = transport, request, on_close
        self._total = total
        self._response: httpx.Response | None = None
        self._attempts: _wire.Attempts | None = None
        self._is_begun = False

    def open(self) -> Self:
        """Ask, if that was not done: raises the ApiError of a refusal, before the first chunk."""
        if self._response is None:
            attempts = self._transport.settings.attempts(self._total)
            self._response = self._transport.open(self._request, attempts)
            self._attempts = attempts
        return self

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
        if self._on_close is not None:
            self._on_close(self)

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Chunk]:
        """Raises ApiError, StreamCut, ConnectionFailed, TimedOut; RuntimeError the second time."""
        if self._is_begun:
            raise RuntimeError("A stream is read once.")
        self._is_begun = True
        try:
            self.open()
            assert self._response is not None
            assert self._attempts is not None
            received = self._response.iter_bytes()
            while not self.is_complete:
                with _wire.stream_errors():
                    piece = next(received, None)
                if piece is None:
                    break
                self._attempts.seconds_left()
                yield from self.take(piece)
            self.end()
        finally:
            self.close()


class StructuredStream(Generic[Model]):
    """An object while it arrives: a dict that grows, unchecked; at the end ``result()``, validated.

    What does not fit is asked for again, by calls that are not streamed.
    """

    def __init__(self, stream: Stream, talk: Talk[Model], *, again: Callable[[], Call]) -> None:
        self.stream = stream
        self._talk, self._again = talk, again
        self._result: Model | None = None

    def result(self) -> Model:
        """Reads the stream to its end, if that was not done. Raises NotStructured."""
        if self._result is None:
            for _ in self:
                pass
        assert self._result is not None, "a stream that ends well has a result"
        return self._result

    def close(self) -> None:
        self.stream.close()

    def __enter__(self) -> Self:
        self.stream.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        seen: dict[str, Any] | None = None
        try:
            for _ in self.stream:
                found = _repairs.partial(self.stream.text)
                if found and found != seen:
                    seen = found
                    yield found
        finally:
            self.close()
        self._result = self._talk.hear(self.stream.text, refusal=self.stream.refusal)
        while self._result is None:
            better = self._again()
            self._result = self._talk.hear(better.text, refusal=better.response.refusal)
