"""Stories that a bookkeeper can follow; every figure was worked out by hand.

The model behind `chat` costs 10 USD per million tokens in and 30 out: 100 tokens in are 0.001 USD.
A credit is worth 0.10 USD unless a story says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from billing import minimums, plans
from billing.models import Entry, MonthlyMinimum, UsageCounter
from jobs.models import Call, Job
from saas_litellm import verification
from saas_litellm.base.money import NANO
from teams.models import Team
from tests import factories, work
from tests.work import Clock, balance, paid

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def clock(monkeypatch: Any) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture(autouse=True)
def _books_agree(db: None) -> Iterator[None]:
    yield
    assert verification.verify() == []


def customer(spec: dict[str, Any], *, credits_: int = 1000) -> Team:
    alice = factories.company(credits_=credits_, plan="")
    plans.assign(plan=work.plan("theirs", **spec), team=alice.team, actor="test")
    Team.objects.filter(pk=alice.team.pk).update(created_at="2026-01-01T00:00Z")
    return alice.team


def tiers(*rows: tuple[int | None, str], **more: Any) -> dict[str, Any]:
    """A tiered plan: (up_to, credits per unit)."""
    listed = [{"up_to": up_to, "credits": price} for up_to, price in rows]
    return {"call_rules": [{"kind": "tiered", "tiers": listed, **more}]}


def test_a_flat_price_is_paid_once_whatever_the_job_did(clock: Clock) -> None:
    team = customer({"job_rules": [{"kind": "flat", "credits": 2}]})
    job = work.job(team)
    for _ in range(3):
        assert paid(work.call(job, prompt=5000)) == "0"
    done = work.close(job)
    assert (paid(done), done.price_nano_usd) == ("2", 200_000_000)  # 0.20 USD
    assert done.provider_cost_nano_usd == 150_000_000  # 3 × 0.05 USD
    assert done.margin_nano_usd == 50_000_000
    assert balance(team) == "998"


def test_a_minimum_is_topped_up_and_a_dear_job_pays_its_calls(clock: Clock) -> None:
    team = customer(
        {
            "job_rules": [{"kind": "minimum", "credits": 1}],
            "call_rules": [{"kind": "markup", "markup_percent": 50}],
        }
    )
    cheap = work.job(team)
    # 100 tokens: 0.001 USD × 1.5 × 10 credits.
    assert paid(work.call(cheap, prompt=100)) == "0.015"
    done = work.close(cheap)
    assert (paid(done), done.base_charged_nanocredits) == ("1", 985_000_000)
    dear = work.job(team)
    assert paid(work.call(dear, prompt=10_000)) == "1.5"
    assert paid(work.close(dear)) == "1.5"
    assert balance(team) == "997.5"


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([1], "0.5"),
        ([999], "0.5"),
        ([1000], "0.5"),
        ([1001], "1"),
        ([600, 400], "0.5"),
        ([600, 401], "1"),
        ([600, 400, 1], "1"),
        ([2500, 500, 1], "2"),
    ],
)
def test_a_package_is_paid_when_it_is_started(
    clock: Clock, tokens: list[int], expected: str
) -> None:
    team = customer({"job_rules": [{"kind": "package", "credits": "0.5"}]})
    job = work.job(team)
    for prompt in tokens:
        work.call(job, prompt=prompt)
    assert paid(work.close(job)) == expected


@pytest.mark.parametrize(
    # 1 credit per 1,000 tokens up to 10,000 in the month, then 0.5.
    ("tokens", "expected"),
    [
        ([9999], "9.999"),
        ([10_000], "10"),
        ([10_001], "10.0005"),
        ([9999, 2], "10.0005"),
        ([4000, 4000, 4000], "11"),
    ],
)
def test_graduated_tiers_price_each_part_at_its_own(
    clock: Clock, tokens: list[int], expected: str
) -> None:
    team = customer(tiers((10_000, "1"), (None, "0.5")))
    job = work.job(team)
    for prompt in tokens:
        work.call(job, prompt=prompt)
    assert paid(work.close(job)) == expected


@pytest.mark.parametrize(
    # All at 1 credit per 1,000 up to 10,000; beyond it all of the month at 0.5.
    ("tokens", "expected"),
    [
        ([9999], "9.999"),
        ([10_000], "10"),
        ([10_001], "5.0005"),
        ([10_000, 1], "5.0005"),
        ([8000, 4000], "6"),
    ],
)
def test_volume_tiers_price_the_whole_month_at_the_tier_reached_and_give_back(
    clock: Clock, tokens: list[int], expected: str
) -> None:
    team = customer(tiers((10_000, "1"), (None, "0.5"), mode="volume"))
    job = work.job(team)
    for prompt in tokens:
        work.call(job, prompt=prompt)
    assert paid(work.close(job)) == expected


def test_what_volume_tiers_give_back_is_an_adjustment(clock: Clock) -> None:
    team = customer(tiers((10_000, "1"), (None, "0.5"), mode="volume"))
    job = work.job(team)
    work.call(job, prompt=10_000)
    rebate = work.call(job, prompt=1)
    assert rebate.charged_nanocredits == -4_999_500_000
    kinds = Entry.objects.order_by("id").values_list("kind", "amount_nanocredits")
    assert list(kinds)[1:] == [("charge", -10 * NANO), ("adjustment", 4_999_500_000)]


def test_an_included_allowance_is_free_each_month(clock: Clock) -> None:
    team = customer(tiers((None, "1"), included=5000, minimum_credits="0.25"))
    job = work.job(team)
    assert paid(work.call(job, prompt=5000)) == "0"
    assert paid(work.call(job, prompt=100)) == "0.25"  # 0.1, but at least 0.25
    assert paid(work.call(job, prompt=1000)) == "1"
    clock.set(2026, 3, 31, 23, 59, 59)
    assert paid(work.call(job, prompt=1000)) == "1"
    clock.set(2026, 4, 1)
    assert paid(work.call(job, prompt=5000)) == "0"
    months = UsageCounter.objects.order_by("month").values_list("month__month", "quantity")
    assert list(months) == [(3, 7100), (4, 5000)]


def test_tiers_over_jobs_count_a_job_at_its_first_delivered_call(clock: Clock) -> None:
    team = customer(tiers((2, "1"), (None, "0.25"), metric="jobs"))
    prices = []
    for _ in range(3):
        job = work.job(team)
        work.call(job, delivered=False)
        prices.append([paid(work.call(job)), paid(work.call(job))])
        work.close(job)
    assert prices == [["1", "0"], ["1", "0"], ["0.25", "0"]]


def test_tiers_over_provider_cost_are_a_falling_markup(clock: Clock) -> None:
    # 20 credits per USD of cost up to 1 USD a month, 15 beyond: 50,000 tokens are 0.5 USD.
    team = customer(tiers((1, "20"), (None, "15"), metric="cost"))
    job = work.job(team)
    assert [paid(work.call(job, prompt=p)) for p in (50_000, 100_000, 50_000)] == [
        "10",
        "17.5",
        "7.5",
    ]


def test_a_month_boundary_starts_the_tiers_anew(clock: Clock) -> None:
    team = customer(tiers((1000, "1"), (None, "0.1")))
    clock.set(2026, 3, 31, 23, 59, 59)
    job = work.job(team)
    assert paid(work.call(job, prompt=2000)) == "1.1"
    opened = work.start(job)
    clock.set(2026, 4, 1)
    # Held in March, settled in April: it counts in April.
    assert paid(work.finish(opened, prompt=1000)) == "1"


def test_a_plan_changed_in_mid_month_leaves_old_jobs_as_they_were(clock: Clock) -> None:
    team = customer(tiers((1000, "1"), (None, "0.1")))
    old = work.job(team)
    assert paid(work.call(old, prompt=1000)) == "1"
    clock.set(2026, 3, 16)
    plan = plans.find("theirs")
    work.activate(plan, **tiers((1000, "2"), (None, "0.2")))
    new = work.job(team)
    # The old job goes on under its version and its count; the new one begins the new count.
    assert paid(work.call(old, prompt=1000)) == "0.1"
    assert paid(work.call(new, prompt=1000)) == "2"
    assert paid(work.call(new, prompt=1000)) == "0.2"


def test_a_plan_that_costs_nothing_writes_no_charge(clock: Clock) -> None:
    team = customer({"call_rules": [{"kind": "tokens"}]}, credits_=0)
    job = work.job(team)
    assert paid(work.call(job, prompt=10_000)) == "0"
    assert paid(work.close(job)) == "0"
    assert not Entry.objects.exists()


def test_huge_quantities_stay_exact(clock: Clock) -> None:
    team = customer(tiers((10**9, "1"), (None, "0.000001")), credits_=900_000_000)
    job = work.job(team)
    work.call(job, prompt=10**9)
    # 999,999,999 tokens at a millionth of a credit per 1,000.
    assert paid(work.call(job, prompt=999_999_999)) == "0.999999999"
    assert paid(Job.objects.get()) == "1000000.999999999"


@pytest.mark.parametrize(
    ("outcome", "flat", "metered"),
    [("full", "2", "0.1"), ("partial", "1.2", "0.06"), ("none", "0", "0"), ("", "2", "0.1")],
)
def test_an_outcome_pays_its_share(clock: Clock, outcome: str, flat: str, metered: str) -> None:
    team = customer(
        {
            "partial_share_percent": 60,
            "none_share_percent": 0,
            "job_rules": [{"job_type": "flat", "credits": 2}],
            "call_rules": [{"kind": "markup"}],
        }
    )
    whole, by_call = work.job(team, "flat"), work.job(team)
    # 600 + 400 tokens at cost: 0.06 + 0.04 credits.
    work.call(by_call, prompt=600)
    work.call(by_call, prompt=400)
    assert paid(work.close(whole, outcome=outcome)) == flat
    assert paid(work.close(by_call, outcome=outcome)) == metered


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_failed_jobs_pay_by_their_rules(clock: Clock, status: str) -> None:
    team = customer(
        {
            "job_rules": [
                {"job_type": "kind", "credits": 2},
                {"job_type": "strict", "credits": 2, "failed_jobs": "delivered"},
                {"job_type": "floor", "kind": "minimum", "credits": 1, "failed_jobs": "delivered"},
            ],
            "call_rules": [
                {"kind": "markup"},
                {"kind": "markup", "job_type": "trial", "failed_jobs": "free"},
            ],
        }
    )
    end = {"kind": "0", "strict": "2", "floor": "1", "trial": "0", "other": "0.01"}
    for job_type, expected in end.items():
        job = work.job(team, job_type)
        work.call(job, prompt=100)
        assert (job_type, paid(work.close(job, status))) == (job_type, expected)
        empty = work.job(team, job_type)
        work.call(empty, delivered=False)
        assert (job_type, paid(work.close(empty, status))) == (job_type, "0")
    assert balance(team) == "996.99"


def test_an_operator_who_fails_a_job_gives_everything_back(clock: Clock) -> None:
    team = customer({"call_rules": [{"kind": "markup"}]})
    job = work.job(team)
    work.call(job, prompt=700)
    late = work.start(job)
    done = work.close(job, "cancelled", is_waived=True)
    assert paid(done) == "0"
    assert paid(work.finish(late, prompt=100)) == "0"
    assert balance(team) == "1000"
    assert Job.objects.get().margin_nano_usd == -8_000_000


def test_a_monthly_minimum_is_charged_once_and_by_days_in_the_first_month(clock: Clock) -> None:
    clock.set(2026, 3, 22)
    team = customer({"call_rules": [{"kind": "markup"}], "monthly_minimum_credits": 31})
    work.call(work.job(team), prompt=10_000)  # 1 credit
    clock.set(2026, 4, 1, 0, 30)
    assert minimums.charge_due() == 0  # calls of March may still settle
    clock.set(2026, 4, 1, 1, 30)
    assert minimums.charge_due() == 1
    assert minimums.charge_due() == 0
    # 22 to 31 March: 10 of 31 days, 10 credits, 1 of them spent.
    row = MonthlyMinimum.objects.get()
    assert (row.days, row.minimum_nanocredits, row.charged_nanocredits) == (10, 10 * NANO, 9 * NANO)
    assert balance(team) == "990"
    clock.set(2026, 5, 2)
    minimums.charge_due()
    assert balance(team) == "959"  # all of April's 31


def test_the_most_specific_rule_prices_a_call(clock: Clock) -> None:
    team = customer({"call_rules": [{"kind": "markup"}]})
    factories.serve(team, alias="other", model="demo/other")
    clock.set(2026, 3, 11)
    work.activate(
        plans.find("theirs"),
        call_rules=[
            {"kind": "tokens", "input_credits_per_1k": 1},
            {"kind": "tokens", "alias": "chat", "input_credits_per_1k": 2},
            {"kind": "tokens", "job_type": "vip", "input_credits_per_1k": 3},
            {"kind": "tokens", "job_type": "vip", "alias": "chat", "input_credits_per_1k": 4},
        ],
    )
    prices = {
        (job_type, alias): paid(work.call(work.job(team, job_type), prompt=1000, model=alias))
        for job_type in ("any", "vip")
        for alias in ("other", "chat")
    }
    assert prices == {
        ("any", "other"): "1",
        ("any", "chat"): "2",
        ("vip", "other"): "3",
        ("vip", "chat"): "4",
    }


def test_prices_are_rounded_to_the_rules_step_half_to_even(clock: Clock) -> None:
    team = customer(
        {
            "call_rules": [
                {"kind": "tokens", "input_credits_per_1k": "0.1", "rounding_credits": "0.01"}
            ]
        }
    )
    job = work.job(team)
    # 0.005, 0.015, 0.025 and 0.0251 credits.
    assert [paid(work.call(job, prompt=p)) for p in (50, 150, 250, 251)] == [
        "0",
        "0.02",
        "0.02",
        "0.03",
    ]
    assert Call.objects.count() == 4
