"""The same request again: one provider call, one charge, the same answer."""

from __future__ import annotations

import concurrent.futures
from collections import Counter
from datetime import timedelta
from typing import Any

import httpx
import pytest

from billing.models import Account, Entry
from jobs import calls
from jobs.models import Call, Job
from saas_litellm import verification
from saas_litellm.base import clock, idempotency
from saas_litellm.base.models import IdempotencyRecord
from teams import keys, operators
from teams.models import Team, User
from tests import factories
from tests.conftest import Live, wait_until
from tests.factories import Company
from tests.providers.server import ProviderServer, Reply

ASK = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
KEY = {"Idempotency-Key": "order-1"}
CREATE = {"team_id": "alice", "job_type": "x"}


@pytest.fixture
def alice(transactional_db: None, provider: ProviderServer) -> Company:
    return factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)


def post(
    live: Live, alice: Company, path: str, body: Any = None, headers: dict[str, str] = KEY
) -> httpx.Response:
    with live.client({**alice.headers, **headers}) as client:
        return client.post(path, json=ASK if body is None else body)


def error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


PATHS = {
    "/v1/chat/completions": ASK,
    "/api/jobs/create-and-call": {**CREATE, "messages": ASK["messages"]},
}
STREAMS = {
    "/v1/chat/completions": {**ASK, "stream": True, "stream_options": {"include_usage": True}},
    "/api/jobs/create-and-call-stream": {**CREATE, "messages": ASK["messages"]},
}


@pytest.mark.parametrize(("path", "body"), [*PATHS.items(), *STREAMS.items()])
def test_the_same_request_again_gets_the_same_answer_and_is_not_placed_again(
    live: Live, alice: Company, provider: ProviderServer, path: str, body: Any
) -> None:
    first, again = post(live, alice, path, body), post(live, alice, path, body)
    assert first.status_code == again.status_code
    assert first.text == again.text
    assert "Hello" in first.text
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["X-Call-Id"] == first.headers["X-Call-Id"]
    assert len(provider.requests) == 1
    assert Entry.objects.filter(kind="charge").count() == 1
    assert verification.verify() == []


def test_a_call_in_a_job_is_replayed_too(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    job_id = post(live, alice, "/api/jobs/create", CREATE).json()["job_id"]
    path, body = f"/api/jobs/{job_id}/llm-call", {"messages": ASK["messages"]}
    assert post(live, alice, path, body).json() == post(live, alice, path, body).json()
    closed = post(live, alice, f"/api/jobs/{job_id}/complete", {})
    assert closed.status_code == 200
    assert post(live, alice, path, body).headers["Idempotent-Replayed"] == "true"
    assert len(provider.requests) == 1


@pytest.mark.parametrize(
    ("more", "headers"),
    [({"temperature": 0.5}, {}), ({}, {"X-Job-Type": "other"})],
)
def test_another_request_with_the_same_key_is_refused(
    live: Live, alice: Company, more: dict[str, Any], headers: dict[str, str]
) -> None:
    post(live, alice, "/v1/chat/completions")
    other = post(live, alice, "/v1/chat/completions", {**ASK, **more}, {**KEY, **headers})
    assert error(other) == (409, "idempotency_key_reused")


def test_a_key_is_its_callers_own_and_its_paths(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    bob = factories.team(name="bob")
    factories.serve(bob, alias="chat", model="openai/gpt-4o-mini")
    theirs = {"Authorization": f"Bearer {keys.issue(team=bob, actor='test')[1]}", **KEY}
    post(live, alice, "/v1/chat/completions")
    strangers = post(live, alice, "/v1/chat/completions", ASK, theirs)
    assert "Idempotent-Replayed" not in strangers.headers
    # A second key of the same team is the same caller.
    second = {"Authorization": f"Bearer {keys.issue(team=alice.team, actor='test')[1]}", **KEY}
    own = post(live, alice, "/v1/chat/completions", ASK, second)
    assert own.headers["Idempotent-Replayed"] == "true"
    body = {**CREATE, "messages": ASK["messages"]}
    elsewhere = post(live, alice, "/api/jobs/create-and-call", body)
    assert "Idempotent-Replayed" not in elsewhere.headers


def test_a_refusal_and_a_failure_free_the_key(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    Account.objects.update(balance_nanocredits=0)
    assert post(live, alice, "/v1/chat/completions").status_code == 402
    Account.objects.update(balance_nanocredits=10**11)
    provider.script(Reply(status=400))
    assert post(live, alice, "/v1/chat/completions").status_code == 422
    assert not IdempotencyRecord.objects.exists()
    assert post(live, alice, "/v1/chat/completions").status_code == 200


def test_a_request_that_is_still_running_is_waited_for(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    provider.default = Reply(first_delay=1.5)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, live, alice, "/v1/chat/completions")
        wait_until(lambda: Call.objects.filter(status="dispatched").exists())
        second = post(live, alice, "/v1/chat/completions")
        assert error(second) == (409, "request_in_progress")
        assert second.headers["Retry-After"] == "1"
        assert first.result().status_code == 200
    again = post(live, alice, "/v1/chat/completions")
    assert again.headers["Idempotent-Replayed"] == "true"


def test_a_stream_that_was_cut_replays_what_it_delivered(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    body = STREAMS["/v1/chat/completions"]
    provider.script(Reply(text="one two three four five", cut_after=4))
    first = post(live, alice, "/v1/chat/completions", body)
    again = post(live, alice, "/v1/chat/completions", body)
    assert "provider_error" in first.text
    assert "stream_interrupted" in again.text
    assert "three" in again.text
    assert "[DONE]" not in again.text
    assert Entry.objects.filter(kind="charge").count() == 1


def test_a_call_whose_process_died_is_told_once_and_then_done_anew(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    post(live, alice, "/v1/chat/completions")
    Call.objects.update(status="abandoned", charged_nanocredits=0, price_nanocredits=0)
    assert error(post(live, alice, "/v1/chat/completions")) == (502, "provider_error")
    assert post(live, alice, "/v1/chat/completions").status_code == 200
    assert len(provider.requests) == 2


def test_what_is_kept_is_encrypted_and_goes_after_a_day(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    post(live, alice, "/v1/chat/completions")
    record = IdempotencyRecord.objects.get()
    assert "Hello" not in str(IdempotencyRecord.objects.values())
    assert "Hello" in (idempotency.opened(record) or "")
    IdempotencyRecord.objects.update(expires_at=clock.now() - timedelta(seconds=1))
    assert idempotency.purge_expired() == 1


@pytest.mark.parametrize("limit", ["team", "size"])
def test_an_answer_that_was_not_kept_is_not_given_twice(
    live: Live, alice: Company, provider: ProviderServer, settings: Any, limit: str
) -> None:
    Team.objects.update(is_replay_kept=limit != "team")
    settings.REPLAY_MAX_BYTES = 10 if limit == "size" else 10**6
    post(live, alice, "/v1/chat/completions")
    again = post(live, alice, "/v1/chat/completions")
    assert error(again) == (409, "answer_not_kept")
    assert len(provider.requests) == 1


@pytest.mark.parametrize("text", ["", "x" * 256, "with space", "ümlaut"])
def test_what_cannot_be_a_key_is_refused(live: Live, alice: Company, text: str) -> None:
    headers = {"Idempotency-Key": text.encode()}
    with live.client({**alice.headers}) as client:
        refused = client.post("/api/jobs/create", json=CREATE, headers=headers)  # type: ignore[arg-type] # bytes
    assert error(refused) == (422, "validation_failed")
    assert refused.json()["error"]["param"] == "Idempotency-Key"


# --- Everything else that is posted -----------------------------------------------------------


def test_a_job_is_created_once(live: Live, alice: Company) -> None:
    first, again = (post(live, alice, "/api/jobs/create", CREATE) for _ in range(2))
    assert (first.status_code, first.json()) == (201, again.json())
    assert again.headers["Idempotent-Replayed"] == "true"
    assert Job.objects.count() == 1


def test_operators_have_keys_too(live: Live, alice: Company) -> None:
    user = User.objects.create_superuser("olga", password="x" * 20)
    headers = {"Authorization": f"Bearer {operators.issue(user=user, actor='test')[1]}", **KEY}
    path, body = "/api/credits/teams/alice/adjust", {"credits": 5, "reason": "sorry"}
    body["idempotency_key"] = "a"
    first, again = (post(live, alice, path, body, headers) for _ in range(2))
    assert first.status_code == 200, first.text
    assert first.json() == again.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert Entry.objects.filter(kind="adjustment").count() == 1


def test_forty_at_once_create_one_job(live: Live, alice: Company) -> None:
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda _: post(live, alice, "/api/jobs/create", CREATE), range(40)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.text for answer in answers if answer.status_code == 201}) == 1
    assert Job.objects.count() == 1


def test_fifty_at_once_over_four_processes_are_one_call_and_one_charge(
    spawned: Any, alice: Company, provider: ProviderServer
) -> None:
    provider.default = Reply(first_delay=0.5)
    # SQLite serves one process; there the four are one.
    from django.db import connection

    servers = [spawned() for _ in range(4 if connection.vendor == "postgresql" else 1)]
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        answers = list(
            pool.map(
                lambda number: post(servers[number % len(servers)], alice, "/v1/chat/completions"),
                range(50),
            )
        )
    told = Counter(answer.status_code for answer in answers)
    assert set(told) <= {200, 409}
    assert told[200] >= 1
    assert {error(one)[1] for one in answers if one.status_code == 409} <= {"request_in_progress"}
    assert len(provider.requests) == 1
    assert Entry.objects.filter(kind="charge").count() == 1
    assert calls.abandon_expired() == 0
    assert verification.verify() == []
