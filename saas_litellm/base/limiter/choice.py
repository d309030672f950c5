"""Which limiter counts: Redis where there is one, this process while there is none."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

import redis
from django.conf import settings

from saas_litellm.base import alarms
from saas_litellm.base.bridge import in_database
from saas_litellm.base.limiter.local import LocalLimiter
from saas_litellm.base.limiter.rules import Admission, Backend, Rule
from saas_litellm.base.limiter.shared import SharedLimiter
from saas_litellm.base.refusals import Unavailable
from saas_litellm.base.telemetry import metrics

logger = logging.getLogger(__name__)
# How long Redis is left alone after it failed, and how often that is told.
PAUSE_SECONDS = 5.0
ALARM_EVERY_SECONDS = 60.0


class Limiter:
    """Shared limits that survive an outage of Redis by LIMITS_WITHOUT_REDIS.

    ``local`` counts in each process, ``allow`` does not count, ``refuse`` raises Unavailable.
    Money does not depend on any of this: the database guards it.
    """

    def __init__(
        self,
        *,
        shared: Backend | None,
        without_redis: str = "local",
        tell: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._shared = shared
        self._local = LocalLimiter()
        self._without_redis = without_redis
        self._tell = tell or _sound
        self._away_until = 0.0
        self._told_at = float("-inf")
        self._telling: set[asyncio.Task[Any]] = set()
        # Where each admission was counted, so that it is corrected there.
        self._homes: dict[str, Backend] = {}

    async def admit(
        self, rules: tuple[Rule, ...], *, tokens: int, ticket: str, lease_seconds: int
    ) -> Admission:
        """Count a request under all its rules, or under none and say which one is full."""
        given = {"tokens": tokens, "ticket": ticket, "lease_seconds": lease_seconds}
        shared = self._shared
        if shared is not None and time.monotonic() >= self._away_until:
            try:
                admission = await shared.admit(rules, **given)  # type: ignore[arg-type]
            except (redis.RedisError, TimeoutError, OSError) as error:
                self._lost(error)
            else:
                return self._at_home(admission, shared)
        if shared is not None and self._without_redis == "refuse":
            raise Unavailable("The limits cannot be checked right now.", retry_after_seconds=5)
        if shared is not None and self._without_redis == "allow":
            return Admission(ticket=ticket, tokens=tokens, second=0, standings=())
        admission = await self._local.admit(rules, **given)  # type: ignore[arg-type]
        return self._at_home(admission, self._local)

    async def settle(self, admission: Admission, *, tokens: int) -> None:
        """Correct the estimate to what was used, and end the lease. Once; twice changes nothing."""
        await self._correct(admission, tokens=tokens - admission.tokens, requests=0)

    async def release(self, admission: Admission) -> None:
        """Take the whole request back: it was refused for another reason."""
        await self._correct(admission, tokens=-admission.tokens, requests=-1)

    def _at_home(self, admission: Admission, backend: Backend) -> Admission:
        if admission.refused is None:
            self._homes[admission.ticket] = backend
        return admission

    async def _correct(self, admission: Admission, *, tokens: int, requests: int) -> None:
        home = self._homes.pop(admission.ticket, None)
        if home is None:
            return
        try:
            await home.correct(admission, tokens=tokens, requests=requests)
        except (redis.RedisError, TimeoutError, OSError) as error:
            # The window slides and the lease ends all the same.
            self._lost(error)

    def _lost(self, error: Exception) -> None:
        metrics.LIMITER_FALLBACKS.inc()
        now = time.monotonic()
        self._away_until = now + PAUSE_SECONDS
        logger.warning("Redis does not answer (%s); limits: %s", error, self._without_redis)
        if now >= self._told_at + ALARM_EVERY_SECONDS:
            self._told_at = now
            task = asyncio.ensure_future(self._tell(f"{type(error).__name__}: {error}"))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)


async def _sound(detail: str) -> None:
    await in_database(alarms.sound, kind="limits.redis_away", subject="redis", detail=detail[:500])


@lru_cache(maxsize=1)
def limiter() -> Limiter:
    """This process's limiter."""
    url = settings.REDIS_URL
    shared = SharedLimiter(
        url,
        namespace=f"{settings.REDIS_NAMESPACE}:limit",
        timeout_seconds=settings.REDIS_TIMEOUT_SECONDS,
    )
    return Limiter(
        shared=shared if url else None,
        without_redis=settings.LIMITS_WITHOUT_REDIS,
    )
