"""Acts on the database, done together: group commit.

Whoever comes while one transaction runs waits for the next, and all who wait share it. Alone nobody
waits, so it adds no delay when there is little to do, and takes statements, commits and thread hops
off each act when there is much.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from django.db import OperationalError

from saas_litellm.base.bridge import in_database

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")
# More would make the first of them wait for the last.
MOST_AT_ONCE = 64


class Group(Generic[T, R]):
    """``act`` does many at once, sync and in one transaction; each gets its result or its exception."""

    def __init__(self, act: Callable[[Sequence[T]], Sequence[R | Exception]]) -> None:
        self._act = act
        self._queues: WeakKeyDictionary[Any, _Queue[T, R]] = WeakKeyDictionary()

    async def do(self, item: T) -> R:
        """The result of the act on this one; raises what it came to."""
        loop = asyncio.get_running_loop()
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = _Queue(self._act)
        return await queue.put(item)


class _Queue(Generic[T, R]):
    """Those who wait, on one event loop."""

    def __init__(self, act: Callable[[Sequence[T]], Sequence[R | Exception]]) -> None:
        self._act = act
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._task: asyncio.Task[None] | None = None

    def put(self, item: T) -> asyncio.Future[R]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, future))
        if self._task is None:
            self._task = loop.create_task(self._work(), name="group")
        return future

    async def _work(self) -> None:
        try:
            while self._waiting:
                taken = [
                    self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_AT_ONCE))
                ]
                results = await self._done([item for item, _ in taken])
                for (_, future), result in zip(taken, results, strict=True):
                    if future.done():
                        continue
                    if isinstance(result, BaseException):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        finally:
            self._task = None

    async def _done(self, items: Sequence[T]) -> Sequence[R | Exception]:
        try:
            return await in_database(self._act, items)
        except OperationalError as error:
            # The database is away, or busy: for none of them it will be otherwise.
            return [error for _ in items]
        except Exception as error:
            if len(items) == 1:
                return [error]
        logger.info("%d acts did not go together; each is done alone", len(items))
        return [result for item in items for result in await self._done([item])]
