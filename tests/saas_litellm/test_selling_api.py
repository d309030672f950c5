"""Selling over HTTP: prices set, credits given, budgets kept, profit seen, by operators alone."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from billing import plans
from billing.models import Account, Entry, PlanVersion
from jobs.models import Call
from saas_litellm import verification
from teams import operators
from teams.models import OperatorKey, Team, User
from tests import factories
from tests.conftest import Live
from tests.providers.server import ProviderServer, Reply

JOB = {"team_id": "alice", "job_type": "contract"}
ASK = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 50}
SOON = "2999-01-01T00:00:00Z"


@pytest.fixture
def alice(live: Live) -> factories.Company:
    return factories.company()


@pytest.fixture
def owner(live: Live, alice: factories.Company) -> Iterator[httpx.Client]:
    user = User.objects.create_superuser("olga", password="x" * 20)
    text = operators.issue(user=user, actor="test")[1]
    with live.client({"Authorization": f"Bearer {text}"}) as client:
        yield client
    assert verification.verify() == []


@pytest.fixture
def team(live: Live, alice: factories.Company) -> Iterator[httpx.Client]:
    with live.client(alice.headers) as client:
        yield client


def code(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def done_job(team: httpx.Client, **more: Any) -> dict[str, Any]:
    job_id = team.post("/api/jobs/create", json=JOB).json()["job_id"]
    call = team.post(f"/api/jobs/{job_id}/llm-call", json=ASK).json()
    closed = team.post(f"/api/jobs/{job_id}/complete", json=more).json()
    return {"call": call, **closed}


def test_a_price_is_drafted_tried_activated_assigned_and_charged(
    owner: httpx.Client, team: httpx.Client
) -> None:
    before = done_job(team)
    cost = before["costs"]["total_cost_usd"]
    made = owner.post("/api/plans", json={"slug": "gold"})
    assert made.status_code == 201
    version = {
        "credits_per_usd": 10,
        "partial_share_percent": 50,
        "job_rules": [{"job_type": "contract", "credits": "2.5"}],
        "call_rules": [{"kind": "markup", "markup_percent": 30}],
    }
    draft = owner.post("/api/plans/gold/versions", json=version).json()
    assert (draft["version"], draft["state"]) == (1, "draft")
    since = "2020-01-01T00:00:00Z"
    tried = owner.post("/api/reports/reprice", json={"plan": "gold", "version": 1, "since": since})
    assert code(tried) == (422, "validation_failed")
    since = str(Entry.objects.order_by("id")[0].created_at.isoformat())
    tried = owner.post("/api/reports/reprice", json={"plan": "gold", "version": 1, "since": since})
    assert tried.json()["total"]["candidate_revenue_usd"] == 0.25
    assert tried.json()["total"]["current_revenue_usd"] == cost
    not_yet = owner.post("/api/plans/gold/assign", json={"team_id": "alice"})
    assert code(not_yet) == (409, "plan_not_ready")
    active = owner.post("/api/plans/gold/versions/1/activate", json={}).json()
    assert active["state"] == "active"
    assert owner.post("/api/plans/gold/assign", json={"team_id": "alice"}).status_code == 201
    assert done_job(team)["costs"]["credits_charged"] == 2.5
    assert done_job(team, outcome="partial")["costs"]["credits_charged"] == 1.25
    back = owner.post("/api/teams/alice/plan", json={"plan": "consumption_tokens"})
    assert back.json()["plan"] == "consumption_tokens"
    assert team.get("/api/credits/teams/alice/balance").json()["mode"] == "consumption_tokens"
    shown = owner.get("/api/plans/gold").json()["versions"][0]
    assert shown["job_rules"][0]["credits"] == 2.5
    assert [plan["slug"] for plan in owner.get("/api/plans").json()["plans"]] == [
        "consumption_tokens",
        "consumption_usd",
        "gold",
    ]


def test_credits_have_a_life(owner: httpx.Client, team: httpx.Client) -> None:
    path = "/api/credits/teams/alice"
    gift = {
        "credits": 20,
        "kind": "promotional",
        "priority": 1,
        "expires_at": SOON,
        "idempotency_key": "gift",
    }
    first = owner.post(f"{path}/add", json=gift)
    assert (first.status_code, first.json()["balance"]) == (201, 120)
    assert owner.post(f"{path}/add", json=gift).json() == first.json()
    assert code(owner.post(f"{path}/add", json={**gift, "credits": 21})) == (
        409,
        "idempotency_key_reused",
    )
    adjust = {"credits": "-150.5", "reason": "mistake", "idempotency_key": "down"}
    adjusted = owner.post(f"{path}/adjust", json=adjust).json()
    assert (adjusted["credits"], adjusted["lost_credits"], adjusted["balance"]) == (-120, 30.5, 0)
    owner.post(f"{path}/add", json={"credits": 7, "paid_usd": 1, "idempotency_key": "buy"})
    lots = team.get(f"{path}/balance").json()["lots"]
    assert [(lot["kind"], lot["credits_remaining"]) for lot in lots] == [("purchase", 7)]
    expired = owner.post(f"{path}/expire", json={"lot_id": lots[0]["lot_id"], "reason": "x"})
    assert expired.json()["balance"] == 0
    again = owner.post(f"{path}/expire", json={"lot_id": lots[0]["lot_id"], "reason": "x"})
    assert code(again) == (409, "lot_not_live")
    limited = owner.post(f"{path}/limit", json={"credit_limit": 5}).json()
    assert limited["credit_limit"] == 5
    done_job(team)
    assert Account.objects.get().balance_nanocredits < 0
    lowered = owner.post(f"{path}/limit", json={"credit_limit": 0})
    assert code(lowered) == (409, "credit_limit_in_use")
    set_ = owner.post(f"{path}/low-balance", json={"thresholds": [10, "2.5"]})
    assert set_.json() == {"thresholds": [10, 2.5]}
    refill = {"period": "monthly", "credits": 10, "kind": "subscription", "paid_usd": 1}
    made = owner.post(f"{path}/auto-refill", json=refill).json()
    stopped = owner.delete(f"{path}/auto-refill/{made['id']}").json()
    assert (made["is_active"], stopped["is_active"]) == (True, False)
    assert len(owner.get(f"{path}/auto-refill").json()["refills"]) == 1
    months = owner.get("/api/reports/deferred-revenue").json()["months"]
    assert (months[0]["sold_usd"], months[0]["breakage_usd"], months[0]["closing_usd"]) == (1, 1, 0)
    text = owner.get("/api/reports/deferred-revenue?format=csv&team_id=alice").text
    assert text.splitlines()[0].startswith("month,opening_usd,sold_usd")


def test_a_team_draws_on_its_organizations_wallet(owner: httpx.Client, team: httpx.Client) -> None:
    open_id = team.post("/api/jobs/create", json=JOB).json()["job_id"]
    path = "/api/credits/teams/alice"
    moved = owner.post(f"{path}/wallet", json={"draws_on": "organization"}).json()
    assert (moved["draws_on"], moved["balance"]) == ("organization", 0)
    new_id = team.post("/api/jobs/create", json=JOB).json()["job_id"]
    refused = team.post(f"/api/jobs/{new_id}/llm-call", json=ASK)
    assert code(refused) == (402, "insufficient_credits")
    assert team.post(f"/api/jobs/{open_id}/llm-call", json=ASK).status_code == 200
    owner.post(f"{path}/add", json={"credits": 5, "idempotency_key": "shared"})
    assert team.post(f"/api/jobs/{new_id}/llm-call", json=ASK).status_code == 200
    assert team.get(f"{path}/balance").json()["balance"] < 5
    assert Account.objects.get(team__slug="alice").balance_nanocredits < 100 * 10**9
    assert owner.post(f"{path}/wallet", json={"draws_on": "bank"}).status_code == 422


def test_a_budget_refuses_and_is_raised(owner: httpx.Client, team: httpx.Client) -> None:
    job_id = team.post("/api/jobs/create", json=JOB).json()["job_id"]
    budget = {"team_id": "alice", "period": "day", "limit": "0.001"}
    made = owner.post("/api/budgets", json=budget)
    assert made.status_code == 201
    refused = team.post(f"/api/jobs/{job_id}/llm-call", json=ASK)
    assert code(refused) == (402, "budget_exceeded")
    assert refused.json()["error"]["credits_available"] == 0.001
    both = team.post("/api/jobs/create-and-call", json={**JOB, **ASK})
    assert code(both) == (402, "budget_exceeded")
    raised = owner.patch(f"/api/budgets/{made.json()['id']}", json={"limit": 10})
    assert raised.json()["limit"] == 10
    assert team.post(f"/api/jobs/{job_id}/llm-call", json=ASK).status_code == 200
    (shown,) = owner.get("/api/budgets?team_id=alice").json()["budgets"]
    assert shown["used"] > 0
    key = {"key_prefix": alice_key(), "period": "total", "limit": 1}
    assert owner.post("/api/budgets", json=key).status_code == 201
    for wrong in (
        {**budget, "limit": 0},
        {**budget, "organization_id": "alice-org"},
        {"period": "day", "limit": 1},
        {**budget, "period": "hour"},
    ):
        assert owner.post("/api/budgets", json=wrong).status_code == 422
    assert code(owner.post("/api/budgets", json={**budget, "team_id": "nobody"}))[0] == 404


def test_a_budget_for_five_holds_over_two_processes(
    owner: httpx.Client, alice: factories.Company, spawned: Any, provider: ProviderServer
) -> None:
    factories.serve(
        alice.team, alias="slow", model="openai/gpt-4o-mini", api_base=provider.openai_base
    )
    provider.default = Reply(text="x", first_delay=2)
    ask = {**ASK, "model": "slow"}
    urls = [spawned().url, spawned().url]
    with httpx.Client(base_url=urls[0], headers=alice.headers, timeout=60) as client:
        job_id = client.post("/api/jobs/create", json=JOB).json()["job_id"]
    capped = {**JOB, "max_credits": "0.000001"}
    with httpx.Client(base_url=urls[0], headers=alice.headers, timeout=60) as client:
        tiny = client.post("/api/jobs/create", json=capped).json()["job_id"]
        refused = client.post(f"/api/jobs/{tiny}/llm-call", json=ask).json()["error"]
    limit = str(Decimal(str(refused["credits_needed"])) * 5)
    owner.post("/api/budgets", json={"team_id": "alice", "period": "month", "limit": limit})

    def call(number: int) -> int:
        with httpx.Client(base_url=urls[number % 2], headers=alice.headers, timeout=60) as client:
            return client.post(f"/api/jobs/{job_id}/llm-call", json=ask).status_code

    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        statuses = sorted(pool.map(call, range(24)))
    assert statuses == [200] * 5 + [402] * 19
    assert len(provider.requests) == 5


def alice_key() -> str:
    return Team.objects.get(slug="alice").api_keys.get().prefix


def test_a_job_may_reserve_its_cap_and_be_quoted(owner: httpx.Client, team: httpx.Client) -> None:
    reserving = {**JOB, "max_credits": 60, "reserve": True}
    job_id = team.post("/api/jobs/create", json=reserving).json()["job_id"]
    balance = team.get("/api/credits/teams/alice/balance").json()
    assert (balance["held"], balance["available"]) == (60, 40)
    assert code(team.post("/api/jobs/create", json=reserving)) == (402, "insufficient_credits")
    assert code(team.post("/api/jobs/create", json={**JOB, "reserve": True})) == (
        422,
        "validation_failed",
    )
    team.post(f"/api/jobs/{job_id}/cancel", json={})
    quote = team.post("/api/jobs/quote", json={**JOB, "expected_calls": 2}).json()
    assert quote["basis"] == {"jobs": 0, "source": "worst_case"}
    assert quote["credits"]["p95"] == quote["credits"]["worst_case"]
    quoted = {**JOB, "quote_id": quote["quote_id"]}
    assert team.post("/api/jobs/create", json=quoted).status_code == 201
    assert code(team.post("/api/jobs/create", json=quoted)) == (409, "quote_used")
    other = {**quoted, "job_type": "letter"}
    assert code(team.post("/api/jobs/create", json=other)) == (422, "validation_failed")


def test_refunds_and_profit(owner: httpx.Client, team: httpx.Client) -> None:
    done = done_job(team)
    path, charged = "/api/credits/teams/alice/refund", done["costs"]["credits_charged"]
    half = {
        "job_id": done["job_id"],
        "credits": charged / 2,
        "reason": "sorry",
        "idempotency_key": "half",
    }
    assert len(owner.post(path, json=half).json()["entries"]) == 1
    assert owner.post(path, json=half).status_code == 200
    beyond = {**half, "credits": charged, "idempotency_key": "more"}
    assert code(owner.post(path, json=beyond)) == (409, "refund_beyond_charge")
    by_call = {"call_id": done["call"]["call_id"], "reason": "x", "idempotency_key": "rest"}
    owner.post(path, json=by_call)
    assert team.get(f"/api/jobs/{done['job_id']}").json()["costs"]["credits_charged"] == 0
    report = owner.get("/api/reports/profit?group_by=team").json()
    (row,) = report["rows"]
    assert (row["key"], row["jobs"], row["revenue_usd"]) == ("alice", 1, 0)
    assert row["margin_usd"] == -row["provider_cost_usd"] < 0
    assert row["margin_percent"] is None
    text = owner.get(f"/api/reports/profit?group_by=job&job_id={done['job_id']}&format=csv").text
    assert text.splitlines()[1].startswith(done["job_id"])
    assert owner.get("/api/reports/cost-drift").json() == {"drifts": []}
    open_id = team.post("/api/jobs/create", json=JOB).json()["job_id"]
    team.post(f"/api/jobs/{open_id}/llm-call", json=ASK)
    waived = owner.post(f"/api/jobs/{open_id}/waive", json={"reason": "our fault"}).json()
    assert (waived["status"], waived["credits_refunded"] > 0) == ("failed", True)


def test_a_shadow_plan_over_http(owner: httpx.Client, team: httpx.Client) -> None:
    plans.ensure_preset("job_based")
    asked = {"plan": "job_based", "version": 1}
    shadow = owner.post("/api/plans/shadows", json=asked)
    assert shadow.status_code == 201
    assert code(owner.post("/api/plans/shadows", json=asked)) == (409, "already_shadowing")
    done_job(team)
    (listed,) = owner.get("/api/plans/shadows").json()["shadows"]
    assert (listed["days"][0]["jobs"], listed["days"][0]["shadow_usd"]) == (1, 0.1)
    stopped = owner.delete(f"/api/plans/shadows/{listed['id']}").json()
    assert stopped["ended_at"] is not None


def test_a_providers_bill_is_compared_and_corrected(
    owner: httpx.Client, team: httpx.Client
) -> None:
    done_job(team)
    day = Call.objects.get().created_at.date()
    cost = Call.objects.get().provider_cost_nano_usd
    bill = f"day,model,input_tokens,cached_tokens,output_tokens,cost_usd\n{day},demo/echo,,,,0.5\n"
    asked = {"filename": "bill.csv", "content": bill}
    made = owner.post("/api/reconciliations", json=asked)
    (line,) = made.json()["lines"]
    assert (line["their_usd"], line["is_beyond_threshold"]) == (0.5, True)
    assert line["explaining_calls"] == [str(Call.objects.get().pk)]
    assert owner.post("/api/reconciliations", json=asked).status_code == 409
    garbled = {"filename": "x.csv", "content": "day,model,colour\n2026-01-01,m,red\n"}
    assert code(owner.post("/api/reconciliations", json=garbled))[0] == 422
    path, balance = f"/api/reconciliations/lines/{line['id']}/correct", Account.objects.get()
    assert owner.post(path, json={"reason": "their bill"}).json()["line"]["is_corrected"]
    assert owner.post(path, json={"reason": "again"}).status_code == 409
    report = owner.get("/api/reports/profit").json()["total"]
    assert report["provider_cost_usd"] == 0.5
    assert cost < 500_000_000
    assert Account.objects.get().balance_nanocredits == balance.balance_nanocredits
    (listed,) = owner.get("/api/reconciliations").json()["reconciliations"]
    assert owner.get(f"/api/reconciliations/{listed['id']}").json()["lines"][0]["is_corrected"]


MARKUP = {"kind": "markup"}


@pytest.mark.parametrize(
    "version",
    [
        {"credits_per_usd": 0},
        {"credits_per_usd": "0.0000000001"},
        {"monthly_minimum_credits": -1},
        {"partial_share_percent": 101},
        {"partial_share_percent": "33.333"},
        {"job_rules": [{"credits": -1}]},
        {"job_rules": [{"kind": "free", "credits": 1}]},
        {"job_rules": [{"credits": 1, "colour": "red"}]},
        {"job_rules": [{"credits": 1}, {"credits": 2}]},
        {"call_rules": [MARKUP, MARKUP]},
        {"call_rules": [{"kind": "markup", "markup_percent": "NaN"}]},
        {"call_rules": [{"kind": "tiered"}]},
        {"call_rules": [{"kind": "tiered", "tiers": [{"up_to": 5, "credits": 1}]}]},
        {"call_rules": [{"kind": "tiered", "metric": "jobs", "tiers": [{"up_to": "1.5"}, {}]}]},
    ],
)
def test_a_version_of_nonsense_leaves_nothing_behind(
    owner: httpx.Client, version: dict[str, Any]
) -> None:
    owner.post("/api/plans", json={"slug": "gold"})
    before = PlanVersion.objects.count()
    response = owner.post("/api/plans/gold/versions", json=version)
    assert response.status_code in {409, 422}, response.text
    assert response.json()["error"]["message"]
    assert PlanVersion.objects.count() == before


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ({"call_rules": [{**MARKUP, "job_type": "x"}]}, "no price"),
        ({"job_rules": [{"credits": 1}], "call_rules": [MARKUP]}, "never applies"),
        (
            {
                "job_rules": [{"job_type": "x", "credits": 1}],
                "call_rules": [MARKUP, {**MARKUP, "job_type": "x"}],
            },
            "never applies",
        ),
        ({"call_rules": [MARKUP, {**MARKUP, "alias": "nobody"}]}, "no alias nobody"),
    ],
)
def test_rules_that_clash_are_refused_when_the_plan_is_activated(
    owner: httpx.Client, version: dict[str, Any], words: str
) -> None:
    owner.post("/api/plans", json={"slug": "gold"})
    assert owner.post("/api/plans/gold/versions", json=version).status_code == 201
    refused = owner.post("/api/plans/gold/versions/1/activate", json={})
    assert code(refused) == (409, "plan_not_ready")
    assert words in refused.json()["error"]["message"]
    assert PlanVersion.objects.get(plan__slug="gold").activated_at is None


def test_dates_that_overlap_or_lie_in_the_past_are_refused(owner: httpx.Client) -> None:
    owner.post("/api/plans", json={"slug": "gold"})
    for _ in range(2):
        owner.post("/api/plans/gold/versions", json={"call_rules": [MARKUP]})
    activate = "/api/plans/gold/versions/{}/activate"
    past = owner.post(activate.format(1), json={"effective_from": "2020-01-01T00:00:00"})
    assert code(past) == (422, "validation_failed")
    assert owner.post(activate.format(1), json={"effective_from": SOON}).status_code == 200
    for number in (1, 2):
        again = owner.post(activate.format(number), json={"effective_from": SOON})
        assert code(again) == (409, "plan_not_ready")
    assign = {"team_id": "alice", "effective_from": SOON}
    assert owner.post("/api/plans/gold/assign", json=assign).status_code == 201
    assert code(owner.post("/api/plans/gold/assign", json=assign)) == (409, "assignment_taken")
    both = {**assign, "organization_id": "alice-org"}
    assert code(owner.post("/api/plans/gold/assign", json=both)) == (422, "validation_failed")
    assert code(owner.post("/api/plans/gold/versions/9/activate", json={})) == (404, "not_found")
    assert code(owner.post("/api/plans", json={"slug": "job_based"}))[0] == 422
    assert code(owner.post("/api/plans", json={"slug": "No Slug"}))[0] == 422


def everything() -> list[tuple[str, str]]:
    path = "/api/credits/teams/alice"
    zero = "00000000-0000-0000-0000-000000000000"
    return [
        *[
            ("POST", f"{path}/{act}")
            for act in ("add", "adjust", "expire", "limit", "wallet", "refund")
        ],
        ("POST", f"{path}/low-balance"),
        ("POST", f"{path}/auto-refill"),
        ("GET", f"{path}/auto-refill"),
        ("DELETE", f"{path}/auto-refill/1"),
        ("GET", "/api/budgets"),
        ("POST", "/api/budgets"),
        ("PATCH", "/api/budgets/1"),
        ("GET", "/api/plans"),
        ("POST", "/api/plans"),
        ("GET", "/api/plans/job_based"),
        ("POST", "/api/plans/job_based/versions"),
        ("POST", "/api/plans/job_based/assign"),
        ("POST", "/api/plans/job_based/versions/1/activate"),
        ("POST", "/api/teams/alice/plan"),
        ("GET", "/api/plans/shadows"),
        ("POST", "/api/plans/shadows"),
        ("DELETE", "/api/plans/shadows/1"),
        ("POST", f"/api/jobs/{zero}/waive"),
        ("GET", "/api/reconciliations"),
        ("POST", "/api/reconciliations"),
        ("GET", "/api/reconciliations/1"),
        ("POST", "/api/reconciliations/lines/1/correct"),
        ("GET", "/api/reports/profit"),
        ("GET", "/api/reports/cost-drift"),
        ("GET", "/api/reports/deferred-revenue"),
        ("POST", "/api/reports/reprice"),
    ]


def test_no_management_path_answers_a_team_or_nobody(
    live: Live, team: httpx.Client, settings: Any
) -> None:
    settings.DEBUG = settings.SAAS_OPEN_DEMO = True
    bad = {"Authorization": f"Bearer slo_{'0' * 12}_{'x' * 43}"}
    with live.client() as nobody:
        for method, path in everything():
            body = None if method in {"GET", "DELETE"} else {}
            assert code(nobody.request(method, path, json=body)) == (401, "invalid_api_key"), path
            assert team.request(method, path, json=body).status_code == 403, path
            with_bad_key = nobody.request(method, path, json=body, headers=bad)
            assert with_bad_key.status_code in {401, 422}, path


def test_an_operator_may_do_what_the_user_behind_may(live: Live, alice: factories.Company) -> None:
    user = User.objects.create_user("vera", password="x" * 20, is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_profitday"))
    key, text = operators.issue(user=user, actor="test")
    add = {"credits": 1, "idempotency_key": "x"}
    with live.client({"Authorization": f"Bearer {text}"}) as client:
        assert client.get("/api/reports/profit").status_code == 200
        refused = client.post("/api/credits/teams/alice/add", json=add)
        assert code(refused) == (403, "insufficient_scope")
        balance = "/api/credits/teams/alice/balance"
        assert code(client.get(balance)) == (403, "insufficient_scope")
        user.user_permissions.add(Permission.objects.get(codename="act_for_team"))
        assert client.get(balance).status_code == 200
        assert client.get("/v1/models", headers={"X-Team-Id": "alice"}).status_code == 200
        assert client.get("/v1/models", headers={"X-Team-Id": "nobody"}).status_code == 404
        operators.revoke(prefix=key.prefix, actor="test")
        assert code(client.get("/api/reports/profit")) == (401, "invalid_api_key")
    assert text not in str(list(OperatorKey.objects.values()))
    assert Entry.objects.count() == 1


def test_the_admins_session_is_as_good_as_a_key(live: Live, alice: factories.Company) -> None:
    browser = Client()
    user = User.objects.create_superuser("olga", password="x" * 20)
    browser.force_login(user)
    session = browser.cookies["sessionid"].value
    with live.client({"Cookie": f"sessionid={session}"}) as client:
        assert client.get("/api/reports/profit").status_code == 200
        add = '{"credits": 1, "idempotency_key": "x"}'
        foreign = client.post(
            "/api/credits/teams/alice/add", content=add, headers={"Content-Type": "text/plain"}
        )
        assert code(foreign) == (415, "unsupported_media_type")
        user.set_password("y" * 20)
        user.save()
        assert code(client.get("/api/reports/profit")) == (401, "invalid_api_key")
    with live.client({"Cookie": "sessionid=nonsense"}) as client:
        assert client.get("/api/reports/profit").status_code == 401
