"""Background work. Any number of workers may run: each piece is claimed by compare-and-set."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

from django.conf import settings
from django.db import close_old_connections, connection

from jobs import calls, closing

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Swept:
    abandoned_calls: int
    expired_jobs: int


def sweep() -> Swept:
    """Close calls whose process died and jobs that went idle."""
    return Swept(calls.abandon_expired(), closing.expire_idle())


def run_until(stopped: threading.Event) -> None:
    """Sweep every SWEEP_INTERVAL_SECONDS until told to stop; a failed round is logged, not fatal."""
    while not stopped.is_set():
        close_old_connections()
        try:
            swept = sweep()
            if swept.abandoned_calls or swept.expired_jobs:
                logger.info("%s", swept)
        except Exception:
            logger.exception("sweeping failed; trying again")
        finally:
            if not settings.EMBEDDED:
                connection.close()
        stopped.wait(settings.SWEEP_INTERVAL_SECONDS)
    connection.close()


@dataclass(slots=True)
class Thread:
    """The worker inside the one web process of the embedded mode."""

    stopped: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    @classmethod
    def started(cls) -> Thread:
        worker = cls()
        worker.thread = threading.Thread(
            target=run_until, args=(worker.stopped,), name="worker", daemon=True
        )
        worker.thread.start()
        return worker

    def stop(self) -> None:
        self.stopped.set()
        if self.thread is not None:
            self.thread.join(timeout=5)
