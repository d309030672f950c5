"""What a platform that `tests.forks` forks finds imported: the slow part of its own imports, and
nothing that reads a setting or, like prometheus_client, the environment."""

from __future__ import annotations

import importlib

from jobs import gateway

SLOW = (
    "django.core.handlers.asgi",
    "django.db.models",
    "docutils.core",
    "docutils.parsers.rst.roles",
    "h2.connection",
    "httpcore",
    "psycopg_pool",
    "redis.asyncio",
    "segno",
    "stripe",
    "uvicorn.main",
)
for name in SLOW:
    importlib.import_module(name)
gateway.warm_up()
