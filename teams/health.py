"""Circuit breakers: a deployment that keeps failing is left alone for a while.

Closed, it takes calls and counts failures that follow one another. At FAILURES_TO_OPEN it opens:
nobody calls it until ``open_until``. Then it is half open: whoever moves ``open_until`` on by
compare-and-set may call it once, as a probe; an answer closes it, a failure opens it for longer.
"""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.db.models import F

from saas_litellm.base import alarms, audit, clock
from teams.models import DeploymentHealth

FAILURES_TO_OPEN = 5
# Failures further apart than this are not one outage.
FAILURES_WITHIN = timedelta(seconds=60)
FIRST_PAUSE = timedelta(seconds=10)
LONGEST_PAUSE = timedelta(minutes=5)
# How long the others keep away while one call probes.
PROBE = timedelta(seconds=30)


def may_call(health: DeploymentHealth) -> bool:
    """Whether the breaker lets a call through; half open, claim the one that probes."""
    now = clock.now()
    if health.open_until is None:
        return True
    if health.open_until > now:
        return False
    claimed = DeploymentHealth.objects.filter(pk=health.pk, open_until=health.open_until).update(
        open_until=now + PROBE
    )
    return claimed == 1


def failed(*, deployment_id: int, reason: str, pause_seconds: float | None = None) -> None:
    """Count a failure, and open the breaker at the threshold, on a failed probe, or at once when
    the provider itself asked for a pause (its Retry-After, in seconds)."""
    now = clock.now()
    DeploymentHealth.objects.get_or_create(deployment_id=deployment_id)
    row = DeploymentHealth.objects.filter(deployment_id=deployment_id)
    row.filter(open_until=None, last_failure_at__lt=now - FAILURES_WITHIN).update(failures=0)
    row.update(failures=F("failures") + 1, last_failure=reason[:30], last_failure_at=now)
    health = row.get()
    if pause_seconds is not None:
        pause = min(timedelta(seconds=pause_seconds), LONGEST_PAUSE)
    elif health.open_until is not None or health.failures >= FAILURES_TO_OPEN:
        pause = min(FIRST_PAUSE * 2 ** min(health.openings, 10), LONGEST_PAUSE)
    else:
        return
    was_closed = row.filter(open_until=None).update(
        open_until=now + pause, openings=F("openings") + 1
    )
    if was_closed:
        alarms.sound(
            kind="deployment.cooling",
            subject=f"deployment {deployment_id}",
            detail=f"{reason}; tried again after {pause.total_seconds():.0f} s",
        )
        return
    row.filter(open_until__lt=now + pause).update(
        open_until=now + pause, openings=F("openings") + 1
    )


def answered(health: DeploymentHealth | None) -> None:
    """Close the breaker and forget the failures; no statement when there were none."""
    if health is None or (health.failures == 0 and health.open_until is None):
        return
    DeploymentHealth.objects.filter(pk=health.pk).update(failures=0, openings=0, open_until=None)


def reset(*, deployment_id: int, actor: str) -> None:
    """An operator's word that it is well again."""
    with transaction.atomic():
        DeploymentHealth.objects.filter(deployment_id=deployment_id).update(
            failures=0, openings=0, open_until=None
        )
        audit.record(
            actor=actor, action="deployment.close_breaker", target=f"deployment:{deployment_id}"
        )
