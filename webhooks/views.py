"""Endpoints and their deliveries over HTTP, for a team about its own and for operators."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from saas_litellm.base.events import TYPES
from saas_litellm.base.refusals import NotFound
from teams import directory
from webhooks import endpoints, sent, signing
from webhooks.models import Delivery, Endpoint
from webhooks.schemas import (
    ChangeEndpoint,
    CreatedEndpoint,
    CreateEndpoint,
    Deleted,
    DeliveryList,
    DeliveryView,
    EndpointList,
    EndpointView,
    ListDeliveries,
    ListEndpoints,
    Nothing,
    Replay,
    Replayed,
    RotatedSecret,
    TypeList,
    WholeDelivery,
)
from webhooks.scope import Scope, shared
from webhooks.sent import Range

PAGE = 100
LOOK, RESEND = "webhooks.view_endpoint", "webhooks.resend_delivery"


@shared(
    "GET",
    permission=LOOK,
    query=ListEndpoints,
    answer=EndpointList,
    summary="List webhook endpoints",
)
def list_endpoints(scope: Scope, query: ListEndpoints) -> dict[str, Any]:
    """A team's own; an operator's are all, or those of one team."""
    found = scope.endpoints()
    if query.team_id is not None:
        found = found.filter(team=directory.find_team(query.team_id))
    return {"endpoints": [_endpoint(endpoint) for endpoint in found[:1000]]}


@shared(
    "POST",
    permission="webhooks.add_endpoint",
    body=CreateEndpoint,
    answer=CreatedEndpoint,
    status=201,
    summary="Create a webhook endpoint",
)
def create_endpoint(scope: Scope, body: CreateEndpoint) -> dict[str, Any]:
    """It hears what happens from now on (other processes: within five seconds). The secret is
    shown by this answer only; a replay of it has null."""
    endpoint, secret = endpoints.create(
        team=scope.team,
        url=body.url,
        types=body.types,
        description=body.description,
        actor=scope.actor,
    )
    return {**_endpoint(endpoint), "secret": secret}


@shared("GET", permission=LOOK, answer=TypeList, summary="List the types of events")
def list_types(scope: Scope) -> dict[str, Any]:
    """What endpoints may list, and the JSON schema of what each event says."""
    return {
        "types": [
            {
                "type": name,
                "about": TYPES[name].about,
                "is_for_teams": TYPES[name].is_for_teams,
                "data": TYPES[name].model_json_schema(mode="serialization"),
            }
            for name in endpoints.types_for(is_for_team=scope.operator is None)
        ]
    }


@shared("GET", permission=LOOK, answer=EndpointView, summary="Show a webhook endpoint")
def show_endpoint(scope: Scope, endpoint_id: int) -> dict[str, Any]:
    """With its health."""
    return _endpoint(scope.find(endpoint_id))


@shared(
    "PATCH",
    permission="webhooks.change_endpoint",
    body=ChangeEndpoint,
    answer=EndpointView,
    summary="Change a webhook endpoint",
)
def change_endpoint(scope: Scope, body: ChangeEndpoint, endpoint_id: int) -> dict[str, Any]:
    """What is given. `is_active: true` also switches on again what switched itself off."""
    changed = endpoints.change(
        endpoint=scope.find(endpoint_id),
        url=body.url,
        types=body.types,
        description=body.description,
        is_active=body.is_active,
        actor=scope.actor,
    )
    return _endpoint(changed)


@shared(
    "DELETE",
    permission="webhooks.delete_endpoint",
    answer=Deleted,
    summary="Delete a webhook endpoint",
)
def delete_endpoint(scope: Scope, endpoint_id: int) -> dict[str, Any]:
    """With its secrets and deliveries. What waits for it is not sent any more."""
    endpoints.delete(endpoint=scope.find(endpoint_id), actor=scope.actor)
    return {"id": endpoint_id, "is_deleted": True}


@shared(
    "POST",
    permission="webhooks.change_endpoint",
    body=Nothing,
    answer=RotatedSecret,
    summary="Rotate a webhook endpoint's secret",
)
def rotate_secret(scope: Scope, body: Nothing, endpoint_id: int) -> dict[str, Any]:
    """For 24 hours messages carry a signature of the old secret and one of the new."""
    secret, ends_at = endpoints.rotate_secret(endpoint=scope.find(endpoint_id), actor=scope.actor)
    return {"secret": secret, "older_end_at": ends_at}


@shared(
    "POST",
    permission=RESEND,
    body=Nothing,
    answer=DeliveryView,
    status=202,
    summary="Send a test event",
)
def send_test(scope: Scope, body: Nothing, endpoint_id: int) -> dict[str, Any]:
    """A `webhook.test`, which no endpoint needs to list."""
    return _delivery(sent.test(endpoint=scope.find(endpoint_id), actor=scope.actor))


@shared(
    "POST",
    permission=RESEND,
    body=Replay,
    answer=Replayed,
    status=202,
    summary="Send a range of events again",
)
def replay_events(scope: Scope, body: Replay, endpoint_id: int) -> dict[str, Any]:
    """Of what was kept, all that the endpoint hears: by ids, by time, or both."""
    chosen = Range(
        first_id=body.from_id,
        last_id=body.to_id,
        since=body.since,
        until=body.until,
        types=tuple(body.types),
    )
    count = sent.replay(endpoint=scope.find(endpoint_id), chosen=chosen, actor=scope.actor)
    return {"messages": count}


@shared(
    "GET",
    permission="webhooks.view_delivery",
    query=ListDeliveries,
    answer=DeliveryList,
    summary="List a webhook endpoint's deliveries",
)
def list_deliveries(scope: Scope, query: ListDeliveries, endpoint_id: int) -> dict[str, Any]:
    """Newest first."""
    found = _deliveries(scope, endpoint_id)
    if query.status is not None:
        found = found.filter(status=query.status)
    if query.cursor is not None:
        found = found.filter(pk__lt=query.cursor)
    page = list(found.order_by("-id")[: PAGE + 1])
    shown = page[:PAGE]
    return {
        "deliveries": [_delivery(delivery) for delivery in shown],
        "next_cursor": shown[-1].pk if len(page) > PAGE else None,
    }


@shared(
    "GET",
    permission="webhooks.view_delivery",
    answer=WholeDelivery,
    summary="Show a delivery and its attempts",
)
def show_delivery(scope: Scope, endpoint_id: int, delivery_id: int) -> dict[str, Any]:
    """With the event as it is sent, and how each answer began."""
    delivery = _find(scope, endpoint_id, delivery_id)
    return {
        **_delivery(delivery),
        "event": signing.message_of(delivery.event),
        "attempts": [
            {
                "number": attempt.number,
                "started_at": attempt.started_at,
                "latency_ms": attempt.milliseconds,
                "status": attempt.response_status,
                "failure": attempt.failure,
                "excerpt": attempt.excerpt,
            }
            for attempt in delivery.attempts.all()
        ],
    }


@shared(
    "POST",
    permission=RESEND,
    body=Nothing,
    answer=DeliveryView,
    status=202,
    summary="Send an event again",
)
def resend_delivery(
    scope: Scope, body: Nothing, endpoint_id: int, delivery_id: int
) -> dict[str, Any]:
    """A new delivery of the same message, under the same id."""
    delivery = _find(scope, endpoint_id, delivery_id)
    return _delivery(sent.again(delivery=delivery, actor=scope.actor))


def _deliveries(scope: Scope, endpoint_id: int) -> QuerySet[Delivery]:
    return scope.find(endpoint_id).deliveries.select_related("event", "endpoint__team")


def _find(scope: Scope, endpoint_id: int, delivery_id: int) -> Delivery:
    delivery = _deliveries(scope, endpoint_id).filter(pk=delivery_id).first()
    if delivery is None:
        raise NotFound("This endpoint has no delivery with this id.")
    return delivery


def _endpoint(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "id": endpoint.pk,
        "team_id": endpoint.team.slug if endpoint.team else None,
        "url": endpoint.url,
        "types": endpoint.types,
        "description": endpoint.description,
        "is_active": endpoint.is_active,
        "disabled_reason": endpoint.disabled_reason,
        "created_at": endpoint.created_at,
        "failures": endpoint.failures,
        "failing_since": endpoint.failing_since,
        "resting_until": endpoint.resting_until,
        "last_success_at": endpoint.last_success_at,
        "last_failure_at": endpoint.last_failure_at,
    }


def _delivery(delivery: Delivery) -> dict[str, Any]:
    is_pending = delivery.status == Delivery.Status.PENDING
    return {
        "id": delivery.pk,
        "event_id": str(delivery.event),
        "type": delivery.event.type,
        "cause": delivery.cause,
        "status": delivery.status,
        "tries": delivery.tries,
        "next_at": delivery.next_at if is_pending else None,
        "created_at": delivery.created_at,
        "finished_at": delivery.finished_at,
    }
