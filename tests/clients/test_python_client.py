"""The Python client, in both colours, against the running platform: what it is for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, Field

from billing.models import Account
from jobs.models import Call, Job
from saas_litellm import verification
from saas_litellm_client import AsyncClient, Client, errors, tool
from tests import factories
from tests.conftest import Live
from tests.factories import Company
from tests.providers.server import ProviderServer, Reply

pytestmark = pytest.mark.any_database

# 100 tokens in at 10 USD a million and 20 out at 30 are 1,600 micro-USD, at 10 credits a USD.
CREDITS = Decimal("0.016")


def test_a_job_is_made_worked_in_and_completed_on_leaving(
    client: Any, provider: ProviderServer
) -> None:
    options: dict[str, Any] = {"metadata": {"score": 0.5}, "user_id": "u1", "max_credits": 5}
    with client.job("letter", external_task_id="t1", reserve=True, **options) as job:
        call = job.call("Hello", purpose="first", call_metadata={"page": 1}, temperature=0.5)
        assert (call.text, call.metadata.model) == ("Hello from afar", "chat")
        assert (call.usage.prompt_tokens, call.usage.completion_tokens) == (100, 20)
        assert call.costs.credits == CREDITS
        job.call(
            [
                *[{"role": "user", "content": "Hello"}],
                call.message,
                {"role": "user", "content": "More"},
            ]
        )
        assert not job.is_closed
        assert job.set_metadata({"pages": 2}) == {"score": 0.5, "pages": 2}
    assert (job.closed.status, job.closed.costs.total_calls) == ("completed", 2)
    assert job.closed.costs.credits_charged == 2 * CREDITS
    assert [line.purpose for line in job.closed.calls] == ["first", ""]
    row = Job.objects.get()
    assert (row.status, row.user_id, row.external_task_id) == ("completed", "u1", "t1")
    assert row.max_nanocredits == 5 * 10**9
    first = Call.objects.order_by("created_at")[0]
    assert (first.purpose, first.call_metadata) == ("first", {"page": 1})
    assert provider.requests[0].json["temperature"] == 0.5
    assert [m["role"] for m in provider.requests[1].json["messages"]] == [
        "user",
        "assistant",
        "user",
    ]
    assert verification.verify() == []


def test_a_result_is_kept_and_leaving_after_that_does_nothing(client: Any) -> None:
    with client.job("letter") as job:
        job.call("Hello")
        closed = job.complete(result={"risks": [1, 2]}, metadata={"by": "us"}, outcome="partial")
    assert job.closed == closed
    row = Job.objects.get()
    assert row.metadata == {"result": {"risks": [1, 2]}, "by": "us"}
    assert (row.status, row.outcome) == ("completed", "partial")


def test_a_job_may_be_failed_or_cancelled_by_hand(client: Any) -> None:
    with client.job("a") as failed:
        failed.fail("no such document", metadata={"page": 3})
    with client.job("b") as cancelled:
        cancelled.cancel("not needed")
    a, b = Job.objects.order_by("job_type")
    assert (a.status, a.error_message, a.metadata) == ("failed", "no such document", {"page": 3})
    assert (b.status, b.error_message) == ("cancelled", "not needed")


def test_a_job_goes_on_in_another_process(connect: Callable[..., Any]) -> None:
    job = connect().job("letter").open()
    later = connect().continue_job(str(job.id))
    assert later.call("Hello").text == "Hello from afar"
    with later:
        assert later.show().status == "in_progress"
    assert Job.objects.get().status == "completed"
    assert job.show().status == "completed"


def test_one_call_is_one_job_and_one_request(client: Any) -> None:
    answer = client.call("faq", "Hello", metadata={"ticket": "42"}, max_credits=Decimal("0.5"))
    assert (answer.text, answer.status, answer.team_id) == ("Hello from afar", "completed", "alice")
    assert answer.costs.credits == CREDITS
    with client.stream("faq", "Hello") as stream:
        assert "".join(chunk.text for chunk in stream).strip() == "Hello from afar"
    assert stream.costs.credits == CREDITS
    assert [job.status for job in Job.objects.all()] == ["completed"] * 2
    assert verification.verify() == []


class Weather(BaseModel):
    """The weather of a city."""

    city: str = Field(description="Its name")
    days: int = 1


def test_tools_are_passed_on_and_what_is_called_is_typed(
    client: Any, provider: ProviderServer
) -> None:
    provider.script(
        Reply(tool={"name": "Weather", "input": {"city": "Bern"}}, finish_reason="tool_calls")
    )
    with client.job("agent") as job:
        talk: list[Any] = [{"role": "user", "content": "Weather in Bern?"}]
        asked = job.call(talk, tools=[tool(Weather)], tool_choice="auto")
        (called,) = asked.tool_calls
        assert (called.name, called.arguments) == ("Weather", {"city": "Bern"})
        assert called.parse(Weather) == Weather(city="Bern", days=1)
        with pytest.raises(ValueError, match="city"):
            called.model_copy(
                update={"function": called.function.model_copy(update={"arguments": "{}"})}
            ).parse(Weather)
        talk += [asked.message, called.result("sunny")]
        assert job.call(talk).text == "Hello from afar"
    function = provider.requests[0].json["tools"][0]["function"]
    assert (function["name"], function["description"]) == ("Weather", "The weather of a city.")
    assert function["parameters"]["properties"]["city"]["description"] == "Its name"
    assert provider.requests[1].json["messages"][-1]["content"] == "sunny"


def test_a_quote_is_kept(client: Any) -> None:
    quote = client.quote("letter", messages="A letter.", model="chat", expected_calls=2)
    assert quote.credits.expected <= quote.credits.p95 <= quote.credits.worst_case
    assert quote.basis.source == "worst_case"
    with client.job("letter", quote_id=quote.quote_id) as job:
        job.call("Hello")
    assert job.closed.costs.credits_charged <= quote.credits.p95
    with pytest.raises(errors.QuoteUsed), client.job("letter", quote_id=quote.quote_id):
        pass


def test_credits_are_exact(client: Any, alice: Company) -> None:
    Account.objects.update(balance_nanocredits=123_456_789_123_456_789)
    balance = client.balance()
    assert balance.balance == Decimal("123456789.123456789")
    assert (balance.team_id, balance.held, balance.runway.days) == ("alice", 0, None)
    assert balance.lots[0].credits_granted == 100


def test_usage_and_jobs_are_found_again(client: Any) -> None:
    for number in range(5):
        client.call(
            "faq" if number % 2 else "letter", "Hello", metadata={"n": f"{number}", "f": 0.5}
        )
    usage = client.usage(group_by="job_type")
    assert (usage.summary.jobs, usage.summary.credits_charged) == (5, 5 * CREDITS)
    assert {row.job_type: row.jobs for row in usage.rows} == {"faq": 2, "letter": 3}
    soon = datetime.now(UTC) + timedelta(hours=1)
    assert client.usage(start=soon - timedelta(days=1), end=soon).summary.jobs == 5
    assert client.usage("2020-01").summary.jobs == 0
    # Two pages of two, and one of one.
    found = list(client.jobs(limit=2, status="completed", created_before=soon))
    assert [job.metadata["n"] for job in found] == ["4", "3", "2", "1", "0"]
    (second,) = client.jobs(job_type="letter", metadata={"n": "2"})
    assert second.metadata == {"n": "2", "f": 0.5}
    details, bill = client.show_job(second.job_id), client.show_costs(str(second.job_id))
    assert [step.to_status for step in details.status_history][-1] == "completed"
    assert details.costs == bill.costs
    assert sum(line.credits for line in bill.calls) == CREDITS


def test_forty_at_once_in_one_job_over_threads(live: Live, alice: Company) -> None:
    with (
        Client(base_url=live.url, api_key=alice.key, team_id="alice") as client,
        client.job("many") as job,
        ThreadPoolExecutor(40) as pool,
    ):
        texts = list(pool.map(lambda n: job.call(f"Hello {n}").text, range(40)))
    assert texts == ["Hello from afar"] * 40
    assert job.closed.costs.credits_charged == 40 * CREDITS
    assert verification.verify() == []


async def test_forty_at_once_in_one_job_over_tasks(live: Live, alice: Company) -> None:
    async with (
        AsyncClient(base_url=live.url, api_key=alice.key, team_id="alice") as client,
        client.job("many") as job,
    ):

        async def streamed(number: int) -> str:
            return "".join([chunk.text async for chunk in job.stream(f"Hello {number}")])

        texts = await asyncio.gather(*map(streamed, range(40)))
    assert texts == ["Hello from afar "] * 40
    assert job.closed.costs.credits_charged == 40 * CREDITS


def test_it_asks_where_and_as_whom_the_environment_says(
    live: Live, alice: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAAS_BASE_URL", f"{live.url}/")
    monkeypatch.setenv("SAAS_API_KEY", alice.key)
    with pytest.raises(ValueError, match="SAAS_TEAM_ID"):
        Client()
    monkeypatch.setenv("SAAS_TEAM_ID", "alice")
    with Client() as client:
        assert client.balance().team_id == "alice"
        inside = [client, vars(client), vars(client._transport), client._transport.settings]
        assert alice.key not in repr(inside)


def test_what_cannot_be_sent_is_said_before_it_is(client: Any) -> None:
    with pytest.raises(TypeError, match="object has no JSON form"):
        client.job("letter", metadata={"a": object()})
    with pytest.raises(ValueError, match="badly formed"):
        client.show_job("../teams")
    with pytest.raises(RuntimeError, match="Open the job first"):
        client.job("letter").call("Hello")
    assert not Job.objects.exists()


def test_a_stranger_sees_nothing(connect: Callable[..., Any]) -> None:
    bob = factories.company(name="bob", alias="bobs")
    job = connect().job("letter").open()
    theirs = connect(api_key=bob.key, team_id="bob")
    with pytest.raises(errors.NotFound):
        theirs.show_job(job.id)
    with pytest.raises(errors.TeamMismatch) as refused:
        connect(api_key=bob.key, team_id="alice").job("letter").open()
    assert refused.value.param == "team_id"
