"""How the Python client's jobs end when something comes between."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from jobs.models import Call, Job
from saas_litellm import verification
from saas_litellm_client import AsyncClient, Client, Retries, errors
from tests.clients.flaky import Flaky
from tests.conftest import Live, wait_until
from tests.factories import Company
from tests.providers.server import ProviderServer, Reply

pytestmark = pytest.mark.any_database
SECRET = "sk-in-the-words-of-an-exception"


class DocumentUnreadable(Exception):
    pass


def test_an_exception_fails_the_job_with_its_type_and_passes(client: Any) -> None:
    with pytest.raises(DocumentUnreadable), client.job("letter") as job:
        job.call("Hello")
        raise DocumentUnreadable(SECRET)
    row = Job.objects.get()
    assert (row.status, row.error_message) == ("failed", "DocumentUnreadable")
    assert job.closed.status == "failed"


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, asyncio.CancelledError, SystemExit])
def test_an_interrupt_cancels_it(client: Any, interrupt: type[BaseException]) -> None:
    with pytest.raises(interrupt), client.job("letter") as job:
        job.call("Hello")
        raise interrupt
    row = Job.objects.get()
    assert (row.status, row.error_message) == ("cancelled", interrupt.__name__)
    assert verification.verify() == []


def test_a_generator_that_nobody_reads_on_cancels_it(client: Any) -> None:
    def words() -> Any:
        with client.job("letter") as job:
            for chunk in job.stream("Hello"):
                yield chunk.text

    generator = words()
    next(generator)
    generator.close()
    assert Job.objects.get().status == "cancelled"


def test_an_interrupt_within_a_stream_stops_the_model(
    client: Any, provider: ProviderServer
) -> None:
    provider.script(Reply(text="word " * 200, frame_delay=0.05))
    with pytest.raises(KeyboardInterrupt), client.job("letter") as job:
        for _ in job.stream("Hello"):
            raise KeyboardInterrupt
    wait_until(lambda: provider.requests[0].is_abandoned)
    assert provider.requests[0].frames_sent < 100
    wait_until(lambda: Call.objects.get().status == "settled")
    assert Job.objects.get().status == "cancelled"
    assert verification.verify() == []


def test_trouble_in_closing_never_hides_the_callers_own(
    connect: Callable[..., Any], flaky: Flaky, caplog: pytest.LogCaptureFixture
) -> None:
    client = connect(base_url=flaky.url, retries=Retries(count=0))
    with (
        caplog.at_level(logging.WARNING, "saas_litellm_client"),
        pytest.raises(DocumentUnreadable),
        client.job("letter") as job,
    ):
        flaky.do("lose the request")
        raise DocumentUnreadable(SECRET)
    assert not job.is_closed
    assert Job.objects.get().is_open
    (record,) = [one for one in caplog.records if one.name == "saas_litellm_client"]
    assert str(job.id) in record.getMessage()
    assert SECRET not in record.getMessage()


def test_a_job_that_was_closed_by_others_is_said_on_leaving(client: Any) -> None:
    with pytest.raises(errors.JobClosed), client.job("letter") as job:
        client.continue_job(job.id).cancel("by an operator")
    with pytest.raises(DocumentUnreadable), client.job("letter") as job:
        client.continue_job(job.id).cancel("by an operator")
        raise DocumentUnreadable
    assert {row.status for row in Job.objects.all()} == {"cancelled"}


def test_a_call_that_still_runs_is_waited_for_on_leaving(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    provider.script(Reply(first_delay=1.0))
    with Client(base_url=live.url, api_key=alice.key, team_id="alice") as client:
        with client.job("letter") as job:
            thread = threading.Thread(target=job.call, args=("Hello",))
            thread.start()
            wait_until(lambda: Call.objects.filter(status="dispatched").exists())
        thread.join()
    assert (job.closed.status, job.closed.costs.total_calls) == ("completed", 1)


def test_a_call_that_was_not_waited_for_is_stopped(
    connect: Callable[..., Any], provider: ProviderServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saas_litellm_client._endings.FAILING_SECONDS", 0.2)
    provider.script(Reply(first_delay=30))
    with pytest.raises(errors.TimedOut), connect().job("letter") as job:
        job.call("Hello", timeout=0.3)
    row = Job.objects.get()
    assert (row.status, row.error_message) == ("cancelled", "TimedOut")
    wait_until(lambda: not Call.objects.filter(status__in=Call.RUNNING).exists())
    assert verification.verify() == []


async def test_a_cancelled_task_cancels_its_job(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    provider.script(Reply(first_delay=30))
    async with AsyncClient(base_url=live.url, api_key=alice.key, team_id="alice") as client:

        async def work() -> None:
            async with client.job("letter") as job:
                await job.call("Hello")

        task = asyncio.create_task(work())
        await asyncio.to_thread(
            wait_until, lambda: Call.objects.filter(status="dispatched").exists()
        )
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await asyncio.to_thread(lambda: Job.objects.get().status) == "cancelled"


async def test_a_cancel_scope_that_cancels_every_await_does_not_keep_it_from_closing(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    """As web frameworks on anyio do when a browser leaves."""
    provider.script(Reply(text="word " * 200, frame_delay=0.05))
    async with AsyncClient(base_url=live.url, api_key=alice.key, team_id="alice") as client:
        with anyio.CancelScope() as scope:
            async with client.job("letter") as job:
                async for _ in job.stream("Hello"):
                    scope.cancel()
        assert scope.cancelled_caught
    assert await asyncio.to_thread(lambda: Job.objects.get().status) == "cancelled"
    await asyncio.to_thread(wait_until, lambda: provider.requests[0].is_abandoned)
