"""Lots: what is drawn first, what expires, what refunds restore; and that it all adds up."""

from __future__ import annotations

import itertools
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import expiry, ledger, lots, plans, revenue
from billing.models import Account, Draw, Entry, Grant, Hold, Lot, RevenueDay
from billing.refusals import InsufficientCredits, LotNotLive
from saas_litellm import verification
from saas_litellm.base.money import NANO
from tests import factories
from tests.work import Clock

pytestmark = pytest.mark.django_db
START = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.fixture
def clock(monkeypatch: Any) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def account(db: None, clock: Clock) -> Account:
    return ledger.account_of(factories.team(credits_=0, plan=""))


class Book:
    """Grants, charges and refunds of one account, numbered as they come."""

    def __init__(self, account: Account) -> None:
        self.account, self.number = account, 0
        self.version = plans.ensure_preset("consumption_usd")

    def key(self) -> str:
        self.number += 1
        return f"{self.account.pk}-{self.number}"

    def grant(self, credits_: int, **more: Any) -> Grant:
        entry = ledger.grant(
            account=self.account,
            amount_nanocredits=credits_ * NANO,
            actor="test",
            idempotency_key=self.key(),
            **more,
        )
        return entry.grant  # type: ignore[no-any-return]

    def charge(self, credits_: int) -> Entry:
        reference = self.key()
        with transaction.atomic():
            ledger.settle(
                account_id=self.account.pk,
                held=None,
                bill=ledger.Bill(
                    price_nanocredits=credits_ * NANO,
                    nanocredits_per_usd=10 * NANO,
                    plan_version_id=self.version.pk,
                    reference=reference,
                    reason="",
                    actor="test",
                    labels={},
                ),
            )
        return Entry.objects.get(reference=reference)  # type: ignore[no-any-return]

    def hold(self, credits_: int) -> Hold:
        with transaction.atomic():
            held = ledger.hold(
                account_id=self.account.pk,
                amount_nanocredits=credits_ * NANO,
                reference=self.key(),
                expires_at=None,
            )
        assert held is not None
        return held

    def refund(self, charge: Entry, credits_: int) -> Entry:
        return ledger.refund(
            charge=charge,
            amount_nanocredits=credits_ * NANO,
            reason="sorry",
            actor="test",
            idempotency_key=self.key(),
        )

    def left(self) -> dict[int, int]:
        """Credits that remain, by lot, after a fold."""
        lots.fold(self.account)
        rows = Lot.objects.filter(account=self.account).values_list(
            "grant_id", "remaining_nanocredits"
        )
        return {pk: nano // NANO for pk, nano in rows}


@pytest.fixture
def book(account: Account) -> Book:
    return Book(account)


def violations() -> list[str]:
    """Those about lots and balances: a book's charges belong to no call."""
    return [str(v) for v in verification.verify() if v.invariant in {"I1", "I2", "I3", "I5"}]


def test_lots_are_drawn_by_priority_then_expiry_then_age(book: Book) -> None:
    old = book.grant(10)
    late = book.grant(10, expires_at=START + timedelta(days=9))
    soon = book.grant(10, expires_at=START + timedelta(days=2))
    first = book.grant(10, priority=1)
    book.charge(35)
    assert book.left() == {old.pk: 5, late.pk: 0, soon.pk: 0, first.pk: 0}
    order = Draw.objects.order_by("id").values_list("lot_id", flat=True)
    assert list(order) == [first.pk, soon.pk, late.pk, old.pk]
    assert violations() == []


def test_what_expires_is_an_entry_and_takes_what_is_left(book: Book, clock: Clock) -> None:
    lot = book.grant(10, expires_at=START + timedelta(days=2))
    keeps = book.grant(5)
    book.charge(4)
    clock.set(2026, 3, 12, 11, 59, 59)
    assert expiry.expire_due() == 0
    clock.set(2026, 3, 12, 12)
    assert expiry.expire_due() == 1
    assert expiry.expire_due() == 0
    entry = Entry.objects.get(kind="expiry")
    assert (entry.amount_nanocredits, entry.balance_after_nanocredits) == (-6 * NANO, 5 * NANO)
    assert entry.corrects_id == lot.entry_id
    assert book.left() == {lot.pk: 0, keeps.pk: 5}
    assert violations() == []


def test_expiry_never_takes_what_open_holds_would_draw(book: Book, clock: Clock) -> None:
    lot = book.grant(10, expires_at=START + timedelta(days=1))
    held = book.hold(7)
    clock.set(2026, 3, 12)
    assert expiry.expire_due() == 1
    assert book.left() == {lot.pk: 7}
    assert violations() == []
    ledger.release(held)
    assert expiry.expire_due() == 1
    assert book.left() == {lot.pk: 0}
    amounts = Entry.objects.filter(kind="expiry").values_list("amount_nanocredits", flat=True)
    assert sorted(amounts) == [-7 * NANO, -3 * NANO]
    assert violations() == []


def test_a_hold_is_taken_from_the_lots_before_the_one_that_expires(
    book: Book, clock: Clock
) -> None:
    book.grant(5, priority=1)
    expiring = book.grant(10, expires_at=START + timedelta(days=1))
    book.hold(6)
    clock.set(2026, 3, 12)
    expiry.expire_due()
    # 5 of the hold come from the first lot, 1 from the expiring one.
    assert book.left()[expiring.pk] == 1


def test_a_refund_restores_the_lots_it_drew_last_first(book: Book) -> None:
    first, second = book.grant(10), book.grant(10)
    charge = book.charge(15)
    book.refund(charge, 7)
    assert book.left() == {first.pk: 2, second.pk: 10}
    book.refund(charge, 8)
    assert book.left() == {first.pk: 10, second.pk: 10}
    assert violations() == []


def test_a_refund_of_a_charge_folded_long_ago_restores_the_same_lots(book: Book) -> None:
    first, second = book.grant(10), book.grant(10)
    charge = book.charge(15)
    book.left()
    book.refund(charge, 3)
    book.left()
    book.refund(charge, 4)
    assert book.left() == {first.pk: 2, second.pk: 10}
    assert violations() == []


def test_what_a_refund_owes_to_an_expired_lot_becomes_a_lot_for_thirty_days(
    book: Book, clock: Clock
) -> None:
    gone = book.grant(10, expires_at=START + timedelta(days=1), paid_nano_usd=NANO)
    charge = book.charge(6)
    clock.set(2026, 3, 12)
    expiry.expire_due()
    entry = book.refund(charge, 4)
    left = book.left()
    fresh = Grant.objects.get(entry=entry)
    assert left == {gone.pk: 0, fresh.pk: 4}
    assert fresh.kind == "refund"
    assert fresh.expires_at == entry.created_at + timedelta(days=30)
    assert fresh.paid_nano_usd == 400_000_000  # 4 of 10 credits of a lot that cost 1 USD
    assert violations() == []


def test_debt_is_repaid_by_the_next_credits(book: Book) -> None:
    ledger.set_credit_limit(account=book.account, limit_nanocredits=20 * NANO, actor="t")
    book.charge(8)
    assert lots.fold(book.account).debt == 8 * NANO
    lot = book.grant(10)
    assert book.left() == {lot.pk: 2}
    assert lots.outstanding(book.account) == (2 * NANO, 0)
    assert violations() == []


def test_an_operator_may_end_a_lot_once(book: Book) -> None:
    lot = book.grant(10)
    expiry.expire_now(account=book.account, grant_id=lot.pk, actor="t", reason="mistake")
    assert book.left() == {lot.pk: 0}
    with pytest.raises(LotNotLive):
        expiry.expire_now(account=book.account, grant_id=lot.pk, actor="t", reason="again")
    with pytest.raises(LotNotLive):
        expiry.expire_now(account=book.account, grant_id=lot.pk + 99, actor="t", reason="none")


def test_deferred_revenue_month_by_month(book: Book, clock: Clock) -> None:
    # 100 credits for 9 USD, 50 for 5 USD until May, 20 as a gift that goes first.
    book.grant(100, paid_nano_usd=9 * NANO)
    book.grant(50, paid_nano_usd=5 * NANO, expires_at=datetime(2026, 5, 1, tzinfo=UTC))
    book.grant(20, priority=1, kind="promotional")
    book.charge(30)  # 20 of the gift, 10 of the second: 1 USD earned
    clock.set(2026, 4, 2)
    charge = book.charge(20)  # 2 USD
    book.refund(charge, 5)  # 0.50 USD owed again
    clock.set(2026, 5, 3)
    expiry.expire_due()  # 25 credits, 2.50 USD
    book.charge(10)  # 0.90 USD
    march, april, may = revenue.deferred()
    assert (march.sold_nano_usd, march.earned_nano_usd) == (14 * NANO, NANO)
    assert (march.promotional_nanocredits, march.closing_nano_usd) == (20 * NANO, 13 * NANO)
    assert (april.earned_nano_usd, april.refunded_nano_usd) == (2 * NANO, NANO // 2)
    assert april.closing_nano_usd == 11_500_000_000
    assert (may.breakage_nano_usd, may.earned_nano_usd) == (2_500_000_000, 900_000_000)
    assert may.closing_nano_usd == 8_100_000_000  # 90 credits at 0.09
    assert march.charged_at_plan_rates_nano_usd == 3 * NANO


def test_kept_days_of_revenue_are_what_their_lines_say(book: Book, clock: Clock) -> None:
    book.grant(100, paid_nano_usd=9 * NANO)
    book.grant(50, paid_nano_usd=5 * NANO, expires_at=datetime(2026, 4, 20, tzinfo=UTC))
    book.grant(20, kind="promotional")
    clock.set(2026, 3, 31, 23, 59)
    charge = book.charge(30)
    clock.set(2026, 4, 1, 0, 30)
    book.refund(charge, 5)
    clock.set(2026, 4, 21)
    expiry.expire_due()
    book.charge(10)
    from_lines = revenue.deferred()
    # Thirty minutes into a day, the day before it may still get a line.
    clock.set(2026, 4, 1, 0, 30)
    assert revenue.keep_due() == 21
    clock.set(2026, 6, 12, 1)
    assert revenue.rebuild() == RevenueDay.objects.count() == 94
    assert revenue.keep_due() == 0
    assert revenue.deferred() == from_lines
    assert revenue.deferred(account_ids=[book.account.pk]) == from_lines
    assert revenue.compare() == []
    book.charge(3)
    today = revenue.deferred()[-1]
    assert (today.month, today.consumed_nanocredits) == ("2026-06", 3 * NANO)
    RevenueDay.objects.filter(day="2026-04-01").update(refunded_nanocredits=7)
    assert revenue.compare() == [f"2026-04-01: refunded_nanocredits is 7, should be {5 * NANO}"]


def test_a_day_is_kept_with_what_was_not_folded_yet(book: Book, clock: Clock) -> None:
    book.grant(10, paid_nano_usd=NANO)
    book.charge(4)
    clock.set(2026, 3, 12)
    assert not Draw.objects.exists()
    assert revenue.keep_due() == 1
    assert RevenueDay.objects.get().consumed_nanocredits == 4 * NANO


actions = st.lists(
    st.tuples(
        st.sampled_from(["grant", "gift", "charge", "refund", "hold", "release", "later", "fold"]),
        st.integers(1, 12),
    ),
    max_size=25,
)


_names = itertools.count()


@pytest.mark.long
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(actions=actions)
def test_when_folds_happen_does_not_matter(
    clock: Clock, db: None, actions: list[tuple[str, int]]
) -> None:
    """The same story gives the same lots, folded after each step or once; I5 always holds."""
    with transaction.atomic():
        often, once = (_lots_after(clock, actions, is_often=flag) for flag in (True, False))
        assert often == once
        transaction.set_rollback(True)


def _lots_after(clock: Clock, actions: list[tuple[str, int]], *, is_often: bool) -> list[int]:
    clock.moment = START
    account = ledger.account_of(factories.team(name=f"t{next(_names)}", plan="", credits_=0))
    ledger.set_credit_limit(account=account, limit_nanocredits=15 * NANO, actor="t")
    story = Story(Book(account), clock)
    for kind, amount in actions:
        getattr(story, kind)(amount)
        if is_often:
            lots.fold(account)
        assert violations() == []
    lots.fold(account)
    assert violations() == []
    remaining = Lot.objects.filter(account=account).order_by("grant__entry_id")
    return list(remaining.values_list("remaining_nanocredits", flat=True))


class Story:
    """One step each; what cannot be done in a state does nothing."""

    def __init__(self, book: Book, clock: Clock) -> None:
        self.book, self.clock = book, clock
        self.charges: list[Entry] = []
        self.held: list[Hold] = []

    def grant(self, amount: int) -> None:
        self.book.grant(amount, paid_nano_usd=amount * 7)

    def gift(self, amount: int) -> None:
        expires_at = self.clock.moment + timedelta(days=amount)
        self.book.grant(amount, priority=1, expires_at=expires_at)

    def charge(self, amount: int) -> None:
        with suppress(Entry.DoesNotExist):  # nothing was there to take
            self.charges.append(self.book.charge(amount))

    def refund(self, amount: int) -> None:
        for charge in self.charges[:1]:
            self.book.refund(charge, -(charge.amount_nanocredits // NANO))
        self.charges = self.charges[1:]

    def hold(self, amount: int) -> None:
        with suppress(InsufficientCredits), transaction.atomic():
            self.held.append(self.book.hold(amount))

    def release(self, amount: int) -> None:
        for held in self.held[:1]:
            ledger.release(held)
        self.held = self.held[1:]

    def later(self, amount: int) -> None:
        self.clock.moment += timedelta(days=amount)
        expiry.expire_due()

    def fold(self, amount: int) -> None:
        lots.fold(self.book.account)
