"""One message over HTTP: bounded in time and in what is read, and never led elsewhere."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

import httpcore
from django.conf import settings

from saas_litellm.base import clock
from webhooks import targets

EXCERPT_CHARACTERS = 500
_EXCERPT_BYTES = 4096
# Connections are kept for the next message to the same endpoint, but not for long.
_KEPT_SECONDS = 5.0
# How long the beginning of a body is waited for once the status is there.
_BODY_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one request. Without a status there was none, and ``failure`` says why."""

    milliseconds: int
    status: int | None = None
    failure: str = ""
    excerpt: str = ""
    retry_after_seconds: float | None = None

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def connections(ssl_context: ssl.SSLContext | None = None) -> httpcore.AsyncConnectionPool:
    """What ``post`` sends over, for one event loop: no proxy, no redirect, checked addresses."""
    return httpcore.AsyncConnectionPool(
        ssl_context=ssl_context,
        max_connections=2 * settings.WEBHOOK_CONCURRENCY,
        keepalive_expiry=_KEPT_SECONDS,
        network_backend=targets.CheckedBackend(),
    )


async def post(
    pool: httpcore.AsyncConnectionPool, url: str, *, headers: Mapping[str, str], body: bytes
) -> Answer:
    """Send a message to an endpoint; whatever goes wrong is in the answer."""
    if url.partition(":")[0] not in targets.schemes():
        return Answer(milliseconds=0, failure="only https is written to")
    return await post_anywhere(pool, url, headers=headers, body=body)


async def post_anywhere(
    pool: httpcore.AsyncConnectionPool, url: str, *, headers: Mapping[str, str], body: bytes
) -> Answer:
    """The same to an address of an operator's choice: neither it nor its scheme is checked."""
    began = time.monotonic()

    def spent() -> int:
        return int((time.monotonic() - began) * 1000)

    total = settings.WEBHOOK_TIMEOUT_SECONDS
    waits = {
        "connect": settings.WEBHOOK_CONNECT_SECONDS,
        "read": total,
        "write": total,
        "pool": total,
    }
    try:
        async with (
            asyncio.timeout(total) as limit,
            pool.stream(
                "POST",
                url,
                headers=list(headers.items()),
                content=body,
                extensions={"timeout": waits},
            ) as response,
        ):
            # The status is what counts: the body has a limit of its own, and undoes nothing.
            limit.reschedule(None)
            status = response.status
            excerpt = await _beginning(response)
    except targets.Refused as refused:
        return Answer(milliseconds=spent(), failure=f"refused: {refused}")
    except (TimeoutError, httpcore.TimeoutException) as error:
        is_connecting = isinstance(error, httpcore.ConnectTimeout)
        seconds = settings.WEBHOOK_CONNECT_SECONDS if is_connecting else total
        what = "no connection" if is_connecting else "no answer"
        return Answer(milliseconds=spent(), failure=f"{what} within {seconds:g} s")
    except (httpcore.NetworkError, httpcore.ProtocolError, OSError, ValueError) as error:
        return Answer(milliseconds=spent(), failure=f"{type(error).__name__}: {error}"[:200])
    return Answer(
        milliseconds=spent(),
        status=status,
        failure="" if 200 <= status < 300 else f"answered {status}",
        excerpt=excerpt,
        retry_after_seconds=_retry_after(response),
    )


async def _beginning(response: httpcore.Response) -> str:
    """How the body begins, as far as it comes in time."""
    read = b""
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in response.aiter_stream():
                read += chunk
                if len(read) >= _EXCERPT_BYTES:
                    break
    except (TimeoutError, httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
        pass
    text = read[:_EXCERPT_BYTES].decode(errors="replace").replace("\0", "")
    return text[:EXCERPT_CHARACTERS]


def _retry_after(response: httpcore.Response) -> float | None:
    """Seconds, from either of the header's two forms."""
    text = next(
        (
            value.decode("latin-1")
            for name, value in response.headers
            if name.lower() == b"retry-after"
        ),
        "",
    ).strip()
    if text.isdigit():
        return float(text[:9])
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - clock.now()).total_seconds())
