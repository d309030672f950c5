"""A founder's price pages: nothing is lost in the form, and what it shows is what is charged."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.http import QueryDict
from django.test import Client
from django.urls import reverse
from hypothesis import given, settings
from hypothesis import strategies as st

from billing import candidates, plan_specs, plan_teams, plan_words, plans, revisions
from billing.models import PlanAssignment, PlanVersion, PricePlan
from billing.plan_specs import VersionSpec
from billing.refusals import PlanNotReady
from jobs import repricing, samples, shadows, what_if
from jobs.models import Shadow
from saas_litellm.base.models import AuditEntry
from saas_litellm.base.money import NANO, from_nano
from saas_litellm.plan_pages import preview
from saas_litellm.plan_pages.version_form import VersionForm, grown
from tests import factories, work
from tests.saas_litellm.test_admin import owner
from tests.teams.test_roles import browser, person
from tests.work import Clock

__all__ = ["owner"]
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("pages_served")]

# Each kind of rule with everything it can say.
EVERYTHING: dict[str, Any] = {
    "credits_per_usd": "12.5",
    "partial_share_percent": "62.5",
    "none_share_percent": 0,
    "monthly_minimum_credits": 30,
    "margin_floor_percent": 20,
    "job_rules": [
        {
            "job_type": "review",
            "credits": 3,
            "max_provider_cost_usd": "0.5",
            "failed_jobs": "delivered",
            "rounding_credits": "0.01",
            "margin_floor_percent": "12.34",
            "floor_refuses": True,
        },
        {"job_type": "pack", "kind": "package", "credits": "0.1", "package_tokens": 700},
        {"job_type": "least", "kind": "minimum", "credits": 0, "failed_jobs": "free"},
    ],
    "call_rules": [
        {
            "kind": "markup",
            "markup_percent": "33.33",
            "minimum_credits": "0.01",
            "cache_hit_percent": 10,
            "clamp_output": True,
            "failed_jobs": "free",
        },
        {
            "job_type": "talk",
            "alias": "chat",
            "kind": "tokens",
            "input_credits_per_1k": "0.07",
            "cached_credits_per_1k": "0.000000001",
            "output_credits_per_1k": 1,
            "unit_credits": 0,
        },
        {
            "job_type": "bulk",
            "kind": "tiered",
            "metric": "cost",
            "mode": "volume",
            "included": "0.25",
            "tiers": [
                {"up_to": "1.5", "credits": 20, "flat_credits": 2},
                {"up_to": 3, "credits": 0},
                {"credits": "0.5"},
            ],
        },
        {"alias": "chat", "kind": "tiered", "metric": "jobs", "tiers": [{"credits": 1}]},
    ],
}

amounts = st.integers(0, 10**12).map(from_nano)
positive = st.integers(1, 10**12).map(from_nano)
percents = st.integers(0, 10_000).map(lambda points: Decimal(points) / 100)
failed = st.sampled_from([None, "free", "delivered"])
shared = {
    "rounding_credits": positive,
    "margin_floor_percent": st.none() | percents,
    "floor_refuses": st.booleans(),
    "failed_jobs": failed,
}
job_rules = st.fixed_dictionaries(
    {"job_type": st.sampled_from(["", "a", "b", "c d"]), "credits": amounts},
    optional={
        "kind": st.sampled_from(["flat", "minimum", "package"]),
        "package_tokens": st.integers(1, 10**9),
        "max_provider_cost_usd": positive,
        **shared,
    },
)
tiers = st.builds(
    lambda bounds, prices: [
        {"up_to": Decimal(bound) if bound else None, "credits": price, "flat_credits": flat}
        for bound, (price, flat) in zip([*sorted(bounds), None], prices, strict=False)
    ],
    st.sets(st.integers(1, 10**6), min_size=2, max_size=2),
    st.lists(st.tuples(amounts, amounts), min_size=3, max_size=3),
)
call_rules = st.fixed_dictionaries(
    {
        "job_type": st.sampled_from(["", "a", "b"]),
        "alias": st.sampled_from(["", "chat"]),
        "kind": st.sampled_from(["markup", "tokens", "tiered"]),
        "tiers": tiers,
    },
    optional={
        "markup_percent": percents,
        "input_credits_per_1k": amounts,
        "cached_credits_per_1k": amounts,
        "output_credits_per_1k": amounts,
        "unit_credits": st.none() | amounts,
        "metric": st.sampled_from(["jobs", "tokens", "cost"]),
        "mode": st.sampled_from(["graduated", "volume"]),
        "included": st.integers(0, 10**6).map(Decimal),
        "minimum_credits": amounts,
        "cache_hit_percent": percents,
        "clamp_output": st.booleans(),
        **shared,
    },
)
specs = st.fixed_dictionaries(
    {},
    optional={
        "credits_per_usd": positive,
        "partial_share_percent": percents,
        "none_share_percent": percents,
        "monthly_minimum_credits": amounts,
        "margin_floor_percent": st.none() | percents,
        "job_rules": st.lists(job_rules, max_size=4, unique_by=lambda rule: rule["job_type"]),
        "call_rules": st.lists(
            call_rules, max_size=4, unique_by=lambda rule: (rule["job_type"], rule["alias"])
        ),
    },
)


def sent_of(html: str) -> dict[str, Any]:
    """What a browser would send of these fields."""
    sent = {}
    for tag in re.findall(r"<input[^>]*>", html):
        name, value = re.search(r'name="([^"]*)"', tag), re.search(r'value="([^"]*)"', tag)
        if name and ('type="checkbox"' not in tag or " checked" in tag):
            sent[name[1]] = value[1] if value else ("on" if "checkbox" in tag else "")
    for name, options in re.findall(
        r'<select name="([^"]*)".*?>(.*?)</select>', html, flags=re.DOTALL
    ):
        chosen = re.search(r'value="([^"]*)" selected', options)
        first = re.search(r'value="([^"]*)"', options)
        sent[name] = chosen[1] if chosen else (first[1] if first else "")
    return sent


def sent(form: VersionForm) -> QueryDict:
    """What a browser would send of this form, untouched."""
    html = "".join(str(field) for field in [*form.visible, *form.hidden])
    for rows in (form.job_rules, form.call_rules):
        html += str(rows.management_form)
        for row in rows.forms:
            html += "".join(str(field) for field in row)
            for tiers_ in [row.tiers] if hasattr(row, "tiers") else []:
                html += str(tiers_.management_form)
                html += "".join(str(field) for tier in tiers_.forms for field in tier)
    query = QueryDict(mutable=True)
    query.update(sent_of(html))
    return query


def drafted(slug: str, **spec: Any) -> PlanVersion:
    plan = PricePlan.objects.filter(slug=slug).first() or plan_specs.create_plan(
        slug=slug, name=slug, actor="test"
    )
    return plan_specs.draft(plan=plan, spec=VersionSpec(**spec), actor="test")


def fresh(spec: Any) -> dict[str, Any]:
    return plan_specs.exact(VersionSpec.model_validate(spec) if isinstance(spec, dict) else spec)


# --- The form ------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(spec=specs)
def test_a_spec_survives_the_form_untouched(spec: dict[str, Any]) -> None:
    form = VersionForm(sent(VersionForm(spec=VersionSpec(**spec))))
    again = form.spec()
    assert again is not None, (form.errors, form.job_rules.errors, form.call_rules.errors)
    assert fresh(again) == fresh(spec)


def test_every_rule_survives_opening_and_saving_a_draft(owner: Client) -> None:
    factories.company()
    version = drafted("gold", **EVERYTHING)
    before = fresh(plan_specs.spec_of(version))
    assert before == fresh(EVERYTHING)
    path = reverse("prices:edit", args=["gold", 1])
    page = owner.get(path)
    form = {**sent(page.context["form"]).dict(), "credits_per_usd": "13"}
    assert owner.post(path, form).status_code == 302
    version.refresh_from_db()
    assert fresh(plan_specs.spec_of(version)) == {**before, "credits_per_usd": Decimal(13)}
    entry = AuditEntry.objects.get(action="plan.revise")
    assert (entry.before, entry.after) == (
        {"credits_per_usd": "12.5"},
        {"credits_per_usd": "13"},
    )
    # The page that was open says what it changed; saving it again changes nothing, nor writes.
    assert owner.post(path, form).status_code == 302
    assert AuditEntry.objects.filter(action="plan.revise").count() == 1
    # But the same page cannot undo what it never saw.
    late = owner.post(path, {**form, "credits_per_usd": "14"})
    assert "Somebody else changed gold v1 meanwhile" in late.content.decode()


def test_a_new_version_copies_another_and_is_saved_once(owner: Client) -> None:
    factories.company()
    first = plans.activate(version=drafted("gold", **EVERYTHING), actor="test")
    path = reverse("prices:new", args=["gold"])
    form = sent(owner.get(f"{path}?from=1").context["form"]).dict()
    for _ in range(2):
        assert owner.post(path, form)["Location"] == reverse("prices:plan", args=["gold"])
    second = PlanVersion.objects.get(plan=first.plan, number=2)
    assert fresh(plan_specs.spec_of(second)) == fresh(plan_specs.spec_of(first))
    assert second.fixed_at is None
    other = owner.post(path, {**form, "credits_per_usd": "99"})
    assert "Somebody else drafted gold v2 meanwhile" in other.content.decode()
    gone = owner.get(reverse("prices:edit", args=["gold", 1]), follow=True)
    assert "no draft any more" in gone.content.decode()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"job-0-credits": "2,5"}, "Give a number, like 1250.5."),
        ({"job-0-credits": "nan"}, "Give a number, like 1250.5."),
        ({"job-0-credits": "0.0000000001"}, "At most 9 decimal places."),
        ({"job-0-credits": ""}, "Fill this in."),
        ({"job-0-credits": "-1"}, "It must be at least 0."),
        ({"credits_per_usd": "0"}, "It must be more than 0."),
        ({"partial_share_percent": "101"}, "It must be at most 100."),
        ({"job-0-kind": ""}, "Say how they are charged"),
        ({"call-0-kind": "tiered"}, "Give 1 to 50 tiers."),
        (
            {"call-0-kind": "tiered", "call-0-tiers-0-credits": "x"},
            "Give a number, like 1250.5.",
        ),
        (
            {
                "call-0-kind": "tiered",
                "call-0-tiers-0-credits": "1",
                "call-0-tiers-0-up_to": "2.5",
                "call-0-tiers-1-credits": "1",
            },
            "2.5 tokens is not a whole number",
        ),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_saved(
    owner: Client, changes: dict[str, str], said: str
) -> None:
    plans.find("job_based")
    path = reverse("prices:new", args=["job_based"])
    form = sent(owner.get(path).context["form"]).dict()
    page = owner.post(path, {**form, **changes})
    assert page.status_code == 200
    assert said in page.content.decode()
    assert "Not saved" in page.content.decode()
    assert PlanVersion.objects.count() == 1


def test_rules_for_the_same_jobs_are_marked(owner: Client) -> None:
    plans.find("job_based")
    path = reverse("prices:new", args=["job_based"])
    form = sent(owner.get(path).context["form"]).dict()
    page = owner.post(path, {**form, "job-1-kind": "flat", "job-1-credits": "2"})
    assert "Another rule is for the same jobs" in str(
        page.context["form"].job_rules.forms[1].non_field_errors()
    )


def test_more_rows_without_a_script(owner: Client) -> None:
    plans.find("job_based")
    path = reverse("prices:new", args=["job_based"])
    form = sent(owner.get(path).context["form"])
    page = owner.post(path, {**form.dict(), "more": "1"})
    rows = page.context["form"]
    assert (len(rows.job_rules.forms), len(rows.call_rules.forms)) == (3, 2)
    assert [len(row.tiers.forms) for row in rows.call_rules.forms] == [4, 2]
    assert PlanVersion.objects.count() == 1
    hostile = QueryDict("call-TOTAL_FORMS=99999999999&job-TOTAL_FORMS=x")
    assert grown(hostile)["call-TOTAL_FORMS"] == "201"


def test_a_row_that_is_removed_is_no_rule(owner: Client) -> None:
    factories.company()
    drafted("gold", **EVERYTHING)
    path = reverse("prices:edit", args=["gold", 1])
    form = sent(owner.get(path).context["form"]).dict()
    owner.post(path, {**form, "job-1-DELETE": "on", "call-0-DELETE": "on"})
    version = PlanVersion.objects.get(plan__slug="gold")
    assert [rule.job_type for rule in version.job_rules.order_by("id")] == ["review", "least"]
    assert version.call_rules.count() == 3


# --- Prices while typing -------------------------------------------------------------------------


def done(team: Any, job_type: str, *prompts: int) -> Any:
    job = work.job(team, job_type)
    for prompt in prompts:
        work.call(job, prompt=prompt, output=100, cached=prompt // 10)
    return work.close(job)


@pytest.mark.parametrize(
    "spec",
    [
        {"job_rules": [{"credits": "2.5"}]},
        {"call_rules": [{"kind": "markup", "markup_percent": 40, "rounding_credits": "0.01"}]},
        {"job_rules": [{"kind": "package", "credits": "0.1", "package_tokens": 700}]},
        {
            "job_rules": [{"kind": "minimum", "credits": "0.9"}],
            "call_rules": [
                {"kind": "tokens", "input_credits_per_1k": "0.07", "output_credits_per_1k": 2}
            ],
        },
        {
            "call_rules": [
                {"kind": "tiered", "tiers": [{"up_to": 3000, "credits": 1}, {"credits": "0.33"}]}
            ]
        },
        {"call_rules": [{"kind": "tiered", "metric": "jobs", "tiers": [{"credits": 2}]}]},
    ],
)
def test_a_sample_costs_what_the_same_job_then_costs(spec: dict[str, Any]) -> None:
    alice = factories.company()
    prompts = (1200, 4100, 700)
    done(alice.team, "letters", *prompts)
    plan = candidates.plan_of(VersionSpec(**spec))
    (sample,) = samples.typical()
    bob = factories.company(name="bob", alias="chat", plan="")
    plans.assign(plan=work.plan("gold", **spec), team=bob.team, actor="test")
    job = done(bob.team, "letters", *prompts)
    assert job.charged_nanocredits > 0
    assert sample.price(plan) == job.charged_nanocredits
    assert sample.provider_cost_nano_usd == job.provider_cost_nano_usd


def test_the_preview_by_hand(owner: Client) -> None:
    alice = factories.company()
    for prompt in (1000, 5000, 90_000):
        done(alice.team, "letters", prompt)
    path = reverse("prices:new", args=["consumption_usd"])
    form = sent(owner.get(path).context["form"]).dict()
    asked = {**form, "call-0-markup_percent": "40"}
    before = PlanVersion.objects.count()
    answer = owner.post(reverse("prices:preview", args=["consumption_usd"]), asked)
    page = answer.content.decode()
    # The middle job: 4,500 tokens at 10 USD a million, 500 cached at 1, 100 out at 30 is 0.0485.
    assert "the middle one of your last 3" in page
    for text in ("$0.0485", "0.4850 credits = $0.0485", "0.6790 credits = $0.0679", "28.6 %"):
        assert text in page
    assert PlanVersion.objects.count() == before
    whole = owner.post(path, {**asked, "preview": "1"}).content.decode()
    assert "0.6790 credits = $0.0679" in whole
    wrong = owner.post(
        reverse("prices:preview", args=["consumption_usd"]), {**form, "call-0-markup_percent": "x"}
    )
    assert "Mend the marked fields" in wrong.content.decode()
    nothing = owner.post(
        reverse("prices:preview", args=["consumption_usd"]), {**form, "call-0-DELETE": "on"}
    )
    assert "Some jobs would have no price" in nothing.content.decode()


def test_without_a_past_there_are_samples_all_the_same() -> None:
    plan = plans.find("job_based")
    found = preview.of_spec(VersionSpec(job_rules=[{"credits": 2}]), plan=plan)  # type: ignore[list-item]
    assert [sample.then_nanocredits for sample in found.samples] == [2 * NANO] * 3
    assert [sample.is_loss for sample in found.samples] == [False, False, True]
    assert found.current == 1


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


# --- In words ------------------------------------------------------------------------------------


def test_a_plan_reads_as_sentences() -> None:
    spec = VersionSpec(
        job_rules=[{"job_type": "contract_review", "credits": 3}],  # type: ignore[list-item]
        call_rules=[{"kind": "markup", "markup_percent": 40}],  # type: ignore[list-item]
    )
    assert plan_words.sentences(spec) == [
        "contract_review: 3 credits per completed job (its calls may cost you at most $1)",
        "every other job: provider cost + 40 %, at 10 credits per USD",
        "A credit is worth $0.10 (10 credits per USD)",
    ]
    said = "\n".join(plan_words.sentences(VersionSpec(**EVERYTHING)))
    for part in (
        "talk, calls of chat: 0.07 credits per 1,000 tokens in",
        "bulk: by the month's USD of provider cost, all at the tier reached: the first 0.25",
        "up to 1.5 20 credits per USD of provider cost and 2 credits once",
        "refused when less than 12.34 % would be left",
        "Each team pays at least 30 credits a month",
    ):
        assert part in said


def test_an_edit_that_comes_too_late_is_refused() -> None:
    version = drafted("gold", **FLAT)
    opened = revisions.fingerprint(version)
    plans.activate(version=version, actor="test")
    with pytest.raises(PlanNotReady, match="no draft any more"):
        revisions.revise(version=version, spec=VersionSpec(), opened=opened, actor="test")
