"""A founder's price pages: what a change would do, doing it from a date, and who may."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from billing import plan_specs, plan_teams, plans
from billing.models import PlanAssignment, PlanVersion, PricePlan
from jobs import repricing, shadows, what_if
from jobs.models import Shadow
from saas_litellm.base.models import AuditEntry
from saas_litellm.base.money import NANO, from_nano
from tests import factories, work
from tests.saas_litellm.test_admin import owner
from tests.saas_litellm.test_version_form import done, drafted, fresh
from tests.teams.test_roles import browser, person
from tests.work import Clock

__all__ = ["owner"]
pytestmark = [
    pytest.mark.any_database,
    pytest.mark.django_db,
    pytest.mark.usefixtures("pages_served"),
]


# --- What if -------------------------------------------------------------------------------------


@pytest.fixture
def history(monkeypatch: Any) -> Clock:
    """Three teams' jobs over three days."""
    moved = Clock(monkeypatch)
    moved.set(2026, 3, 6)
    teams = [
        factories.company(name="alice").team,
        factories.company(name="bob", plan="job_based").team,
        factories.company(name="carol").team,
    ]
    for day in (7, 8, 9):
        moved.set(2026, 3, day, 12)
        for number, team in enumerate(teams):
            done(team, f"type-{number % 2}", 1000 * (number + 1), 2000)
            moved.moment += timedelta(seconds=1)
    moved.set(2026, 3, 10, 12)
    return moved


FLAT = {"job_rules": [{"credits": "0.5"}]}
TIERED = {
    "call_rules": [{"kind": "tiered", "tiers": [{"up_to": 9000, "credits": 1}, {"credits": "0.2"}]}]
}


@pytest.mark.parametrize("spec", [FLAT, TIERED], ids=["flat", "tiered"])
def test_what_if_is_what_repricing_says(owner: Client, history: Clock, spec: Any) -> None:
    version = drafted("gold", **spec)
    since = history.moment - timedelta(days=29)
    jobs = list(repricing.reprice(plan=plans.read(version), since=since))
    total, teams, losing = repricing.summarize(jobs)
    page = owner.get(reverse("prices:what_if"), {"version": version.pk, "jobs": "all"})
    found = page.context["found"]
    assert len(jobs) == 9
    assert found.total == total
    assert found.by_team == teams
    assert {job.job_id for job in found.losing} == {job.job_id for job in losing}
    for sums in (found.by_job_type, found.by_day):
        assert sum(one.candidate_nano_usd for one in sums.values()) == total.candidate_nano_usd
        assert sum(one.current_nanocredits for one in sums.values()) == total.current_nanocredits
    assert "every one of that time" in page.content.decode()
    assert reverse("prices:activate", args=["gold", 1]) in page.content.decode()
    listed = owner.get(
        reverse("prices:what_if"), {"version": version.pk, "jobs": "all", "format": "csv"}
    )
    assert len(listed.content.decode().splitlines()) == 10


def test_what_if_asks_those_who_are_on_the_plan(owner: Client, history: Clock) -> None:
    version = drafted("job_based", **FLAT)
    page = owner.get(reverse("prices:what_if"), {"version": version.pk})
    assert list(page.context["found"].by_team) == ["bob"]
    assert page.context["found"].total.current_nanocredits == 3 * NANO
    narrowed = {"version": version.pk, "jobs": "all", "team": "carol", "job_type": "type-0"}
    found = owner.get(reverse("prices:what_if"), narrowed).context["found"]
    assert (list(found.by_team), found.total.jobs) == (["carol"], 3)
    none = owner.get(reverse("prices:what_if"), {**narrowed, "job_type": "nothing"})
    assert "No job of those closed in that time" in none.content.decode()
    wrong = owner.get(reverse("prices:what_if"), {**narrowed, "team": "nobody"})
    assert "There is no such team" in wrong.content.decode()
    backwards = {**narrowed, "start": "2026-03-10", "last": "2026-03-01"}
    assert "From must not be after" in (
        owner.get(reverse("prices:what_if"), backwards).content.decode()
    )


def test_tiers_count_every_type_when_one_is_asked_about(history: Clock) -> None:
    plan = plans.read(drafted("gold", **TIERED))
    since = history.moment - timedelta(days=5)
    everything = list(repricing.reprice(plan=plan, since=since))
    asked = list(repricing.reprice(plan=plan, since=since, job_type="type-0"))
    assert asked == [job for job in everything if job.job_type == "type-0"]


def test_more_than_a_page_can_wait_for_says_which_part_is_in(
    owner: Client, history: Clock, monkeypatch: Any
) -> None:
    flat, tiered = drafted("gold", **FLAT), drafted("tin", **TIERED)
    everything = list(
        repricing.reprice(plan=plans.read(tiered), since=history.moment - timedelta(days=29))
    )
    monkeypatch.setattr(what_if, "MOST_JOBS", 4)
    query = {"version": flat.pk, "jobs": "all"}
    page = owner.get(reverse("prices:what_if"), query)
    # The newest ones.
    assert page.context["found"].total.jobs == 4
    assert not page.context["coverage"].is_whole
    assert "say nothing of the others" in page.content.decode()
    assert f"{page.context['coverage'].since:%H:%M}" == "12:00"
    # With tiers the month is begun from its beginning, and the figures are the same as in whole.
    found = owner.get(reverse("prices:what_if"), {**query, "version": tiered.pk}).context["found"]
    assert list(found.jobs) == everything[:4]


def test_with_tiers_whole_months_that_fit_are_priced(history: Clock, monkeypatch: Any) -> None:
    alice = work.job(plan_teams.on(plans.find("consumption_usd")).first())
    history.set(2026, 4, 2)
    work.call(alice, prompt=1000)
    work.close(alice)
    history.set(2026, 4, 3)
    monkeypatch.setattr(what_if, "MOST_JOBS", 4)
    asked = what_if.Question(
        plan=plans.read(drafted("gold", **TIERED)),
        since=history.moment - timedelta(days=29),
        until=history.moment,
    )
    found = what_if.answer(asked)
    assert (found.total.jobs, found.coverage.is_whole) == (1, False)
    assert f"{found.coverage.since:%Y-%m-%d}" == "2026-04-01"


# --- Activating, assigning, going back -----------------------------------------------------------


def test_a_version_is_activated_from_a_date_once(owner: Client, history: Clock) -> None:
    drafted("job_based", **FLAT)
    path = reverse("prices:activate", args=["job_based", 2])
    page = owner.get(path).content.decode()
    assert "Now: version 1" in page
    assert "It prices new jobs of 1 team" in page
    past = owner.post(path, {"begins": "date", "effective_from": "2026-03-09T12:00"})
    assert "lies in the past" in past.content.decode()
    empty = owner.post(path, {"begins": "date", "effective_from": ""})
    assert "Give the day and the time" in empty.content.decode()
    torn = owner.post(path, {"begins": "now", "effective_from": "2026-03-11T12:00"})
    assert "There is a moment, but now is chosen" in torn.content.decode()
    form = {"begins": "date", "effective_from": "2026-03-11T12:00"}
    for _ in range(2):
        assert owner.post(path, form).status_code == 302
    assert (
        AuditEntry.objects.filter(action="plan.activate", target="plan:job_based v2").count() == 1
    )
    page = owner.get(reverse("prices:plan", args=["job_based"])).content.decode()
    assert re.findall(r'class="state state-\w+">([^<]+)<', page) == ["planned", "active"]
    history.set(2026, 3, 12)
    page = owner.get(reverse("prices:plan", args=["job_based"])).content.decode()
    assert re.findall(r'class="state state-\w+">([^<]+)<', page) == ["active", "past"]


def test_what_the_domain_refuses_is_said(owner: Client) -> None:
    drafted("gold", call_rules=[{"kind": "markup", "job_type": "x"}])
    path = reverse("prices:activate", args=["gold", 1])
    assert "It cannot be activated as it is" in owner.get(path).content.decode()
    page = owner.post(path, {"begins": "now"})
    assert "Some jobs would have no price" in page.content.decode()
    assert PlanVersion.objects.get(plan__slug="gold").fixed_at is None


def test_going_back_is_an_earlier_version_once_more(owner: Client, history: Clock) -> None:
    work.activate(plans.find("job_based"), **FLAT)
    history.moment += timedelta(days=1)
    path = reverse("prices:again", args=["job_based", 1])
    for _ in range(2):
        answer = owner.post(path, {"number": "3"})
        assert answer["Location"] == reverse("prices:activate", args=["job_based", 3])
    owner.post(answer["Location"], {"begins": "now"})
    current = plans.in_effect(plans.find("job_based"))
    assert current is not None
    first = PlanVersion.objects.get(plan__slug="job_based", number=1)
    assert current.number == 3
    assert fresh(plan_specs.spec_of(current)) == fresh(plan_specs.spec_of(first))


def test_teams_are_put_on_a_plan_once(owner: Client, history: Clock) -> None:
    gold = work.plan("gold", **FLAT)
    path = reverse("prices:assign", args=["gold"])
    form = {"teams": "alice, carol", "organizations": "bob-org", "begins": "now"}
    for _ in range(2):
        assert owner.post(path, form).status_code == 302
    assert PlanAssignment.objects.filter(plan=gold).count() == 3
    # Bob has a plan of his own, which wins.
    assert [team.slug for team in plan_teams.on(gold)] == ["alice", "carol"]
    listed = owner.get(reverse("prices:teams", args=["gold"])).content.decode()
    assert "2 teams priced by it now" in listed
    page = owner.post(path, {**form, "teams": "alice nobody"})
    assert "There is no nobody." in page.content.decode()
    page = owner.post(path, {"begins": "now"})
    assert "Name a team or an organization" in page.content.decode()
    later = {"teams": "bob", "begins": "date", "effective_from": "2026-04-01T00:00"}
    owner.post(path, later)
    assert [team.slug for team in plan_teams.on(gold)] == ["alice", "carol"]
    assert plan_teams.on(gold, at=history.moment + timedelta(days=30)).count() == 3


def test_counts_of_teams_are_what_prices_them(history: Clock) -> None:
    factories.team(name="dora", plan="")
    default = plans.find("job_based")
    counted = plan_teams.by_plan()
    assert counted[None] == 1
    assert sorted(team.slug for team in plan_teams.on(default)) == ["bob", "dora"]
    for slug in ("consumption_usd", "job_based"):
        plan = plans.find(slug)
        for team in plan_teams.on(plan):
            assert plans.version_for(team).plan_id == plan.pk


def test_a_plan_is_created_with_its_first_prices(owner: Client) -> None:
    where = reverse("prices:plans")
    made = owner.post(where, {"slug": "gold", "name": "Gold"})
    assert made["Location"] == reverse("prices:new", args=["gold"])
    again = owner.post(where, {"slug": "gold", "name": "Gold"}, follow=True)
    assert "There is a plan gold already" in again.content.decode()
    bad = owner.post(where, {"slug": "Not a slug", "name": ""}, follow=True)
    assert bad.status_code == 200
    assert PricePlan.objects.count() == 1
    page = owner.get(where).content.decode()
    assert "Nothing is active yet" in page
    assert "1 credit per completed job" in page


# --- Shadows -------------------------------------------------------------------------------------


def test_a_shadow_is_started_shown_and_stopped(owner: Client, history: Clock) -> None:
    version = drafted("gold", **FLAT)
    path = reverse("prices:start_shadow", args=["gold", 1])
    for _ in range(2):
        assert owner.post(path, {"team": ""}).status_code == 302
    shadow = Shadow.objects.get()
    empty = owner.get(reverse("prices:shadow", args=[shadow.pk])).content.decode()
    assert "No day is kept yet" in empty
    alice = plan_teams.on(plans.find("consumption_usd")).first()
    for day, prompt in ((10, 1000), (11, 9000)):
        history.set(2026, 3, day, 23)
        done(alice, "letters", prompt)
    history.set(2026, 3, 12)
    shadows.price_due()
    page = owner.get(reverse("prices:shadow", args=[shadow.pk]))
    kept = shadow.days.order_by("day")
    assert page.context["total"].sums.current_nano_usd == sum(day.real_nano_usd for day in kept)
    assert page.context["total"].sums.candidate_nano_usd == 100_000_000
    assert [list(one.values) for one in page.context["chart"].series[:2]] == [
        [from_nano(day.real_nano_usd) for day in kept],
        [Decimal("0.05"), Decimal("0.05")],
    ]
    (by_type,) = page.context["job_types"]
    assert (by_type.name, by_type.sums.candidate_nano_usd) == ("letters", 100_000_000)
    assert "$0.1000" in owner.get(reverse("prices:shadows")).content.decode()
    for _ in range(2):
        owner.post(reverse("prices:shadow", args=[shadow.pk]))
    shadow.refresh_from_db()
    assert shadow.ended_at is not None
    version.refresh_from_db()
    assert version.fixed_at is not None
    assert "no such team" in owner.post(path, {"team": "nobody"}).content.decode()


# --- Who, and how much it asks -------------------------------------------------------------------

LOOK = [
    ("prices:plans", []),
    ("prices:plan", ["gold"]),
    ("prices:teams", ["gold"]),
    ("prices:what_if", []),
    ("prices:shadows", []),
]
WRITE = [
    ("prices:new", ["gold"]),
    ("prices:edit", ["gold", 1]),
    ("prices:activate", ["gold", 1]),
    ("prices:assign", ["gold"]),
    ("prices:start_shadow", ["gold", 1]),
]
POSTED = [("prices:preview", ["gold"]), ("prices:again", ["gold", 1])]


@pytest.mark.parametrize("role", ["owner", "admin", "finance", "support", "viewer"])
def test_finance_writes_and_others_look(role: str) -> None:
    drafted("gold", **FLAT)
    shadow = shadows.start(version=drafted("tin", **FLAT), team=None, actor="test")
    client = browser(person("pat", role))
    may = role in {"owner", "admin", "finance"}
    for name, args in [*LOOK, ("prices:shadow", [shadow.pk])]:
        assert client.get(reverse(name, args=args)).status_code == 200, name
    for name, args in WRITE:
        assert client.get(reverse(name, args=args)).status_code == (200 if may else 403), name
    stopped = client.post(reverse("prices:shadow", args=[shadow.pk]))
    assert stopped.status_code == (302 if may else 403)
    for name, args in [*WRITE, *POSTED]:
        answer = client.post(reverse(name, args=args), {"begins": "now"})
        assert (answer.status_code == 403) == (not may), name
    created = client.post(reverse("prices:plans"), {"slug": "new", "name": ""})
    assert created.status_code == (302 if may else 403)
    acts = "Change its prices" in client.get(reverse("prices:plan", args=["gold"])).content.decode()
    assert acts == may


def test_a_stranger_sees_no_page(client: Client) -> None:
    drafted("gold", **FLAT)
    for name, args in [*LOOK, *WRITE]:
        assert client.get(reverse(name, args=args)).status_code == 302
    for name, args in POSTED:
        assert client.post(reverse(name, args=args)).status_code == 302
    assert PlanVersion.objects.count() == 1


def test_what_is_not_there_is_not_found(owner: Client) -> None:
    for name, args in [("plan", ["nope"]), ("edit", ["nope", 1]), ("shadow", [9])]:
        assert owner.get(reverse(f"prices:{name}", args=args)).status_code == 404


def test_pages_ask_as_much_for_many_rows_as_for_few(
    owner: Client, django_assert_max_num_queries: Any
) -> None:
    alice = factories.company().team
    shared = {"call_rules": [{"kind": "markup"}, {"kind": "markup", "job_type": "x"}]}
    for number in range(12):
        version = plans.activate(version=drafted(f"plan-{number}", **shared), actor="test")
        drafted("gold", **shared)
        shadows.start(version=version, team=None, actor="test")
        factories.team(name=f"team-{number}")
        done(alice, f"type-{number}", 1000, 1000)
    shadows.price_due()
    for address, most in (
        (reverse("prices:plans"), 16),
        (reverse("prices:plan", args=["gold"]), 16),
        (reverse("prices:teams", args=["consumption_usd"]), 12),
        (reverse("prices:new", args=["gold"]), 22),
        (reverse("prices:what_if") + f"?version={version.pk}&jobs=all", 18),
        (reverse("prices:shadows"), 10),
        (reverse("prices:shadow", args=[Shadow.objects.latest("pk").pk]), 16),
    ):
        with django_assert_max_num_queries(most):
            assert owner.get(address).status_code == 200
