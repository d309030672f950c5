"""The acceptance story over real HTTP: a job, a plain call, a stream, and what it cost."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import httpx
import pytest

from billing.models import Account, Hold
from jobs.models import Attempt, Call, Job
from saas_litellm import verification, worker
from tests import factories
from tests.conftest import Live, wait_until
from tests.providers.server import SECRET_MODEL, ProviderServer, Reply

ASK = {"messages": [{"role": "user", "content": "Summarise doc_123"}]}
LEAKS = (
    SECRET_MODEL,
    "openai",
    "anthropic",
    "litellm",
    "chatcmpl-provider",
    "msg_provider",
    "toolu_",
)


def frames_of(response: httpx.Response) -> list[Any]:
    lines = [line[6:] for line in response.iter_lines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def text_of(frames: list[Any]) -> str:
    chunks = [frame for frame in frames if isinstance(frame, dict)]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk.get("choices", [])]
    return "".join(delta.get("content") or "" for delta in deltas)


def open_job(client: httpx.Client, team: str = "alice", **more: Any) -> str:
    body = {"team_id": team, "job_type": "document_analysis", **more}
    response = client.post("/api/jobs/create", json=body)
    assert response.status_code == 201, response.text
    job_id: str = response.json()["job_id"]
    return job_id


@pytest.fixture(params=["demo", "openai", "anthropic"])
def company(request: pytest.FixtureRequest, live: Live, provider: ProviderServer) -> Any:
    model, base = {
        "demo": ("demo/echo", ""),
        "openai": ("openai/gpt-4o-mini", provider.openai_base),
        "anthropic": ("anthropic/claude-sonnet-4-5", provider.anthropic_base),
    }[request.param]
    return factories.company(model=model, api_base=base, plan="job_based")


def test_a_job_with_two_calls_costs_one_credit(live: Live, company: factories.Company) -> None:
    with live.client(company.headers) as client:
        job_id = open_job(client, metadata={"document_id": "doc_123"})
        plain = client.post(f"/api/jobs/{job_id}/llm-call", json=ASK)
        assert plain.status_code == 200, plain.text
        assert plain.json()["metadata"]["model"] == "chat"
        assert plain.json()["response"]["content"]
        with client.stream("POST", f"/api/jobs/{job_id}/llm-call-stream", json=ASK) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            frames = frames_of(stream)
        assert frames[-1] == "[DONE]"
        assert frames[-2]["usage"]["total_tokens"] > 0
        assert frames[-2]["job_id"] == job_id
        assert text_of(frames)
        done = client.post(f"/api/jobs/{job_id}/complete", json={"status": "completed"}).json()
    assert done["costs"]["total_cost_usd"] == 0.1
    assert done["costs"]["credits_remaining"] == 99
    assert done["costs"]["total_calls"] == done["costs"]["successful_calls"] == 2
    everything = plain.text + str(plain.headers) + json.dumps(frames) + json.dumps(done)
    assert [word for word in LEAKS if word in everything.lower()] == []
    assert Job.objects.get().provider_cost_nano_usd > 0
    assert verification.verify() == []


def test_a_metered_call_costs_what_a_bookkeeper_computes(
    live: Live, provider: ProviderServer
) -> None:
    # 100 tokens in, 40 of them cached, 20 out: 60 × 10 + 40 × 1 + 20 × 30 = 1,240 micro-USD.
    # 10 credits a USD and no markup: 0.0124 credits.
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 40},
    }
    provider.script(Reply(usage=usage))
    alice = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)
    with live.client(alice.headers) as client:
        job_id = open_job(client)
        costs = client.post(f"/api/jobs/{job_id}/llm-call", json=ASK).json()["costs"]
        assert costs == {"credits": 0.0124, "total_cost_usd": 0.00124}
        shown = client.get(f"/api/jobs/{job_id}/costs").json()["costs"]
        assert shown["total_cost_usd"] == 0.00124
    call = Call.objects.get()
    assert call.provider_cost_nano_usd == 1_240_000
    assert Account.objects.get().balance_nanocredits == 100 * 10**9 - 12_400_000
    assert verification.verify() == []


def test_tools_and_their_results_pass_through(live: Live, provider: ProviderServer) -> None:
    tools = [
        {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    ]
    for model, base in (
        ("openai/gpt-4o-mini", provider.openai_base),
        ("anthropic/claude-sonnet-4-5", provider.anthropic_base),
    ):
        called = Reply(
            text=None,
            tool={"name": "weather", "input": {"city": "Rome"}},
            finish_reason="tool_calls",
        )
        provider.script(called, called, Reply(text="Sunny"))
        name = model.partition("/")[0]
        alice = factories.company(name=name, model=model, api_base=base, alias=f"a-{name}")
        with live.client(alice.headers) as client:
            job_id = open_job(client, team=name)
            first = client.post(f"/api/jobs/{job_id}/llm-call", json={**ASK, "tools": tools}).json()
            assert "response" in first, Attempt.objects.values()
            call = first["response"]["tool_calls"][0]
            assert json.loads(call["function"]["arguments"]) == {"city": "Rome"}
            assert call["id"].startswith("call_")
            with client.stream(
                "POST", f"/api/jobs/{job_id}/llm-call-stream", json={**ASK, "tools": tools}
            ) as stream:
                streamed = frames_of(stream)
            assert "toolu_" not in json.dumps(streamed)
            answer = [
                *ASK["messages"],
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": call["id"], "content": "sunny"},
            ]
            last = client.post(
                f"/api/jobs/{job_id}/llm-call", json={"messages": answer, "tools": tools}
            )
            assert last.json()["response"]["content"] == "Sunny", last.text


def test_the_first_frame_leaves_while_the_provider_is_still_sending(
    live: Live, provider: ProviderServer
) -> None:
    provider.script(Reply(text="one two three four five six", frame_delay=0.3))
    alice = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)
    with live.client(alice.headers) as client:
        client.post(
            "/api/jobs/create-and-call", json={**ASK, "team_id": "alice", "job_type": "warm"}
        )
        provider.script(Reply(text="one two three four five six", frame_delay=0.3))
        job_id = open_job(client)
        with client.stream("POST", f"/api/jobs/{job_id}/llm-call-stream", json=ASK) as stream:
            lines = stream.iter_lines()
            next(line for line in lines if line.startswith("data: "))
            sent_by_then = provider.requests[-1].frames_sent
            rest = list(lines)
    assert sent_by_then <= 3
    assert len(rest) > 6


def test_leaving_a_stream_stops_the_provider_and_charges_what_was_produced(
    live: Live, provider: ProviderServer
) -> None:
    alice = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)
    provider.script(Reply(text=" ".join(["word"] * 200), frame_delay=0.05))
    with live.client(alice.headers) as client:
        job_id = open_job(client)
        with client.stream("POST", f"/api/jobs/{job_id}/llm-call-stream", json=ASK) as stream:
            lines = stream.iter_lines()
            for _ in range(8):
                next(line for line in lines if line.startswith("data: "))
    wait_until(lambda: Call.objects.get().status == "settled")
    wait_until(lambda: provider.requests[-1].is_abandoned)
    call = Call.objects.get()
    assert call.usage_source == "estimate"
    assert call.charged_nanocredits > 0
    assert provider.requests[-1].frames_sent < 60
    assert verification.verify() == []


@pytest.mark.parametrize("seconds", [0, 0.005, 0.02, 0.1])
def test_leaving_before_or_during_the_hold_leaves_nothing_open(
    live: Live, provider: ProviderServer, seconds: float
) -> None:
    alice = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)
    provider.default = Reply(first_delay=0.5)
    with live.client(alice.headers) as client:
        job_id = open_job(client)
    body = json.dumps(ASK).encode()
    head = (
        f"POST /api/jobs/{job_id}/llm-call-stream HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {alice.key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", int(live.url.rpartition(":")[2]))) as client_socket:
        client_socket.sendall(head.encode() + body)
        time.sleep(seconds)
    time.sleep(0.3)
    wait_until(lambda: not Call.objects.filter(status__in=Call.RUNNING).exists())
    assert not Hold.objects.filter(state="open").exists()
    assert Account.objects.get().balance_nanocredits == 100 * 10**9
    assert verification.verify() == []


def test_a_plain_call_whose_client_left_is_finished_and_charged(
    live: Live, provider: ProviderServer
) -> None:
    alice = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)
    provider.script(Reply(first_delay=1.0))
    with live.client(alice.headers) as client:
        job_id = open_job(client)
        with pytest.raises(httpx.ReadTimeout):
            client.post(f"/api/jobs/{job_id}/llm-call", json=ASK, timeout=0.5)
    wait_until(lambda: Call.objects.get().status == "settled")
    assert Call.objects.get().charged_nanocredits > 0


def test_usage_that_the_provider_leaves_out_is_counted(
    live: Live, provider: ProviderServer
) -> None:
    alice = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)
    provider.script(Reply(usage=None), Reply(usage=None))
    with live.client(alice.headers) as client:
        job_id = open_job(client)
        client.post(f"/api/jobs/{job_id}/llm-call", json=ASK)
        client.post(f"/api/jobs/{job_id}/llm-call-stream", json=ASK)
    assert {call.usage_source for call in Call.objects.all()} == {"estimate"}
    assert all(call.charged_nanocredits for call in Call.objects.all())


@pytest.mark.parametrize(
    ("reply", "status", "code", "attempts"),
    [
        (Reply(status=400), 422, "validation_failed", 1),
        (Reply(status=401), 502, "provider_error", 1),
        (Reply(status=429, retry_after=7), 503, "overloaded", 1),
        (Reply(status=500), 502, "provider_error", 2),
        (Reply(cut_after=0), 502, "provider_error", 2),
        (Reply(garbage=True), 502, "provider_error", 2),
    ],
)
@pytest.mark.parametrize("path", ["llm-call", "llm-call-stream"])
def test_a_provider_that_fails_is_a_clear_error_and_costs_nothing(
    live: Live,
    provider: ProviderServer,
    reply: Reply,
    status: int,
    code: str,
    attempts: int,
    path: str,
) -> None:
    alice = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)
    provider.default = reply
    with live.client(alice.headers) as client:
        job_id = open_job(client)
        response = client.post(f"/api/jobs/{job_id}/{path}", json=ASK)
    text = response.text.lower()
    assert code in text
    assert response.status_code in {status, 200}
    assert [word for word in LEAKS if word in text] == []
    wait_until(lambda: Call.objects.get().status not in Call.RUNNING)
    assert not Hold.objects.filter(state="open").exists()
    assert len(provider.requests) == attempts
    assert verification.verify() == []


def test_a_stream_cut_in_the_middle_ends_with_an_error_frame_and_a_fair_charge(
    live: Live, provider: ProviderServer
) -> None:
    alice = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)
    provider.script(Reply(text="one two three four five six", cut_after=4, frame_delay=0.02))
    with live.client(alice.headers) as client:
        job_id = open_job(client)
        with client.stream("POST", f"/api/jobs/{job_id}/llm-call-stream", json=ASK) as stream:
            frames = frames_of(stream)
    assert frames[-1]["error"]["code"] == "provider_error"
    call = Call.objects.get()
    assert (call.status, call.usage_source) == ("settled", "estimate")
    assert call.charged_nanocredits > 0
    assert verification.verify() == []


def test_null_content_is_an_answer(live: Live, provider: ProviderServer) -> None:
    alice = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)
    provider.script(Reply(text=None))
    with live.client(alice.headers) as client:
        job_id = open_job(client)
        response = client.post(f"/api/jobs/{job_id}/llm-call", json=ASK)
    assert response.status_code == 200
    assert response.json()["response"]["content"] is None
    assert Call.objects.get().charged_nanocredits == 0


def test_cancelling_stops_a_running_stream_and_settles_it(
    live: Live, provider: ProviderServer
) -> None:
    alice = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)
    provider.script(Reply(text=" ".join(["word"] * 400), frame_delay=0.05))
    with live.client(alice.headers) as client:
        job_id = open_job(client)
        with client.stream("POST", f"/api/jobs/{job_id}/llm-call-stream", json=ASK) as stream:
            lines = stream.iter_lines()
            for _ in range(4):
                next(line for line in lines if line.startswith("data: "))
            with live.client(alice.headers) as other:
                refused = other.post(f"/api/jobs/{job_id}/complete", json={})
                assert refused.json()["error"]["code"] == "calls_in_flight"
                started = time.monotonic()
                assert other.post(f"/api/jobs/{job_id}/cancel", json={}).status_code == 200
            rest = "".join(lines)
    # The whole of it would take twenty.
    assert time.monotonic() - started < 10
    assert "job_closed" in rest
    assert Job.objects.get().status == "cancelled"
    assert Call.objects.get().charged_nanocredits > 0
    assert verification.verify() == []


def test_a_process_killed_in_mid_stream_loses_nothing(
    spawned: Any, provider: ProviderServer, settings: Any
) -> None:
    alice = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)
    provider.script(Reply(text=" ".join(["word"] * 400), frame_delay=0.05))
    server = spawned()
    with server.client(alice.headers) as client:
        job_id = open_job(client)
        with client.stream("POST", f"/api/jobs/{job_id}/llm-call-stream", json=ASK) as stream:
            next(line for line in stream.iter_lines() if line.startswith("data: "))
            server.process.kill()
            server.process.wait()
    held = Account.objects.get().held_nanocredits
    assert held > 0
    assert "abandoned calls" not in worker.sweep()  # not before its time
    Call.objects.update(expires_at="2020-01-01T00:00Z")
    Hold.objects.update(expires_at="2020-01-01T00:00Z")
    assert worker.sweep()["abandoned calls"] == 1
    assert "abandoned calls" not in worker.sweep()
    call = Call.objects.get()
    assert call.status == "abandoned"
    assert call.provider_cost_nano_usd == call.held_cost_nano_usd
    account = Account.objects.get()
    assert (account.held_nanocredits, account.balance_nanocredits) == (0, 100 * 10**9)
    assert Job.objects.get().in_flight == 0
    assert verification.verify() == []
