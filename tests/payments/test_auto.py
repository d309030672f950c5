"""Auto top-ups: charged once per need, stopped by declines, ceilings and banks that want a person."""

from __future__ import annotations

from typing import Any

import pytest
from django.core import mail

from billing import ledger
from payments import auto, checkout, settlement
from payments.models import AutoTopUp, Payment
from payments.refusals import NoCard
from saas_litellm import verification, worker
from saas_litellm.base.models import Alarm
from saas_litellm.base.money import NANO
from saas_litellm.base.refusals import Invalid
from teams.models import Team
from tests import factories, paying
from tests.providers.stripe_double import StripeDouble
from tests.teams.test_members import member
from tests.work import Clock

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice(settings: Any) -> Team:
    team = factories.team(credits_=0)
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    member(team, "mia@example.com")
    member(team, "bob@example.com", "member")
    return team


@pytest.fixture
def clock(monkeypatch: Any) -> Clock:
    return Clock(monkeypatch)


def top_up() -> AutoTopUp:
    return AutoTopUp.objects.get()


def test_below_the_threshold_the_card_pays(stripe: StripeDouble, alice: Team) -> None:
    made = paying.with_auto_top_up(stripe, alice)
    assert (made.card, made.state) == ("visa 4242", "on")
    assert auto.charge_due() == 1
    assert paying.balance(alice) == 500
    payment = Payment.objects.get()
    assert (payment.kind, payment.state, payment.created_by) == ("auto", "paid", "worker")
    assert auto.charge_due() == 0
    assert stripe.charges_made == 1
    assert verification.verify() == []


def test_the_webhook_of_a_charge_books_it_no_second_time(stripe: StripeDouble, alice: Team) -> None:
    paying.with_auto_top_up(stripe, alice)
    auto.charge_due()
    intent = stripe.objects[Payment.objects.get().intent_id or ""]
    paying.deliver(stripe, "payment_intent.succeeded", intent)
    assert paying.balance(alice) == 500


def test_declines_wait_longer_and_longer_and_then_it_is_off(
    stripe: StripeDouble, alice: Team, clock: Clock
) -> None:
    paying.with_auto_top_up(stripe, alice)
    stripe.next_charge(*["card_declined"] * 9)
    waits = []
    for _ in range(5):
        auto.charge_due()
        due = top_up().next_try_at
        if due is not None:
            assert auto.charge_due() == 0
            waits.append((due - clock.moment).total_seconds() / 3600)
            clock.moment = due
    assert waits == [1, 6, 24, 72]
    assert not top_up().is_on
    assert stripe.charges_made == 5
    clock.tick(10**7)
    assert auto.charge_due() == 0
    assert Alarm.objects.get(kind="auto_top_up.off").sightings == 1
    assert [sent.to for sent in mail.outbox] == [["mia@example.com"]]
    assert "declined 5 times" in mail.outbox[0].body
    assert {p.state for p in Payment.objects.all()} == {"failed"}
    # Nobody completes a declined charge later.
    intents = [o for o in stripe.objects.values() if o["object"] == "payment_intent"]
    assert {o["status"] for o in intents} == {"canceled"}


def test_a_success_forgets_the_declines(stripe: StripeDouble, alice: Team, clock: Clock) -> None:
    paying.with_auto_top_up(stripe, alice)
    stripe.next_charge("insufficient_funds")
    auto.charge_due()
    assert top_up().state == "on, after a decline"
    clock.tick(3601)
    auto.charge_due()
    assert (paying.balance(alice), top_up().failures, top_up().state) == (500, 0, "on")


@pytest.mark.parametrize("outcome", ["authentication_required", "requires_action"])
def test_a_bank_that_wants_a_person_gets_one(
    stripe: StripeDouble, alice: Team, outcome: str
) -> None:
    paying.with_auto_top_up(stripe, alice)
    stripe.next_charge(outcome)
    auto.charge_due()
    assert top_up().needs_person
    assert auto.charge_due() == 0
    assert stripe.charges_made == 1
    (sent,) = mail.outbox
    assert "/portal/alice/auto-top-up/" in sent.body
    by_hand = paying.begun(alice, saves_card=True)
    session = stripe.pay(by_hand.session_id)
    paying.deliver(stripe, "checkout.session.completed", session)
    new_card = stripe.objects[session["payment_intent"]]["payment_method"]
    assert (top_up().state, top_up().payment_method_id) == ("on", new_card)
    assert paying.balance(alice) == 500


def test_a_charge_in_progress_is_waited_for(
    stripe: StripeDouble, alice: Team, clock: Clock
) -> None:
    paying.with_auto_top_up(stripe, alice)
    stripe.next_charge("processing")
    auto.charge_due()
    for _ in range(3):
        clock.tick(86_400)
        auto.charge_due()
    assert (stripe.charges_made, Payment.objects.get().state) == (1, "open")
    stripe._succeed(stripe.objects[Payment.objects.get().intent_id or ""])
    auto.charge_due()
    assert paying.balance(alice) == 500


def test_an_answer_that_never_came_is_found_out(
    stripe: StripeDouble, alice: Team, clock: Clock
) -> None:
    paying.with_auto_top_up(stripe, alice)
    customer = len(stripe.requests)
    # The library's own second try is cut, too.
    stripe.cuts.extend([True, True])
    auto.charge_due()
    assert len(stripe.requests) > customer
    assert Payment.objects.get().state == "open"
    clock.tick(30)
    auto.charge_due()
    assert stripe.charges_made == 1
    assert paying.balance(alice) == 500


def test_stripe_away_for_hours_charges_once_when_it_is_back(
    stripe: StripeDouble, alice: Team, clock: Clock
) -> None:
    paying.with_auto_top_up(stripe, alice)
    stripe.is_away = True
    auto.charge_due()
    clock.tick(5 * 3600)
    auto.charge_due()
    assert Payment.objects.get().state == "open"
    stripe.is_away = False
    auto.charge_due()
    assert Payment.objects.get().failure_code == "abandoned"
    clock.tick(3601)
    auto.charge_due()
    assert (stripe.charges_made, paying.balance(alice)) == (1, 500)


def test_a_card_that_is_gone_is_a_decline(stripe: StripeDouble, alice: Team) -> None:
    made = paying.with_auto_top_up(stripe, alice)
    del stripe.objects[made.payment_method_id]
    auto.charge_due()
    assert (Payment.objects.get().failure_code, top_up().failures) == ("refused", 1)


def test_the_ceiling_is_of_a_month(stripe: StripeDouble, alice: Team, clock: Clock) -> None:
    paying.with_auto_top_up(stripe, alice, monthly_ceiling_minor=9000)
    for spent in (0, 450, 450):
        if spent:
            ledger.adjust(
                account=ledger.account_of(alice),
                amount_nanocredits=-spent * NANO,
                reason="spent",
                actor="test",
                idempotency_key=f"spent-{Payment.objects.count()}",
            )
        auto.charge_due()
    assert (stripe.charges_made, paying.balance(alice)) == (2, 100)
    ledger.adjust(
        account=ledger.account_of(alice),
        amount_nanocredits=-1,
        reason="spent",
        actor="test",
        idempotency_key="last",
    )
    auto.charge_due()
    auto.charge_due()
    assert stripe.charges_made == 2
    assert Alarm.objects.get(kind="auto_top_up.stopped").sightings == 1
    clock.set(2026, 4, 1)
    auto.charge_due()
    assert stripe.charges_made == 3


def test_who_is_paused_is_not_charged(stripe: StripeDouble, alice: Team) -> None:
    paying.with_auto_top_up(stripe, alice)
    for status, charged in (("paused", 0), ("suspended", 0), ("active", 1)):
        Team.objects.update(status=status)
        assert auto.charge_due() == charged
        assert stripe.charges_made == charged


def test_the_worker_charges_and_applies(stripe: StripeDouble, alice: Team) -> None:
    paying.with_auto_top_up(stripe, alice)
    assert worker.work_outside() == {"auto top-ups": 1}


def test_what_it_asks_for_before_it_is_on(stripe: StripeDouble, alice: Team) -> None:
    given: dict[str, Any] = {
        "team": alice,
        "account": ledger.account_of(alice),
        "package": paying.package(),
        "threshold_nanocredits": NANO,
        "monthly_ceiling_minor": 4500,
        "is_on": True,
        "actor": "test",
    }
    with pytest.raises(NoCard):
        auto.configure(**given)
    with pytest.raises(Invalid, match="below the package's price"):
        auto.configure(**{**given, "monthly_ceiling_minor": 4499})
    auto.configure(**{**given, "is_on": False})
    assert auto.charge_due() == 0


def test_an_older_card_does_not_come_back(stripe: StripeDouble, alice: Team) -> None:
    account = ledger.account_of(alice)
    sessions = []
    for number in range(2):
        url = checkout.card_url(team=alice, account=account, page=paying.PAGE)
        session = stripe.pay(url.rpartition("/")[2])
        session["created"] += number
        sessions.append(session)
    for session in reversed(sessions):
        paying.deliver(stripe, "checkout.session.completed", session)
    newest = stripe.objects[sessions[1]["setup_intent"]]["payment_method"]
    assert top_up().payment_method_id == newest


def test_switched_off_it_still_books_what_is_in_flight(stripe: StripeDouble, alice: Team) -> None:
    paying.with_auto_top_up(stripe, alice)
    stripe.next_charge("processing")
    auto.charge_due()
    auto.switch_off(top_up=top_up(), actor="test")
    intent_id = Payment.objects.get().intent_id or ""
    stripe._succeed(stripe.objects[intent_id])
    settlement.settle(intent_id)
    assert paying.balance(alice) == 500
    assert auto.charge_due() == 0
