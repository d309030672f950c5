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
    with tracing.span(f"{method} {area}", parent=_parent(scope), is_server=True) as span:
        answer = _Answer(send, area=area, method=method, span=span)
        try:
            await handler(scope, receive, answer.send)
        finally:
            answer.log(scope["path"])


class _Answer:
    """One on its way to whoever asked, noted as it begins. Of a stream it is kept as long as that is
    open: an object is smaller than a function that shares its caller's names."""

    __slots__ = ("_area", "_began", "_method", "_send", "_span", "_status")

    def __init__(self, send: Send, *, area: str, method: str, span: Any) -> None:
        self._send = send
        self._area = area
        self._method = method
        self._span = span
        self._began = time.perf_counter()
        self._status = 0

    async def send(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            metrics.HTTP_SECONDS.labels(self._area).observe(time.perf_counter() - self._began)
            status = f"{self._status // 100}xx"
            metrics.HTTP_REQUESTS.labels(self._area, self._method, status).inc()
            tracing.note(self._span, status=self._status)
        await self._send(message)

    def log(self, path: str) -> None:
        level = logging.DEBUG if self._area in _QUIET else logging.INFO
        if logger.isEnabledFor(level):
            # Without its query, which may hold what nobody should read; quoted, so that it is one
            # line whatever somebody asks for.
            milliseconds = round((time.perf_counter() - self._began) * 1000)
            status = self._status or "without an answer"
            logger.log(level, "%s %s %s in %d ms", self._method, quote(path), status, milliseconds)


def area_of(path: str) -> str:
    first = path.split("/", maxsplit=2)[1] if path.startswith("/") else ""
    return first if first in AREAS else "other"


def _parent(scope: Scope) -> dict[str, str] | None:
    """The headers by which a caller hands its trace on; None where nobody looks."""
    if not tracing.is_on():
        return None
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
