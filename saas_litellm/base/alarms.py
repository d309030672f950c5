"""Alarms: what an operator must hear about although no caller can be told."""

from __future__ import annotations

import logging

from django.db.models import F

from saas_litellm.base import clock
from saas_litellm.base.models import Alarm

logger = logging.getLogger("saas_litellm.alarms")


def sound(*, kind: str, subject: str, detail: str = "") -> None:
    """Log an alarm and count it on its row; ``detail`` must hold no secret and no prompt."""
    logger.error("%s: %s %s", kind, subject, detail)
    now = clock.now()
    seen = Alarm.objects.filter(kind=kind, subject=subject).update(
        sightings=F("sightings") + 1, last_seen_at=now, detail=detail[:1000]
    )
    if not seen:
        Alarm.objects.bulk_create(
            [
                Alarm(
                    kind=kind,
                    subject=subject,
                    detail=detail[:1000],
                    first_seen_at=now,
                    last_seen_at=now,
                )
            ],
            ignore_conflicts=True,
        )
