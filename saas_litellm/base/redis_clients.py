"""Redis from async code: one client an event loop, for a connection belongs to its loop."""

from __future__ import annotations

import asyncio
import weakref
from typing import Any

import redis.asyncio


class RedisClients:
    """Clients of one Redis; tests and commands run several loops, a server one."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._by_loop: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    def get(self) -> Any:
        """The client of the running loop."""
        loop = asyncio.get_running_loop()
        client = self._by_loop.get(loop)
        if client is None:
            client = self._by_loop[loop] = redis.asyncio.from_url(self._url)
        return client
