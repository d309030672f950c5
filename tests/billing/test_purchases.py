"""A purchase that is paid back: its credits go, and come again when the money does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from billing import ledger, lots, revenue
from billing.models import Account, Entry, Grant, Loss, Lot
from billing.refusals import BadAmount
from saas_litellm import verification
from saas_litellm.base.models import Alarm
from saas_litellm.base.money import NANO
from tests import factories
from tests.work import Clock

pytestmark = pytest.mark.django_db


@pytest.fixture
def account() -> Account:
    return ledger.account_of(factories.team(credits_=0))


def buy(account: Account, credits_: int = 100, **more: Any) -> Entry:
    return ledger.grant(
        account=account,
        amount_nanocredits=credits_ * NANO,
        paid_nano_usd=10 * NANO,
        actor="test",
        idempotency_key=f"bought-{Entry.objects.count()}",
        reference="purchase:1",
        **more,
    )


def spend(account: Account, credits_: int) -> None:
    done = ledger.adjust(
        account=account,
        amount_nanocredits=-credits_ * NANO,
        reason="spent",
        actor="test",
        idempotency_key=f"spent-{Entry.objects.count()}",
    )
    assert done.loss is None


def act(bought: Entry, credits_: int) -> dict[str, Any]:
    number = Entry.objects.count() + Loss.objects.count()
    return {
        "bought": bought,
        "amount_nanocredits": credits_ * NANO,
        "reason": "test",
        "actor": "test",
        "idempotency_key": f"purchase:1:{number}",
    }


def left(account: Account) -> dict[int, int]:
    lots.fold(account)
    rows = Lot.objects.filter(account=account, remaining_nanocredits__gt=0)
    return {lot.grant.entry_id: lot.remaining_nanocredits // NANO for lot in rows}


def test_its_own_lot_is_drawn_first(account: Account) -> None:
    first, second = buy(account), buy(account)
    ledger.take_back(**act(second, 60))
    assert left(account) == {first.pk: 100, second.pk: 40}
    sold = revenue.deferred()[0]
    assert (sold.sold_nano_usd, sold.closing_nano_usd) == (14 * NANO, 14 * NANO)
    assert verification.verify() == []


def test_what_was_spent_is_a_loss_and_never_a_debt(account: Account) -> None:
    bought = buy(account)
    spend(account, 70)
    done = ledger.take_back(**act(bought, 100))
    account.refresh_from_db()
    assert account.balance_nanocredits == 0
    assert done.loss is not None
    assert done.loss.amount_nanocredits == 70 * NANO
    assert Alarm.objects.get().kind == "credits.loss"
    assert revenue.deferred()[0].closing_nano_usd == 0
    assert verification.verify() == []


def test_won_back_it_is_worth_and_ruled_as_it_was(account: Account, monkeypatch: Any) -> None:
    clock = Clock(monkeypatch)
    end = clock.moment + timedelta(days=90)
    bought = buy(account, expires_at=end, priority=7)
    ledger.take_back(**act(bought, 100))
    first, second = (ledger.give_back(**act(bought, part)) for part in (30, 70))
    grants = Grant.objects.filter(entry__in=[first, second]).order_by("entry_id")
    assert [grant.paid_nano_usd for grant in grants] == [3 * NANO, 7 * NANO]
    assert {(grant.priority, grant.expires_at) for grant in grants} == {(7, end)}
    assert revenue.deferred()[0].closing_nano_usd == 10 * NANO
    with pytest.raises(BadAmount):
        ledger.give_back(**act(bought, 1))
    assert verification.verify() == []


def test_after_its_end_it_is_good_for_thirty_days(account: Account, monkeypatch: Any) -> None:
    clock = Clock(monkeypatch)
    bought = buy(account, expires_at=clock.moment + timedelta(days=1))
    ledger.take_back(**act(bought, 100))
    clock.tick(40 * 86400)
    entry = ledger.give_back(**act(bought, 100))
    assert entry.grant.expires_at == clock.moment + timedelta(days=30)


def test_a_loss_that_came_back_is_a_negative_line(account: Account) -> None:
    bought = buy(account)
    spend(account, 100)
    ledger.take_back(**act(bought, 100))
    ledger.recover_loss(**act(bought, 100))
    assert sum(Loss.objects.values_list("amount_nanocredits", flat=True)) == 0
    assert verification.verify() == []


def test_a_payment_reference_is_in_a_space_of_its_own() -> None:
    assert ledger.reference_of(" call:1 ") == "topup:call:1"
    assert ledger.reference_of("") == "topup"
    assert ledger.payment_reference(Entry(reference="topup:INV 7")) == "INV 7"
    assert ledger.payment_reference(Entry(reference="payment:7")) == ""
