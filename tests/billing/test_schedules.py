"""Credits that come by themselves, balances that run low, and how long they last."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from billing import expiry, ledger, lots, recurring, runway, thresholds
from billing.models import Account, BalanceThreshold, Entry, Lot, RecurringGrant
from saas_litellm.base.models import Alarm
from saas_litellm.base.money import NANO
from saas_litellm.base.refusals import Invalid
from tests import factories, work
from tests.billing.test_ledger import in_threads
from tests.work import Clock


@pytest.fixture
def clock(monkeypatch: Any) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def account(db: None, clock: Clock) -> Account:
    return ledger.account_of(factories.team(credits_=0, plan=""))


def schedule(account: Account, period: str, credits_: int, **more: Any) -> RecurringGrant:
    return recurring.create(
        account=account,
        kind=more.pop("kind", "promotional"),
        period=period,
        amount_nanocredits=credits_ * NANO,
        actor="test",
        **more,
    )


def balance(account: Account) -> int:
    account.refresh_from_db()
    return account.balance_nanocredits // NANO


@pytest.mark.parametrize(
    ("period", "number", "due"),
    [
        ("daily", 3, datetime(2026, 2, 3, tzinfo=UTC)),
        ("weekly", 2, datetime(2026, 2, 14, tzinfo=UTC)),
        ("monthly", 1, datetime(2026, 2, 28, tzinfo=UTC)),
        ("monthly", 2, datetime(2026, 3, 31, tzinfo=UTC)),
        ("monthly", 12, datetime(2027, 1, 31, tzinfo=UTC)),
        ("monthly", 25, datetime(2028, 2, 29, tzinfo=UTC)),
    ],
)
def test_when_a_grant_is_due(period: str, number: int, due: datetime) -> None:
    starts_at = datetime(2026, 1, 31, tzinfo=UTC)
    assert recurring.occurrence_at(starts_at=starts_at, period=period, number=number) == due


def test_a_refill_fills_up_to_its_cap(account: Account, clock: Clock) -> None:
    schedule(account, "daily", 10, cap_nanocredits=25 * NANO)
    filled = []
    for _ in range(4):
        recurring.grant_due()
        assert recurring.grant_due() == 0
        filled.append(balance(account))
        clock.moment += timedelta(days=1)
    assert filled == [10, 20, 25, 25]


def test_months_that_nobody_worked_are_made_up_for(account: Account, clock: Clock) -> None:
    schedule(account, "monthly", 10, kind="subscription", paid_nano_usd=NANO)
    clock.moment += timedelta(days=70)
    assert recurring.grant_due() == 3
    reasons = Entry.objects.order_by("id").values_list("reason", flat=True)
    assert [reason[-10:] for reason in reasons] == ["2026-03-10", "2026-04-10", "2026-05-10"]


def test_a_daily_allowance_that_expires_leaves_one_days_worth(
    account: Account, clock: Clock
) -> None:
    schedule(account, "daily", 10, lot_days=1)
    for _ in range(3):
        recurring.grant_due()
        expiry.expire_due()
        assert balance(account) == 10
        clock.moment += timedelta(days=1)
    lots.fold(account)
    assert Lot.objects.filter(remaining_nanocredits__gt=0).count() == 1


def test_a_stopped_schedule_grants_no_more(account: Account, clock: Clock) -> None:
    made = schedule(account, "daily", 10)
    recurring.stop(schedule=made, actor="test")
    clock.moment += timedelta(days=3)
    assert recurring.grant_due() == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"credits_": 0},
        {"credits_": -1},
        {"credits_": 1, "cap_nanocredits": 0},
        {"credits_": 1, "lot_days": 0},
        {"credits_": 1, "paid_nano_usd": -1},
        {"credits_": 1, "period": "hourly"},
        {"credits_": 1, "kind": "purchase"},
    ],
)
def test_a_schedule_of_nonsense_is_refused(account: Account, wrong: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        schedule(account, **{"period": "daily", **wrong})
    assert not RecurringGrant.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_twelve_workers_grant_an_occurrence_once() -> None:
    account = ledger.account_of(factories.team(credits_=0))
    schedule(account, "daily", 10)
    in_threads(12, lambda _: recurring.grant_due())
    assert balance(account) == 10


def move(account: Account, credits_: int) -> None:
    ledger.adjust(
        account=account,
        amount_nanocredits=credits_ * NANO,
        reason="test",
        actor="test",
        idempotency_key=f"{Entry.objects.count()}-{credits_}",
    )


def test_a_threshold_fires_once_for_each_crossing(account: Account) -> None:
    move(account, 100)
    thresholds.replace(account=account, nanocredits=[50 * NANO, 10 * NANO], actor="test")
    fired = []
    # Down past 50; no further; up and down between two looks; past both at once.
    for moves in ([-60], [-1], [30, -30], [61, -95], []):
        for credits_ in moves:
            move(account, credits_)
        fired.append(thresholds.fire())
    assert fired == [1, 0, 1, 2, 0]
    assert Alarm.objects.filter(kind="credits.low").count() == 2


def test_a_threshold_above_the_balance_waits_for_the_next_crossing(account: Account) -> None:
    move(account, 5)
    thresholds.replace(account=account, nanocredits=[10 * NANO], actor="test")
    move(account, -1)
    assert thresholds.fire() == 0
    move(account, 20)
    move(account, -20)
    assert thresholds.fire() == 1
    kept = BalanceThreshold.objects.get().pk
    thresholds.replace(account=account, nanocredits=[10 * NANO, 2 * NANO], actor="test")
    assert BalanceThreshold.objects.filter(pk=kept).exists()
    thresholds.replace(account=account, nanocredits=[], actor="test")
    assert not BalanceThreshold.objects.exists()


@pytest.mark.parametrize("wrong", [[-1], [1, 1], list(range(11))])
def test_thresholds_of_nonsense_are_refused(account: Account, wrong: list[int]) -> None:
    with pytest.raises(Invalid):
        thresholds.replace(account=account, nanocredits=wrong, actor="test")


TODAY = date(2026, 3, 29)


def ago(days: int) -> date:
    return TODAY - timedelta(days=days)


@pytest.mark.parametrize(
    ("left", "spent", "expected"),
    [
        (100, {}, (None, None, None, 0)),
        (100, {TODAY: 50}, (None, None, None, 0)),
        # 10 a day for 4 days.
        (100, {ago(n): 10 for n in (1, 2, 3, 4)}, ("10.0", "10.0", "10.0", 10)),
        # 280 in 28 days, all of it in the last week: 40 a day at the fastest.
        (100, {ago(28): 0, **{ago(n): 40 for n in range(1, 8)}}, ("10.0", "2.5", None, 10)),
        (0, {ago(1): 10}, ("0.0", "0.0", "0.0", 10)),
        (-5, {ago(1): 10}, ("0.0", "0.0", "0.0", 10)),
    ],
)
def test_runway_by_hand(left: int, spent: dict[date, int], expected: tuple[Any, ...]) -> None:
    found = runway.estimate(left_nanocredits=left, spent=spent, today=TODAY)
    shown = (found.days, found.days_at_fastest, found.days_at_slowest)
    decimals = tuple(value and Decimal(value) for value in expected[:3])
    assert (*shown, found.burn_nanocredits_per_day) == (*decimals, expected[3])


# Eight days, all of it spent in the middle: each of the two weeks is faster than the whole.
@example(100, {ago(8): 0, ago(4): 56})
@given(
    st.integers(0, 10**6),
    st.dictionaries(st.integers(0, 40).map(ago), st.integers(-50, 1000), max_size=30),
)
def test_the_mean_lies_within_the_range(left: int, spent: dict[date, int]) -> None:
    found = runway.estimate(left_nanocredits=left, spent=spent, today=TODAY)
    days = found.days if found.days is not None else Decimal("Infinity")
    fastest = found.days_at_fastest if found.days_at_fastest is not None else Decimal("Infinity")
    slowest = found.days_at_slowest if found.days_at_slowest is not None else Decimal("Infinity")
    assert fastest <= days <= slowest


def test_runway_of_an_account_counts_charges_less_refunds(clock: Clock, db: None) -> None:
    company = factories.company()
    job = work.job(company.team)
    work.call(job, prompt=10_000)  # 1 credit
    clock.moment += timedelta(days=1)
    found = runway.of_account(Account.objects.get())
    assert (found.days, found.basis_days) == (Decimal("99.0"), 1)
