"""Background work. Any number of workers may run: each piece is claimed by compare-and-set."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from django.conf import settings
from django.db import OperationalError, close_old_connections, connection

from billing import budgets, expiry, lots, minimums, recurring, revenue, runway, thresholds
from jobs import calls, closing, drift, margins, partitions, payloads, rollups, shadows
from payments import auto, events
from saas_litellm import verification
from saas_litellm.base import alerts, clock, database, idempotency, outbox
from saas_litellm.base.models import Heartbeat
from saas_litellm.base.telemetry import metrics
from saas_litellm.observing import state
from teams import keys
from webhooks import courier, deliveries, endpoints

logger = logging.getLogger(__name__)
SLOW_SECONDS = 3600


# What each round does, in order; each piece is claimed, so that any number of workers may run.
CHORES: Mapping[str, Callable[[], int]] = {
    "abandoned calls": calls.abandon_expired,
    "jobs of one call": closing.close_left_singles,
    "expired jobs": closing.expire_idle,
    "recurring grants": recurring.grant_due,
    "folded accounts": lots.fold_all,
    "expired lots": expiry.expire_due,
    "low balances": thresholds.fire,
    "budgets reached": budgets.alert,
    "old payloads": payloads.purge,
    "days of profit": rollups.roll_due,
    "days of revenue": revenue.keep_due,
    "webhooks given up": deliveries.give_up,
}
# What changes slowly is looked at less often.
SLOW_CHORES: Mapping[str, Callable[[], int]] = {
    "partitions to come": partitions.keep_ahead,
    "old idempotency keys": idempotency.purge_expired,
    "monthly minimums": minimums.charge_due,
    "shadow days": shadows.price_due,
    "thin margins": margins.sound,
    "cost drifts": drift.sound,
    "paces of spending": runway.keep_paces,
    "credits that expire soon": expiry.tell_soon,
    "keys that expire soon": keys.tell_expiring,
    "old events": outbox.purge,
    "old webhook secrets": endpoints.forget_secrets,
}


# What each worker does beside its rounds, on threads of their own: other machines' slowness is
# nothing that abandoned calls should wait for.
BESIDE: Mapping[str, Callable[[threading.Event], None]] = {
    "webhooks": courier.run_until,
    "alerts": alerts.run_until,
}
# What asks another service, on a thread of its own: nothing of the above waits for its answers.
OUTSIDE_CHORES: Mapping[str, Callable[[], int]] = {
    "stripe events": events.retry_due,
    "auto top-ups": auto.charge_due,
}
_outside = threading.Lock()


def sweep(*, is_slow_due: bool = True, stopped: threading.Event | None = None) -> dict[str, int]:
    """One round: what was done, by name. A chore that fails does not stop the others.

    ``stopped`` ends the round before the next chore. Raises OperationalError when the database is
    away: none of the others could do anything then.
    """
    return _done({**CHORES, **(SLOW_CHORES if is_slow_due else {})}, stopped)


def _done(
    chores: Mapping[str, Callable[[], int]], stopped: threading.Event | None = None
) -> dict[str, int]:
    done = {}
    for name, chore in chores.items():
        if stopped is not None and stopped.is_set():
            break
        try:
            done[name] = chore()
        except Exception as error:
            metrics.SWEEPS.labels(name, "failed").inc()
            if isinstance(error, OperationalError) and database.is_gone():
                raise
            logger.exception("%s: failed; trying again next round", name)
        else:
            metrics.SWEEPS.labels(name, "done").inc()
    Heartbeat.objects.update_or_create(name=state.WORKER, defaults={"at": clock.now()})
    return {name: count for name, count in done.items() if count}


def run_until(stopped: threading.Event, *, after_round: Callable[[], object] | None = None) -> None:
    """Sweep every SWEEP_INTERVAL_SECONDS until told to stop; a failed round is logged, not fatal.

    ``after_round`` is called when a round has ended well.
    """
    beside = [_begin_beside(name, run, stopped) for name, run in BESIDE.items()]
    slow_due_at = time.monotonic()
    is_away = False
    while not stopped.is_set():
        close_old_connections()
        try:
            database.reach()
            is_slow_due = time.monotonic() >= slow_due_at
            done = sweep(is_slow_due=is_slow_due, stopped=stopped)
            is_away = False
            _work_outside_beside()
            if is_slow_due:
                slow_due_at = time.monotonic() + SLOW_SECONDS
                _check_ledger_beside()
            if done:
                logger.info("%s", done)
            if after_round is not None:
                after_round()
        except OperationalError as error:
            is_away = True
            logger.error("the database does not answer; trying again: %s", error)
        except Exception:
            logger.exception("sweeping failed; trying again")
        finally:
            if not settings.EMBEDDED:
                connection.close()
        stopped.wait(settings.SWEEP_INTERVAL_SECONDS)
    connection.close()
    # Messages on their way may arrive; without the database nobody could note that they did.
    ends_at = time.monotonic() + (0 if is_away else settings.WEBHOOK_TIMEOUT_SECONDS)
    for thread in beside:
        thread.join(timeout=max(0.0, ends_at - time.monotonic()))


def _begin_beside(
    name: str, run: Callable[[threading.Event], None], stopped: threading.Event
) -> threading.Thread:
    def go_on() -> None:
        while not stopped.is_set():
            try:
                run(stopped)
            except Exception:
                logger.exception("%s: broke off; beginning again", name)
                stopped.wait(settings.SWEEP_INTERVAL_SECONDS)
            finally:
                connection.close()

    thread = threading.Thread(target=go_on, name=name, daemon=True)
    thread.start()
    return thread


def work_outside() -> dict[str, int]:
    """One round of the chores that ask another service."""
    return _done(OUTSIDE_CHORES)


def _work_outside_beside() -> None:
    """On a thread of its own; while an earlier round runs, not again."""
    if not _outside.acquire(blocking=False):
        return

    def work() -> None:
        try:
            done = work_outside()
            if done:
                logger.info("%s", done)
        finally:
            _outside.release()
            connection.close()

    threading.Thread(target=work, name="outside", daemon=True).start()


def _check_ledger_beside() -> None:
    """On a thread of its own: it reads every row, and abandoned calls should not wait for it."""

    def check() -> None:
        try:
            if verification.is_check_due():
                verification.check()
        except Exception:
            logger.exception("the ledger could not be checked; trying again in an hour")
        finally:
            connection.close()

    threading.Thread(target=check, name="ledger-check", daemon=True).start()


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
