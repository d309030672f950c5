"""The courier: carries messages beside a worker's other chores, many endpoints at a time.

It has a thread and an event loop of its own, so that a slow endpoint delays only what is meant for
itself. Any number of couriers may run.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time

from django.conf import settings

from saas_litellm.base import clock, database
from saas_litellm.base.bridge import in_database
from webhooks import deliveries, sending, signing
from webhooks.deliveries import Parcel
from webhooks.sending import Answer

LOOK_SECONDS = 1.0
# So many messages, or so long, and the endpoint goes back for others to have a turn.
AT_ONE_TURN, TURN_SECONDS = 100, 30.0
logger = logging.getLogger("saas_litellm.webhooks")


def run_until(stopped: threading.Event) -> None:
    """Carry messages until told to stop; those on their way are let arrive."""
    asyncio.run(Courier().run(stopped))


class Courier:
    def __init__(self) -> None:
        self._turns: set[asyncio.Task[None]] = set()
        self._trouble = ""

    async def run(self, stopped: threading.Event) -> None:
        async with sending.connections() as self._connections:
            while not stopped.is_set():
                try:
                    await self._begin_turns(stopped)
                    self._trouble = ""
                except Exception as error:
                    self._report(error)
                await asyncio.sleep(LOOK_SECONDS)
            if self._turns:
                await asyncio.wait(self._turns)

    async def _begin_turns(self, stopped: threading.Event) -> None:
        await in_database(_fan_out)
        most = settings.WEBHOOK_CONCURRENCY - len(self._turns)
        if most <= 0:
            return
        for endpoint_id, lease in await in_database(deliveries.claim, most=most):
            turn = asyncio.create_task(self._turn(endpoint_id, lease, stopped))
            self._turns.add(turn)
            turn.add_done_callback(self._turns.discard)

    async def _turn(self, endpoint_id: int, lease: str, stopped: threading.Event) -> None:
        """One message after the other, while there are any."""
        try:
            ends_at = time.monotonic() + TURN_SECONDS
            for _ in range(AT_ONE_TURN):
                if stopped.is_set() or time.monotonic() > ends_at:
                    break
                parcel = await in_database(deliveries.next_parcel, endpoint_id, lease=lease)
                if parcel is None:
                    break
                await in_database(deliveries.finish, parcel, await self._carry(parcel))
            await in_database(deliveries.give_back, endpoint_id, lease=lease)
        except Exception as error:
            # Its lease ends by itself, and another turn begins where this one broke off.
            self._report(error)

    async def _carry(self, parcel: Parcel) -> Answer:
        if not parcel.secrets:
            return Answer(milliseconds=0, failure="its secret cannot be read: rotate it")
        body = signing.body_of(parcel.event)
        headers = signing.headers_of(parcel.event, body, secrets_=parcel.secrets, at=clock.now())
        return await sending.post(
            self._connections, parcel.endpoint.url, headers=headers, body=body
        )

    def _report(self, error: Exception) -> None:
        """Once for each kind of trouble, not every second that it lasts."""
        trouble = type(error).__name__
        if trouble != self._trouble:
            logger.error("webhooks: %s; trying again", trouble, exc_info=error)
        self._trouble = trouble


def _fan_out() -> None:
    # Nobody who ends this process should wait as long as a query would.
    database.reach()
    deliveries.fan_out()
