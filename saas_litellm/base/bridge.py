"""Where async code crosses into sync database code: one bounded pool of threads.

The pool is what bounds database connections: a thread gives its connection back (PostgreSQL's
pool) or keeps its own (SQLite) between jobs, and no stream owns either. asgiref's default,
thread-sensitive mode would make a thread, and a connection, for every open request; its other mode
does what stands here at twice the cost of the hop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import lru_cache, partial
from typing import ParamSpec, TypeVar

from django.conf import settings
from django.db import close_old_connections, transaction

_current = threading.local()
# Beside the pool of DATABASE_THREADS and the one thread of ``in_turn``: the connections of one
# process, DATABASE_POOL_MAX_SIZE, leave room for these.
OUTSIDE_THREADS = 2

P = ParamSpec("P")
R = TypeVar("R")


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(settings.DATABASE_THREADS, thread_name_prefix="database")


@lru_cache(maxsize=1)
def _shared_pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="shared", initializer=_mark)


def _mark() -> None:
    _current.is_shared = True


@lru_cache(maxsize=1)
def _outside_pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(OUTSIDE_THREADS, thread_name_prefix="outside")


async def in_database(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run sync database code on the bounded pool and await its result."""
    return await _crossing(_pool(), function, *args, **kwargs)


async def in_turn(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """The same on the one thread that many share: nothing there may wait long for anybody. One warm
    thread costs less than many in turn, and what comes together is done together."""
    return await _crossing(_shared_pool(), function, *args, **kwargs)


def is_shared() -> bool:
    """Whether this is the thread that many share."""
    return getattr(_current, "is_shared", False)


async def outside(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """The same for work that asks another service too: no call waits for that service's answer."""
    return await _crossing(_outside_pool(), function, *args, **kwargs)


async def _crossing(
    pool: ThreadPoolExecutor, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
) -> R:
    loop = asyncio.get_running_loop()

    def work() -> R:
        _current.loop = loop
        close_old_connections()
        try:
            return function(*args, **kwargs)
        finally:
            close_old_connections()

    return await loop.run_in_executor(pool, copy_context().run, work)


def after_commit_in_loop(function: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """From sync code on the pool: call ``function`` on the event loop once this has committed."""
    loop = getattr(_current, "loop", None)
    if loop is not None:
        transaction.on_commit(lambda: loop.call_soon_threadsafe(partial(function, *args, **kwargs)))
