"""Is it alive, can it serve, and where is the front door."""

from __future__ import annotations

import logging

from django.core.cache import cache
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect

from saas_litellm.base import http
from saas_litellm.base.bridge import in_database

logger = logging.getLogger(__name__)


async def healthz(request: HttpRequest) -> HttpResponse:
    """200 while the process answers; asks nothing of anyone else."""
    return http.answer({"status": "ok"})


async def readyz(request: HttpRequest) -> HttpResponse:
    """200 when the database and the cache answer, else 503 naming which does not."""
    parts = await in_database(_parts)
    is_ready = all(state == "ok" for state in parts.values())
    return http.answer(
        {"status": "ok" if is_ready else "unavailable", **parts}, status=200 if is_ready else 503
    )


def front_door(request: HttpRequest) -> HttpResponse:
    return HttpResponseRedirect("/admin/")


def _parts() -> dict[str, str]:
    return {"database": _works(_ask_database), "cache": _works(_ask_cache)}


def _works(ask: object) -> str:
    assert callable(ask)
    try:
        ask()
    except Exception:
        logger.exception("not ready")
        return "unavailable"
    return "ok"


def _ask_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _ask_cache() -> None:
    cache.set("readyz", "1", timeout=5)
    if cache.get("readyz") != "1":
        raise RuntimeError("the cache forgets")
