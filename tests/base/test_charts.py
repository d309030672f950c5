from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest
from django.template.loader import render_to_string
from hypothesis import given
from hypothesis import strategies as st

from saas_litellm.base.charts import Chart, Series, full, in_cells, scale, short

pytestmark = pytest.mark.any_database

AMOUNTS = st.decimals(min_value=-(10**9), max_value=10**9, places=9)


@given(AMOUNTS, AMOUNTS)
def test_a_scale_holds_its_values_and_zero_in_even_steps(one: Decimal, two: Decimal) -> None:
    low, high = min(one, two, Decimal(0)), max(one, two, Decimal(0))
    marks = scale(low, high)
    assert marks[0] <= low
    assert marks[-1] >= high
    assert 0 in marks
    assert 2 <= len(marks) <= 8
    assert len({later - earlier for earlier, later in pairwise(marks)}) == 1


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (1200, "1.2k"), (-2_500_000, "-2.5M"), (Decimal("0.002"), "0.002"), (999, "999")],
)
def test_an_axis_is_short(value: Decimal, shown: str) -> None:
    assert short(value) == shown


def test_a_table_shows_each_digit() -> None:
    assert full(Decimal("1234567.000000001")) == "1,234,567.000000001"
    assert full(Decimal("10.5000")) == "10.5"
    assert full(None) == "–"


def test_bars_begin_where_zero_lies() -> None:
    up, down = in_cells([30, -10])
    assert (up.x, up.width, up.is_negative) == ("25.000%", "75.000%", False)
    assert (down.x, down.width, down.is_negative) == ("0.000%", "25.000%", True)
    assert in_cells([0])[0].width == "0.000%"


def test_a_chart_has_axes_a_value_for_each_slot_and_a_table() -> None:
    chart = Chart(
        title="Revenue and cost",
        unit="USD",
        labels=[f"day {n}" for n in range(10)],
        series=[
            Series(name="revenue", values=range(10), kind="bar"),
            Series(name="margin", values=[-1, None, *range(8)]),
        ],
    )
    assert [tick.text for tick in chart.ticks] == ["-2.5", "0", "2.5", "5", "7.5", "10"]
    assert len(chart.bars) == 9
    assert len(chart.dots) == 9
    # A gap is not drawn over.
    assert len(chart.segments) == 7
    page = render_to_string("charts/chart.html", {"chart": chart})
    assert "margin: -1 USD" in page
    assert page.count('<th scope="row">') == 10
    assert "style=" not in page


@pytest.mark.parametrize(
    ("labels", "narrow", "wide"),
    [
        (["contract_review", "letters"], ["contract_review", "letters"], None),
        (
            ["a_long_job_type", "b", "c", "d", "a_job_type_longer_than_24_signs"],
            ["a_long_jo…", "", "c", "", "a_job_typ…"],
            ["a_long_job_type", "b", "c", "d", "a_job_type_longer_than_…"],
        ),
    ],
)
def test_labels_are_as_many_and_as_long_as_there_is_room_for(
    labels: list[str], narrow: list[str], wide: list[str] | None
) -> None:
    chart = Chart(
        title="t", unit="USD", labels=labels, series=[Series(name="x", values=[1] * len(labels))]
    )
    assert [slot.narrow_label for slot in chart.slots] == narrow
    assert [slot.wide_label for slot in chart.slots] == (wide or labels)
    assert [slot.label for slot in chart.slots] == labels


def test_an_empty_chart_says_so() -> None:
    chart = Chart(title="t", unit="USD", labels=["a"], series=[Series(name="x", values=[0])])
    assert "Nothing in this time" in render_to_string("charts/chart.html", {"chart": chart})
