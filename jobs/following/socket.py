"""/api/jobs/{job_id}/ws: the same as the stream, a message for each step, over a WebSocket."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

from jobs.following import entrance
from jobs.following.entrance import Opening
from jobs.following.feed import Reader, feed
from jobs.following.looking import Step
from saas_litellm.base import http, sockets
from saas_litellm.base.bridge import in_database
from saas_litellm.base.refusals import Refusal, Unauthenticated
from teams.api import Signature, signature

_PATH = re.compile(r"/api/jobs/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/ws")
# Close codes beside WebSocket's own: over with the job; the key holds no more.
OVER, POLICY, RESTART, REFUSED = 1000, 1008, 1012, 4401
# A reader that takes nothing for so long is let go; it comes back when it can.
SEND_SECONDS = 15.0
_FOREVER = 3600.0

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


def job_of(path: str) -> UUID | None:
    """The job whose socket this path is."""
    found = _PATH.fullmatch(path)
    return UUID(found[1]) if found else None


async def serve(job_id: UUID, scope: Scope, receive: Receive, send: Send) -> None:
    """An ASGI application for one socket: no thread and no connection is its own."""
    await receive()
    reader: Reader | None = None
    try:
        signed = _signed(scope)
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        last_id = entrance.last_id_of(query.get("last_event_id", [""])[-1])
        opening = await in_database(entrance.enter, signed, job_id, last_id)
        reader = Reader(
            job_id=job_id, team_slug=opening.team_slug, signed=signed, sent=opening.known
        )
        if not opening.known.is_last:
            feed.join(reader)
    except Refusal as refusal:
        await sockets.refuse(refusal, scope, send)
        return
    reading = writing = None
    try:
        await send({"type": "websocket.accept"})
        reading = asyncio.ensure_future(_read(receive))
        writing = asyncio.ensure_future(_write(reader, opening, send))
        await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
        code = reading.result() if reading.done() else writing.result()
        if code is not None:
            await send({"type": "websocket.close", "code": code})
    finally:
        feed.leave(reader)
        left = [task for task in (reading, writing) if task is not None]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def _signed(scope: Scope) -> Signature:
    """Raises Unauthenticated, for a foreign page in the open demo too: browsers ask nobody before
    they open a socket."""
    signed = signature(sockets.request_of(scope))
    if signed.is_open_demo and any(name == b"origin" for name, _ in scope["headers"]):
        raise Unauthenticated
    return signed


async def _read(receive: Receive) -> int | None:
    """Nobody has anything to say here."""
    message = await receive()
    return None if message["type"] == "websocket.disconnect" else POLICY


async def _write(reader: Reader, opening: Opening, send: Send) -> int | None:
    """Until the job is closed, or the reader has to go; with which code, None for no word."""
    try:
        for step in opening.first:
            await _send(step, send)
        last: Step = opening.known
        while not last.is_last:
            step_or_none = await reader.next(_FOREVER)
            if step_or_none is not None:
                last = step_or_none
                await _send(last, send)
    except TimeoutError:
        return None
    except Refusal as refusal:
        return RESTART if refusal.status == 503 else REFUSED
    return OVER


async def _send(step: Step, send: Send) -> None:
    text = http.encode({"id": step.id, **step.said}).decode()
    async with asyncio.timeout(SEND_SECONDS):
        await send({"type": "websocket.send", "text": text})
