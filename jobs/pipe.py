"""The way of a stream's chunks from who reads the provider to who writes to the caller."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from jobs.gateway import Chunk


class Pipe:
    """Chunks for one reader, from one writer; whoever is ahead waits for the other.

    ``limit``: chunks that may wait before the writer has to; None for one that never does.
    """

    __slots__ = ("_is_ended", "_limit", "_patience", "_reader", "_since", "_waiting", "_writer")

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._waiting: list[Chunk] = []
        self._is_ended = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        # Since when the reader waits; one timer looks at that, for one each time costs as much as a
        # chunk itself.
        self._since = 0.0
        self._patience: asyncio.TimerHandle | None = None

    async def put(self, chunks: Sequence[Chunk]) -> None:
        """Returns once there is room for more: a reader that is slow slows the writer down."""
        self._waiting += chunks
        _wake(self._reader)
        while self._limit is not None and len(self._waiting) >= self._limit:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer

    def end(self) -> None:
        """Nothing more comes."""
        self._is_ended = True
        _wake(self._reader)

    async def get(self, seconds: float) -> list[Chunk] | None:
        """All chunks that wait, in order; none after so long a silence, None at the end."""
        if not self._waiting and not self._is_ended:
            await self._arrival(seconds)
        chunks, self._waiting = self._waiting, []
        _wake(self._writer)
        return chunks if chunks or not self._is_ended else None

    async def _arrival(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._reader, self._since = loop.create_future(), loop.time()
        if self._patience is None:
            self._patience = loop.call_later(seconds, self._look, seconds)
        try:
            await self._reader
        finally:
            self._reader = None

    def _look(self, seconds: float) -> None:
        """Wake a reader that has waited for so long; look again when it will have."""
        self._patience = None
        if self._reader is None:
            return
        loop = asyncio.get_running_loop()
        left = self._since + seconds - loop.time()
        if left > 0:
            self._patience = loop.call_later(left, self._look, seconds)
        else:
            _wake(self._reader)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
