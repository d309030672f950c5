"""Deliveries: from an event to whoever hears it, once each and again until it is taken.

An endpoint is leased to one worker at a time, by compare-and-set, and gets one message at a time,
the oldest that is due first. A message that fails steps aside and comes back by its own schedule;
after RESTS_AFTER failures in a row the endpoint rests, and what waits for it keeps its order. A
worker that dies leaves a lease that ends, and its message is sent again.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Coalesce

from saas_litellm.base import alarms, clock, outbox
from saas_litellm.base.encryption import Undecryptable
from saas_litellm.base.models import Event
from webhooks import endpoints
from webhooks.models import Attempt, Delivery, Endpoint
from webhooks.sending import Answer

Status = Delivery.Status
TRIED_FOR = timedelta(hours=72)
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 5, 6 * 3600
RESTS_AFTER = 3
FIRST_REST_SECONDS, LONGEST_REST_SECONDS = 10, 600
LONGEST_RETRY_AFTER_SECONDS = 24 * 3600
# One team's share of the places is one in so many; more candidates are looked at than can be taken.
_SHARE, _CANDIDATES = 4, 5
# Fewer failures say little about an endpoint, however long ago the first was.
DISABLED_AFTER = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One message on its way: what is sent, where, and the lease it is sent under."""

    endpoint: Endpoint
    event: Event
    delivery_id: int
    attempt_id: int
    number: int
    # Empty when none can be read.
    secrets: Sequence[str]
    lease: str


def fan_out() -> int:
    """Make a delivery of every new event for every endpoint that hears it, once."""
    if not outbox.has_news():
        return 0
    with transaction.atomic():
        events = outbox.arrange()
        listening = _listening(events)
        made = [
            _new(endpoint, event)
            for event in events
            for endpoint in listening
            if endpoints.hears(endpoint, event)
        ]
        Delivery.objects.bulk_create(made, batch_size=1000)
    return len(made)


def claim(*, most: int) -> list[tuple[int, str]]:
    """Lease up to so many endpoints that have something due; returns their ids, and the leases.

    Whoever waited longest comes first, and no team has more than its share of a worker's places at
    once: slow endpoints of one team keep nobody else waiting.
    """
    now = clock.now()
    due = Delivery.objects.filter(endpoint=OuterRef("pk"), status=Status.PENDING, next_at__lte=now)
    free = (
        Endpoint.objects.filter(_may_be_written_to(now), _unleased(now))
        .filter(Exists(due))
        .order_by(F("leased_until").asc(nulls_first=True), "id")
    )
    candidates = list(free.values_list("pk", "team_id")[: most * _CANDIDATES])
    if not candidates:
        return []
    busy = Counter(Endpoint.objects.filter(leased_until__gt=now).values_list("team_id", flat=True))
    share = max(1, settings.WEBHOOK_CONCURRENCY // _SHARE)
    leased: list[tuple[int, str]] = []
    for endpoint_id, team_id in candidates:
        if len(leased) == most:
            break
        if team_id is not None and busy[team_id] >= share:
            continue
        busy[team_id] += 1
        lease = uuid4().hex
        taken = Endpoint.objects.filter(_unleased(now), pk=endpoint_id).update(
            leased_by=lease, leased_until=now + _lasting()
        )
        leased += [(endpoint_id, lease)] * taken
    return leased


def next_parcel(endpoint_id: int, *, lease: str) -> Parcel | None:
    """The oldest message that is due, its attempt written down before it is made.

    None when nothing is due, the endpoint rests or is off, or the lease is another's by now.
    """
    now = clock.now()
    with transaction.atomic():
        held = Endpoint.objects.filter(_may_be_written_to(now), pk=endpoint_id, leased_by=lease)
        if not held.update(leased_until=now + _lasting()):
            return None
        delivery = (
            Delivery.objects.filter(endpoint=endpoint_id, status=Status.PENDING, next_at__lte=now)
            .select_related("event", "endpoint__team")
            .order_by("id")
            .first()
        )
        if delivery is None:
            return None
        number = delivery.tries + 1
        # Should this worker die, another begins here when the lease is over.
        Delivery.objects.filter(pk=delivery.pk).update(tries=number, next_at=now + _lasting())
        attempt = Attempt.objects.create(delivery=delivery, number=number, started_at=now)
        return Parcel(
            endpoint=delivery.endpoint,
            event=delivery.event,
            delivery_id=delivery.pk,
            attempt_id=attempt.pk,
            number=number,
            secrets=_secrets_of(delivery.endpoint),
            lease=lease,
        )


def finish(parcel: Parcel, answer: Answer) -> None:
    """Write down what came of an attempt, when the message comes back, and how the endpoint is.

    Whoever lost the lease meanwhile writes down the attempt only: another has sent it again.
    """
    now = clock.now()
    is_off = False
    with transaction.atomic():
        Attempt.objects.filter(pk=parcel.attempt_id).update(
            milliseconds=answer.milliseconds,
            response_status=answer.status,
            failure=answer.failure,
            excerpt=answer.excerpt,
        )
        held = Endpoint.objects.filter(pk=parcel.endpoint.pk, leased_by=parcel.lease)
        if answer.is_success:
            # Taken is taken, whoever holds the lease.
            _of(parcel).filter(status=Status.PENDING).update(
                status=Status.DELIVERED, finished_at=now
            )
            held.update(failures=0, failing_since=None, resting_until=None, last_success_at=now)
            return
        if not held.update(
            failures=F("failures") + 1,
            failing_since=Coalesce("failing_since", now),
            last_failure_at=now,
        ):
            return
        endpoint = held.get()
        _put_off(parcel, answer, now)
        held.update(resting_until=_rest(endpoint, answer, now))
        is_off = _has_only_failed(endpoint, now)
        if is_off:
            endpoints.switch_off(
                endpoint, reason=f"only failures since {endpoint.failing_since:%Y-%m-%d %H:%M} UTC"
            )
    if is_off:
        alarms.sound(
            kind="webhook.disabled",
            subject=str(parcel.endpoint),
            detail=f"{endpoint.failures} failures in a row; the last: {answer.failure}",
        )


def give_back(endpoint_id: int, *, lease: str) -> None:
    """End a lease before its time; those that waited longest have their turn first."""
    Endpoint.objects.filter(pk=endpoint_id, leased_by=lease).update(leased_until=clock.now())


def give_up() -> int:
    """Call failed what could not be delivered in its time; returns how many."""
    now = clock.now()
    return Delivery.objects.filter(status=Status.PENDING, gives_up_at__lte=now).update(
        status=Status.FAILED, finished_at=now
    )


def send_again(deliveries: Sequence[tuple[Endpoint, Event]], *, cause: str) -> list[Delivery]:
    """Queue messages behind what waits already, inside the caller's transaction."""
    return Delivery.objects.bulk_create(
        [_new(endpoint, event, cause=cause) for endpoint, event in deliveries], batch_size=1000
    )


def delay_seconds(tries: int) -> float:
    """How long a message waits after so many failures: four times as long each time, more or less
    a fifth, so that what failed together does not come back together."""
    grown = min(FIRST_DELAY_SECONDS * 4.0 ** min(tries - 1, 10), LONGEST_DELAY_SECONDS)
    return grown * random.uniform(0.8, 1.2)  # noqa: S311 - jitter


def _new(endpoint: Endpoint, event: Event, cause: str = Delivery.Cause.EVENT) -> Delivery:
    now = clock.now()
    return Delivery(
        endpoint=endpoint,
        event=event,
        cause=cause,
        next_at=now,
        created_at=now,
        gives_up_at=now + TRIED_FOR,
    )


def _put_off(parcel: Parcel, answer: Answer, now: datetime) -> None:
    seconds = max(delay_seconds(parcel.number), _asked_wait(answer))
    next_at = now + timedelta(seconds=seconds)
    # Only this attempt's: nobody has tried it since.
    ours = _of(parcel).filter(status=Status.PENDING, tries=parcel.number)
    if not ours.filter(gives_up_at__gt=next_at).update(next_at=next_at):
        ours.update(status=Status.FAILED, finished_at=now)


def _rest(endpoint: Endpoint, answer: Answer, now: datetime) -> datetime | None:
    """Until when the endpoint is left alone: it asked for it, or it keeps failing."""
    seconds = _asked_wait(answer)
    if endpoint.failures >= RESTS_AFTER:
        doubled = FIRST_REST_SECONDS * 2 ** min(endpoint.failures - RESTS_AFTER, 10)
        seconds = max(seconds, min(doubled, LONGEST_REST_SECONDS))
    return now + timedelta(seconds=seconds) if seconds else None


def _asked_wait(answer: Answer) -> float:
    return min(answer.retry_after_seconds or 0, LONGEST_RETRY_AFTER_SECONDS)


def _has_only_failed(endpoint: Endpoint, now: datetime) -> bool:
    since = endpoint.failing_since
    is_long = since is not None and now - since >= timedelta(days=settings.WEBHOOK_DISABLE_DAYS)
    return is_long and endpoint.failures >= DISABLED_AFTER


def _of(parcel: Parcel) -> QuerySet[Delivery]:
    return Delivery.objects.filter(pk=parcel.delivery_id)


def _listening(events: Sequence[Event]) -> list[Endpoint]:
    """Whoever may hear one of these."""
    teams = {event.team_id for event in events if event.team_id is not None}
    shared = {event.organization_id for event in events if event.team_id is None} - {None}
    concerned = Q(team=None) | Q(team__in=teams) | Q(team__organization__in=shared)
    found = Endpoint.objects.filter(concerned, is_active=True)
    return list(found.select_related("team").order_by("id"))


def _secrets_of(endpoint: Endpoint) -> list[str]:
    """None at all where no encryption key opens them: nothing is sent without a signature."""
    try:
        return endpoints.secrets_of(endpoint)
    except Undecryptable:
        return []


def _lasting() -> timedelta:
    """Longer than any attempt may take."""
    return timedelta(seconds=2 * settings.WEBHOOK_TIMEOUT_SECONDS + 10)


def _may_be_written_to(now: datetime) -> Q:
    return Q(is_active=True) & (Q(resting_until=None) | Q(resting_until__lte=now))


def _unleased(now: datetime) -> Q:
    return Q(leased_until=None) | Q(leased_until__lte=now)
