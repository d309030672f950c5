"""The feed of one web process: it looks while somebody follows a job there, and only then."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Iterable
from uuid import UUID

from django.conf import settings

from jobs.following import looking
from jobs.following.looking import Step
from jobs.refusals import Restarting
from saas_litellm.base.bridge import in_database
from saas_litellm.base.refusals import Refusal, Unavailable
from teams.api import Signature

LOOK_SECONDS = 0.5
# How soon a key that was revoked stops following.
CHECK_SECONDS = 15.0
logger = logging.getLogger("saas_litellm.following")


class Reader:
    """One open answer: the steps it has not been sent yet, and why it ends."""

    def __init__(self, *, job_id: UUID, team_slug: str, signed: Signature, sent: Step) -> None:
        """``sent`` is the newest step that it knows."""
        self.job_id, self.team_slug, self.signed = job_id, team_slug, signed
        self.sent = sent
        self.ending: Refusal | None = None
        self._steps: deque[Step] = deque()
        self._is_something_there = asyncio.Event()

    def offer(self, steps: Iterable[Step]) -> None:
        """What it has been offered before is left out."""
        for step in steps:
            if step.id > self.sent.id:
                self._steps.append(step)
                self.sent = step
                self._is_something_there.set()

    def end(self, ending: Refusal) -> None:
        self.ending = ending
        self._is_something_there.set()

    async def next(self, seconds: float) -> Step | None:
        """The next step; None after so many seconds without one. Raises the Refusal that ends it."""
        try:
            async with asyncio.timeout(seconds):
                await self._is_something_there.wait()
        except TimeoutError:
            return None
        if self._steps:
            step = self._steps.popleft()
            if not self._steps and self.ending is None:
                self._is_something_there.clear()
            return step
        if self.ending is not None:
            raise self.ending
        return None


class Feed:
    """The readers of this process, and the task that has something to tell them."""

    def __init__(self) -> None:
        self.readers: set[Reader] = set()
        self._running: asyncio.Task[None] | None = None
        self._trouble = ""

    def require_room(self) -> None:
        """Raises Unavailable where there are too many readers."""
        if len(self.readers) >= settings.JOB_READERS_MAX:
            raise Unavailable("Too many readers follow jobs here.", retry_after_seconds=5)

    def join(self, reader: Reader) -> None:
        """Offer it every step from now on, until it leaves. Raises Unavailable."""
        self.require_room()
        self.readers.add(reader)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())

    def leave(self, reader: Reader) -> None:
        self.readers.discard(reader)

    def close(self) -> None:
        """This process stops: readers come back to another one, or to its next life."""
        for reader in self.readers:
            reader.end(Restarting("The platform restarts. Connect again."))

    async def _run(self) -> None:
        """From the first reader to the last."""
        now = asyncio.get_running_loop().time
        checked_at = now()
        while self.readers:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._look()
                if now() - checked_at >= CHECK_SECONDS:
                    checked_at = now()
                    await self._check()
                self._trouble = ""
            except Exception as error:
                self._report(error)

    async def _look(self) -> None:
        known: dict[UUID, set[str]] = defaultdict(set)
        for reader in self.readers:
            known[reader.job_id].add(reader.sent.status)
        if not known:
            return
        news = await in_database(looking.news, known)
        for reader in list(self.readers):
            reader.offer(news.get(reader.job_id, ()))

    async def _check(self) -> None:
        """Whether those who follow still may: each key once, however many readers it has."""
        who = {(reader.signed, reader.team_slug) for reader in self.readers}
        refused = await in_database(_refusals, who)
        for reader in list(self.readers):
            if (refusal := refused.get((reader.signed, reader.team_slug))) is not None:
                reader.end(refusal)

    def _report(self, error: Exception) -> None:
        """Once for each kind of trouble, not at every look."""
        trouble = type(error).__name__
        if trouble != self._trouble:
            logger.warning("following jobs: cannot look: %s", trouble, exc_info=error)
        self._trouble = trouble


def _refusals(who: Iterable[tuple[Signature, str]]) -> dict[tuple[Signature, str], Refusal]:
    found = {}
    for signed, slug in who:
        try:
            signed.caller(team_slug=slug, owner_slug=lambda: None)
        except Refusal as refusal:
            found[signed, slug] = refusal
    return found


feed = Feed()
