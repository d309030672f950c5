"""Limits over HTTP: whose they are, what the answer says, and what a refusal leaves behind."""

from __future__ import annotations

import concurrent.futures
from typing import Any

import pytest

from billing.models import Account
from jobs.models import Attempt, Call
from teams import credentials
from teams.models import Alias, ApiKey, Deployment, Organization, Team
from tests import factories
from tests.conftest import Live
from tests.factories import Company
from tests.providers.server import ProviderServer, Reply

pytestmark = pytest.mark.usefixtures("fresh_limits")
ASK = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 10}


@pytest.fixture
def alice(live: Live) -> Company:
    return factories.company()


def post(live: Live, alice: Company, **more: Any) -> Any:
    with live.client(alice.headers) as client:
        return client.post("/v1/chat/completions", json={**ASK, **more})


@pytest.mark.parametrize("owner", [Team, Organization, ApiKey, Alias])
def test_each_of_them_may_be_limited(live: Live, alice: Company, owner: Any) -> None:
    owner.objects.update(requests_per_minute=2)
    answers = [post(live, alice) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    first, last = answers[0].headers, answers[2].headers
    assert first["x-ratelimit-limit-requests"] == "2"
    assert first["x-ratelimit-remaining-requests"] == "1"
    assert last["x-ratelimit-remaining-requests"] == "0"
    assert 1 <= int(last["Retry-After"]) <= 61
    error = answers[2].json()["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limited")
    assert Call.objects.count() == 2


def test_the_tightest_rule_is_told(live: Live, alice: Company) -> None:
    Team.objects.update(requests_per_minute=50)
    ApiKey.objects.update(requests_per_minute=5, tokens_per_minute=10_000)
    headers = post(live, alice).headers
    assert headers["x-ratelimit-limit-requests"] == "5"
    assert headers["x-ratelimit-limit-tokens"] == "10000"
    assert headers["x-ratelimit-reset-tokens"].endswith("s")


def test_tokens_are_counted_as_they_were_used_not_as_they_were_feared(
    live: Live, alice: Company
) -> None:
    Team.objects.update(tokens_per_minute=6000)
    used = [post(live, alice, max_tokens=5000) for _ in range(5)]
    assert {answer.status_code for answer in used} == {200}
    refused = post(live, alice, max_tokens=10_000)
    assert refused.status_code == 429
    assert "ask for less output" in refused.json()["error"]["message"]


def test_a_stream_and_the_api_paths_are_told_their_limits_too(live: Live, alice: Company) -> None:
    Team.objects.update(requests_per_minute=9)
    streamed = post(live, alice, stream=True)
    assert streamed.headers["x-ratelimit-remaining-requests"] == "8"
    with live.client(alice.headers) as client:
        body = {"team_id": "alice", "job_type": "x", "messages": ASK["messages"]}
        both = client.post("/api/jobs/create-and-call", json=body)
        assert both.headers["x-ratelimit-remaining-requests"] == "7"


def test_a_call_refused_for_want_of_credits_takes_no_place(live: Live, alice: Company) -> None:
    Team.objects.update(requests_per_minute=1, calls_in_flight=1)
    Account.objects.update(balance_nanocredits=0)
    assert [post(live, alice).status_code for _ in range(2)] == [402, 402]
    assert post(live, alice).headers["x-ratelimit-limit-requests"] == "1"


def test_only_so_many_calls_run_at_once(live: Live, provider: ProviderServer) -> None:
    alice = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)
    Team.objects.update(calls_in_flight=3)
    provider.default = Reply(first_delay=1.5)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: post(live, alice).status_code, range(12)))
    assert sorted(answers) == [200] * 3 + [429] * 9
    provider.default = Reply()
    assert post(live, alice).status_code == 200


def test_forty_at_once_pass_exactly_the_limit(live: Live, alice: Company) -> None:
    Team.objects.update(requests_per_minute=10)
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda _: post(live, alice).status_code, range(40)))
    assert sorted(answers) == [200] * 10 + [429] * 30
    assert Call.objects.count() == 10


def test_a_deployment_at_its_own_limit_is_left_for_the_next(
    live: Live, provider: ProviderServer
) -> None:
    alice = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)
    credential = credentials.save(
        name="backup", api_key="sk-b", actor="test", api_base=provider.openai_base
    )
    backup = Deployment.objects.create(
        alias=alice.alias, model="openai/gpt-4o-mini", credential=credential, priority=1
    )
    Deployment.objects.filter(priority=0).update(requests_per_minute=1)
    assert [post(live, alice).status_code for _ in range(3)] == [200] * 3
    assert Attempt.objects.filter(deployment=backup).count() == 2
    Deployment.objects.update(requests_per_minute=1)
    assert post(live, alice).status_code == 200
    refused = post(live, alice)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
    assert int(refused.headers["Retry-After"]) > 1
