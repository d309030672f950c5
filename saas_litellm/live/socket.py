"""The socket of the live view: let a page in, write to it, notice that it went."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from saas_litellm.base import sockets
from saas_litellm.base.bridge import in_database
from saas_litellm.base.refusals import Unavailable
from saas_litellm.live import entrance
from saas_litellm.live.feed import Feed
from saas_litellm.live.watchers import FULL, POLICY, Ending, Watcher

PATH = "/admin/live/socket"
# A page that takes nothing for so long is let go; it comes back when it can.
SEND_SECONDS = 15.0

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class LiveSocket:
    """An ASGI application for the sockets of one process: no thread and no connection is theirs."""

    def __init__(self) -> None:
        self.feed = Feed()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        request = sockets.request_of(scope)
        if not entrance.is_of_our_page(request):
            await send({"type": "websocket.close"})
            return
        # Only an open socket can be told why it is closed.
        await send({"type": "websocket.accept"})
        key = entrance.session_key(request)
        ending = await in_database(entrance.refusal, key) or await self._serve(key, receive, send)
        if ending is not None:
            await send({"type": "websocket.close", "code": ending.code, "reason": ending.reason})

    async def _serve(self, key: str, receive: Receive, send: Send) -> Ending | None:
        """Until the page goes (None) or has to; the reason why it has to."""
        watcher = Watcher(key)
        try:
            self.feed.join(watcher)
        except Unavailable:
            return Ending(FULL, "Too many pages are watching.")
        reading = asyncio.ensure_future(_read(receive))
        writing = asyncio.ensure_future(_write(watcher, send))
        try:
            await asyncio.wait((reading, writing), return_when=asyncio.FIRST_COMPLETED)
            return reading.result() if reading.done() else writing.result()
        finally:
            self.feed.leave(watcher)
            reading.cancel()
            writing.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)


async def _read(receive: Receive) -> Ending | None:
    """A page has nothing to say."""
    message = await receive()
    if message["type"] == "websocket.disconnect":
        return None
    return Ending(POLICY, "Nothing may be sent here.")


async def _write(watcher: Watcher, send: Send) -> Ending | None:
    while True:
        message = await watcher.next()
        if isinstance(message, Ending):
            return message
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await send({"type": "websocket.send", "text": message})
        except TimeoutError:
            return None
