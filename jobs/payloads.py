"""Payloads: prompts and answers, kept only for teams that want them, sealed, and for a time.

Nothing is kept unless a team's policy is ``full``. What its fields of that name hold is redacted
before it is sealed, so that nobody can ever read it back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson
from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet

from jobs import partitions
from jobs.models import Call, Payload
from saas_litellm.base import audit, clock, encryption
from teams.models import Team

REDACTED = "[redacted]"
_PURGED_AT_ONCE = 1000


def is_kept(team: Team) -> bool:
    return team.payload_policy == Team.PayloadPolicy.FULL


def keep(call: Call, *, team: Team, request: Mapping[str, Any], answer: Sequence[Any]) -> None:
    """Seal and store a call's request and answer, in the settling transaction.

    Longer than PAYLOAD_MAX_BYTES: only the fact is stored. Once; again changes nothing.
    """
    names = frozenset(team.redacted_fields)
    content = _redacted({"request": request, "answer": list(answer)}, names)
    text = orjson.dumps(content, default=str)
    if len(text) > settings.PAYLOAD_MAX_BYTES:
        text = orjson.dumps({"omitted": f"{len(text)} bytes are more than is kept"})
    now = clock.now()
    Payload.objects.get_or_create(
        call=call,
        defaults={
            "ciphertext": encryption.encrypt(text.decode()),
            "created_at": now,
            "expires_at": now + timedelta(days=team.payload_retention_days),
        },
    )


def look(call: Call, *, actor: str) -> dict[str, Any] | None:
    """What was kept of a call, and an audit row of who looked; None when nothing is kept."""
    with transaction.atomic():
        payload = Payload.objects.filter(call=call, expires_at__gt=clock.now()).first()
        if payload is None:
            return None
        audit.record(
            actor=actor,
            action="payload.look",
            target=f"call:{call.pk}",
            team=call.team.slug,
        )
    try:
        content: dict[str, Any] = orjson.loads(encryption.decrypt(payload.ciphertext))
    except encryption.Undecryptable:
        return {"omitted": "its encryption key is gone"}
    return content


def purge() -> int:
    """Delete what is past its time, or belongs to a team that keeps none any more; how many.

    Of partitions, those that are past are dropped whole, and count as one.
    """
    due = ~Q(call__team__payload_policy=Team.PayloadPolicy.FULL)
    dropped = 0
    if partitions.are_payloads_partitioned():
        dropped = partitions.drop_past_payloads()
    else:
        due |= Q(expires_at__lte=clock.now())
    return dropped + _delete(Payload.objects.filter(due))


def _delete(due: QuerySet[Payload]) -> int:
    deleted, _ = Payload.objects.filter(
        pk__in=list(due.values_list("pk", flat=True)[:_PURGED_AT_ONCE])
    ).delete()
    return deleted


def _redacted(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, Mapping):
        return {
            name: REDACTED if name in names else _redacted(inner, names)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_redacted(inner, names) for inner in value]
    return value
