"""Every request counted, timed, traced and logged, by the part of the platform that it asks for."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote

from saas_litellm.api_handler import Receive, Scope, Send
from saas_litellm.base.telemetry import metrics, tracing

logger = logging.getLogger(__name__)
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]

# A path may hold anything, a label only what is known.
AREAS = frozenset(
    {"admin", "api", "docs", "healthz", "help", "metrics", "portal", "readyz", "static", "v1"}
)
# What machines ask every few seconds says nothing in a log.
_QUIET = frozenset({"healthz", "metrics", "readyz", "static"})
METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


async def observe(handler: Handler, scope: Scope, receive: Receive, send: Send) -> None:
    """Let ``handler`` answer; note its status and how long its answer took to begin, and at its end
    write a line of it."""
    area, method = area_of(scope["path"]), str(scope["method"])
    method = method if method in METHODS else "other"
    began = time.perf_counter()
    status = 0
    with tracing.span(f"{method} {area}", parent=_parent(scope), is_server=True) as span:

        async def noted(message: Mapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                metrics.HTTP_SECONDS.labels(area).observe(time.perf_counter() - began)
                metrics.HTTP_REQUESTS.labels(area, method, f"{status // 100}xx").inc()
                tracing.note(span, status=status)
            await send(message)

        try:
            await handler(scope, receive, noted)
        finally:
            level = logging.DEBUG if area in _QUIET else logging.INFO
            if logger.isEnabledFor(level):
                # Without its query, which may hold what nobody should read; quoted, so that it is
                # one line whatever somebody asks for.
                milliseconds = round((time.perf_counter() - began) * 1000)
                says = (method, quote(scope["path"]), status or "without an answer", milliseconds)
                logger.log(level, "%s %s %s in %d ms", *says)


def area_of(path: str) -> str:
    first = path.split("/", maxsplit=2)[1] if path.startswith("/") else ""
    return first if first in AREAS else "other"


def _parent(scope: Scope) -> dict[str, str] | None:
    """The headers by which a caller hands its trace on; None where nobody looks."""
    if not tracing.is_on():
        return None
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
