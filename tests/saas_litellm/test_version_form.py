"""The form of a plan version: nothing is lost in it, and what it previews is what is charged."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from django.http import QueryDict
from django.test import Client
from django.urls import reverse
from hypothesis import given, settings
from hypothesis import strategies as st

from billing import candidates, plan_specs, plan_words, plans, revisions
from billing.models import PlanVersion, PricePlan
from billing.plan_specs import VersionSpec
from billing.refusals import PlanNotReady
from jobs import samples
from saas_litellm.base.models import AuditEntry
from saas_litellm.base.money import NANO, from_nano
from saas_litellm.plan_pages import preview
from saas_litellm.plan_pages.version_form import VersionForm, grown
from tests import factories, work
from tests.saas_litellm.test_admin import owner

__all__ = ["owner"]
pytestmark = [
    pytest.mark.any_database,
    pytest.mark.django_db,
    pytest.mark.usefixtures("pages_served"),
]

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


@settings(max_examples=40, deadline=None)
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
    version = drafted("gold", job_rules=[{"credits": 1}])
    opened = revisions.fingerprint(version)
    plans.activate(version=version, actor="test")
    with pytest.raises(PlanNotReady, match="no draft any more"):
        revisions.revise(version=version, spec=VersionSpec(), opened=opened, actor="test")
