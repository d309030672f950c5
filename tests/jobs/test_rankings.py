"""Reports of many teams, a few rows at a time: the same figures as the whole report has."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from django.test import Client

from jobs import profit, rankings, rollups
from jobs.facts import Filters
from jobs.models import CostDay, CostLine, PlatformDay
from saas_litellm.base.refusals import Invalid
from tests.jobs.test_profit import DOUBLE, customer, done
from tests.teams.test_roles import browser, person
from tests.work import Clock

pytestmark = pytest.mark.django_db
SPAN: dict[str, Any] = {"start": date(2026, 3, 1), "end": date(2026, 4, 1)}


@pytest.fixture(autouse=True)
def clock(monkeypatch: Any) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def teams(clock: Clock) -> list[str]:
    """Five, each with more revenue than the one before; the second worked on a later day too."""
    names = ["ann", "ben", "cleo", "dan", "eve"]
    made = [customer(name, DOUBLE) for name in names]
    for number, team in enumerate(made, start=1):
        done(team, 1000 * number)
    clock.set(2026, 3, 12, 12)
    CostLine.objects.create(
        kind="correction",
        model="m",
        day=date(2026, 3, 11),
        amount_nano_usd=7_000_000,
        created_at=clock.moment,
    )
    rollups.roll_due()
    done(made[1], 10_000)
    return names


@pytest.mark.parametrize("group_by", rankings.GROUPS)
def test_pages_are_the_report_in_pieces(teams: list[str], group_by: str) -> None:
    whole = profit.report(**SPAN, group_by=group_by)
    pieces = []
    for number in (1, 2, 3, 4):
        found, count = rankings.page(
            **SPAN, group_by=group_by, filters=Filters(), number=number, rows=2
        )
        assert (found.total, count) == (whole.total, 6)
        pieces += found.rows
    assert pieces == whole.rows
    assert whole.rows[0][0].startswith("ben")
    assert whole.rows[-1][0] == "(corrections)"


def test_a_page_is_of_what_is_filtered(teams: list[str]) -> None:
    found, count = rankings.page(
        **SPAN, group_by="team", filters=Filters(organization="eve-org"), number=1, rows=9
    )
    assert ([name for name, _ in found.rows], count) == (["eve"], 1)
    assert found.total == found.rows[0][1]


def test_the_ends_are_the_best_and_the_worst_by_margin(teams: list[str]) -> None:
    whole = dict(profit.report(**SPAN, group_by="team").rows)
    found = rankings.ends(**SPAN, group_by="team", rows=1)
    assert dict(found.report.rows) == {name: whole[name] for name in ("ben", "(corrections)")}
    assert (found.left_out, found.active) == (4, 5)
    assert rankings.ends(**SPAN, group_by="team", rows=3).left_out == 0


def test_who_was_active_is_counted_in_kept_days_and_in_open_ones(teams: list[str]) -> None:
    for first, last, active in ((1, 31, 5), (12, 12, 1), (10, 11, 5), (20, 31, 0)):
        days = {"start": date(2026, 3, first), "end": date(2026, 3, last) + timedelta(days=1)}
        assert rankings.active(**days, group_by="team") == active


def test_a_period_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(Invalid):
        rankings.ends(start=SPAN["end"], end=SPAN["start"], group_by="team", rows=1)


@pytest.mark.parametrize("model", [PlatformDay, CostDay])
def test_tampering_with_what_is_kept_of_all_teams_is_found(teams: list[str], model: Any) -> None:
    assert rollups.compare() == []
    model.objects.filter(provider_cost_nano_usd__gt=0).update(provider_cost_nano_usd=1)
    assert rollups.compare()
    rollups.rebuild()
    assert rollups.compare() == []


def test_the_profit_page_shows_a_hundred_rows_and_its_csv_all(
    teams: list[str], pages_served: None, monkeypatch: Any
) -> None:
    for module in ("profit", "tables"):
        monkeypatch.setattr(f"jobs.admin.{module}.ROWS", 2)
    vera: Client = browser(person("vera", "viewer"))
    asked = "/admin/jobs/profitday/?start=2026-03-01&end=2026-04-01&group_by=team"
    shown = [vera.get(f"{asked}&page={number}") for number in (1, 3)]
    assert [len(page.context["rows"]) for page in shown] == [3, 3]  # two, and the total
    assert [page.context["rows"][-1][1:] for page in shown] == [
        shown[0].context["rows"][-1][1:]
    ] * 2
    assert "Page 3 of 3" in shown[1].content.decode()
    assert "group_by=team&amp;page=2" in shown[0].content.decode()
    for group_by, rows in (("team", 6), ("job_type", 2)):
        lines = vera.get(f"{asked}&group_by={group_by}&format=csv").content.decode().splitlines()
        assert len(lines) == 1 + rows + 1
