"""Anything at Stripe, events in any order and number: in the end the ledger is Stripe's truth.

A random story of purchases, refunds that succeed or fail, disputes that are won or lost, and work
that spends the credits. Every step's events go into a bag that is drawn from in any order, some of
them twice and some never; one last event of each payment must be enough.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from billing import ledger
from billing.models import Account, Entry, Loss
from payments.models import Payment
from saas_litellm import verification
from saas_litellm.base.money import NANO, divide_half_even
from tests import factories, paying
from tests.providers.stripe_double import StripeDouble

_names = itertools.count()


class Books(RuleBasedStateMachine):
    """One team's wallet. ``double`` is set by the test that runs the machine."""

    double: StripeDouble

    def __init__(self) -> None:
        super().__init__()
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.team = factories.team(name=f"payer{next(_names)}", credits_=0)
        self.account: Account = ledger.account_of(self.team)
        self.spent = 0
        self.paid: list[str] = []
        self.refunds: list[str] = []
        self.disputes: list[str] = []
        self.bag: list[dict[str, Any]] = []
        self.numbers = itertools.count()

    def teardown(self) -> None:
        try:
            self.settle_all()
        finally:
            transaction.set_rollback(True)
            self.atomic.__exit__(None, None, None)

    def send(self, type_: str, about: dict[str, Any]) -> None:
        self.bag.append(self.double.event(type_, about))

    @rule(lot_days=st.none() | st.integers(1, 9))
    def buy(self, lot_days: int | None) -> None:
        package = paying.package(name=f"of {lot_days}", lot_days=lot_days, nanocredits=7 * NANO)
        payment = paying.begun(self.team, package=package)
        session = self.double.pay(payment.session_id)
        self.paid.append(session["payment_intent"])
        self.send("checkout.session.completed", session)
        self.send("payment_intent.succeeded", self.double.objects[session["payment_intent"]])

    @precondition(lambda self: self.paid)
    @rule(which=st.integers(0, 9), amount=st.integers(1, 4500))
    def refund(self, which: int, amount: int) -> None:
        intent_id = self.paid[which % len(self.paid)]
        left = 4500 - self.double.charge(intent_id)["amount_refunded"]
        if left:
            refund = self.double.refund(intent_id, min(left, amount))
            self.refunds.append(refund["id"])
            self.send("charge.refunded", self.double.charge(intent_id))

    @precondition(lambda self: self.refunds)
    @rule(which=st.integers(0, 9))
    def fail_refund(self, which: int) -> None:
        refund_id = self.refunds.pop(which % len(self.refunds))
        self.send("refund.failed", self.double.fail_refund(refund_id))

    @precondition(lambda self: self.paid)
    @rule(which=st.integers(0, 9), amount=st.integers(1, 4500), is_inquiry=st.booleans())
    def dispute(self, which: int, amount: int, is_inquiry: bool) -> None:
        more = {"status": "warning_needs_response"} if is_inquiry else {}
        dispute = self.double.dispute(self.paid[which % len(self.paid)], amount, **more)
        self.disputes.append(dispute["id"])
        self.send("charge.dispute.created", dispute)

    @precondition(lambda self: self.disputes)
    @rule(which=st.integers(0, 9), status=st.sampled_from(["under_review", "won", "lost"]))
    def move_dispute(self, which: int, status: str) -> None:
        dispute_id = self.disputes[which % len(self.disputes)]
        dispute = self.double.close_dispute(dispute_id, status)
        self.send("charge.dispute.updated", dispute)

    @rule(tenths=st.integers(1, 100))
    def spend(self, tenths: int) -> None:
        done = ledger.adjust(
            account=self.account,
            amount_nanocredits=-tenths * NANO // 10,
            reason="spent",
            actor="test",
            idempotency_key=f"spent-{next(self.numbers)}",
        )
        self.spent += -done.entry.amount_nanocredits if done.entry else 0

    @precondition(lambda self: self.bag)
    @rule(which=st.integers(0, 99), stays=st.booleans())
    def deliver(self, which: int, stays: bool) -> None:
        """In any order; one that stays in the bag may come again."""
        place = which % len(self.bag)
        paying.redeliver(self.double, self.bag[place] if stays else self.bag.pop(place))

    @invariant()
    def never_below_zero(self) -> None:
        self.account.refresh_from_db()
        assert self.account.balance_nanocredits >= 0

    @invariant()
    def each_purchase_is_booked_once(self) -> None:
        grants = Entry.objects.filter(account=self.account, kind=Entry.Kind.GRANT)
        assert grants.count() == Payment.objects.filter(team=self.team, state="paid").count()

    def settle_all(self) -> None:
        for intent_id in self.paid:
            paying.deliver(self.double, "charge.updated", self.double.charge(intent_id))
        due = 0
        for intent_id in self.paid:
            payment = Payment.objects.get(intent_id=intent_id)
            out = divide_half_even(payment.nanocredits * self.out(intent_id), 4500)
            assert payment.taken_nanocredits + payment.lost_nanocredits == out
            due += payment.nanocredits - payment.taken_nanocredits
        lost = Payment.objects.filter(team=self.team).values_list("lost_nanocredits", flat=True)
        losses = Loss.objects.filter(account=self.account, reference__startswith="payment:")
        self.account.refresh_from_db()
        assert self.account.balance_nanocredits == due - self.spent
        assert sum(losses.values_list("amount_nanocredits", flat=True)) == sum(lost)
        assert verification.verify() == []

    def out(self, intent_id: str) -> int:
        """What left again, by Stripe's own objects."""
        rows = [o for o in self.double.objects.values() if o.get("payment_intent") == intent_id]
        refunded = sum(
            o["amount"] for o in rows if o["object"] == "refund" and o["status"] == "succeeded"
        )
        withdrawn = sum(
            o["amount"]
            for o in rows
            if o["object"] == "dispute"
            and o["status"] in {"needs_response", "under_review", "lost"}
        )
        return min(4500, refunded + withdrawn)


@pytest.mark.long
@pytest.mark.django_db
def test_the_ledger_ends_as_stripe_has_it(stripe: StripeDouble) -> None:
    class Run(Books):
        double = stripe

    run_state_machine_as_test(
        Run,
        settings=settings(
            max_examples=15,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
