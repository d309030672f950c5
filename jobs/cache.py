"""The response cache: a team's same request gets the same answer, without its provider.

A recording is an answer as it was delivered, with the usage and prices it was metered by. The one
being made is shared by identical requests in this process (they join it); a finished one is kept
for its time to live, sealed, under a key that holds the team: no team meets another's answer.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import orjson
import redis
from django.conf import settings

from jobs.gateway import ProviderFailure
from jobs.usage import Usage
from saas_litellm.base import encryption
from saas_litellm.base.redis_clients import RedisClients

LONGEST_TTL_SECONDS = 30 * 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Whether and how one request is cached."""

    key: str
    ttl_seconds: int


def policy(
    *,
    team_id: int,
    alias_id: int,
    default_ttl: int,
    asked_ttl: int | None,
    request: Mapping[str, Any],
) -> Policy | None:
    """None: not cached. ``request`` is all that decides the answer.

    With tools a request has to ask for it: what a tool says may change from one call to the next.
    """
    params = request["params"]
    ttl = default_ttl if asked_ttl is None else asked_ttl
    if ttl <= 0 or (params.get("tools") and asked_ttl is None):
        return None
    canonical = orjson.dumps([team_id, alias_id, request], option=orjson.OPT_SORT_KEYS)
    return Policy(
        key=encryption.keyed_hash(canonical.decode()), ttl_seconds=min(ttl, LONGEST_TTL_SECONDS)
    )


@dataclass(slots=True, eq=False)
class Recording:
    """An answer, whole or still growing: choices, vectors, or the chunks of a stream."""

    parts: list[Any] = field(default_factory=list)
    usage: Usage | None = None
    unit_prices: dict[str, Any] = field(default_factory=dict)
    finish_reason: str = ""
    is_done: bool = False
    is_output: bool = False
    failure: ProviderFailure | None = None
    # The call that makes it was refused: whoever waits has to ask again.
    is_void: bool = False
    readers: int = 0
    # Called when the last of those who joined has left.
    on_left: Callable[[], None] | None = None
    # Set once the call that makes it is admitted, or refused.
    admitted: asyncio.Event = field(default_factory=asyncio.Event)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, parts: Iterable[Any]) -> None:
        self.parts.extend(parts)
        self._wake()

    def end(self) -> None:
        self.is_done = True
        self._wake()

    def leave(self) -> None:
        self.readers -= 1
        if self.readers == 0 and self.on_left is not None:
            self.on_left()

    async def read(self, most: int) -> AsyncIterator[list[Any]]:
        """Every part to the end, so many at once as are there, and no more than ``most``."""
        place = 0
        while True:
            while parts := self.parts[place : place + most]:
                yield parts
                place += len(parts)
            if self.is_done:
                return
            await self._changed.wait()

    async def ended(self) -> None:
        while not self.is_done:
            await self._changed.wait()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def sealed(self) -> str | None:
        """As text for a store, encrypted; None when it is too long to keep."""
        assert self.usage is not None, "only a metered answer is kept"
        text = orjson.dumps(
            {
                "parts": self.parts,
                "usage": asdict(self.usage),
                "unit_prices": self.unit_prices,
                "finish_reason": self.finish_reason,
            }
        )
        return (
            encryption.encrypt(text.decode()) if len(text) <= settings.CACHE_ENTRY_BYTES else None
        )

    @classmethod
    def unsealed(cls, text: str) -> Recording | None:
        """None when no key opens it any more."""
        try:
            kept = orjson.loads(encryption.decrypt(text))
        except encryption.Undecryptable:
            return None
        recording = cls(
            parts=kept["parts"],
            usage=Usage.from_json(kept["usage"]),
            unit_prices=kept["unit_prices"],
            finish_reason=kept["finish_reason"],
            is_output=True,
        )
        recording.is_done = True
        return recording


# The recordings being made in this process, by key.
_making: dict[str, Recording] = {}


def joined(key: str) -> Recording | None:
    """The recording that another request is making, with the caller among its readers."""
    recording = _making.get(key)
    if recording is None or recording.is_void:
        return None
    recording.readers += 1
    return recording


def begin(key: str) -> Recording:
    """A recording that identical requests join from now on."""
    recording = _making[key] = Recording()
    return recording


def void(key: str, recording: Recording) -> None:
    """The request was refused before it was placed: those who joined ask again."""
    recording.is_void = True
    forget(key, recording)
    recording.admitted.set()
    recording.end()


async def keep(policy: Policy, recording: Recording, *, is_whole: bool) -> None:
    """End a recording, and store it if it is a whole answer that went well."""
    forget(policy.key, recording)
    recording.end()
    if not is_whole or not recording.is_output or recording.usage is None:
        return
    text = recording.sealed()
    if text is not None:
        await store().put(policy.key, text, policy.ttl_seconds)


async def find(key: str) -> Recording | None:
    """A kept answer; None when there is none, or its store does not answer."""
    text = await store().get(key)
    return Recording.unsealed(text) if text else None


def forget(key: str, recording: Recording) -> None:
    """From now on nobody joins it."""
    if _making.get(key) is recording:
        del _making[key]


class Store(Protocol):
    async def get(self, key: str) -> str | None: ...

    async def put(self, key: str, text: str, ttl_seconds: int) -> None: ...


class LocalStore:
    """The least recently used goes first when there is more than CACHE_LOCAL_BYTES."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._kept: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._size = 0

    async def get(self, key: str) -> str | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept[0] <= self._now():
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return kept[1]

    async def put(self, key: str, text: str, ttl_seconds: int) -> None:
        self._drop(key)
        self._kept[key] = (self._now() + ttl_seconds, text)
        self._size += len(text)
        while self._size > settings.CACHE_LOCAL_BYTES:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: str) -> None:
        _, text = self._kept.pop(key, (0.0, ""))
        self._size -= len(text)


class SharedStore:
    """Redis; an answer that it does not give in time is a miss."""

    def __init__(self, clients: RedisClients, namespace: str) -> None:
        self._clients = clients
        self._namespace = namespace

    async def get(self, key: str) -> str | None:
        try:
            async with asyncio.timeout(settings.REDIS_TIMEOUT_SECONDS):
                kept = await self._clients.get().get(f"{self._namespace}:{key}")
        except (redis.RedisError, TimeoutError, OSError):
            return None
        return kept.decode() if kept is not None else None

    async def put(self, key: str, text: str, ttl_seconds: int) -> None:
        try:
            async with asyncio.timeout(settings.REDIS_TIMEOUT_SECONDS):
                await self._clients.get().set(f"{self._namespace}:{key}", text, ex=ttl_seconds)
        except (redis.RedisError, TimeoutError, OSError):
            return


@lru_cache(maxsize=1)
def store() -> Store:
    """Where this process keeps answers."""
    if not settings.REDIS_URL:
        return LocalStore()
    return SharedStore(RedisClients(settings.REDIS_URL), f"{settings.REDIS_NAMESPACE}:answer")
