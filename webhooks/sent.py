"""Messages on demand: tests, one sent again, a range of what happened sent again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db import transaction

from saas_litellm.base import audit, clock, http
from saas_litellm.base.events import TYPES, EndpointTested
from saas_litellm.base.models import Event
from saas_litellm.base.refusals import Invalid
from webhooks import deliveries, endpoints
from webhooks.models import Delivery, Endpoint
from webhooks.refusals import EndpointOff

MOST_AT_ONCE = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Which events: by their ids (both included), by when they happened, by type."""

    first_id: int | None = None
    last_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    types: tuple[str, ...] = ()


def test(*, endpoint: Endpoint, actor: str) -> Delivery:
    """Send the endpoint a test. Raises EndpointOff."""
    _require_on(endpoint)
    team = endpoint.team
    said = EndpointTested(endpoint_id=endpoint.pk, message=f"A test, asked for by {actor}.")
    with transaction.atomic():
        event = Event.objects.create(
            type=EndpointTested.type,
            team_id=team.pk if team else None,
            organization_id=team.organization_id if team else None,
            object_id=f"endpoint:{endpoint.pk}",
            data=http.encode(said.model_dump()).decode(),
            created_at=clock.now(),
        )
        return deliveries.send_again([(endpoint, event)], cause=Delivery.Cause.TEST)[0]


def again(*, delivery: Delivery, actor: str) -> Delivery:
    """Send one message once more, under the same id. Raises EndpointOff."""
    endpoint = delivery.endpoint
    _require_on(endpoint)
    with transaction.atomic():
        audit.record(
            actor=actor,
            action="endpoint.resend",
            target=f"endpoint:{endpoint.pk}",
            event=str(delivery.event),
        )
        pair = (endpoint, delivery.event)
        return deliveries.send_again([pair], cause=Delivery.Cause.RESEND)[0]


def replay(*, endpoint: Endpoint, chosen: Range, actor: str) -> int:
    """Send again, in order, what of a range the endpoint hears; returns how many messages.

    Only what was kept can be: of types that somebody listened to, within EVENT_RETENTION_DAYS.
    Raises EndpointOff, and Invalid without a range or for one of more than MOST_AT_ONCE.
    """
    _require_on(endpoint)
    if (chosen.first_id, chosen.last_id, chosen.since, chosen.until) == (None,) * 4:
        raise Invalid("Say which: from_id, to_id, since or until.", param="from_id")
    unknown = set(chosen.types) - set(TYPES)
    if unknown:
        raise Invalid(f"There is no type {min(unknown)}.", param="types")
    bounds = {
        "pk__gte": chosen.first_id,
        "pk__lte": chosen.last_id,
        "created_at__gte": chosen.since,
        "created_at__lt": chosen.until,
        "type__in": chosen.types or None,
    }
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    found = endpoints.audible(endpoint).filter(**given).order_by("position")
    pairs = [(endpoint, event) for event in found[: MOST_AT_ONCE + 1]]
    if len(pairs) > MOST_AT_ONCE:
        raise Invalid(f"These are more than {MOST_AT_ONCE} events: ask for less.", param="from_id")
    pairs = [pair for pair in pairs if endpoints.hears(*pair)]
    with transaction.atomic():
        audit.record(
            actor=actor,
            action="endpoint.replay",
            target=f"endpoint:{endpoint.pk}",
            count=len(pairs),
            **{name: str(bound) for name, bound in given.items()},
        )
        deliveries.send_again(pairs, cause=Delivery.Cause.RESEND)
    return len(pairs)


def _require_on(endpoint: Endpoint) -> None:
    if not endpoint.is_active:
        raise EndpointOff
