"""The outbox: what happened, written down in the transaction in which it happens.

An event is written only if somebody listens to its type for its team: who listens is asked of the
database once in HEARD_SECONDS by each process, and otherwise of memory, so that emitting costs a
call nothing while nobody does, and one INSERT in the open transaction when somebody does.

Ids are given inside transactions, so one may become visible after a higher one. No reader may
therefore follow ids. ``arrange`` gives every visible event its position, one caller at a time:
positions are in the order of ids where that is possible, and none ever appears behind one that a
reader has passed. What waited for another's commit is arranged after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from saas_litellm.base import clock, http
from saas_litellm.base.events import TYPES, Told
from saas_litellm.base.models import Event, Listener, Outbox

# A listener that another process made is heard of after so long at the latest.
HEARD_SECONDS = 5.0
ARRANGED_AT_ONCE = 500
PURGED_AT_ONCE = 1000
# Whatever is said once, by its key, is looked for over seven days.
SHORTEST_RETENTION = timedelta(days=8)
_Scope = tuple[str, int]
_PLATFORM: _Scope = ("platform", 0)
_Heard = frozenset[tuple[_Scope, str]]
_known: tuple[float, _Heard] | None = None


def emit(
    shape: type[Told],
    *,
    team_id: int | None,
    organization_id: int | None,
    object_id: str,
    told: Callable[[], Told],
    key: str | None = None,
) -> None:
    """Write an event inside the caller's transaction, if anybody listens.

    ``told`` is called only then. With a ``key`` the same thing is said once, however often it is
    emitted. ``team_id`` is None for what is of a whole organization, or of the platform.
    """
    if not is_heard(shape, team_id=team_id, organization_id=organization_id):
        return
    Event.objects.bulk_create(
        [
            Event(
                type=shape.type,
                team_id=team_id,
                organization_id=organization_id,
                object_id=object_id,
                data=http.encode(told().model_dump()).decode(),
                key=key,
                created_at=clock.now(),
            )
        ],
        ignore_conflicts=key is not None,
    )


def is_heard(shape: type[Told], *, team_id: int | None, organization_id: int | None) -> bool:
    """Whether anybody listens to this type of this team's, or to the platform's."""
    heard = _heard()
    if not heard:
        return False
    scopes = [_PLATFORM]
    if shape.is_for_teams:
        scopes.append(_scope(team_id, organization_id))
    return any((scope, shape.type) in heard for scope in scopes)


def listen(
    name: str,
    *,
    types: Iterable[str],
    team_id: int | None = None,
    organization_id: int | None = None,
    until: datetime | None = None,
) -> None:
    """From the commit on, write down events of these types: a team's and those of its
    organization's wallet, or without a team everybody's. Listening again replaces what was said."""
    kept = {"types": sorted(types), "team_id": team_id, "organization_id": organization_id}
    Listener.objects.update_or_create(name=name, defaults={**kept, "expires_at": until})
    transaction.on_commit(forget)


def stop_listening(*names: str) -> None:
    Listener.objects.filter(name__in=names).delete()
    transaction.on_commit(forget)


def forget() -> None:
    """Ask the database who listens before the next event."""
    global _known  # noqa: PLW0603 - replaced whole, so that threads need no lock
    _known = None


def arrange() -> Sequence[Event]:
    """Give the events that nobody has read yet their positions, and return them in that order.

    Call it in a transaction, which no other caller can be in at the same time: what is done with
    the events in it is done exactly once.
    """
    Outbox.objects.bulk_create([Outbox(pk=1)], ignore_conflicts=True)
    # An UPDATE that changes nothing: it takes the row's lock on both databases.
    Outbox.objects.filter(pk=1).update(position=F("position"))
    end = Outbox.objects.get(pk=1).position
    events = list(Event.objects.filter(position=None).order_by("id")[:ARRANGED_AT_ONCE])
    for number, event in enumerate(events, start=1):
        event.position = end + number
    if events:
        Event.objects.bulk_update(events, ["position"])
        Outbox.objects.filter(pk=1).update(position=end + len(events))
    return events


def has_news() -> bool:
    """Whether there is anything to arrange."""
    return Event.objects.filter(position=None).exists()


def end() -> int:
    """The position of the newest event that was arranged."""
    row = Outbox.objects.filter(pk=1).first()
    return row.position if row else 0


def after(position: int, *, team_id: int | None, organization_id: int | None) -> list[Event]:
    """The next events behind a position: a team's, or without a team the platform's."""
    found = Event.objects.filter(position__gt=position)
    if team_id is not None:
        found = found.filter(of_team(team_id, organization_id))
    return list(found.order_by("position")[:ARRANGED_AT_ONCE])


def of_team(team_id: int, organization_id: int | None) -> Q:
    """The events a team may hear: its own, and with an organization those of its wallet."""
    theirs = Q(team_id=team_id)
    if organization_id is not None:
        theirs |= Q(team_id=None, organization_id=organization_id)
    return theirs & Q(type__in=[name for name, shape in TYPES.items() if shape.is_for_teams])


def purge() -> int:
    """Delete events past EVENT_RETENTION_DAYS, and listeners that are over; returns how many."""
    now = clock.now()
    Listener.objects.filter(expires_at__lte=now).delete()
    before = now - max(timedelta(days=settings.EVENT_RETENTION_DAYS), SHORTEST_RETENTION)
    purged = 0
    while True:
        old = Event.objects.filter(created_at__lt=before, position__isnull=False)
        ids = list(old.order_by("id").values_list("pk", flat=True)[:PURGED_AT_ONCE])
        Event.objects.filter(pk__in=ids).delete()
        purged += len(ids)
        if len(ids) < PURGED_AT_ONCE:
            return purged


def _scope(team_id: int | None, organization_id: int | None) -> _Scope:
    if team_id is not None:
        return ("team", team_id)
    return ("organization", organization_id or 0)


def _heard() -> _Heard:
    global _known  # noqa: PLW0603 - replaced whole, so that threads need no lock
    known, now = _known, time.monotonic()
    if known is None or now - known[0] > HEARD_SECONDS:
        known = _known = (now, _looked_up())
    return known[1]


def _looked_up() -> _Heard:
    heard: set[tuple[_Scope, str]] = set()
    present = Q(expires_at=None) | Q(expires_at__gt=clock.now())
    for listener in Listener.objects.filter(present):
        if listener.team_id is None:
            scopes = [_PLATFORM]
        else:
            scopes = [("team", listener.team_id), ("organization", listener.organization_id or 0)]
        heard |= {(scope, name) for scope in scopes for name in listener.types}
    return frozenset(heard)
