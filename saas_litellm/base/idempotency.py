"""Idempotency keys: the same request again gets the same answer, and is not done again.

A record is written in the transaction that does the work, so it stands exactly if the work does: a
refusal takes it back, and a retry is then a real retry. What answers is kept for a day, encrypted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.http import HttpRequest

from saas_litellm.base import clock, encryption
from saas_litellm.base.models import IdempotencyRecord
from saas_litellm.base.refusals import Conflict, Invalid

HEADER = "Idempotency-Key"
KEPT_FOR = timedelta(hours=24)
_SHAPE = re.compile(r"[\x21-\x7e]{1,255}")
# They say what a /v1 request means as much as its body does.
_MEANT_BY = ("X-Job-Id", "X-Job-Type", "X-Team-Id", "Cache-Control")


class KeyReused(Conflict):
    code = "idempotency_key_reused"
    default_message = "This Idempotency-Key was used for another request. Use a new one."


class InProgress(Conflict):
    code = "request_in_progress"
    default_message = "The first request with this Idempotency-Key is still running."

    def __init__(self) -> None:
        super().__init__(retry_after_seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A request's key, before it is known who asks."""

    text: str
    target: str
    fingerprint: str

    def claim(self, caller: str) -> Claim:
        return Claim(
            scope=encryption.keyed_hash(f"{caller}\n{self.target}\n{self.text}"),
            fingerprint=self.fingerprint,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One caller's key on one path, and a keyed hash of what was asked."""

    scope: str
    fingerprint: str


def claim_of(*, caller: str, act: str, key: str, content: str = "") -> Claim:
    """The claim of a page's hidden key: one act of one person, and what it would do."""
    return Claim(
        scope=encryption.keyed_hash(f"{caller}\npage {act}\n{key}"),
        fingerprint=encryption.keyed_hash(content),
    )


def key_of(request: HttpRequest) -> Key | None:
    """The key that a POST carries; raises Invalid for one that cannot be a key."""
    text = request.headers.get(HEADER)
    if text is None or request.method != "POST":
        return None
    if not _SHAPE.fullmatch(text):
        raise Invalid(f"{HEADER} is 1 to 255 visible ASCII characters.", param=HEADER)
    body = request.body
    boundary = request.content_params.get("boundary") if request.content_params else None
    if boundary:
        # Clients draw a new one for each try of the same form.
        body = body.replace(boundary.encode(), b"")
    meant = "\n".join(request.headers.get(name, "") for name in _MEANT_BY)
    return Key(
        text=text,
        target=f"{request.method} {request.path}",
        fingerprint=encryption.keyed_hash(f"{meant}\n{body.decode(errors='replace')}"),
    )


def find(claim: Claim) -> IdempotencyRecord | None:
    """The record of the first request, if it still stands. Raises KeyReused for another body."""
    record = IdempotencyRecord.objects.filter(scope=claim.scope).first()
    if record is None:
        return None
    if record.expires_at <= clock.now():
        release(claim)
        return None
    if record.fingerprint != claim.fingerprint:
        raise KeyReused
    return record


def take(claim: Claim, *, reference: str = "") -> None:
    """Write the record, inside the transaction of the work. Raises InProgress when another did."""
    now = clock.now()
    try:
        with transaction.atomic():
            IdempotencyRecord.objects.create(
                scope=claim.scope,
                fingerprint=claim.fingerprint,
                reference=reference,
                created_at=now,
                expires_at=now + KEPT_FOR,
            )
    except IntegrityError as error:
        raise InProgress from error


def keep(claim: Claim, text: str) -> None:
    """Store what answers the request, encrypted; too long a text is not kept."""
    kept = text if len(text) <= settings.REPLAY_MAX_BYTES else ""
    IdempotencyRecord.objects.filter(scope=claim.scope).update(
        ciphertext=encryption.encrypt(kept) if kept else "", is_done=True
    )


def release(claim: Claim) -> None:
    """Forget the key, so that the same request is done anew."""
    IdempotencyRecord.objects.filter(scope=claim.scope).delete()


def opened(record: IdempotencyRecord) -> str | None:
    """What was kept; None when it was too long, or its encryption key is gone."""
    try:
        return encryption.decrypt(record.ciphertext) if record.ciphertext else None
    except encryption.Undecryptable:
        return None


def once(claim: Claim, work: Callable[[], Any], write: Callable[[Any], str]) -> tuple[Any, str]:
    """Do database work once: (its result, "") the first time, (None, the kept text) after that.

    ``write`` turns the result into the text to keep. Work that raises leaves no record.
    """
    record = find(claim)
    if record is None:
        try:
            with transaction.atomic():
                take(claim)
                result = work()
                keep(claim, write(result))
        except InProgress:
            record = find(claim)
        else:
            return result, ""
    if record is None or not record.is_done:
        raise InProgress
    return None, opened(record) or ""


def purge_expired() -> int:
    """Delete records past their day; returns how many."""
    deleted, _ = IdempotencyRecord.objects.filter(expires_at__lte=clock.now()).delete()
    return deleted
