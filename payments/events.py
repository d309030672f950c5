"""Stripe's events: each kept once, then applied by looking at what it is about.

One that could not be applied is tried again, by Stripe's next delivery, by the worker, or by an
operator. An event of a kind that is not ours to apply is kept and left alone.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from django.db.models import F, Q

from payments import auto, settlement, stripe_api
from payments.models import Payment, StripeEvent
from payments.refusals import PaymentMismatch, StripeAway
from payments.stripe_api import Event
from saas_litellm.base import alarms, clock
from saas_litellm.base.refusals import Refusal

logger = logging.getLogger(__name__)
_OF_SESSIONS = "checkout.session."
_OF_INTENTS = ("payment_intent.", "charge.", "refund.")
# Whoever took it in applies it within this time, or has died.
_GRACE = timedelta(minutes=2)
_LONGEST_WAIT = timedelta(hours=6)
_MOST_ATTEMPTS = 20
State = StripeEvent.State


def take(event: Event) -> StripeEvent:
    """Keep it, before anything is done about it; a replay is the row that there is."""
    now = clock.now()
    kept, _ = StripeEvent.objects.get_or_create(
        event_id=event.event_id,
        defaults={
            "type": event.type[:100],
            "object_id": event.object_id,
            "intent_id": event.intent_id,
            "created_at": datetime.fromtimestamp(event.created, tz=UTC),
            "received_at": now,
            "next_try_at": now + _GRACE,
        },
    )
    return kept


def apply(kept: StripeEvent) -> StripeEvent:
    """Bring the ledger in line with what the event is about.

    Raises whatever stood in the way, having kept it. One that was applied stays as it is.
    """
    if kept.state in {State.APPLIED, State.IGNORED}:
        return kept
    try:
        is_ours, payment = _look(kept)
    except Exception as error:
        _note_failure(kept, error)
        raise
    StripeEvent.objects.filter(pk=kept.pk).update(
        state=State.APPLIED if is_ours else State.IGNORED,
        payment=payment,
        error="",
        attempts=F("attempts") + 1,
        next_try_at=None,
    )
    kept.refresh_from_db()
    return kept


def retry_due() -> int:
    """Apply again what failed, or was taken in by a process that died; returns how many it applied."""
    if not stripe_api.is_on():
        return 0
    due = StripeEvent.objects.filter(
        Q(state__in=[State.RECEIVED, State.FAILED]), next_try_at__lte=clock.now()
    ).order_by("next_try_at")
    done = 0
    for kept in due[:100]:
        try:
            apply(kept)
        except StripeAway:
            # The rest would wait for nothing too.
            break
        except Exception:
            logger.exception("%s could not be applied; it is tried again later", kept)
            continue
        done += 1
    return done


def _look(kept: StripeEvent) -> tuple[bool, Payment | None]:
    """Whether it is about something of ours, and which payment that is."""
    if kept.type.startswith(_OF_SESSIONS):
        return look_at_session(kept.object_id)
    if kept.type.startswith(_OF_INTENTS) and kept.intent_id:
        payment = settlement.settle(kept.intent_id)
        return payment is not None, payment
    return False, None


def look_at_session(session_id: str) -> tuple[bool, Payment | None]:
    """What has become of a Checkout session: booked now, whether or not an event has told it.

    Raises StripeAway, StripeRefused, PaymentMismatch.
    """
    session = stripe_api.session_of(session_id)
    if session.mode == "setup":
        return auto.keep_card(session), None
    if session.intent_id:
        settled = settlement.settle(session.intent_id)
        if settled is not None and settled.state == Payment.State.PAID:
            return True, settled
    found = Payment.objects.filter(session_id=session.session_id).first()
    if found is not None and session.status == "expired":
        settlement.end_unpaid(found)
    return found is not None, found


def _note_failure(kept: StripeEvent, error: Exception) -> None:
    said = error.message if isinstance(error, Refusal) else type(error).__name__
    StripeEvent.objects.filter(pk=kept.pk).exclude(state=State.APPLIED).update(
        state=State.FAILED,
        error=said[:500],
        attempts=F("attempts") + 1,
        next_try_at=_next_try(kept.attempts, error),
    )
    alarms.sound(kind="stripe.event_failed", subject=kept.type, detail=f"{kept.event_id}: {said}")


def _next_try(attempts: int, error: Exception) -> datetime | None:
    """Later and later; never by itself where an operator has to decide."""
    if isinstance(error, PaymentMismatch) or attempts >= _MOST_ATTEMPTS:
        return None
    wait: timedelta = min(timedelta(minutes=2 ** min(attempts, 10)), _LONGEST_WAIT)
    return clock.now() + wait
