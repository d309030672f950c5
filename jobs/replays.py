"""Replays: what a call delivered, kept for whoever sends the same idempotency key again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from jobs.models import Call
from jobs.refusals import AnswerNotKept, ProviderError
from saas_litellm.base import idempotency
from saas_litellm.base.idempotency import Claim, InProgress
from saas_litellm.base.models import IdempotencyRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A settled call and what it delivered: choices, vectors, or the chunks of a stream."""

    call: Call
    parts: list[Any]


class Replayed(Exception):
    """Not a refusal: the request was answered before, and this is the answer."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        super().__init__(str(kept.call.pk))


def settle(claim: Claim, *, call: Call, parts: Sequence[Any]) -> None:
    """Keep a charged answer, or free the key of a call that delivered nothing. In the settling
    transaction, so that key and charge stand or fall together."""
    if not call.is_output_delivered:
        idempotency.release(claim)
        return
    is_kept = call.job.team.is_replay_kept
    idempotency.keep(claim, orjson.dumps(list(parts)).decode() if is_kept else "")


def look_up(claim: Claim) -> None:
    """Return if the request is new. Raises Replayed, InProgress, KeyReused, AnswerNotKept, or
    ProviderError for a call whose process died, whose key is then free again."""
    record = idempotency.find(claim)
    if record is None:
        return
    call = _call_of(record)
    if call is None or call.status == Call.Status.ABANDONED:
        idempotency.release(claim)
        raise ProviderError
    if not record.is_done:
        raise InProgress
    text = idempotency.opened(record)
    if text is None:
        raise AnswerNotKept
    raise Replayed(Kept(call=call, parts=orjson.loads(text)))


def _call_of(record: IdempotencyRecord) -> Call | None:
    pk = record.reference.removeprefix("call:")
    return Call.objects.select_related("job__team", "alias").filter(pk=pk).first()
