"""The ledger under story, under race and under random interleavings."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing import ledger, plans
from billing.models import Account, Entry, Hold
from billing.refusals import BadAmount, IdempotencyKeyReused, InsufficientCredits
from saas_litellm import verification
from saas_litellm.base.money import NANO
from tests import factories


def bill(reference: str, price: int, room: int | None = None) -> ledger.Bill:
    version = plans.ensure_preset("consumption_usd")
    return ledger.Bill(
        price_nanocredits=price,
        nanocredits_per_usd=version.nanocredits_per_usd,
        plan_version_id=version.pk,
        reference=reference,
        reason="work",
        actor="test",
        labels={},
        caps={} if room is None else {"job_cap": room},
    )


def held(account: Account, amount: int, reference: str) -> Hold:
    with transaction.atomic():
        made = ledger.hold(
            account_id=account.pk, amount_nanocredits=amount, reference=reference, expires_at=None
        )
    assert made is not None
    return made


def settle(
    account: Account, hold: Hold | None, price: int, reference: str, room: int | None = None
) -> ledger.Charge:
    with transaction.atomic():
        return ledger.settle(account_id=account.pk, held=hold, bill=bill(reference, price, room))


@pytest.fixture
def account(db: None) -> Account:
    return ledger.account_of(factories.team(credits_=10))


def test_a_wallet_told_as_a_bookkeeper_would(account: Account) -> None:
    first = held(account, 4 * NANO, "a")
    charge = settle(account, first, 3 * NANO, "a")
    assert (charge.charged_nanocredits, charge.overrun_nanocredits) == (3 * NANO, 0)
    assert charge.price_nano_usd == 300_000_000  # 3 credits at 0.10 USD
    second = held(account, 5 * NANO, "b")
    ledger.release(second)
    account.refresh_from_db()
    assert (account.balance_nanocredits, account.held_nanocredits) == (7 * NANO, 0)
    lines = Entry.objects.order_by("id").values_list(
        "amount_nanocredits", "balance_after_nanocredits"
    )
    assert list(lines) == [(10 * NANO, 10 * NANO), (-3 * NANO, 7 * NANO)]


def test_a_price_above_the_hold_takes_what_is_there_and_books_the_rest_as_overrun(
    account: Account,
) -> None:
    hold = held(account, 4 * NANO, "a")
    charge = settle(account, hold, 13 * NANO, "a")
    assert (charge.charged_nanocredits, charge.overrun_nanocredits) == (10 * NANO, 3 * NANO)
    assert charge.balance_nanocredits == 0


def test_a_cap_bounds_what_is_taken_beyond_the_hold(account: Account) -> None:
    hold = held(account, 4 * NANO, "a")
    charge = settle(account, hold, 9 * NANO, "a", room=NANO)
    assert (charge.charged_nanocredits, charge.overrun_nanocredits) == (5 * NANO, 4 * NANO)


def test_a_hold_beyond_the_wallet_is_refused_with_the_figures(account: Account) -> None:
    with pytest.raises(InsufficientCredits) as refused, transaction.atomic():
        ledger.hold(
            account_id=account.pk, amount_nanocredits=10 * NANO + 1, reference="x", expires_at=None
        )
    assert str(refused.value.figures["credits_needed"]) == "10.000000001"
    assert Hold.objects.count() == 0


def test_a_hold_closes_once(account: Account) -> None:
    hold = held(account, NANO, "a")
    settle(account, hold, NANO, "a")
    with pytest.raises(ledger.HoldAlreadyClosed), transaction.atomic():
        ledger.release(hold)
    account.refresh_from_db()
    assert account.balance_nanocredits == 9 * NANO


def test_the_same_grant_again_adds_nothing_and_another_under_its_key_is_refused(
    account: Account,
) -> None:
    again: dict[str, Any] = {"account": account, "actor": "test", "idempotency_key": "k"}
    first = ledger.grant(amount_nanocredits=NANO, **again)
    assert ledger.grant(amount_nanocredits=NANO, **again) == first
    with pytest.raises(IdempotencyKeyReused):
        ledger.grant(amount_nanocredits=2 * NANO, **again)
    account.refresh_from_db()
    assert account.balance_nanocredits == 11 * NANO


@pytest.mark.parametrize("amount", [0, -1, 4 * 10**18 + 1])
def test_a_grant_of_no_amount_or_an_absurd_one_is_refused(account: Account, amount: int) -> None:
    with pytest.raises(BadAmount):
        ledger.grant(account=account, amount_nanocredits=amount, actor="t", idempotency_key="k")


def test_entries_cannot_be_changed_by_any_way_in(account: Account) -> None:
    entry = Entry.objects.get()
    with pytest.raises(TypeError):
        entry.save()
    with pytest.raises(TypeError):
        Entry.objects.update(amount_nanocredits=1)
    with pytest.raises(TypeError):
        entry.delete()
    refused = pytest.raises(Exception, match="append-only")
    with refused, transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE billing_entry SET amount_nanocredits = 1")


def test_the_database_itself_refuses_a_wallet_that_holds_more_than_it_has(account: Account) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Account.objects.filter(pk=account.pk).update(held_nanocredits=11 * NANO)


def in_threads(count: int, work: Callable[[int], Any]) -> list[Any]:
    results: list[Any] = [None] * count
    gate = threading.Barrier(count)

    def run(number: int) -> None:
        gate.wait()
        try:
            results[number] = work(number)
        except Exception as error:
            results[number] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.django_db(transaction=True)
def test_forty_holds_at_once_on_credits_for_ten() -> None:
    account = ledger.account_of(factories.team(credits_=10))
    results = in_threads(40, lambda number: held(account, NANO, f"h{number}"))
    assert sum(isinstance(result, Hold) for result in results) == 10
    assert sum(isinstance(result, InsufficientCredits) for result in results) == 30
    account.refresh_from_db()
    assert account.held_nanocredits == 10 * NANO


@pytest.mark.django_db(transaction=True)
def test_twelve_settlements_of_one_hold_charge_once() -> None:
    account = ledger.account_of(factories.team(credits_=10))
    hold = held(account, NANO, "h")
    plans.ensure_preset("consumption_usd")
    results = in_threads(12, lambda _: settle(account, hold, NANO, "h"))
    assert sum(isinstance(result, ledger.Charge) for result in results) == 1
    account.refresh_from_db()
    assert (account.balance_nanocredits, account.held_nanocredits) == (9 * NANO, 0)


@pytest.mark.django_db(transaction=True)
def test_the_same_top_up_twelve_times_at_once_adds_once() -> None:
    account = ledger.account_of(factories.team(credits_=0))
    in_threads(
        12,
        lambda _: ledger.grant(
            account=account, amount_nanocredits=NANO, actor="t", idempotency_key="k"
        ),
    )
    account.refresh_from_db()
    assert account.balance_nanocredits == NANO


steps = st.lists(
    st.tuples(st.sampled_from(["hold", "settle", "release", "grant"]), st.integers(0, 5 * NANO)),
    max_size=25,
)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=steps, seed=st.integers(0, 2**16), room=st.none() | st.integers(0, NANO))
def test_after_any_sequence_the_books_agree(
    db: None, steps: list[tuple[str, int]], seed: int, room: int | None
) -> None:
    choose = random.Random(seed)
    with transaction.atomic():
        account = ledger.account_of(factories.team(name=f"t{choose.getrandbits(60)}", credits_=3))
        granted, taken, opened = 3 * NANO, 0, []
        for number, (kind, amount) in enumerate(steps):
            reference = f"{account.pk}-{number}"
            if kind == "grant" and amount:
                factories.top_up(account.team, amount)  # type: ignore[arg-type]
                granted += amount
            elif kind == "hold" and amount:
                try:
                    opened.append(held(account, amount, reference))
                except InsufficientCredits:
                    continue
            elif opened and kind == "release":
                ledger.release(opened.pop(choose.randrange(len(opened))))
            elif opened and kind == "settle":
                hold = opened.pop(choose.randrange(len(opened)))
                taken += settle(account, hold, amount, reference, room).charged_nanocredits
        account.refresh_from_db()
        assert account.balance_nanocredits == granted - taken >= 0
        assert account.held_nanocredits == sum(hold.amount_nanocredits for hold in opened)
        assert account.available_nanocredits >= 0
        books = [v for v in verification.verify() if v.invariant in {"I1", "I2", "I3"}]
        assert books == []
        transaction.set_rollback(True)
