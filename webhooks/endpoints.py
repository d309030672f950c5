"""Endpoints: who hears what, where, and under which secrets.

Each change tells the outbox who listens, in the same transaction: what nobody hears is never
written down.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet

from saas_litellm.base import audit, clock, encryption, outbox
from saas_litellm.base.events import TYPES
from saas_litellm.base.models import Event
from saas_litellm.base.refusals import Invalid
from teams.models import Team
from webhooks import signing, targets
from webhooks.models import Endpoint, Secret
from webhooks.refusals import TooManyEndpoints

OVERLAP = timedelta(hours=24)
MOST = 20
ALL = "*"


def create(
    *, team: Team | None, url: str, types: Collection[str], actor: str, description: str = ""
) -> tuple[Endpoint, str]:
    """Make an endpoint and return it with its secret, which is shown nowhere else from now on.

    Without a team it is the operators'. Raises Invalid (url, types), TooManyEndpoints.
    """
    targets.check(url)
    kept = _checked_types(types, is_for_team=team is not None)
    with transaction.atomic():
        if team is not None:
            # The team's row queues two that are made at the same time.
            Team.objects.filter(pk=team.pk).update(slug=team.slug)
        if Endpoint.objects.filter(team=team).count() >= MOST:
            raise TooManyEndpoints
        endpoint = Endpoint.objects.create(
            team=team,
            url=url,
            types=kept,
            description=description,
            created_at=clock.now(),
        )
        secret = _add_secret(endpoint)
        _listen(endpoint)
        _record(endpoint, "create", actor, after=_shown(endpoint))
    return endpoint, secret


def change(
    *,
    endpoint: Endpoint,
    actor: str,
    url: str | None = None,
    types: Collection[str] | None = None,
    description: str | None = None,
    is_active: bool | None = None,
) -> Endpoint:
    """Change what is given. Switched on again, it begins with a clean bill of health.

    Raises Invalid.
    """
    given: dict[str, Any] = {"url": url, "description": description, "is_active": is_active}
    if url is not None:
        targets.check(url)
    if types is not None:
        given["types"] = _checked_types(types, is_for_team=endpoint.team_id is not None)
    changes = {name: value for name, value in given.items() if value is not None}
    with transaction.atomic():
        before = Endpoint.objects.select_related("team").get(pk=endpoint.pk)
        if is_active and not before.is_active:
            changes |= {
                "disabled_reason": "",
                "failures": 0,
                "failing_since": None,
                "resting_until": None,
            }
        Endpoint.objects.filter(pk=endpoint.pk).update(**changes)
        after = Endpoint.objects.select_related("team").get(pk=endpoint.pk)
        _listen(after)
        was, now = audit.difference(_shown(before), _shown(after))
        _record(after, "change", actor, before=was, after=now)
    return after


def switch_off(endpoint: Endpoint, *, reason: str) -> None:
    """What the platform does by itself, inside the transaction of the last failure."""
    Endpoint.objects.filter(pk=endpoint.pk).update(is_active=False, disabled_reason=reason)
    outbox.stop_listening(endpoint.listener)
    _record(endpoint, "switch_off", "worker", reason=reason)


def delete(*, endpoint: Endpoint, actor: str) -> None:
    """With its secrets and deliveries; the events themselves stay."""
    with transaction.atomic():
        outbox.stop_listening(endpoint.listener)
        _record(endpoint, "delete", actor, before=_shown(endpoint))
        Endpoint.objects.filter(pk=endpoint.pk).delete()


def rotate_secret(*, endpoint: Endpoint, actor: str) -> tuple[str, datetime]:
    """A new secret, and until when the older ones sign beside it."""
    with transaction.atomic():
        ends_at = clock.now() + OVERLAP
        Secret.objects.filter(endpoint=endpoint, ends_at=None).update(ends_at=ends_at)
        secret = _add_secret(endpoint)
        _record(endpoint, "rotate_secret", actor, after={"older_ends_at": ends_at.isoformat()})
    return secret, ends_at


def secrets_of(endpoint: Endpoint) -> list[str]:
    """Those that sign now, the newest first. Raises Undecryptable."""
    present = Q(ends_at=None) | Q(ends_at__gt=clock.now())
    return [encryption.decrypt(row.ciphertext) for row in endpoint.secrets.filter(present)]


def forget_secrets() -> int:
    """Delete those that sign no more; returns how many."""
    return Secret.objects.filter(ends_at__lte=clock.now()).delete()[0]


def reseal_all(*, actor: str) -> int:
    """Re-encrypt every secret under the first of ENCRYPTION_KEYS; returns how many.

    All or nothing: raises Undecryptable if one cannot be opened.
    """
    with transaction.atomic():
        rows = list(Secret.objects.select_for_update().order_by("id"))
        for row in rows:
            row.ciphertext = encryption.rotate(row.ciphertext)
        Secret.objects.bulk_update(rows, ["ciphertext"])
        audit.record(actor=actor, action="endpoint.reseal_all", target="endpoints", count=len(rows))
    return len(rows)


def hears(endpoint: Endpoint, event: Event) -> bool:
    """Whether an event is one of those that the endpoint lists, and one that it may see."""
    shape = TYPES.get(event.type)
    if shape is None or not ({event.type, ALL} & set(endpoint.types)):
        return False
    team = endpoint.team
    if team is None:
        return True
    if not shape.is_for_teams:
        return False
    if event.team_id is not None:
        return event.team_id == team.pk
    return event.organization_id is not None and event.organization_id == wallet_of(team)


def audible(endpoint: Endpoint) -> QuerySet[Event]:
    """The events that were kept of those an endpoint may hear, before its types are looked at."""
    found = Event.objects.filter(position__isnull=False)
    team = endpoint.team
    return found if team is None else found.filter(outbox.of_team(team.pk, wallet_of(team)))


def wallet_of(team: Team) -> int | None:
    """The organization whose wallet's events are this team's concern, if it draws on it."""
    return team.organization_id if team.draws_on == Team.Wallet.ORGANIZATION else None


def types_for(*, is_for_team: bool) -> list[str]:
    """What an endpoint may list."""
    return [name for name, shape in TYPES.items() if shape.is_for_teams or not is_for_team]


def _checked_types(types: Collection[str], *, is_for_team: bool) -> list[str]:
    known = types_for(is_for_team=is_for_team)
    unknown = sorted(set(types) - {ALL, *known})
    if unknown or not types:
        named = f"{unknown[0]} is none of them: " if unknown else ""
        raise Invalid(f"types: {named}{ALL} or some of {', '.join(known)}.", param="types")
    return [ALL] if ALL in types else [name for name in known if name in types]


def _listen(endpoint: Endpoint) -> None:
    if not endpoint.is_active:
        outbox.stop_listening(endpoint.listener)
        return
    team = endpoint.team
    types = types_for(is_for_team=team is not None) if ALL in endpoint.types else endpoint.types
    outbox.listen(
        endpoint.listener,
        types=types,
        team_id=team.pk if team else None,
        organization_id=team.organization_id if team else None,
    )


def _add_secret(endpoint: Endpoint) -> str:
    text = signing.new_secret()
    Secret.objects.create(
        endpoint=endpoint, ciphertext=encryption.encrypt(text), created_at=clock.now()
    )
    return text


def _shown(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "url": endpoint.url,
        "types": endpoint.types,
        "description": endpoint.description,
        "is_active": endpoint.is_active,
    }


def _record(endpoint: Endpoint, act: str, actor: str, **more: Any) -> None:
    audit.record(
        actor=actor,
        action=f"endpoint.{act}",
        target=f"endpoint:{endpoint.pk}",
        owner=endpoint.team.slug if endpoint.team else "platform",
        **more,
    )
