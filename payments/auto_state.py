"""What becomes of an auto top-up after each try: back-off, off, or waiting for a person."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import F

from payments import notices
from payments.models import AutoTopUp, Payment
from payments.stripe_api import NEEDS_PERSON
from saas_litellm.base import alarms, audit, clock

# After the first decline in a row, the second, ...; after one more it is switched off.
BACK_OFF = (timedelta(hours=1), timedelta(hours=6), timedelta(days=1), timedelta(days=3))


def note_failure(payment: Payment, *, code: str, message: str) -> None:
    """In the transaction that fails the payment."""
    mine = AutoTopUp.objects.filter(pk=payment.account_id)
    if code == NEEDS_PERSON:
        mine.update(needs_person=True, last_error=message[:300])
    else:
        mine.update(failures=F("failures") + 1, last_error=message[:300])
        top_up = mine.get()
        is_over = top_up.failures > len(BACK_OFF)
        wait = BACK_OFF[min(top_up.failures, len(BACK_OFF)) - 1]
        mine.update(
            next_try_at=None if is_over else clock.now() + wait,
            is_on=False if is_over else top_up.is_on,
        )
    audit.record(
        actor="worker",
        action="auto_top_up.fail",
        target=f"auto_top_up:{payment.account_id}",
        after={"payment": str(payment.pk), "code": code, "message": message[:300]},
    )


def note_success(payment: Payment, *, payment_method_id: str = "", card: str = "") -> None:
    """In the transaction that books the payment; a card that it saved takes the old one's place."""
    saved = {"payment_method_id": payment_method_id, "card": card, "card_saved_at": clock.now()}
    AutoTopUp.objects.filter(pk=payment.account_id).update(
        failures=0,
        next_try_at=None,
        needs_person=False,
        last_error="",
        **(saved if payment_method_id else {}),
    )


def tell_of_failure(payment: Payment) -> None:
    """After the transaction: those who can do something about it hear of what stopped."""
    top_up = AutoTopUp.objects.select_related("team", "account").get(pk=payment.account_id)
    if top_up.needs_person:
        alarms.sound(
            kind="auto_top_up.confirm",
            subject=str(top_up.account),
            detail="The bank wants the owner of the card to confirm the payment.",
        )
        notices.confirm(top_up, payment)
    elif not top_up.is_on:
        alarms.sound(
            kind="auto_top_up.off",
            subject=str(top_up.account),
            detail=f"Declined {top_up.failures} times in a row: {top_up.last_error}",
        )
        notices.switched_off(top_up, payment)
