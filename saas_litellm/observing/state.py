"""How things stand now, in few and small queries: for metrics and for the doctor alike."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Count, Min, Q, Sum

from billing.models import Hold
from jobs.models import Call
from saas_litellm.base import clock
from saas_litellm.base.models import Heartbeat, LedgerCheck
from teams.models import DeploymentHealth
from webhooks.models import Delivery

WORKER = "worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holds:
    """Open ones; the oldest counts where it is a call's, for those have an end."""

    count: int
    nanocredits: int
    oldest_seconds: float


def holds() -> Holds:
    found = Hold.objects.filter(state=Hold.State.OPEN).aggregate(
        count=Count("pk"),
        nanocredits=Sum("amount_nanocredits", default=0),
        oldest=Min("created_at", filter=Q(expires_at__isnull=False)),
    )
    return Holds(
        count=found["count"],
        nanocredits=found["nanocredits"],
        oldest_seconds=_age(found["oldest"]) or 0.0,
    )


def sweeper_lag_seconds() -> float:
    """For how long the most overdue call has waited to be given up; 0: none has."""
    oldest = Call.objects.filter(status__in=Call.RUNNING, expires_at__lt=clock.now()).aggregate(
        oldest=Min("expires_at")
    )["oldest"]
    return _age(oldest) or 0.0


def breakers_open() -> int:
    return DeploymentHealth.objects.filter(open_until__gt=clock.now()).count()


def queue() -> tuple[int, float]:
    """Webhook messages that are due, and for how long the oldest has been, in seconds."""
    due = Delivery.objects.filter(status=Delivery.Status.PENDING, next_at__lte=clock.now())
    found = due.aggregate(count=Count("pk"), oldest=Min("next_at"))
    return found["count"], _age(found["oldest"]) or 0.0


def worker_age_seconds() -> float | None:
    """Since a worker last ended a round; None: none ever has."""
    return _age(Heartbeat.objects.filter(name=WORKER).values_list("at", flat=True).first())


def last_ledger_check() -> tuple[float, int] | None:
    """Seconds since it began, and what it found; None: never."""
    last = LedgerCheck.objects.first()
    return None if last is None else (_age(last.started_at) or 0.0, last.findings)


def pool() -> dict[str, int]:
    """What this process's pool of database connections says of itself; empty without one."""
    found: Any = getattr(connection, "pool", None)
    return dict(found.get_stats()) if found else {}


def _age(moment: datetime | None) -> float | None:
    return None if moment is None else max(0.0, (clock.now() - moment).total_seconds())
