"""Which of the processes looks into the database for all of them: a lease in Redis.

Without Redis there is one process, and it looks for itself. A lease is short, so that another
process takes over soon after its holder died.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache

from django.conf import settings

from saas_litellm.base.redis_clients import RedisClients

LEASE_SECONDS = 2.5
# KEYS: the lease. ARGV: who asks, milliseconds. Taken when it is free, prolonged when it is theirs.
_TAKE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_GIVE_BACK = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


async def take(name: str) -> bool:
    """Whether ``name`` leads from now on for a lease.

    Raises redis.RedisError or TimeoutError when Redis does not answer in time.
    """
    if not settings.REDIS_URL:
        return True
    async with asyncio.timeout(settings.REDIS_TIMEOUT_SECONDS):
        milliseconds = int(LEASE_SECONDS * 1000)
        return bool(await _clients().get().eval(_TAKE, 1, _key(), name, milliseconds))


async def give_back(name: str) -> None:
    """Let another lead at once. Raises as ``take`` does."""
    if settings.REDIS_URL:
        async with asyncio.timeout(settings.REDIS_TIMEOUT_SECONDS):
            await _clients().get().eval(_GIVE_BACK, 1, _key(), name)


@lru_cache(maxsize=1)
def _clients() -> RedisClients:
    return RedisClients(settings.REDIS_URL)


def _key() -> str:
    return f"{settings.REDIS_NAMESPACE}:live:leader"
