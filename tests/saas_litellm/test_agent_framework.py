"""An agent framework on OpenAI's chat completions, its whole run inside one job."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID

import pytest
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    RunConfig,
    Runner,
    RunResultStreaming,
    StreamEvent,
    function_tool,
)
from openai import AsyncOpenAI
from openai.types.responses import ResponseTextDeltaEvent
from pydantic import BaseModel

from billing.models import Entry, Hold
from jobs.models import Call, CostLine, Job
from saas_litellm import verification
from tests import factories
from tests.conftest import Live
from tests.factories import Company
from tests.providers.server import ProviderServer, Reply

pytestmark = pytest.mark.any_database

QUIET = RunConfig(tracing_disabled=True)
TOOL = Reply(tool={"name": "weather", "input": {"city": "Bern"}}, finish_reason="tool_calls")
# 100 tokens in at 10 USD a million and 20 out at 30: 1,600 micro-USD, at 10 credits a USD.
COST_NANO_USD = 1_600_000
CHARGE_NANOCREDITS = 16_000_000


class Report(BaseModel):
    city: str
    is_sunny: bool


@function_tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


@pytest.fixture
def alice(live: Live, provider: ProviderServer) -> Company:
    return factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)


@pytest.fixture
def job(live: Live, alice: Company) -> UUID:
    """Opened before the agent runs, as an application would."""
    with live.client(alice.headers) as http:
        made = http.post("/api/jobs/create", json={"team_id": "alice", "job_type": "report"})
    return UUID(made.json()["job_id"])


@pytest.fixture
def model(live: Live, alice: Company, job: UUID) -> OpenAIChatCompletionsModel:
    client = AsyncOpenAI(
        base_url=f"{live.url}/v1",
        api_key=alice.key,
        max_retries=0,
        default_headers={"X-Job-Id": str(job)},
    )
    return OpenAIChatCompletionsModel(model="chat", openai_client=client)


def assert_books(live: Live, alice: Company, job: UUID, *, calls: int) -> None:
    """The completed job adds up: one charge and one cost line a call, nothing held, books agree."""
    with live.client(alice.headers) as http:
        closed = http.post(f"/api/jobs/{job}/complete", json={}).json()
    assert closed["costs"]["total_calls"] == closed["costs"]["successful_calls"] == calls
    assert closed["costs"]["total_tokens"] == 120 * calls
    row = Job.objects.get()
    assert (row.pk, row.status) == (job, "completed")
    assert row.charged_nanocredits == CHARGE_NANOCREDITS * calls
    assert row.provider_cost_nano_usd == COST_NANO_USD * calls
    made = Call.objects.all()
    assert [call.charged_nanocredits for call in made] == [CHARGE_NANOCREDITS] * calls
    charges = Entry.objects.filter(kind="charge")
    assert [entry.amount_nanocredits for entry in charges] == [-CHARGE_NANOCREDITS] * calls
    lines = CostLine.objects.all()
    assert [(line.kind, line.amount_nano_usd) for line in lines] == [
        ("attempt", COST_NANO_USD)
    ] * calls
    assert {line.call_id for line in lines} == {call.pk for call in made}
    assert not Hold.objects.filter(state="open").exists()
    assert verification.verify() == []


def test_an_agents_turns_with_a_tool_are_calls_of_one_job(
    live: Live,
    alice: Company,
    job: UUID,
    model: OpenAIChatCompletionsModel,
    provider: ProviderServer,
) -> None:
    provider.script(TOOL)
    agent = Agent(name="guide", instructions="Help.", model=model, tools=[weather])
    done = Runner.run_sync(agent, "Weather?", run_config=QUIET)
    assert done.final_output == "Hello from afar"
    usage = done.context_wrapper.usage
    assert (usage.requests, usage.input_tokens, usage.output_tokens) == (2, 200, 40)
    turns = [message["role"] for message in provider.requests[1].json["messages"]]
    assert turns == ["system", "user", "assistant", "tool"]
    assert provider.requests[1].json["messages"][-1]["content"] == "sunny in Bern"
    assert_books(live, alice, job, calls=2)


def test_an_agents_structured_output_is_asked_for_by_schema(
    live: Live,
    alice: Company,
    job: UUID,
    model: OpenAIChatCompletionsModel,
    provider: ProviderServer,
) -> None:
    provider.script(TOOL, Reply(text=json.dumps({"city": "Bern", "is_sunny": True})))
    agent = Agent(name="reporter", model=model, tools=[weather], output_type=Report)
    done = Runner.run_sync(agent, "Report.", run_config=QUIET)
    assert done.final_output == Report(city="Bern", is_sunny=True)
    schema = provider.requests[0].json["response_format"]["json_schema"]["schema"]
    assert set(schema["properties"]) == {"city", "is_sunny"}
    assert_books(live, alice, job, calls=2)


def test_an_agents_run_is_streamed_through_its_tool(
    live: Live,
    alice: Company,
    job: UUID,
    model: OpenAIChatCompletionsModel,
    provider: ProviderServer,
) -> None:
    provider.script(TOOL)
    agent = Agent(
        name="guide",
        model=model,
        tools=[weather],
        model_settings=ModelSettings(include_usage=True, temperature=0),
    )

    async def streamed() -> tuple[RunResultStreaming, list[StreamEvent]]:
        run = Runner.run_streamed(agent, "Weather?", run_config=QUIET)
        return run, [event async for event in run.stream_events()]

    run, events = asyncio.run(streamed())
    words = [
        event.data.delta
        for event in events
        if event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent)
    ]
    assert "".join(words) == run.final_output == "Hello from afar "
    assert len(words) == 3
    assert run.context_wrapper.usage.total_tokens == 240
    assert Call.objects.filter(is_stream=True).count() == 2
    assert_books(live, alice, job, calls=2)
