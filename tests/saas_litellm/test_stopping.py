"""A process that is told to stop: its calls settle, and whoever waits is told how they ended."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from billing.models import Account, Hold
from jobs import metering
from jobs.models import Call, Job
from saas_litellm import verification
from tests import factories
from tests.conftest import Live, wait_until
from tests.providers.server import ProviderServer, Reply

GRACE_SECONDS = 2
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
STREAMS: dict[str, dict[str, Any]] = {
    "/api/jobs/{job}/llm-call-stream": ASK,
    "/v1/chat/completions": {**ASK, "model": "chat", "stream": True},
    "/v1/messages": {**ASK, "model": "chat", "stream": True, "max_tokens": 500},
    "/v1/responses": {"input": "hi", "model": "chat", "stream": True},
}
PLAIN: dict[str, dict[str, Any]] = {
    "/api/jobs/{job}/llm-call": ASK,
    "/v1/messages": {**ASK, "model": "chat", "max_tokens": 500},
}


def ask(client: httpx.Client, path: str, body: dict[str, Any]) -> httpx.Response:
    job = client.post("/api/jobs/create", json={"team_id": "alice", "job_type": "letter"}).json()
    return client.post(path.format(job=job["job_id"]), json=body)


def test_calls_whose_clients_still_wait_end_with_the_grace(
    spawned: Any, provider: ProviderServer
) -> None:
    alice = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)
    # Each takes minutes, in silence or in words; one word again and again would end as a failure.
    words = " ".join(f"word{number}" for number in range(2000))
    provider.default = Reply(text=words, frame_delay=0.1)
    server: Live = spawned(is_fresh=True, SHUTDOWN_GRACE_SECONDS=str(GRACE_SECONDS))
    assert server.process is not None
    with server.client(alice.headers) as client, ThreadPoolExecutor() as clients:
        streams = [clients.submit(ask, client, path, body) for path, body in STREAMS.items()]
        wait_until(
            lambda: [seen.frames_sent > 3 for seen in provider.requests] == [True] * len(streams),
            seconds=60,
        )
        provider.default = Reply(first_delay=300)
        plain = [clients.submit(ask, client, path, body) for path, body in PLAIN.items()]
        wait_until(lambda: len(provider.requests) == len(streams) + len(plain), seconds=60)
        server.process.send_signal(signal.SIGTERM)
        told_at = time.monotonic()
        assert server.process.wait(60) in {0, -signal.SIGTERM}
        took = time.monotonic() - told_at
        ended = [each.result(10) for each in streams]
        refused = [each.result(10) for each in plain]
    assert GRACE_SECONDS <= took < GRACE_SECONDS + metering.SETTLING_SECONDS + 5
    for response in ended:
        assert response.status_code == 200
        last = response.text.strip().rpartition("\n\n")[2]
        assert '"overloaded"' in last, last
        assert "word" in response.text
    for response in refused:
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"
        assert response.json()["error"]["code"] == "overloaded"
    calls = list(Call.objects.all())
    assert {call.error_code for call in calls} == {"overloaded"}
    assert sorted(call.status for call in calls) == ["failed"] * len(plain) + ["settled"] * len(
        streams
    )
    assert all((call.charged_nanocredits > 0) == (call.status == "settled") for call in calls)
    assert not Hold.objects.filter(state="open").exists()
    assert Account.objects.get().held_nanocredits == 0
    assert {job.in_flight for job in Job.objects.all()} == {0}
    assert verification.verify() == []


def test_calls_that_end_in_time_end_well(spawned: Any, provider: ProviderServer) -> None:
    alice = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)
    provider.default = Reply(first_delay=1)
    server: Live = spawned(SHUTDOWN_GRACE_SECONDS="60")
    assert server.process is not None
    with server.client(alice.headers) as client, ThreadPoolExecutor() as clients:
        waiting = clients.submit(ask, client, "/api/jobs/{job}/llm-call", ASK)
        wait_until(lambda: provider.requests, seconds=60)
        server.process.send_signal(signal.SIGTERM)
        assert waiting.result(30).status_code == 200
        # Nothing is left to wait for.
        assert server.process.wait(20) in {0, -signal.SIGTERM}
    assert Call.objects.get().error_code == ""


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_process_that_stops_begins_no_call(
    live: Live, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    alice = factories.company()
    monkeypatch.setattr(metering, "_is_closed", True)
    with live.client(alice.headers) as client:
        refused = client.post(path, json={**ASK, "model": "chat", "max_tokens": 50})
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert refused.json()["error"]["code"] == "overloaded"
    assert not Call.objects.exists()
