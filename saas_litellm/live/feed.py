"""The feed of one web process: it runs while somebody watches there, and only then.

Of the feeds of all processes one leads: it looks into the database once a second and tells the
others through the channel layer. Where the others hear nothing for a while, one of them takes over;
where Redis is away, each looks for itself.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict
from uuid import uuid4

import orjson
from channels.layers import get_channel_layer
from django.conf import settings

from saas_litellm.base.bridge import in_database
from saas_litellm.base.refusals import Unavailable
from saas_litellm.live import entrance, leadership
from saas_litellm.live.figures import State, Window
from saas_litellm.live.watchers import RESTART, Ending, Watcher

GROUP = "live"
LOOK_SECONDS = 1.0
# As long as the lease: whoever asks for it sooner asks in vain.
SILENCE_SECONDS = leadership.LEASE_SECONDS
SESSIONS_SECONDS = 5.0
logger = logging.getLogger("saas_litellm.live")


class Feed:
    """The watchers of this process, and the task that has something to tell them."""

    def __init__(self) -> None:
        self.watchers: set[Watcher] = set()
        self._running: asyncio.Task[None] | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._newest: State | None = None

    def join(self, watcher: Watcher) -> None:
        """Let it have every state from now on, the present one first. Raises Unavailable."""
        if len(self.watchers) >= settings.LIVE_WATCHERS_MAX:
            raise Unavailable("Too many pages are watching.")
        self.watchers.add(watcher)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(_Run(self).run())
        elif self._newest is not None:
            watcher.offer(self._newest)

    def leave(self, watcher: Watcher) -> None:
        self.watchers.discard(watcher)
        if not self.watchers and self._running is not None:
            # What it still tells the others takes a moment, in which nothing else refers to it.
            self._retiring.add(self._running)
            self._running.add_done_callback(self._retiring.discard)
            self._running.cancel()
            self._running = self._newest = None

    def show(self, state: State) -> None:
        self._newest = state
        for watcher in self.watchers:
            watcher.offer(state)

    def end(self, endings: dict[str, Ending]) -> None:
        """End those whose session is named."""
        for watcher in self.watchers:
            if watcher.session_key in endings:
                watcher.end(endings[watcher.session_key])

    def close(self) -> None:
        """This process stops: the pages come back to another one, or to its next life."""
        for watcher in self.watchers:
            watcher.end(Ending(RESTART, "The platform restarts."))


class _Run:
    """From the first watcher to the last: lead or listen, and see to it that sessions still hold."""

    def __init__(self, feed: Feed) -> None:
        self.name = uuid4().hex
        self._feed = feed
        self._window = Window()
        self._layer = get_channel_layer()
        self._channel = ""
        self._is_leader = False
        self._heard_at = float("-inf")
        self._trouble = ""

    async def run(self) -> None:
        self._channel = await self._layer.new_channel()
        loops = (self._listen(), self._lead_or_wait(), self._watch_sessions())
        tasks = [asyncio.create_task(loop) for loop in loops]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            # Again and again: a cancellation that meets an answer of Redis may get lost (Python
            # 3.11's asyncio.wait_for), and nothing may go on when nobody watches.
            while not all(task.done() for task in tasks):
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks, timeout=0.2)
            await self._retire()

    async def _listen(self) -> None:
        while True:
            try:
                await self._layer.group_add(GROUP, self._channel)
                while True:
                    message = await self._layer.receive(self._channel)
                    if message["by"] != self.name:
                        self._heard_at = _now()
                        self._feed.show(State(**orjson.loads(message["state"])))
            except Exception as error:
                self._report("hear the other processes", error)
                await asyncio.sleep(LOOK_SECONDS)

    async def _lead_or_wait(self) -> None:
        while True:
            began = _now()
            if self._is_leader or began - self._heard_at >= SILENCE_SECONDS:
                await self._look()
            await asyncio.sleep(max(0.1, LOOK_SECONDS - (_now() - began)))

    async def _look(self) -> None:
        is_alone = False
        try:
            self._is_leader = await leadership.take(self.name)
            if not self._is_leader:
                # Another leads and is not heard here: Redis may have lost this one's membership.
                await self._layer.group_add(GROUP, self._channel)
                return
        except Exception as error:
            self._report("agree with the other processes", error)
            self._is_leader = is_alone = True
        try:
            state = await in_database(self._window.look)
        except Exception as error:
            self._report("look into the database", error)
            # Another may do better: let the lease run out before asking for it again.
            self._is_leader, self._heard_at = False, _now()
            return
        self._feed.show(state)
        if not is_alone:
            await self._tell(state)

    async def _tell(self, state: State) -> None:
        message = {"type": "live.state", "by": self.name, "state": orjson.dumps(asdict(state))}
        try:
            async with asyncio.timeout(settings.REDIS_TIMEOUT_SECONDS):
                await self._layer.group_send(GROUP, message)
            self._trouble = ""
        except Exception as error:
            self._report("tell the other processes", error)

    async def _watch_sessions(self) -> None:
        while True:
            await asyncio.sleep(SESSIONS_SECONDS)
            try:
                keys = {watcher.session_key for watcher in self._feed.watchers}
                self._feed.end(await in_database(entrance.refusals, keys))
            except Exception as error:
                self._report("look at the sessions", error)

    async def _retire(self) -> None:
        try:
            async with asyncio.timeout(settings.REDIS_TIMEOUT_SECONDS):
                if self._is_leader:
                    await leadership.give_back(self.name)
                if self._channel:
                    await self._layer.group_discard(GROUP, self._channel)
        except Exception as error:
            self._report("leave the other processes", error)

    def _report(self, what: str, error: Exception) -> None:
        """Once for each kind of trouble, not every second that it lasts."""
        trouble = f"cannot {what}: {type(error).__name__}"
        if trouble != self._trouble:
            logger.warning("the live view %s", trouble, exc_info=error)
        self._trouble = trouble


def _now() -> float:
    return asyncio.get_running_loop().time()
