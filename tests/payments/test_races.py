"""Deliveries and workers at once: each payment is booked once, and never of the past."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from typing import Any

import pytest
from django.db import connection

from billing.models import Entry
from payments import auto, settlement, stripe_api
from payments.models import Payment, StripeEvent
from payments.refusals import StripeAway
from saas_litellm import verification
from saas_litellm.base.money import NANO
from teams.models import Team
from tests import factories, paying
from tests.conftest import ROOT, Live, database_url, wait_until
from tests.providers.stripe_double import SECRET_KEY, WEBHOOK_SECRET, StripeDouble
from tests.teams.test_members import at_once

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def alice() -> Team:
    return factories.team(credits_=0)


def failures(results: list[Any], *, of: int) -> list[Any]:
    """Whatever is no "try again", which Stripe does; what broke is missing among the results."""
    assert len(results) == of
    return [r for r in results if isinstance(r, Exception) and not isinstance(r, StripeAway)]


def test_concurrent_deliveries_pay_once(stripe: StripeDouble, alice: Team) -> None:
    payment = paying.begun(alice)
    session = stripe.pay(payment.session_id)
    intent = stripe.objects[session["payment_intent"]]
    stripe.refund(intent["id"], 900)
    events = [
        stripe.event("checkout.session.completed", session),
        stripe.event("payment_intent.succeeded", intent),
        stripe.event("charge.refunded", stripe.charge(intent["id"])),
    ]
    results = at_once(*[partial(paying.redeliver, stripe, event) for event in events * 4])
    assert failures(results, of=12) == []
    assert paying.balance(alice) == 400
    assert Entry.objects.filter(kind="grant").count() == 1
    assert StripeEvent.objects.count() == 3
    assert verification.verify() == []


def test_a_look_at_the_past_is_not_booked(
    stripe: StripeDouble, alice: Team, monkeypatch: Any
) -> None:
    payment = paying.bought(stripe, alice)
    intent_id = payment.intent_id or ""
    truth_of = stripe_api.truth_of
    looks: list[int] = []

    def slow(asked: str) -> stripe_api.Truth:
        seen = truth_of(asked)
        looks.append(seen.returned_minor)
        if len(looks) == 1:
            # While this look is on its way home, the money goes back, and another look books that.
            stripe.refund(asked, 4500)
            monkeypatch.setattr("payments.stripe_api.truth_of", truth_of)
            settlement.settle(asked)
            monkeypatch.setattr("payments.stripe_api.truth_of", slow)
        return seen

    monkeypatch.setattr("payments.stripe_api.truth_of", slow)
    settlement.settle(intent_id)
    assert looks == [0, 4500]
    assert paying.balance(alice) == 0
    assert Entry.objects.filter(account=payment.account_id).count() == 2


def test_over_http_the_webhook_pays_once(stripe: StripeDouble, alice: Team, live: Live) -> None:
    payment = paying.begun(alice)
    event = stripe.event("checkout.session.completed", stripe.pay(payment.session_id))
    body, signature = stripe.signed(event)

    def post() -> int:
        with live.client({"Stripe-Signature": signature}) as client:
            answer = client.post(
                "/api/stripe/webhook",
                content=body,
                headers={"Content-Type": "application/json; charset=utf-8"},
            )
        return answer.status_code

    assert set(at_once(*[post] * 6)) <= {200, 503}
    assert post() == 200
    assert paying.balance(alice) == 500
    with live.client({"Stripe-Signature": signature + "0"}) as client:
        refused = client.post("/api/stripe/webhook", content=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_signature")


def test_a_mismatch_is_not_sent_again(stripe: StripeDouble, alice: Team, live: Live) -> None:
    payment = paying.begun(alice)
    session = stripe.pay(payment.session_id, amount=1)
    body, signature = stripe.signed(stripe.event("checkout.session.completed", session))
    with live.client({"Stripe-Signature": signature}) as client:
        assert client.post("/api/stripe/webhook", content=body).status_code == 200
    assert StripeEvent.objects.get().state == "failed"
    stripe.is_away = True
    body, signature = stripe.signed(stripe.event("checkout.session.completed", session))
    with live.client({"Stripe-Signature": signature}) as client:
        assert client.post("/api/stripe/webhook", content=body).status_code == 503


def test_two_workers_charge_one_need_once(stripe: StripeDouble, alice: Team) -> None:
    paying.with_auto_top_up(stripe, alice)
    stripe.delay = 0.05
    for _ in range(3):
        results = at_once(*[auto.charge_due] * 4)
        assert failures(results, of=4) == []
        if paying.balance(alice):
            break
    assert stripe.charges_made == 1
    assert paying.balance(alice) == 500
    assert auto.charge_due() == 0
    assert verification.verify() == []


def test_the_ceiling_holds_when_raced(stripe: StripeDouble, alice: Team) -> None:
    """Each charge leaves the need as it was; the ceiling takes four of them."""
    top_up = paying.with_auto_top_up(stripe, alice, threshold_nanocredits=10**6 * NANO)
    for _ in range(4):
        results = at_once(*[auto.charge_due] * 4)
        assert failures(results, of=4) == []
    while auto.charge_due():
        pass
    assert stripe.charges_made == 4
    assert paying.balance(alice) == 2000
    top_up.refresh_from_db()
    assert "ceiling" in top_up.last_error
    assert verification.verify() == []


KILLED = """
import django
django.setup()
from payments import auto
auto.charge_due()
"""


def test_a_worker_killed_between_charge_and_booking(
    stripe: StripeDouble, alice: Team, forward: Any
) -> None:
    paying.with_auto_top_up(stripe, alice)
    stripe.delay = 60
    worker = subprocess.Popen(
        [sys.executable, "-c", KILLED],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "saas_litellm.settings",
            "DATABASE_URL": database_url(),
            "STRIPE_SECRET_KEY": SECRET_KEY,
            "STRIPE_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "STRIPE_API_BASE": stripe.base,
        },
    )
    try:
        wait_until(lambda: stripe.charges_made == 1, seconds=60)
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    stripe.delay = 0
    assert Payment.objects.get().state == "open"
    connection.close()
    forward(30)
    assert auto.charge_due() == 1
    assert stripe.charges_made == 1
    assert paying.balance(alice) == 500
    assert auto.charge_due() == 0
    assert verification.verify() == []
