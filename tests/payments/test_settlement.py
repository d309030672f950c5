"""What Stripe says about money is what the ledger says about credits, whatever comes when."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from billing import ledger
from billing.models import Account, Entry, Loss
from payments import checkout, events, settlement, stripe_api
from payments.models import Payment, Reversal, StripeEvent
from payments.refusals import BadSignature, PaymentMismatch, StripeAway
from saas_litellm import verification
from saas_litellm.base import clock
from saas_litellm.base.models import Alarm
from saas_litellm.base.money import NANO
from teams.models import Team
from tests import factories, paying
from tests.providers.stripe_double import StripeDouble

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> Team:
    return factories.team(credits_=0)


def spend(team: Team, credits_: int) -> None:
    ledger.adjust(
        account=ledger.account_of(team),
        amount_nanocredits=-credits_ * NANO,
        reason="spent",
        actor="test",
        idempotency_key=f"spent-{Entry.objects.count()}",
    )


def test_a_purchase_is_a_lot_with_what_was_paid(stripe: StripeDouble, alice: Team) -> None:
    package = paying.package(lot_days=90, priority=50)
    payment = paying.bought(stripe, alice, package=package)
    assert payment.state == "paid"
    assert payment.entry is not None
    grant = payment.entry.grant
    assert (payment.entry.amount_nanocredits, grant.paid_nano_usd) == (500 * NANO, 45 * NANO)
    assert (grant.kind, grant.priority) == ("purchase", 50)
    assert grant.expires_at == payment.paid_at + timedelta(days=90)  # type: ignore[operator]
    assert payment.entry.reference == f"payment:{payment.pk}"
    assert payment.receipt_url.startswith("https://pay.stripe.test/receipts/ch_")
    assert payment.card == "visa 4242"
    assert verification.verify() == []


def test_another_currency_counts_as_the_package_says(stripe: StripeDouble, alice: Team) -> None:
    package = paying.package(currency="jpy", amount_minor=7000, worth_nano_usd=46 * NANO)
    payment = paying.bought(stripe, alice, package=package)
    assert payment.price == "7,000 JPY"
    assert payment.entry is not None
    assert payment.entry.grant.paid_nano_usd == 46 * NANO


def test_a_package_changed_meanwhile_changes_no_payment(stripe: StripeDouble, alice: Team) -> None:
    payment = paying.begun(alice)
    payment.package.amount_minor, payment.package.nanocredits = 9999, NANO
    payment.package.save()
    paying.deliver(stripe, "checkout.session.completed", stripe.pay(payment.session_id))
    assert paying.balance(alice) == 500


def test_a_replay_and_every_other_event_of_it_pay_nothing_more(
    stripe: StripeDouble, alice: Team
) -> None:
    payment = paying.begun(alice)
    session = stripe.pay(payment.session_id)
    intent = stripe.objects[session["payment_intent"]]
    completed = stripe.event("checkout.session.completed", session)
    for event in [
        stripe.event("payment_intent.succeeded", intent),
        completed,
        completed,
        stripe.event("checkout.session.async_payment_succeeded", session),
        stripe.event("charge.succeeded", stripe.charge(intent["id"])),
    ]:
        paying.redeliver(stripe, event)
    assert paying.balance(alice) == 500
    assert StripeEvent.objects.count() == 4
    assert set(StripeEvent.objects.values_list("state", "payment")) == {("applied", payment.pk)}


def test_an_event_that_was_applied_asks_stripe_nothing(stripe: StripeDouble, alice: Team) -> None:
    payment = paying.begun(alice)
    event = stripe.event("checkout.session.completed", stripe.pay(payment.session_id))
    paying.redeliver(stripe, event)
    asked = len(stripe.requests)
    paying.redeliver(stripe, event)
    assert len(stripe.requests) == asked


def test_unpaid_sessions_book_nothing(stripe: StripeDouble, alice: Team) -> None:
    payment = paying.begun(alice)
    session = stripe.objects[payment.session_id]
    paying.deliver(stripe, "checkout.session.completed", session)
    assert paying.fresh(payment).state == "open"
    paying.deliver(stripe, "checkout.session.expired", stripe.expire(payment.session_id))
    assert paying.fresh(payment).state == "ended"
    assert paying.balance(alice) == 0


def test_a_card_tried_in_vain_leaves_it_open_until_its_session_ends(
    stripe: StripeDouble, alice: Team
) -> None:
    payment = paying.begun(alice)
    session = stripe.objects[payment.session_id]
    tries = []
    for _ in range(2):
        intent = stripe._intent(
            amount=4500, currency="usd", customer="cus_1", metadata=session["_intent_metadata"]
        )
        intent["status"] = "requires_payment_method"
        intent["last_payment_error"] = {"code": "card_declined", "message": "It was declined."}
        session["payment_intent"] = intent["id"]
        paying.deliver(stripe, "payment_intent.payment_failed", intent)
        tries.append(intent)
    assert paying.fresh(payment).failure == "It was declined."
    paying.deliver(stripe, "checkout.session.expired", stripe.expire(payment.session_id))
    assert paying.fresh(payment).state == "ended"
    # Stripe's word counts, whatever was thought before.
    stripe._succeed(tries[1])
    paying.deliver(stripe, "payment_intent.succeeded", tries[1])
    assert (paying.fresh(payment).state, paying.balance(alice)) == ("paid", 500)
    assert paying.fresh(payment).failure == ""


def test_less_than_was_offered_books_nothing_and_waits_for_an_operator(
    stripe: StripeDouble, alice: Team
) -> None:
    payment = paying.begun(alice)
    session = stripe.pay(payment.session_id, amount=1)
    with pytest.raises(PaymentMismatch):
        paying.deliver(stripe, "checkout.session.completed", session)
    kept = StripeEvent.objects.get()
    assert (kept.state, kept.next_try_at) == ("failed", None)
    assert "0.01 USD were paid" in kept.error
    assert paying.balance(alice) == 0
    assert Alarm.objects.filter(kind="stripe.event_failed").exists()


def test_a_refund_that_comes_first_is_booked_with_the_purchase(
    stripe: StripeDouble, alice: Team
) -> None:
    payment = paying.begun(alice)
    session = stripe.pay(payment.session_id)
    stripe.refund(session["payment_intent"], 900)
    charge = stripe.charge(session["payment_intent"])
    paying.deliver(stripe, "charge.refunded", charge)
    assert paying.balance(alice) == 400
    paying.deliver(stripe, "checkout.session.completed", session)
    assert paying.balance(alice) == 400
    assert verification.verify() == []


def test_refunds_add_up_and_one_that_fails_comes_back(stripe: StripeDouble, alice: Team) -> None:
    payment = paying.bought(stripe, alice)
    intent_id = payment.intent_id or ""
    first = stripe.refund(intent_id, 900)
    paying.deliver(stripe, "charge.refunded", stripe.charge(intent_id))
    stripe.refund(intent_id, 3600)
    paying.deliver(stripe, "charge.refunded", stripe.charge(intent_id))
    assert paying.balance(alice) == 0
    assert paying.fresh(payment).returned_minor == 4500
    paying.deliver(stripe, "refund.failed", stripe.fail_refund(first["id"]))
    assert paying.balance(alice) == 100
    assert verification.verify() == []


def test_what_was_spent_is_a_loss_and_a_won_dispute_makes_it_good(
    stripe: StripeDouble, alice: Team, settings: Any
) -> None:
    payment = paying.bought(stripe, alice)
    spend(alice, 420)
    dispute = stripe.dispute(payment.intent_id or "")
    paying.deliver(stripe, "charge.dispute.created", dispute)
    now = paying.fresh(payment)
    assert (paying.balance(alice), now.lost_nanocredits) == (0, 420 * NANO)
    assert Alarm.objects.filter(kind="credits.loss").exists()
    paying.deliver(stripe, "charge.dispute.closed", stripe.close_dispute(dispute["id"], "won"))
    assert paying.balance(alice) == 80
    assert sum(Loss.objects.values_list("amount_nanocredits", flat=True)) == 0
    assert verification.verify() == []


def test_never_below_the_credit_limit(stripe: StripeDouble, alice: Team) -> None:
    payment = paying.bought(stripe, alice)
    ledger.set_credit_limit(
        account=ledger.account_of(alice), limit_nanocredits=50 * NANO, actor="test"
    )
    spend(alice, 530)
    stripe.refund(payment.intent_id or "", 4500)
    paying.deliver(stripe, "charge.refunded", stripe.charge(payment.intent_id or ""))
    assert paying.balance(alice) == -50
    assert Account.objects.get().available_nanocredits == 0


@pytest.mark.parametrize("pauses", [True, False])
def test_a_dispute_pauses_the_team_once_by_policy(
    stripe: StripeDouble, alice: Team, settings: Any, pauses: bool
) -> None:
    settings.STRIPE_DISPUTE_PAUSES_TEAM = pauses
    payment = paying.bought(stripe, alice)
    dispute = stripe.dispute(payment.intent_id or "")
    paying.deliver(stripe, "charge.dispute.created", dispute)
    assert Team.objects.get().status == ("paused" if pauses else "active")
    assert Alarm.objects.get(kind="payment.dispute").sightings == 1
    Team.objects.update(status="active")
    paying.deliver(stripe, "charge.dispute.funds_withdrawn", dispute)
    assert Team.objects.get().status == "active"
    assert Alarm.objects.get(kind="payment.dispute").sightings == 1
    paying.deliver(stripe, "charge.dispute.closed", stripe.close_dispute(dispute["id"], "lost"))
    assert Alarm.objects.get(kind="payment.dispute").sightings == 2


def test_an_inquiry_takes_nothing(stripe: StripeDouble, alice: Team) -> None:
    payment = paying.bought(stripe, alice)
    inquiry = stripe.dispute(payment.intent_id or "", status="warning_needs_response")
    paying.deliver(stripe, "charge.dispute.created", inquiry)
    assert paying.balance(alice) == 500
    assert Team.objects.get().status == "active"


def test_a_link_paid_twice_is_two_payments(stripe: StripeDouble, alice: Team) -> None:
    payment = paying.begun(alice)
    Payment.objects.filter(pk=payment.pk).update(url="", kind="link")
    payment = paying.fresh(payment)
    checkout.link_of(payment)
    for _ in range(2):
        paying.deliver(stripe, "checkout.session.completed", stripe.pay_link(payment.link_id))
    assert paying.balance(alice) == 1000
    assert Payment.objects.filter(state="paid").count() == 2
    assert verification.verify() == []


def test_what_is_not_ours_is_kept_and_left_alone(stripe: StripeDouble, alice: Team) -> None:
    foreign = stripe._intent(amount=1, currency="usd", customer="cus_x", metadata={})
    assert paying.deliver(stripe, "payment_intent.succeeded", foreign).state == "ignored"
    unknown = {"id": "x_1", "object": "x"}
    assert paying.deliver(stripe, "some.thing.new", unknown).state == "ignored"
    assert settlement.settle(foreign["id"]) is None


def test_stripe_away_is_tried_again_later(stripe: StripeDouble, alice: Team, forward: Any) -> None:
    payment = paying.begun(alice)
    event = stripe.event("checkout.session.completed", stripe.pay(payment.session_id))
    stripe.is_away = True
    with pytest.raises(StripeAway):
        paying.redeliver(stripe, event)
    assert events.retry_due() == 0
    stripe.is_away = False
    forward(120)
    assert events.retry_due() == 1
    assert paying.balance(alice) == 500
    assert events.retry_due() == 0


def test_an_event_whose_process_died_is_applied_by_the_worker(
    stripe: StripeDouble, alice: Team, forward: Any
) -> None:
    payment = paying.begun(alice)
    body, signature = stripe.signed(
        stripe.event("checkout.session.completed", stripe.pay(payment.session_id))
    )
    events.take(stripe_api.event_of(body.encode(), signature))
    assert events.retry_due() == 0
    forward(180)
    assert events.retry_due() == 1
    assert paying.balance(alice) == 500


def test_only_stripe_is_believed(stripe: StripeDouble) -> None:
    event = stripe.event("charge.refunded", {"id": "ch_1", "object": "charge"})
    body, signature = stripe.signed(event)
    old = stripe.signed(event, at=int(clock.now().timestamp()) - 400)[1]
    for wrong in ("", "t=1,v1=00", signature[:-1] + "x", old, "é"):
        with pytest.raises(BadSignature):
            stripe_api.event_of(body.encode(), wrong)
    with pytest.raises(BadSignature):
        stripe_api.event_of(body.encode() + b" ", signature)
    with pytest.raises(BadSignature):
        stripe_api.event_of(b"\xff\xfe", signature)
    assert stripe_api.event_of(body.encode(), signature).type == "charge.refunded"


def test_reversals_are_kept_with_their_ids(stripe: StripeDouble, alice: Team) -> None:
    payment = paying.bought(stripe, alice)
    refund = stripe.refund(payment.intent_id or "", 100)
    paying.deliver(stripe, "charge.refunded", stripe.charge(payment.intent_id or ""))
    kept = Reversal.objects.get()
    assert (kept.stripe_id, kept.amount_minor, kept.status) == (refund["id"], 100, "succeeded")


@pytest.mark.parametrize("column", ["taken_nanocredits", "lost_nanocredits"])
def test_a_payment_that_says_something_else_than_the_ledger_is_found(
    stripe: StripeDouble, alice: Team, column: str
) -> None:
    payment = paying.bought(stripe, alice)
    assert verification.verify() == []
    Payment.objects.update(**{column: 1})
    assert [(found.invariant, found.row) for found in verification.verify()] == [
        ("I8", payment.reference)
    ]
