"""Plain functions that make endpoints and events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction

from saas_litellm.base import clock, events, outbox
from saas_litellm.base.models import Event
from teams.models import Team
from webhooks import endpoints
from webhooks.models import Delivery, Endpoint


def endpoint(
    url: str, *, team: Team | None = None, types: Sequence[str] = ("*",)
) -> tuple[Endpoint, str]:
    made = endpoints.create(team=team, url=url, types=types, actor="test")
    outbox.forget()
    return made


def happen(*names: str, team: Team | None = None) -> list[str]:
    """So many events, one transaction each; returns their ids."""
    for name in names:
        with transaction.atomic():
            outbox.emit(
                events.KeyExpiring,
                team_id=team.pk if team else 0,
                organization_id=team.organization_id if team else None,
                object_id=name,
                told=lambda name=name: events.KeyExpiring(  # type: ignore[misc]
                    team_id=team.slug if team else "",
                    key_prefix=name,
                    name=name,
                    expires_at=clock.now(),
                ),
            )
    return [str(event) for event in reversed(Event.objects.order_by("-id")[: len(names)])]


def statuses(of: Endpoint) -> list[str]:
    return list(
        Delivery.objects.filter(endpoint=of).order_by("id").values_list("status", flat=True)
    )


def last_attempt(of: Endpoint) -> Any:
    delivery = Delivery.objects.filter(endpoint=of).order_by("id").last()
    assert delivery is not None
    return delivery.attempts.last()
