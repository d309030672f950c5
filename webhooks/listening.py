"""Listening from a terminal: the events of a team or of the platform, as they become visible."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection
from datetime import timedelta
from uuid import uuid4

import httpcore

from saas_litellm.base import clock, outbox
from saas_litellm.base.bridge import in_database
from saas_litellm.base.models import Event
from teams.models import Team
from webhooks import deliveries, endpoints, sending, signing
from webhooks.sending import Answer

LOOK_SECONDS = 0.5
# Should the terminal die, nobody goes on writing events for it for long.
_LISTENS_FOR = timedelta(seconds=60)
_RENEWED_AFTER_SECONDS = 20.0


class Listening:
    def __init__(
        self,
        *,
        team: Team | None,
        types: Collection[str],
        forward: str | None,
        secret: str,
        show: Callable[[bytes, Answer | None], None],
        ready: Callable[[], None],
    ) -> None:
        """``show`` gets each message and, where it is forwarded, its answer."""
        self._team = team
        self._types = list(types) or endpoints.types_for(is_for_team=team is not None)
        self._forward, self._secret = forward, secret
        self._show, self._ready = show, ready
        self._name = f"listen:{uuid4().hex}"
        self._position = 0

    async def run(self, stopped: threading.Event, *, seconds: float | None = None) -> None:
        """Until told to stop, or for so long after everybody knows that somebody listens."""
        await in_database(self._renew)
        try:
            await asyncio.to_thread(stopped.wait, outbox.HEARD_SECONDS + LOOK_SECONDS)
            self._position = await in_database(outbox.end)
            self._ready()
            until = time.monotonic() + seconds if seconds is not None else float("inf")
            renewed_at = time.monotonic()
            async with httpcore.AsyncConnectionPool() as pool:
                while not stopped.is_set() and time.monotonic() < until:
                    for event in await in_database(self._news):
                        await self._hand_over(pool, event)
                    if time.monotonic() - renewed_at > _RENEWED_AFTER_SECONDS:
                        renewed_at = time.monotonic()
                        await in_database(self._renew)
                    await asyncio.sleep(LOOK_SECONDS)
        finally:
            await in_database(outbox.stop_listening, self._name)

    def _renew(self) -> None:
        team = self._team
        outbox.listen(
            self._name,
            types=self._types,
            team_id=team.pk if team else None,
            organization_id=team.organization_id if team else None,
            until=clock.now() + _LISTENS_FOR,
        )

    def _news(self) -> list[Event]:
        # Where no worker runs, nobody else arranges what happened.
        deliveries.fan_out()
        team = self._team
        found = outbox.after(
            self._position,
            team_id=team.pk if team else None,
            organization_id=endpoints.wallet_of(team) if team else None,
        )
        if found:
            self._position = found[-1].position or self._position
        return [event for event in found if event.type in self._types]

    async def _hand_over(self, pool: httpcore.AsyncConnectionPool, event: Event) -> None:
        body, answer = signing.body_of(event), None
        if self._forward:
            headers = signing.headers_of(event, body, secrets_=[self._secret], at=clock.now())
            answer = await sending.post_anywhere(pool, self._forward, headers=headers, body=body)
        self._show(body, answer)
