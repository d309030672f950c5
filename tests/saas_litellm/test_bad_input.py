"""What a careless or hostile caller sends: each gets a clear error, and nothing is left behind."""

from __future__ import annotations

import concurrent.futures
import uuid
from typing import Any

import pytest

from billing.models import Account, Hold
from jobs.models import Call, Job
from saas_litellm import verification
from saas_litellm.base.money import NANO
from teams import directory, keys
from teams.models import ApiKey, Team
from tests import factories
from tests.conftest import Live
from tests.providers.server import ProviderServer, Reply
from tests.saas_litellm.test_story import ASK, open_job

JOB = {"team_id": "alice", "job_type": "x"}


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


@pytest.fixture
def alice(live: Live) -> factories.Company:
    return factories.company()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{bad", (400, "invalid_json")),
        (b"[]", (400, "invalid_json")),
        (b"\xff", (400, "invalid_json")),
        (b"{}", (422, "validation_failed")),
        (b'{"messages": []}', (422, "validation_failed")),
        (b'{"messages": "hi"}', (422, "validation_failed")),
        (b'{"messages": [{"role": "user"}]}', (422, "validation_failed")),
        (b'{"messages": [{"role": "user", "content": "a\\u0000b"}]}', (422, "validation_failed")),
    ],
)
def test_a_malformed_body_is_refused(
    live: Live, alice: factories.Company, body: bytes, expected: tuple[int, str]
) -> None:
    headers = {**alice.headers, "Content-Type": "application/json"}
    with live.client(headers) as client:
        job_id = open_job(client)
        assert code(client.post(f"/api/jobs/{job_id}/llm-call", content=body)) == expected
    assert not Call.objects.exists()


@pytest.mark.parametrize(
    "more",
    [
        {"mock_response": "free"},
        {"api_base": "http://127.0.0.1:1"},
        {"extra_headers": {}},
        {"max_tokens": -1},
        {"max_tokens": 0},
        {"max_tokens": 10**9},
        {"max_tokens": "5"},
        {"n": 1000},
        {"temperature": 9},
        {"max_tokens": 5, "max_completion_tokens": 5},
    ],
)
def test_a_field_that_is_unknown_or_absurd_is_refused(
    live: Live, alice: factories.Company, more: dict[str, Any]
) -> None:
    with live.client(alice.headers) as client:
        job_id = open_job(client)
        response = client.post(f"/api/jobs/{job_id}/llm-call", json={**ASK, **more})
    assert code(response) == (422, "validation_failed")
    assert not Call.objects.exists()


def test_a_body_of_ten_megabytes_is_refused(live: Live, alice: factories.Company) -> None:
    body = b'{"messages": "' + b"x" * 10_000_000 + b'"}'
    headers = {**alice.headers, "Content-Type": "application/json"}
    with live.client(headers) as client:
        assert code(client.post("/api/jobs/create", content=body)) == (413, "payload_too_large")
        parts = (body[at : at + 65_536] for at in range(0, len(body), 65_536))
        assert code(client.post("/api/jobs/create", content=parts)) == (413, "payload_too_large")


def test_a_strangers_key_finds_nothing(live: Live, alice: factories.Company) -> None:
    charlie = factories.company(name="charlie")
    with live.client(alice.headers) as client:
        job_id = open_job(client)
    asked: list[tuple[str, str, Any]] = [
        ("GET", f"/api/jobs/{job_id}", None),
        ("GET", f"/api/jobs/{job_id}/costs", None),
        ("POST", f"/api/jobs/{job_id}/llm-call", ASK),
        ("POST", f"/api/jobs/{job_id}/llm-call-stream", ASK),
        ("POST", f"/api/jobs/{job_id}/complete", {}),
        ("POST", f"/api/jobs/{job_id}/cancel", {}),
        ("PATCH", f"/api/jobs/{job_id}/metadata", {"metadata": {}}),
        ("GET", "/api/teams/alice/jobs", None),
        ("GET", "/api/teams/alice/usage", None),
        ("GET", "/api/credits/teams/alice/balance", None),
        ("GET", "/api/credits/teams/alice/transactions", None),
        ("POST", "/api/credits/teams/alice/check", {"credits_needed": 1}),
        ("GET", f"/api/jobs/{uuid.uuid4()}", None),
        ("GET", "/api/jobs/not-a-uuid", None),
    ]
    with live.client(charlie.headers) as client:
        for method, path, body in asked:
            assert code(client.request(method, path, json=body)) == (404, "not_found"), path
        for path in ("/api/jobs/create", "/api/jobs/create-and-call"):
            body = JOB if path.endswith("create") else {**JOB, **ASK}
            assert code(client.post(path, json=body)) == (403, "team_mismatch")
    assert Job.objects.get().status == "pending"


def test_keys_end_at_once(live: Live, alice: factories.Company) -> None:
    with live.client(alice.headers) as client:
        assert client.post("/api/jobs/create", json=JOB).status_code == 201
        ApiKey.objects.update(expires_at="2020-01-01T00:00Z")
        assert code(client.post("/api/jobs/create", json=JOB)) == (401, "key_expired")
        keys.revoke(prefix=ApiKey.objects.get().prefix, actor="test")
        assert code(client.post("/api/jobs/create", json=JOB)) == (401, "invalid_api_key")


def test_a_paused_team_may_finish_and_a_suspended_one_nothing(
    live: Live, alice: factories.Company
) -> None:
    with live.client(alice.headers) as client:
        job_id = open_job(client)
        directory.set_team_status(team=alice.team, status=Team.Status.PAUSED, actor="test")
        assert code(client.post("/api/jobs/create", json=JOB)) == (403, "team_paused")
        assert code(client.post(f"/api/jobs/{job_id}/llm-call", json=ASK)) == (403, "team_paused")
        assert client.post(f"/api/jobs/{job_id}/complete", json={}).status_code == 200
        directory.set_team_status(team=alice.team, status=Team.Status.SUSPENDED, actor="test")
        assert code(client.get(f"/api/jobs/{job_id}")) == (403, "team_suspended")


def test_an_unknown_and_an_ungranted_alias_get_the_same_answer(
    live: Live, alice: factories.Company
) -> None:
    factories.company(name="charlie", alias="secret-model")
    with live.client(alice.headers) as client:
        job_id = open_job(client)
        answers = [
            client.post(f"/api/jobs/{job_id}/llm-call", json={**ASK, "model": name})
            for name in ("secret-model", "no-such-thing")
        ]
    assert [code(answer) for answer in answers] == [(403, "model_not_allowed")] * 2


def test_a_model_without_a_price_is_not_served(live: Live, alice: factories.Company) -> None:
    factories.serve(alice.team, alias="unpriced", model="openai/unpriced", sheet=None)
    with live.client(alice.headers) as client:
        job_id = open_job(client)
        response = client.post(f"/api/jobs/{job_id}/llm-call", json={**ASK, "model": "unpriced"})
    assert code(response) == (503, "model_unavailable")


def test_without_credits_the_provider_is_not_asked(live: Live, provider: ProviderServer) -> None:
    poor = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base, credits_=0)
    factories.top_up(poor.team, 1000)
    with live.client(poor.headers) as client:
        job_id = open_job(client)
        for path in ("llm-call", "llm-call-stream"):
            response = client.post(f"/api/jobs/{job_id}/{path}", json=ASK)
            assert code(response) == (402, "insufficient_credits")
            assert response.json()["error"]["credits_available"] == 0.000001
        both = client.post("/api/jobs/create-and-call", json={**JOB, **ASK})
        assert code(both) == (402, "insufficient_credits")
    assert provider.requests == []
    assert not Hold.objects.filter(state="open").exists()


def test_a_closed_job_takes_no_more(live: Live, alice: factories.Company) -> None:
    with live.client(alice.headers) as client:
        job_id = open_job(client)
        first = client.post(f"/api/jobs/{job_id}/complete", json={}).json()
        again = client.post(f"/api/jobs/{job_id}/complete", json={})
        assert again.json() == first
        other = client.post(f"/api/jobs/{job_id}/complete", json={"status": "failed"})
        assert code(other) == (409, "job_closed")
        assert code(client.post(f"/api/jobs/{job_id}/cancel", json={})) == (409, "job_closed")
        assert code(client.post(f"/api/jobs/{job_id}/llm-call", json=ASK)) == (409, "job_closed")


def test_calling_a_job_failed_does_not_take_its_charges_back(
    live: Live, alice: factories.Company
) -> None:
    with live.client(alice.headers) as client:
        job_id = open_job(client)
        client.post(f"/api/jobs/{job_id}/llm-call", json=ASK)
        failed = client.post(f"/api/jobs/{job_id}/complete", json={"status": "failed"}).json()
    assert failed["costs"]["credits_charged"] > 0
    assert Account.objects.get().balance_nanocredits < 100 * NANO
    assert verification.verify() == []


def test_a_job_keeps_to_its_cap(live: Live, alice: factories.Company) -> None:
    with live.client(alice.headers) as client:
        job_id = open_job(client, max_credits=0.001)
        response = client.post(f"/api/jobs/{job_id}/llm-call", json=ASK)
        assert code(response) == (402, "job_cap_exceeded")
    assert not Call.objects.exists()


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_forty_calls_at_once_on_credits_for_ten(
    live: Live, spawned: Any, provider: ProviderServer, kind: str
) -> None:
    alice = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base, credits_=0)
    provider.default = Reply(text="x", first_delay=1.5)
    with live.client(alice.headers) as client:
        job_id = open_job(client)
        needed = client.post(f"/api/jobs/{job_id}/llm-call", json=ASK).json()["error"]
        factories.top_up(alice.team, round(needed["credits_needed"] * NANO) * 10)
    urls = [live.url] if kind == "thread" else [spawned().url, spawned().url]

    def call(number: int) -> int:
        with Live(urls[number % len(urls)]).client(alice.headers) as client:
            return client.post(f"/api/jobs/{job_id}/llm-call", json=ASK).status_code

    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        statuses = sorted(pool.map(call, range(40)))
    assert statuses == [200] * 10 + [402] * 30
    assert len(provider.requests) == 10
    assert verification.verify() == []


DEMO = {**JOB, "team_id": "alice"}


@pytest.mark.parametrize(
    ("headers", "debug", "is_on", "status"),
    [
        ({}, True, True, 201),
        ({}, True, False, 401),
        ({}, False, True, 401),
        ({"Host": "evil.example"}, True, True, 401),
        ({"X-Forwarded-For": "127.0.0.1"}, True, True, 401),
        ({"Forwarded": "for=127.0.0.1"}, True, True, 401),
        ({"Content-Type": "text/plain"}, True, True, 401),
        ({"Authorization": "Bearer nonsense"}, True, True, 401),
    ],
)
def test_the_open_demo_answers_only_when_every_condition_holds(
    live: Live,
    alice: factories.Company,
    settings: Any,
    headers: dict[str, str],
    debug: bool,
    is_on: bool,
    status: int,
) -> None:
    settings.DEBUG, settings.SAAS_OPEN_DEMO = debug, is_on
    with live.client({"Content-Type": "application/json", **headers}) as client:
        response = client.post("/api/jobs/create", content=b'{"team_id": "alice", "job_type": "x"}')
    assert response.status_code == status
    assert response.headers["X-Request-Id"]


def test_every_path_answers_errors_in_one_format(live: Live) -> None:
    with live.client() as client:
        for path in ("/nowhere", "/api/nowhere", "/api/jobs/create"):
            body = client.get(path).json()["error"]
            assert set(body) == {"message", "type", "code", "param", "request_id"}
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/readyz").status_code == 200
