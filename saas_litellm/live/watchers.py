"""A watcher: one open page, what it has been sent, and why it ends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson

from saas_litellm.live.figures import State

# Close codes, beside WebSocket's own: the page stops at these two and tries again after others.
SIGNED_OUT, NOT_ALLOWED = 4401, 4403
POLICY, RESTART, FULL = 1008, 1012, 1013


@dataclass(frozen=True, slots=True)
class Ending:
    """A close code and the reason that the page shows (123 bytes at the most)."""

    code: int
    reason: str


class Watcher:
    """A mailbox of one state: a newer one takes the place of what a slow reader has not fetched.

    So nobody waits for a slow reader, and what is kept for one has a bound.
    """

    def __init__(self, session_key: str) -> None:
        self.session_key = session_key
        self._newest: State | None = None
        self._ending: Ending | None = None
        self._sent: dict[str, dict[str, Any]] = {}
        self._is_something_there = asyncio.Event()

    def offer(self, state: State) -> None:
        self._newest = state
        self._is_something_there.set()

    def end(self, ending: Ending) -> None:
        self._ending = ending
        self._is_something_there.set()

    async def next(self) -> str | Ending:
        """The next message: the figures, and the calls that it has not been sent as they are."""
        while True:
            await self._is_something_there.wait()
            self._is_something_there.clear()
            if self._ending is not None:
                return self._ending
            if self._newest is not None:
                state, self._newest = self._newest, None
                return self._message(state)

    def _message(self, state: State) -> str:
        calls = [call for call in state.calls if self._sent.get(call["id"]) != call]
        self._sent = {call["id"]: call for call in state.calls}
        return orjson.dumps({"figures": state.figures, "calls": calls}).decode()
