"""A call in flight: when stopping it still means something."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from jobs import metering, runs, settling
from jobs.cases import Settlement
from jobs.models import Job
from saas_litellm.base.grouping import Group
from tests import factories
from tests.conftest import Live
from tests.providers.server import ProviderServer, Reply


@pytest.mark.parametrize(
    ("reply", "status"), [(Reply(), 200), (Reply(status=400, fault={"error": {}}), 422)]
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_single_job_that_closes_with_its_call_was_not_cancelled(
    live: Live,
    provider: ProviderServer,
    monkeypatch: pytest.MonkeyPatch,
    reply: Reply,
    status: int,
    is_stream: bool,
) -> None:
    alice = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)
    provider.script(reply)
    loops: list[Any] = []

    def settled_while_the_watcher_asks(settlements: Sequence[Settlement]) -> Any:
        settled = settling.settle_all(settlements)
        # The watcher of cancelled jobs asks now: this job is closed, and its call still listed.
        assert Job.objects.get().status not in Job.OPEN

        async def stop() -> None:
            metering.stop_job(settlements[0].opened.job.pk)

        asyncio.run_coroutine_threadsafe(stop(), loops[0]).result(5)
        return settled

    def start(**asked: Any) -> runs.Run:
        loops.append(asyncio.get_running_loop())
        return begin(**asked)

    begin = metering.start
    monkeypatch.setattr(metering, "_settlements", Group(settled_while_the_watcher_asks))
    monkeypatch.setattr(metering, "start", start)
    body = {"messages": [{"role": "user", "content": "hi"}], "model": "chat", "stream": is_stream}
    with live.client(alice.headers) as client:
        response = client.post("/v1/chat/completions", json=body)
    assert response.status_code == status, response.text
    assert "cancelled" not in response.text
    assert len(loops) == 1
