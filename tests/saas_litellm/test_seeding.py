"""The made-up company: its books agree, and its rows are as full as those of real work."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Model

from billing.models import Entry, Hold
from jobs import profit
from jobs.models import Attempt, Call, CostLine, Job, StatusChange
from saas_litellm import verification
from saas_litellm.base import clock
from saas_litellm.seeding import demo, market
from saas_litellm.seeding.market import Size
from teams.models import Team
from tests import factories, work

WORK: tuple[Any, ...] = (Job, Call, Attempt, CostLine, StatusChange, Hold, Entry)


@pytest.fixture
def seeded(db: None, monkeypatch: pytest.MonkeyPatch) -> demo.Seeded:
    sizes = {"small": Size(days=10, teams=16, daily_jobs=0.5, rush=4, has_daily_fee=True)}
    monkeypatch.setattr(market, "SIZES", sizes)
    return demo.seed("small")


def test_the_books_of_the_company_agree(seeded: demo.Seeded) -> None:
    assert seeded.jobs > 100
    assert verification.verify() == []


def test_the_reports_have_something_to_find(seeded: demo.Seeded) -> None:
    today = clock.now().date()
    rows = dict(
        profit.report(start=today - timedelta(days=10), end=today, group_by="job_type").rows
    )
    assert rows["meeting_summary"].margin_nano_usd < 0 < rows["contract_review"].margin_nano_usd
    assert Attempt.objects.exclude(failure="").exists()
    assert Job.objects.filter(refunded_nanocredits__gt=0).count() == 2


def test_a_seeded_row_has_what_a_real_one_has(seeded: demo.Seeded) -> None:
    """A column that the domain has begun to fill is one that the seed must fill too."""
    made = {model: list(model.objects.all()) for model in WORK}
    for plan in ("job_based", "consumption_usd"):
        company = factories.company(name=f"real-{plan[:3]}", plan=plan)
        work.call(job := work.job(company.team), cached=10)
        work.close(job)
    for model, rows in made.items():
        real = model.objects.exclude(pk__in=[row.pk for row in rows])
        assert filled(real) - filled(rows) == set(), model


def test_its_teams_can_go_on_working(seeded: demo.Seeded) -> None:
    team = Team.objects.get(slug="halden-insurance-claims")
    before = work.balance(team)
    work.call(work.job(team, "contract_review"), prompt=1000, model="smart")
    assert work.balance(team) != before


def test_a_database_is_seeded_once(seeded: demo.Seeded) -> None:
    with pytest.raises(CommandError, match="seeded before"):
        call_command("seed_demo", size="small", force=True)
    assert Job.objects.count() == seeded.jobs


def test_a_platform_in_production_is_not_seeded(db: None, settings: Any) -> None:
    settings.DEBUG = False
    with pytest.raises(CommandError, match="--force"):
        call_command("seed_demo")
    assert not Team.objects.exists()


def filled(rows: Iterable[Model]) -> set[str]:
    """The columns in which any of the rows has something."""
    empty = (None, "", 0, False, {})
    found = {
        field.attname
        for row in rows
        for field in row._meta.concrete_fields
        if getattr(row, field.attname) not in empty
    }
    assert found
    return found
