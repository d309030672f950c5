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
from contextvars import Context
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from django.db import OperationalError, connection

from saas_litellm.base import bridge, rows

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")
# More would make the first of them wait for the last.
MOST_AT_ONCE = 64
# How long many wait for a row that somebody else has locked, before each goes on alone.
LONGEST_WAIT = "1s"
# PostgreSQL's for a lock that was waited for too long, and for a deadlock.
_OF_ONE = frozenset({"55P03", "40P01"})


def brisk() -> None:
    """Call it first in an act's transaction on PostgreSQL; on SQLite it does nothing.

    Rows are found by their keys, even in a table that is small while the plan is made and grows while
    it is kept; and who shares a transaction waits no longer than LONGEST_WAIT for a row's lock, for
    one whose row is locked for long must not hold up the others.
    """
    if connection.vendor != "postgresql":
        return
    options = {"enable_seqscan": "off"}
    if bridge.is_shared():
        options["lock_timeout"] = LONGEST_WAIT
    settings = ", ".join(
        f"set_config('{name}', '{value}', true)" for name, value in options.items()
    )
    rows.ask(f"SELECT {settings}")


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
        self._alone: set[asyncio.Task[None]] = set()

    def put(self, item: T) -> asyncio.Future[R]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, future))
        if self._task is None:
            # In no request's context: it works for many.
            self._task = loop.create_task(self._work(), name="group", context=Context())
        return future

    async def _work(self) -> None:
        try:
            while self._waiting:
                count = min(len(self._waiting), MOST_AT_ONCE)
                await self._do([self._waiting.popleft() for _ in range(count)])
        finally:
            self._task = None

    async def _do(self, taken: Sequence[tuple[T, asyncio.Future[R]]]) -> None:
        items = [item for item, _ in taken]
        try:
            self._answer(taken, await bridge.in_turn(self._act, items))
        except Exception as error:
            if not _is_of_one(error, among=len(taken)):
                self._answer(taken, [error for _ in taken])
                return
            # Whoever it is of, the others need not wait for it.
            logger.info("%d acts did not go together; each is done alone", len(taken))
            for one in taken:
                task = asyncio.create_task(self._do_alone(one), name="alone")
                self._alone.add(task)
                task.add_done_callback(self._alone.discard)

    async def _do_alone(self, one: tuple[T, asyncio.Future[R]]) -> None:
        try:
            self._answer([one], await bridge.in_database(self._act, [one[0]]))
        except Exception as error:
            self._answer([one], [error])

    def _answer(
        self,
        taken: Sequence[tuple[T, asyncio.Future[R]]],
        results: Sequence[R | Exception],
    ) -> None:
        for (_, future), result in zip(taken, results, strict=True):
            if future.done():
                continue
            if isinstance(result, BaseException):
                future.set_exception(result)
            else:
                future.set_result(result)


def _is_of_one(error: Exception, *, among: int) -> bool:
    """Whether it may be otherwise for each alone. A database that is away is away for all."""
    if isinstance(error, OperationalError):
        return getattr(error.__cause__, "sqlstate", "") in _OF_ONE
    return among > 1
