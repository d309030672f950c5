"""What Stripe says about a payment becomes what the ledger says. The only writer of begun payments.

An event says only that something has happened; what is true is asked of Stripe. So events may come
in any order and number: each look books the difference between the ledger and what was seen. A look
counts only if no other one has been booked since it began (``version``), hence none books a past.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction

from billing import ledger
from payments import auto_state, currencies, stripe_api
from payments.models import Payment, Reversal
from payments.refusals import PaymentMismatch, StripeAway
from payments.stripe_api import NEEDS_PERSON, Truth
from saas_litellm.base import alarms, audit, clock
from saas_litellm.base.money import divide_half_even, from_nano
from teams import directory
from teams.models import Team

ACTOR = "stripe"
_LOOKS = 10


def settle(intent_id: str) -> Payment | None:
    """Look at a PaymentIntent and book what is new; None when it is none of ours.

    Raises StripeAway, StripeRefused, or PaymentMismatch when what was paid is not what was offered.
    """
    known = Payment.objects.filter(intent_id=intent_id).first()
    for _ in range(_LOOKS):
        # As it was before the look: of one that is not known yet, nothing may be booked by then.
        version = known.version if known else 0
        truth = stripe_api.truth_of(intent_id)
        payment = _payment_of(truth)
        if payment is None:
            return None
        if _booked(payment, truth, version=version):
            _tell(payment)
            if payment.kind == Payment.Kind.AUTO and not truth.is_paid:
                _conclude(payment, truth)
            return Payment.objects.get(pk=payment.pk)
        known = Payment.objects.get(pk=payment.pk)
    raise StripeAway("This payment is being looked at by others. Try again in a moment.")


def end_unpaid(payment: Payment) -> None:
    """Its session has ended, and nothing was paid in it."""
    Payment.objects.filter(pk=payment.pk, state=Payment.State.OPEN).update(
        state=Payment.State.ENDED
    )


def fail(payment: Payment, *, code: str, message: str) -> bool:
    """An auto top-up's payment came to nothing: once, however many found it out."""
    with transaction.atomic():
        failed = Payment.objects.filter(pk=payment.pk, state=Payment.State.OPEN).update(
            state=Payment.State.FAILED, failure_code=code[:100], failure=message[:300]
        )
        if failed:
            auto_state.note_failure(payment, code=code, message=message)
    if failed:
        auto_state.tell_of_failure(payment)
    return bool(failed)


def _conclude(payment: Payment, truth: Truth) -> None:
    """An off-session charge that did not succeed comes to an end: nobody completes it later."""
    needs_person = truth.status == "requires_action"
    is_declined = truth.status == "requires_payment_method" and bool(truth.failure_code)
    if needs_person or is_declined:
        stripe_api.cancel(truth.intent_id)
        if stripe_api.truth_of(truth.intent_id).status != "canceled":
            return
    elif truth.status != "canceled":
        return
    fail(
        payment,
        code=NEEDS_PERSON if needs_person else truth.failure_code or "canceled",
        message=truth.failure or "The payment was not completed.",
    )


def _payment_of(truth: Truth) -> Payment | None:
    """The payment that an intent is known by, or says it is for. A link paid twice is two."""
    known = Payment.objects.filter(intent_id=truth.intent_id).first()
    if known is not None:
        return known
    try:
        found = Payment.objects.filter(pk=UUID(truth.payment_id)).first()
    except ValueError:
        return None
    if found is None or found.intent_id is None:
        return found
    if not truth.is_paid:
        return None
    return _again(found, truth.intent_id)


def _again(first: Payment, intent_id: str) -> Payment:
    made, _ = Payment.objects.get_or_create(
        intent_id=intent_id,
        defaults={
            "account": first.account,
            "team": first.team,
            "package": first.package,
            "kind": first.kind if first.kind != Payment.Kind.AUTO else Payment.Kind.CHECKOUT,
            "amount_minor": first.amount_minor,
            "currency": first.currency,
            "nanocredits": first.nanocredits,
            "paid_nano_usd": first.paid_nano_usd,
            "priority": first.priority,
            "lot_days": first.lot_days,
            "created_by": ACTOR,
            "created_at": clock.now(),
        },
    )
    return made


@transaction.atomic
def _booked(payment: Payment, truth: Truth, *, version: int) -> bool:
    """Whether this look was the newest; if it was not, nothing has changed."""
    mine = Payment.objects.filter(pk=payment.pk, version=version)
    if not mine.update(version=version + 1):
        return False
    now = Payment.objects.select_related("account", "entry__grant", "team").get(pk=payment.pk)
    if now.intent_id not in {None, truth.intent_id}:
        # Another intent of the same payment was booked in between: look again, and keep them apart.
        transaction.set_rollback(True)
        return False
    if truth.is_paid or now.kind == Payment.Kind.AUTO:
        now.intent_id = truth.intent_id
        now.charge_id, now.receipt_url = truth.charge_id, truth.receipt_url
        now.card = truth.card
    if truth.is_paid:
        if now.entry is None:
            _grant(now, truth)
        now.received_minor, now.returned_minor = truth.received_minor, truth.returned_minor
        _keep_reversals(now, truth)
        _mirror(now)
    elif now.kind != Payment.Kind.AUTO:
        # In Checkout another card may be tried, with another intent perhaps: it stays open, and
        # says what went wrong.
        now.failure_code, now.failure = truth.failure_code, truth.failure
    now.save()
    return True


def _grant(payment: Payment, truth: Truth) -> None:
    if truth.currency != payment.currency or truth.received_minor < payment.amount_minor:
        paid = currencies.shown(truth.received_minor, truth.currency)
        raise PaymentMismatch(f"{paid} were paid for what was offered at {payment.price}.")
    now = clock.now()
    payment.entry = ledger.grant(
        account=payment.account,
        amount_nanocredits=payment.nanocredits,
        paid_nano_usd=payment.paid_nano_usd,
        priority=payment.priority,
        expires_at=_lot_end(payment, now),
        reason=f"{payment.package.name}, {currencies.shown(truth.received_minor, truth.currency)}",
        reference=payment.reference,
        actor=ACTOR,
        # By the payment's own id at Stripe: whatever events come, it pays once.
        idempotency_key=f"stripe:{truth.intent_id}",
    )
    payment.state, payment.paid_at = Payment.State.PAID, now
    payment.failure_code = payment.failure = ""
    if payment.kind == Payment.Kind.AUTO or payment.saves_card:
        auto_state.note_success(
            payment,
            payment_method_id=truth.payment_method_id if payment.saves_card else "",
            card=truth.card,
        )


def _lot_end(payment: Payment, now: datetime) -> datetime | None:
    """Counted from when the credits are there, so that a late event shortens nothing."""
    return now + timedelta(days=payment.lot_days) if payment.lot_days else None


def _keep_reversals(payment: Payment, truth: Truth) -> None:
    for seen in truth.reversals:
        Reversal.objects.update_or_create(
            stripe_id=seen.stripe_id,
            defaults={
                "payment": payment,
                "kind": seen.kind,
                "amount_minor": seen.amount_minor,
                "status": seen.status,
                "reason": seen.reason,
            },
            create_defaults={
                "payment": payment,
                "kind": seen.kind,
                "amount_minor": seen.amount_minor,
                "status": seen.status,
                "reason": seen.reason,
                "created_at": clock.now(),
            },
        )


def _mirror(payment: Payment) -> None:
    """Take back, or give back, until the credits that are out match the money that is out.

    What was spent and cannot be taken is a loss; money that returns makes up for losses first.
    """
    due = divide_half_even(payment.nanocredits * payment.returned_minor, payment.received_minor)
    missing = due - payment.reversed_nanocredits
    if missing == 0:
        return
    assert payment.entry is not None
    back = currencies.shown(payment.returned_minor, payment.currency)
    named = {
        "bought": payment.entry,
        "reason": f"{back} of {payment.package.name} went back"
        if missing > 0
        else f"money for {payment.package.name} came again: {back} are still out",
        "actor": ACTOR,
        "idempotency_key": f"{payment.reference}:{payment.version}",
    }
    if missing > 0:
        done = ledger.take_back(amount_nanocredits=missing, **named)  # type: ignore[arg-type]
        payment.taken_nanocredits -= done.entry.amount_nanocredits if done.entry else 0
        payment.lost_nanocredits += done.loss.amount_nanocredits if done.loss else 0
    else:
        recovered = min(-missing, payment.lost_nanocredits)
        given = -missing - recovered
        if recovered:
            ledger.recover_loss(amount_nanocredits=recovered, **named)  # type: ignore[arg-type]
        if given:
            ledger.give_back(amount_nanocredits=given, **named)  # type: ignore[arg-type]
        payment.lost_nanocredits -= recovered
        payment.taken_nanocredits -= given
    audit.record(
        actor=ACTOR,
        action="payment.reverse" if missing > 0 else "payment.restore",
        target=payment.reference,
        after={
            "returned": back,
            "taken": str(from_nano(payment.taken_nanocredits)),
            "lost": str(from_nano(payment.lost_nanocredits)),
        },
    )


def _tell(payment: Payment) -> None:
    """An alarm for each step of a dispute; the first withdrawal pauses the team, once."""
    disputes = Reversal.objects.filter(payment=payment, kind=Reversal.Kind.DISPUTE)
    for dispute in disputes.select_related("payment__team"):
        told = Reversal.objects.filter(pk=dispute.pk, has_told=dispute.has_told).exclude(
            has_told=dispute.status
        )
        if told.update(has_told=dispute.status):
            amount = currencies.shown(dispute.amount_minor, payment.currency)
            alarms.sound(
                kind="payment.dispute",
                subject=f"{dispute.stripe_id} of {dispute.payment.team}",
                detail=f"{dispute.status}: {amount}, {dispute.reason}",
            )
        _pause(dispute)


def _pause(dispute: Reversal) -> None:
    is_out = stripe_api.is_out(dispute.kind, dispute.status)
    if not (settings.STRIPE_DISPUTE_PAUSES_TEAM and is_out):
        return
    with transaction.atomic():
        # Whoever resumes the team has decided: the same dispute pauses it no second time.
        first = Reversal.objects.filter(pk=dispute.pk, has_paused=False).update(has_paused=True)
        team = Team.objects.get(pk=dispute.payment.team_id)
        if first and team.status == Team.Status.ACTIVE:
            directory.set_team_status(
                team=team,
                status=Team.Status.PAUSED,
                actor=ACTOR,
                reason=f"dispute {dispute.stripe_id}",
            )
