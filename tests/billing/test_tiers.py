"""Running totals: exact, additive, and never dearer than the hold that was taken for them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.tiers import BadTiers, Package, Tier, Tiers, parse

pytestmark = pytest.mark.any_database

LAST = {"up_to": None, "nanocredits": 5}


def tariff(mode: Any = "graduated", *, step: int = 1, unit: int = 1, included: int = 0) -> Tiers:
    """Up to 10 at 7 with an entry fee of 3; up to 25 at 2; then 5 with a fee of 11."""
    return Tiers(
        mode=mode,
        tiers=(
            Tier(up_to=10, nanocredits=7, flat_nanocredits=3),
            Tier(up_to=25, nanocredits=2),
            Tier(up_to=None, nanocredits=5, flat_nanocredits=11),
        ),
        unit=unit,
        included=included,
        step=step,
    )


@pytest.mark.parametrize(
    ("mode", "quantity", "total"),
    [
        ("graduated", 0, 0),
        ("graduated", 1, 10),  # 3 + 7
        ("graduated", 9, 66),
        ("graduated", 10, 73),
        ("graduated", 11, 75),
        ("graduated", 25, 103),
        ("graduated", 26, 119),  # 103 + 11 + 5
        ("volume", 0, 0),
        ("volume", 10, 73),
        ("volume", 11, 22),
        ("volume", 25, 50),
        ("volume", 26, 141),  # 26 × 5 + 11
    ],
)
def test_totals_by_hand(mode: str, quantity: int, total: int) -> None:
    assert tariff(mode).total(quantity) == total


def test_what_is_included_does_not_count_into_the_tiers() -> None:
    assert [tariff(included=5).total(q) for q in (0, 5, 6, 15, 16)] == [0, 0, 10, 73, 75]


def test_a_total_is_rounded_once_half_to_even_to_the_step() -> None:
    by_ten = tariff(unit=4, step=10)
    # 9 × 7 / 4 + 3 = 18.75 → 20; 1 × 7 / 4 + 3 = 4.75 → 0; a tie at 5 goes to 0.
    assert [by_ten.total(quantity) for quantity in (9, 1)] == [20, 0]


tier_lists = st.lists(
    st.tuples(st.integers(1, 12), st.integers(0, 40), st.integers(0, 60)), min_size=0, max_size=4
)


@st.composite
def tariffs(draw: Any) -> Tiers:
    lower, made = 0, []
    for width, price, fee in draw(tier_lists):
        lower += width
        made.append(Tier(up_to=lower, nanocredits=price, flat_nanocredits=fee))
    made.append(Tier(up_to=None, nanocredits=draw(st.integers(0, 40))))
    return Tiers(
        mode=draw(st.sampled_from(["graduated", "volume"])),
        tiers=tuple(made),
        unit=draw(st.sampled_from([1, 3, 1000])),
        included=draw(st.integers(0, 10)),
        step=draw(st.sampled_from([1, 5])),
    )


@given(tariffs(), st.integers(0, 40), st.integers(0, 25))
def test_the_worst_case_covers_every_step_from_there_on(
    tariff: Tiers, before: int, quantity: int
) -> None:
    worst = tariff.worst(before=before, quantity=quantity)
    dearest = max(
        tariff.total(start + added) - tariff.total(start)
        for start in range(before, before + 90)
        for added in range(quantity + 1)
    )
    assert worst >= dearest
    # Tight: rounding aside it is the dearest step, not some multiple of it.
    assert worst <= max(0, dearest) + 2 * tariff.step


@given(tariffs(), st.lists(st.integers(0, 30), max_size=8))
def test_the_parts_add_up_to_the_whole(tariff: Tiers, parts: list[int]) -> None:
    reached, paid = 0, 0
    for part in parts:
        paid += tariff.total(reached + part) - tariff.total(reached)
        reached += part
    assert paid == tariff.total(sum(parts)) - tariff.total(0)


@given(st.integers(1, 50), st.integers(0, 100), st.integers(0, 200), st.integers(0, 200))
def test_a_package_is_never_dearer_than_its_bound(
    size: int, price: int, before: int, quantity: int
) -> None:
    package = Package(size=size, nanocredits=price)
    step = package.total(before + quantity) - package.total(before)
    assert step <= package.worst(before=before, quantity=quantity)


@pytest.mark.parametrize(
    "stored",
    [
        [],
        "tiers",
        [{"up_to": 10, "nanocredits": 1}],
        [{"up_to": 10, "nanocredits": 1}, {"up_to": 10, "nanocredits": 1}, LAST],
        [{"up_to": 0, "nanocredits": 1}, LAST],
        [LAST, LAST],
        [{"up_to": None, "nanocredits": -1}],
        [{"up_to": None, "nanocredits": 1.5}],
        [{"up_to": None, "nanocredits": True}],
        [{"up_to": "10", "nanocredits": 1}, LAST],
        [{"up_to": None, "nanocredits": 1, "price": 2}],
        [{"up_to": None, "nanocredits": 10**19}],
        ["tier"],
        [LAST] * 51,
    ],
)
def test_tiers_that_are_no_tariff_are_refused(stored: Any) -> None:
    with pytest.raises(BadTiers):
        parse(stored)
