"""OpenAI's Responses API through its official client, and an agent framework on top of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import openai
import pytest
from agents import Agent, OpenAIResponsesModel, RunConfig, Runner, function_tool
from openai import AsyncOpenAI, OpenAI
from openai.types.responses import ResponseStreamEvent
from pydantic import BaseModel, Field, TypeAdapter

from jobs.models import Call, Job
from saas_litellm import verification
from tests import factories
from tests.conftest import Live
from tests.factories import Company
from tests.providers.server import ProviderServer, Reply

pytestmark = pytest.mark.any_database

WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}
TOOL = Reply(tool={"name": "weather", "input": {"city": "Bern"}}, finish_reason="tool_calls")


@pytest.fixture
def alice(live: Live, provider: ProviderServer) -> Company:
    return factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)


@pytest.fixture
def client(live: Live, alice: Company) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{live.url}/v1", api_key=alice.key, max_retries=0) as made:
        yield made


def test_a_response_is_answered_and_charged(client: OpenAI, provider: ProviderServer) -> None:
    answer = client.responses.create(
        model="chat", instructions="Be kind.", input="Hello", metadata={"ticket": "42"}
    )
    assert answer.output_text == "Hello from afar"
    assert (answer.model, answer.status, answer.store) == ("chat", "completed", False)
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (100, 20)
    sent = provider.requests[0].json["messages"]
    assert sent == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello"},
    ]
    assert Call.objects.get().call_metadata == {"ticket": "42"}
    assert Job.objects.get().status == "completed"
    assert verification.verify() == []


def test_every_event_of_a_stream_is_one_the_client_knows(client: OpenAI) -> None:
    known: Any = TypeAdapter(Annotated[ResponseStreamEvent, Field(discriminator="type")])
    events = list(client.responses.create(model="chat", input="Hello", stream=True))
    for event in events:
        known.validate_python(event.to_dict())
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    with client.responses.stream(model="chat", input="Hello") as stream:
        final = stream.get_final_response()
    assert final.output_text.strip() == "Hello from afar"
    assert verification.verify() == []


@pytest.mark.parametrize("is_stream", [False, True])
def test_functions_go_round(client: OpenAI, provider: ProviderServer, is_stream: bool) -> None:
    provider.script(TOOL)
    asked: dict[str, Any] = {"model": "chat", "input": "Weather?", "tools": [WEATHER]}
    if is_stream:
        with client.responses.stream(**asked) as stream:
            first: Any = stream.get_final_response()
    else:
        first = client.responses.create(**asked)
    called = first.output[-1]
    assert (called.type, called.name) == ("function_call", "weather")
    assert json.loads(called.arguments) == {"city": "Bern"}
    output = {"type": "function_call_output", "call_id": called.call_id, "output": "sunny"}
    history: Any = [{"role": "user", "content": "Weather?"}, *first.output, output]
    second = client.responses.create(model="chat", input=history, tools=[WEATHER])
    assert second.output_text == "Hello from afar"
    sent = provider.requests[1].json["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool"]
    assert sent[1]["tool_calls"][0]["id"] == sent[2]["tool_call_id"] == called.call_id


def test_structured_output_and_pictures_are_passed_on(
    client: OpenAI, provider: ProviderServer
) -> None:
    class Verdict(BaseModel):
        is_fine: bool

    provider.script(Reply(text='{"is_fine": true}'))
    picture: Any = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
    said: Any = {"role": "user", "content": [{"type": "input_text", "text": "fine?"}, picture]}
    answer = client.responses.parse(model="chat", input=[said], text_format=Verdict)
    assert answer.output_parsed == Verdict(is_fine=True)
    sent = provider.requests[0].json
    assert sent["response_format"]["json_schema"]["name"] == "Verdict"
    assert sent["messages"][0]["content"][1]["image_url"]["url"] == picture["image_url"]


def test_an_answer_cut_short_says_so(client: OpenAI, provider: ProviderServer) -> None:
    provider.default = Reply(finish_reason="length")
    answer = client.responses.create(model="chat", input="Hello", max_output_tokens=20)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"extra_body": {"api_key": "sk-mine"}}, "api_key"),
    ],
)
def test_what_needs_stored_state_or_cannot_be_metered_is_refused(
    client: OpenAI, provider: ProviderServer, more: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.responses.create(model="chat", input="Hello", **more)
    assert caught.value.param == param
    assert provider.requests == []


def test_a_stream_that_breaks_off_raises_in_the_client(
    client: OpenAI, provider: ProviderServer
) -> None:
    provider.default = Reply(text="one two three four five six", cut_after=5)
    events = client.responses.create(model="chat", input="Hello", stream=True)
    with pytest.raises(openai.APIError, match="failed to answer"):
        list(events)
    assert Call.objects.get().charged_nanocredits > 0


def test_an_agent_framework_runs_its_tools_through_us(
    live: Live, alice: Company, provider: ProviderServer
) -> None:
    asked: list[str] = []

    @function_tool
    def weather(city: str) -> str:
        """The weather of a city."""
        asked.append(city)
        return "sunny"

    provider.script(TOOL)
    model = OpenAIResponsesModel(
        model="chat", openai_client=AsyncOpenAI(base_url=f"{live.url}/v1", api_key=alice.key)
    )
    agent = Agent(name="guide", instructions="Help.", model=model, tools=[weather])
    done = Runner.run_sync(agent, "Weather?", run_config=RunConfig(tracing_disabled=True))
    assert done.final_output == "Hello from afar"
    assert asked == ["Bern"]
    assert Job.objects.filter(status="completed").count() == 2
    assert verification.verify() == []
