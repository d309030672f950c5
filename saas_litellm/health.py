"""Is it alive, can it serve, and where is the front door."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from django.core.cache import cache
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from saas_litellm.base import database, http
from saas_litellm.base.bridge import in_database

logger = logging.getLogger(__name__)
# Whoever asks gives up soon, and has to learn which part it is.
READY_SECONDS = 3.0


async def healthz(request: HttpRequest) -> HttpResponse:
    """200 while the process answers; asks nothing of anyone else."""
    return http.answer({"status": "ok"})


async def readyz(request: HttpRequest) -> HttpResponse:
    """200 when the database and the cache answer, else 503 naming which does not."""
    # The cache on another thread: those of the database may all be waiting for it.
    database_, cache_ = await asyncio.gather(
        _state(in_database(_ask_database)), _state(asyncio.to_thread(_ask_cache))
    )
    parts = {"database": database_, "cache": cache_}
    is_ready = all(state == "ok" for state in parts.values())
    return http.answer(
        {"status": "ok" if is_ready else "unavailable", **parts}, status=200 if is_ready else 503
    )


def front_door(request: HttpRequest) -> HttpResponse:
    return HttpResponseRedirect("/admin/")


async def _state(asked: Awaitable[None]) -> str:
    try:
        async with asyncio.timeout(READY_SECONDS):
            await asked
    except Exception as error:
        logger.error("not ready: %s", str(error) or type(error).__name__)
        return "unavailable"
    return "ok"


def _ask_database() -> None:
    database.reach()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _ask_cache() -> None:
    cache.set("readyz", "1", timeout=5)
    if cache.get("readyz") != "1":
        raise RuntimeError("the cache forgets")
