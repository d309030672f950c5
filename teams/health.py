"""Circuit breakers: a deployment that keeps failing is left alone for a while.

Closed, it takes calls and counts failures that follow one another. At FAILURES_TO_OPEN it opens:
nobody calls it until ``open_until``. Then it is half open: whoever moves ``open_until`` on by
compare-and-set may call it once, as a probe; an answer closes it, a failure opens it for longer.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import F

from saas_litellm.base import alarms, audit, clock, events, outbox
from teams.models import Deployment, DeploymentHealth

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
    with transaction.atomic():
        was_closed = row.filter(open_until=None).update(
            open_until=now + pause, openings=F("openings") + 1
        )
        if was_closed:
            _tell(events.ProviderDown, deployment_id, reason=reason, tried_again_at=now + pause)
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
    _close(health.deployment_id)


def reset(*, deployment_id: int, actor: str) -> None:
    """An operator's word that it is well again."""
    with transaction.atomic():
        _close(deployment_id)
        audit.record(
            actor=actor, action="deployment.close_breaker", target=f"deployment:{deployment_id}"
        )


def _close(deployment_id: int) -> None:
    """Forget its failures; who was told that it is down is told that it is up, once."""
    row = DeploymentHealth.objects.filter(deployment_id=deployment_id)
    closed = {"failures": 0, "openings": 0, "open_until": None}
    if not outbox.is_heard(events.ProviderUp, team_id=None, organization_id=None):
        row.update(**closed)
        return
    with transaction.atomic():
        if row.exclude(open_until=None).update(**closed):
            _tell(events.ProviderUp, deployment_id)
        else:
            row.update(**closed)


def _tell(shape: type[events.DeploymentTold], deployment_id: int, **said: Any) -> None:
    if not outbox.is_heard(shape, team_id=None, organization_id=None):
        return
    deployment = Deployment.objects.select_related("alias").get(pk=deployment_id)
    outbox.emit(
        shape,
        team_id=None,
        organization_id=None,
        object_id=f"deployment:{deployment_id}",
        told=lambda: shape(
            deployment_id=deployment_id,
            alias=deployment.alias.name,
            model=deployment.model,
            **said,
        ),
    )
