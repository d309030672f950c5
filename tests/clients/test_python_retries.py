"""Retries of the Python client: where they are safe, bounded, and never paid for twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from billing.models import Entry
from jobs.models import Call, Job
from saas_litellm import verification
from saas_litellm_client import Retries, Timeouts, errors
from saas_litellm_client._wire import Attempts
from teams.models import Team
from tests.clients.flaky import Deed, Flaky
from tests.providers.server import ProviderServer, Reply

pytestmark = pytest.mark.any_database


@pytest.fixture
def behind(connect: Callable[..., Any], flaky: Flaky) -> Any:
    """A client behind the proxy."""
    return connect(base_url=flaky.url)


@pytest.mark.parametrize(
    ("kind", "deed"),
    [
        *(("call", deed) for deed in ("lose the request", "lose the answer", "cut the answer")),
        *(("call", deed) for deed in ("hang up at once", 502, 503, 504)),
        *(("stream", deed) for deed in ("lose the request", "lose the answer", 503)),
        *(("one call", deed) for deed in ("lose the answer", "cut the answer")),
    ],
)
def test_what_is_lost_on_the_way_is_asked_for_again_and_charged_once(
    behind: Any, flaky: Flaky, provider: ProviderServer, kind: str, deed: Deed
) -> None:
    if kind == "one call":
        flaky.do(deed)
        assert behind.call("letter", "Hello").text == "Hello from afar"
    else:
        with behind.job("letter") as job:
            flaky.do(deed)
            if kind == "call":
                assert job.call("Hello").text == "Hello from afar"
            else:
                assert "".join(chunk.text for chunk in job.stream("Hello")) == "Hello from afar "
    calls = [seen for seen in flaky.seen if "call" in seen.path]
    assert len(calls) >= 2
    assert len({seen.key for seen in calls}) == 1
    assert len(provider.requests) == 1
    assert Entry.objects.filter(kind="charge").count() == 1
    assert (Job.objects.count(), Job.objects.get().status) == (1, "completed")
    assert verification.verify() == []


@pytest.mark.parametrize("deed", ["lose the request", "lose the answer"])
def test_a_job_is_made_and_closed_once(behind: Any, flaky: Flaky, deed: Deed) -> None:
    flaky.do(deed)
    with behind.job("letter") as job:
        flaky.do(deed)
        assert job.set_metadata({"a": 1}) == {"a": 1}
        flaky.do(deed)
        assert behind.balance().balance == 100
        flaky.do(deed)
    assert Job.objects.get().status == "completed"
    assert [step.to_status for step in Job.objects.get().history.all()] == ["pending", "completed"]


def test_a_call_that_still_runs_is_waited_for(
    behind: Any, flaky: Flaky, provider: ProviderServer
) -> None:
    """However often that is asked for: it is no failed try."""
    provider.script(Reply(first_delay=2.5))
    with behind.job("letter") as job:
        flaky.do("hang up at once")
        assert job.call("Hello").text == "Hello from afar"
    assert len([seen for seen in flaky.seen if seen.path.endswith("llm-call")]) >= 4
    assert len(provider.requests) == 1


@pytest.mark.parametrize("count", [0, 2])
def test_tries_are_bounded_by_their_count(
    connect: Callable[..., Any], flaky: Flaky, count: int
) -> None:
    client = connect(base_url=flaky.url, retries=Retries(count=count, first_wait=0.01))
    flaky.do(*[503] * 9)
    with pytest.raises(errors.Unavailable) as failed:
        client.job("letter").open()
    assert len(flaky.seen) == count + 1
    assert (failed.value.code, failed.value.status) == ("http_503", 503)


def test_tries_are_bounded_by_their_time(connect: Callable[..., Any], flaky: Flaky) -> None:
    client = connect(base_url=flaky.url, timeouts=Timeouts(total=0.5), retries=Retries(count=99))
    flaky.do(*[502] * 99)
    started = time.monotonic()
    with pytest.raises(errors.Unavailable):
        client.job("letter").open()
    assert time.monotonic() - started < 2
    assert len(flaky.seen) < 4


def test_who_wakes_too_late_for_another_try_is_told_what_the_last_came_to() -> None:
    attempts = Attempts(Retries(first_wait=0.001), Timeouts(total=0.5), total=None)
    attempts.wait_after(errors.ConnectionFailed("lost"))
    time.sleep(0.5)
    with pytest.raises(errors.ConnectionFailed, match="lost"):
        attempts.seconds_left()


def test_retry_after_is_respected_and_not_waited_for_in_vain(
    connect: Callable[..., Any], flaky: Flaky
) -> None:
    client = connect(base_url=flaky.url, timeouts=Timeouts(total=5), retries=Retries())
    flaky.do((429, "1"))
    started = time.monotonic()
    client.balance()
    assert time.monotonic() - started >= 1
    flaky.do((429, "Thu, 01 Jan 2999 00:00:00 GMT"))
    with pytest.raises(errors.RateLimited) as failed:
        client.balance()
    assert failed.value.retry_after is not None
    assert failed.value.retry_after > 1e9
    assert time.monotonic() - started < 4


@pytest.mark.parametrize("status", [500, 400, 404, 401])
def test_what_another_try_would_not_mend_is_not_tried(
    behind: Any, flaky: Flaky, status: int
) -> None:
    flaky.do(status)
    with pytest.raises(errors.ApiError) as failed:
        behind.balance()
    assert (failed.value.status, failed.value.code) == (status, f"http_{status}")
    assert len(flaky.seen) == 1


def test_a_provider_that_fails_is_asked_again_by_the_client_too(
    client: Any, provider: ProviderServer, settings: Any
) -> None:
    settings.CALL_RETRIES = 0
    provider.script(Reply(status=500))
    with client.job("letter") as job:
        assert job.call("Hello").text == "Hello from afar"
    assert job.closed.costs.failed_calls == 1
    assert verification.verify() == []


def test_no_answer_in_time(connect: Callable[..., Any], provider: ProviderServer) -> None:
    provider.default = Reply(first_delay=5)
    client = connect()
    started = time.monotonic()
    with pytest.raises(errors.TimedOut):
        client.call("letter", "Hello", timeout=0.5)
    with pytest.raises(errors.TimedOut):
        list(client.stream("letter", "Hello", timeout=0.5))
    assert time.monotonic() - started < 4


def test_nobody_there(connect: Callable[..., Any]) -> None:
    client = connect(base_url="http://127.0.0.1:9", retries=Retries(count=1, first_wait=0.01))
    with pytest.raises(errors.ConnectionFailed):
        client.balance()
    with pytest.raises(errors.UnexpectedAnswer):
        connect(base_url="gopher://127.0.0.1").balance()


def test_an_answer_that_was_not_kept_is_not_paid_for_again(
    behind: Any, flaky: Flaky, provider: ProviderServer
) -> None:
    Team.objects.update(is_replay_kept=False)
    flaky.do("lose the answer")
    with pytest.raises(errors.AnswerNotKept):
        behind.call("letter", "Hello")
    assert (len(provider.requests), Call.objects.count()) == (1, 1)


def test_waits_double_with_chance_and_have_an_end() -> None:
    attempts = Attempts(Retries(count=6, first_wait=1, longest_wait=8), Timeouts(), total=600)
    waits = [attempts.wait_after(errors.ConnectionFailed()) for _ in range(6)]
    bounds = [(0.5, 1), (1, 2), (2, 4), (4, 8), (4, 8), (4, 8)]
    assert all(low <= wait <= high for wait, (low, high) in zip(waits, bounds, strict=True))
    with pytest.raises(errors.ConnectionFailed):
        attempts.wait_after(errors.ConnectionFailed())
