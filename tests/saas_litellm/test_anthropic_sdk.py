"""The official Anthropic client, with nothing changed but its base URL and key."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from jobs.models import Call, Job
from saas_litellm import verification
from tests import factories
from tests.conftest import Live
from tests.factories import Company
from tests.providers.server import ProviderServer, Reply

pytestmark = pytest.mark.any_database

HELLO: Any = [{"role": "user", "content": "Hello"}]
WEATHER: Any = {
    "name": "weather",
    "description": "The weather of a city",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


@pytest.fixture(params=["openai", "anthropic"])
def alice(request: pytest.FixtureRequest, live: Live, provider: ProviderServer) -> Company:
    """The client does not know which provider answers."""
    if request.param == "anthropic":
        model, base = "anthropic/claude-3-5-haiku-20241022", provider.anthropic_base
    else:
        model, base = "openai/gpt-4o-mini", provider.openai_base
    return factories.company(model=model, api_base=base)


@pytest.fixture
def client(live: Live, alice: Company) -> Iterator[Anthropic]:
    with Anthropic(base_url=live.url, api_key=alice.key, max_retries=0) as made:
        yield made


def test_a_message_is_answered_and_charged(client: Anthropic) -> None:
    raw = client.messages.with_raw_response.create(
        model="chat", max_tokens=100, messages=HELLO, system="Be kind.", metadata={"user_id": "u"}
    )
    message = raw.parse()
    assert [block.to_dict() for block in message.content] == [
        {"type": "text", "text": "Hello from afar"}
    ]
    assert (message.model, message.stop_reason) == ("chat", "end_turn")
    assert (message.usage.input_tokens, message.usage.output_tokens) == (100, 20)
    assert raw.headers["X-Credits-Charged"] == "0.016"
    assert Call.objects.get().call_metadata == {"user_id": "u"}
    assert Job.objects.get().status == "completed"
    assert verification.verify() == []


def test_a_stream_is_put_together_by_the_client(client: Anthropic) -> None:
    with client.messages.stream(model="chat", max_tokens=100, messages=HELLO) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert text.strip() == "Hello from afar"
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens == 20
    assert verification.verify() == []


def test_tools_go_round(client: Anthropic, provider: ProviderServer) -> None:
    provider.script(Reply(tool={"name": "weather", "input": {"city": "Bern"}}))
    first = client.messages.create(
        model="chat", max_tokens=100, messages=HELLO, tools=[WEATHER], tool_choice={"type": "any"}
    )
    assert first.stop_reason == "tool_use"
    called = first.content[-1]
    assert called.type == "tool_use"
    assert (called.name, called.input) == ("weather", {"city": "Bern"})
    result: Any = {"type": "tool_result", "tool_use_id": called.id, "content": "sunny"}
    second = client.messages.create(
        model="chat",
        max_tokens=100,
        messages=[
            *HELLO,
            {"role": "assistant", "content": first.content},
            {"role": "user", "content": [result]},
        ],
        tools=[WEATHER],
    )
    assert second.stop_reason == "end_turn"
    assert "sunny" in str(provider.requests[1].json["messages"][-1])


def test_a_streamed_tool_call_is_put_together_by_the_client(
    client: Anthropic, provider: ProviderServer
) -> None:
    provider.script(Reply(tool={"name": "weather", "input": {"city": "Bern"}}))
    with client.messages.stream(
        model="chat", max_tokens=100, messages=HELLO, tools=[WEATHER]
    ) as stream:
        message = stream.get_final_message()
    assert message.stop_reason == "tool_use"
    called = message.content[-1]
    assert called.type == "tool_use"
    assert (called.name, called.input) == ("weather", {"city": "Bern"})


def test_pictures_are_passed_on(client: Anthropic, provider: ProviderServer) -> None:
    data = base64.b64encode(b"not really a png").decode()
    picture: Any = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": data},
    }
    client.messages.create(
        model="chat", max_tokens=10, messages=[{"role": "user", "content": [picture]}]
    )
    assert data in str(provider.requests[0].json)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"extra_body": {"top_k": 5}}, "top_k"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
        ({"extra_body": {"container": "x"}}, "container"),
    ],
)
def test_what_we_do_not_do_is_refused_in_the_clients_own_shape(
    client: Anthropic, more: dict[str, Any], param: str
) -> None:
    with pytest.raises(anthropic.UnprocessableEntityError) as caught:
        client.messages.create(model="chat", max_tokens=10, messages=HELLO, **more)
    body: Any = caught.value.body
    assert body["type"] == "error"
    assert body["error"]["type"] == "invalid_request_error"
    assert body["error"]["param"] == param


def test_the_errors_are_the_clients_own(
    client: Anthropic, live: Live, provider: ProviderServer
) -> None:
    with pytest.raises(anthropic.PermissionDeniedError):
        client.messages.create(model="claude-opus", max_tokens=10, messages=HELLO)
    with (
        Anthropic(base_url=live.url, api_key="nobody", max_retries=0) as stranger,
        pytest.raises(anthropic.AuthenticationError),
    ):
        stranger.messages.create(model="chat", max_tokens=10, messages=HELLO)
    provider.default = Reply(status=429, retry_after=30)
    with pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model="chat", max_tokens=10, messages=HELLO)
    assert caught.value.status_code == 503
    body: Any = caught.value.body
    assert body["error"]["type"] == "overloaded_error"


def test_a_stream_that_breaks_off_raises_in_the_client(
    client: Anthropic, provider: ProviderServer
) -> None:
    provider.default = Reply(text="one two three four five six", cut_after=5)
    with (
        pytest.raises(anthropic.APIStatusError, match="failed to answer"),
        client.messages.stream(model="chat", max_tokens=100, messages=HELLO) as stream,
    ):
        list(stream.text_stream)
    assert Call.objects.get().charged_nanocredits > 0
