"""The overview: the same figures as the report, what is wrong, and only for who may see it."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from billing import runway
from billing.models import Pace
from jobs import profit
from saas_litellm import verification
from saas_litellm.base import alarms
from saas_litellm.base.models import LedgerCheck
from saas_litellm.dashboard import figures, health, navigation, periods
from teams import credentials
from teams.models import DeploymentHealth, User
from tests import factories, work
from tests.work import Clock

TODAY = date(2026, 3, 10)
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("pages_served")]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def owner(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("owner", password="x" * 20))
    return client


def page(client: Client, query: str = "") -> str:
    response = client.get(reverse("admin:index") + query)
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.parametrize(
    ("query", "start", "end", "before"),
    [
        ({"period": "today"}, TODAY, date(2026, 3, 11), date(2026, 3, 9)),
        ({"period": "7d"}, date(2026, 3, 4), date(2026, 3, 11), date(2026, 2, 25)),
        ({}, date(2026, 2, 9), date(2026, 3, 11), date(2026, 1, 10)),
        ({"period": "month"}, date(2026, 3, 1), date(2026, 3, 11), date(2026, 2, 1)),
        (
            {"period": "custom", "from": "2026-01-01", "to": "2026-01-01"},
            date(2026, 1, 1),
            date(2026, 1, 2),
            date(2025, 12, 31),
        ),
    ],
)
def test_a_period_and_the_one_before_it(
    query: dict[str, str], start: date, end: date, before: date
) -> None:
    period = periods.of_query(query, today=TODAY)
    assert (period.start, period.end, period.before.start) == (start, end, before)
    assert period.error == ""


def test_a_month_is_compared_with_no_more_days_than_the_month_before_has() -> None:
    period = periods.of_query({"period": "month"}, today=date(2026, 3, 31))
    assert (period.before.start, period.before.end) == (date(2026, 2, 1), date(2026, 3, 1))


def test_a_step_is_done_when_it_was_taken(owner: Client) -> None:
    factories.company(model="openai/gpt-4o-mini")
    shown = page(owner)
    assert shown.count("to do") == 2
    assert "quickstart.html#one-job" in shown
    credentials.save(name="openai", api_key="sk-x", provider="openai", actor="test")
    assert page(owner).count("to do") == 1


def test_a_cancelled_job_is_counted_as_what_it_is_called(owner: Client) -> None:
    company = factories.company()
    for status in ("failed", "cancelled", "completed"):
        work.close(work.job(company.team), status)
    assert "2 failed or cancelled" in page(owner)


@pytest.mark.parametrize(
    "query",
    [
        {"period": "x"},
        {"period": "custom"},
        {"period": "custom", "from": "2026-02-30", "to": "2026-03-01"},
        {"period": "custom", "from": "2026-03-02", "to": "2026-03-01"},
        {"period": "custom", "from": "2020-01-01", "to": "2026-03-01"},
        {"period": "custom", "from": "0001-01-01", "to": "0001-01-02"},
        {"period": "custom", "from": "9999-12-30", "to": "9999-12-31"},
    ],
)
def test_a_period_that_cannot_be_is_the_last_30_days_and_says_so(query: dict[str, str]) -> None:
    period = periods.of_query(query, today=TODAY)
    assert (period.key, period.days) == ("30d", 30)
    assert period.error


def test_the_tiles_say_what_the_report_says(clock: Clock) -> None:
    clock.set(2026, 2, 1)
    alice = factories.company().team
    clock.set(2026, 2, 5)
    work.call(job := work.job(alice), prompt=1000, output=100)
    work.close(job)
    clock.set(2026, 3, 10)
    for _ in range(2):
        work.call(job := work.job(alice), prompt=1000, output=100)
        work.close(job, "failed")
    found = figures.of(periods.of_query({}, today=TODAY))
    assert found.now == profit.report(start=date(2026, 2, 9), end=date(2026, 3, 11)).total
    tiles = {tile.name: tile for tile in found.tiles}
    assert tiles["Provider cost"].exact == "0.026 USD"
    assert tiles["Provider cost"].change == Decimal("100.0")
    assert tiles["Provider cost"].is_good is None
    assert (tiles["Jobs"].value, tiles["Jobs"].note) == ("2", "2 failed or cancelled")
    assert tiles["Active teams"].value == "1"
    assert sum(found.chart.series[1].values) == Decimal("0.026")
    assert [row.name for row in found.rankings[0].rows] == ["alice"]


def test_the_best_and_the_worst_are_shown_and_the_rest_counted() -> None:
    rows = []
    for n in range(13):
        sums = profit.Sums()
        sums.add({"price_nano_usd": n * 10**9, "provider_cost_nano_usd": 6 * 10**9})
        rows.append((f"team-{n:02}", sums))
    report = profit.Report(TODAY, TODAY + timedelta(1), "team", profit.Sums(), rows)
    ranking = figures.ranking("Teams", report)
    assert [row.name for row in ranking.rows][:2] == ["team-12", "team-11"]
    assert ranking.rows[-1].name == "team-00"
    assert ranking.rows[-1].is_loss
    assert ranking.left_out == 3


def test_who_runs_dry_is_named_with_the_days_of_the_runway(clock: Clock) -> None:
    clock.set(2026, 3, 1)
    alice = factories.company(credits_=1).team
    bob = factories.company(name="bob", credits_=9_000).team
    clock.set(2026, 3, 3)
    for team in (alice, bob):
        work.call(job := work.job(team), prompt=5000, output=0)
        work.close(job)
    clock.set(2026, 3, 10)
    assert runway.keep_paces() == 2
    assert runway.keep_paces() == 0
    [row] = health.running_dry()
    exact = runway.of_account(row.account)
    assert (row.name, row.days) == ("alice", f"{exact.days} days")
    # A later day asks anew.
    clock.set(2026, 3, 11)
    assert runway.keep_paces() == 2
    assert set(Pace.objects.values_list("as_of", flat=True)) == {date(2026, 3, 11)}


def test_a_ledger_check_is_kept_and_a_finding_stands_out() -> None:
    states = {finding.name: finding for finding in health.of_money(profit.Sums())}
    assert states["Ledger verified"].state == "warn"
    assert verification.check() == []
    assert LedgerCheck.objects.get().findings == 0
    states = {finding.name: finding for finding in health.of_money(profit.Sums())}
    assert states["Ledger verified"].state == "ok"
    account = work.Account.objects.get(team=factories.company().team)
    work.Account.objects.filter(pk=account.pk).update(balance_nanocredits=5)
    assert verification.check() != []
    states = {finding.name: finding for finding in health.of_money(profit.Sums())}
    assert states["Ledger verified"].state == "bad"
    assert "account" in states["Ledger verified"].hint


def test_the_ledger_is_checked_when_it_is_due_and_by_one_worker(settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    assert verification.is_check_due()
    assert not verification.is_check_due()
    settings.LEDGER_CHECK_HOURS = 0
    assert not verification.is_check_due()


def test_an_open_breaker_and_an_alarm_are_on_the_page(owner: Client) -> None:
    company = factories.company()
    work.call(work.job(company.team))
    later = health.clock.now() + timedelta(minutes=5)
    DeploymentHealth.objects.create(
        deployment=company.alias.deployments.get(), failures=5, open_until=later
    )
    alarms.sound(kind="margin.thin", subject="letters", detail="<b>2 %</b>")
    shown = page(owner)
    assert "open until" in shown
    assert "&lt;b&gt;2 %&lt;/b&gt;" in shown
    assert "From here to your first job" not in shown


def test_an_empty_platform_says_what_to_do_first(owner: Client) -> None:
    shown = page(owner)
    assert "From here to your first job" in shown
    assert shown.count("to do") == 7
    # A plan is always in effect.
    assert "A price: 1 credit a completed job (job_based)" in shown
    assert "No job or call ended in this time." in shown


def test_a_period_that_cannot_be_is_refused_on_the_page(owner: Client) -> None:
    assert "Give both days" in page(owner, "?period=custom&from=<script>&to=")


def test_each_part_is_for_those_who_may_see_what_it_sums(client: Client) -> None:
    factories.company()
    support = User.objects.create_user("support", password="x" * 20, is_staff=True)
    client.force_login(support)
    shown = page(client)
    assert not any(word in shown for word in ("Revenue", "run dry", "Providers", "Alarms"))
    support.user_permissions.add(Permission.objects.get(codename="view_account"))
    shown = page(client)
    assert "run dry" in shown
    assert "Revenue" not in shown


def test_the_overview_asks_as_much_for_many_teams_as_for_one(
    owner: Client, django_assert_max_num_queries: Any
) -> None:
    for n in range(12):
        team = factories.company(name=f"team-{n}", alias=f"alias-{n}").team
        work.call(job := work.job(team, f"type-{n}"), model=f"alias-{n}")
        work.close(job)
    with django_assert_max_num_queries(52):
        page(owner)


def test_every_entry_of_the_side_bar_opens(owner: Client) -> None:
    for _, entries in navigation.GROUPS:
        for name, _, where, _ in entries:
            assert owner.get(navigation.address(where)).status_code == 200, name


def test_a_sign_in_leads_to_the_overview(client: Client) -> None:
    User.objects.create_superuser("owner", password="x" * 20)
    where = reverse("admin:login")
    response = client.post(where, {"username": "owner", "password": "x" * 20})
    assert response["Location"] == "/admin/"
