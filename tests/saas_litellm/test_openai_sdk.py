"""The official OpenAI client, with nothing changed but its base URL and key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from billing.models import Account, Entry, Hold
from jobs.models import Call, Job
from saas_litellm import verification
from teams.models import Alias
from tests import factories
from tests.conftest import Live
from tests.factories import Company
from tests.providers.server import ProviderServer, Reply

HELLO: Any = [{"role": "user", "content": "Hello"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture
def alice(live: Live, provider: ProviderServer) -> Company:
    return factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)


@pytest.fixture
def client(live: Live, alice: Company) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{live.url}/v1", api_key=alice.key, max_retries=0) as made:
        yield made


def test_a_chat_completion_is_answered_charged_and_closed_as_a_job(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="chat", messages=HELLO, metadata={"ticket": "42"}, extra_headers={"X-Job-Type": "faq"}
    )
    answer = raw.parse()
    assert answer.choices[0].message.content == "Hello from afar"
    assert answer.model == "chat"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 120
    # 1,600 micro-USD at 10 credits a USD, and 100 to begin with.
    assert raw.headers["X-Credits-Charged"] == "0.016"
    assert raw.headers["X-Credits-Remaining"] == "99.984"
    job, call = Job.objects.get(), Call.objects.get()
    assert (raw.headers["X-Job-Id"], raw.headers["X-Call-Id"]) == (str(job.pk), str(call.pk))
    assert (job.status, job.job_type, job.is_single) == ("completed", "faq", True)
    assert call.call_metadata == {"ticket": "42"}
    assert verification.verify() == []


def test_a_stream_brings_its_words_and_its_usage_only_when_asked(client: OpenAI) -> None:
    def texts(**options: Any) -> tuple[str, list[Any]]:
        chunks = list(
            client.chat.completions.create(model="chat", messages=HELLO, stream=True, **options)
        )
        words = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
        assert {chunk.model for chunk in chunks} == {"chat"}
        return "".join(words).strip(), [chunk.usage for chunk in chunks if chunk.usage]

    assert texts() == ("Hello from afar", [])
    text, usages = texts(stream_options={"include_usage": True})
    assert text == "Hello from afar"
    assert [usage.total_tokens for usage in usages] == [120]
    assert list(Job.objects.values_list("status", flat=True)) == ["completed"] * 2
    assert verification.verify() == []


def test_tools_and_their_results_go_round(client: OpenAI, provider: ProviderServer) -> None:
    provider.script(Reply(tool={"name": "weather", "input": {"city": "Bern"}}))
    first = client.chat.completions.create(
        model="chat", messages=HELLO, tools=[WEATHER], parallel_tool_calls=True
    )
    message = first.choices[0].message
    assert message.tool_calls
    called = message.tool_calls[0]
    assert called.type == "function"
    assert json.loads(called.function.arguments) == {"city": "Bern"}
    second = client.chat.completions.create(
        model="chat",
        messages=[*HELLO, message, {"role": "tool", "tool_call_id": called.id, "content": "sunny"}],
        tools=[WEATHER],
    )
    assert second.choices[0].message.content
    assert provider.requests[1].json["messages"][-1]["content"] == "sunny"


def test_structured_output_vision_and_logprobs_are_passed_on(
    client: OpenAI, provider: ProviderServer
) -> None:
    class Verdict(BaseModel):
        is_fine: bool

    provider.script(Reply(text='{"is_fine": true}'))
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    parsed = client.chat.completions.parse(
        model="chat",
        messages=[{"role": "user", "content": [{"type": "text", "text": "fine?"}, image]}],  # type: ignore[list-item]
        response_format=Verdict,
        logprobs=True,
        top_logprobs=2,
        n=1,
    )
    assert parsed.choices[0].message.parsed == Verdict(is_fine=True)
    sent = provider.requests[0].json
    assert sent["messages"][0]["content"][1] == image
    assert sent["response_format"]["json_schema"]["name"] == "Verdict"
    assert (sent["logprobs"], sent["top_logprobs"]) == (True, 2)


def test_calls_of_a_job_go_into_it(client: OpenAI, live: Live, alice: Company) -> None:
    with live.client(alice.headers) as http:
        job = http.post("/api/jobs/create", json={"team_id": "alice", "job_type": "x"}).json()
    in_job = {"X-Job-Id": job["job_id"]}
    for _ in range(2):
        client.chat.completions.create(model="chat", messages=HELLO, extra_headers=in_job)
    row = Job.objects.get()
    assert (row.successful_calls, row.status) == (2, "in_progress")
    with live.client(alice.headers) as http:
        http.post(f"/api/jobs/{job['job_id']}/complete", json={})
    with pytest.raises(openai.ConflictError, match="closed"):
        client.chat.completions.create(model="chat", messages=HELLO, extra_headers=in_job)


def test_a_flat_price_is_charged_for_a_bare_call_and_not_for_a_failed_one(
    client: OpenAI, alice: Company, provider: ProviderServer
) -> None:
    from billing import plans

    plans.assign(plan=plans.ensure_preset("job_based").plan, team=alice.team, actor="test")
    raw = client.chat.completions.with_raw_response.create(model="chat", messages=HELLO)
    assert raw.headers["X-Credits-Charged"] == "1"
    provider.default = Reply(status=400)
    with pytest.raises(openai.UnprocessableEntityError):
        client.chat.completions.create(model="chat", messages=HELLO)
    assert sorted(Job.objects.values_list("status", flat=True)) == ["completed", "failed"]
    assert Entry.objects.filter(kind="charge").count() == 1
    assert not Hold.objects.filter(state="open").exists()
    assert Account.objects.get().balance_nanocredits == 99 * 10**9


def test_a_refused_bare_call_leaves_no_job_behind(client: OpenAI) -> None:
    Account.objects.update(balance_nanocredits=0)
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="chat", messages=HELLO)
    assert caught.value.status_code == 402
    assert caught.value.code == "insufficient_credits"
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"store": True}, "store"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"extra_body": {"mock_response": "free"}}, "mock_response"),
        ({"extra_body": {"api_base": "http://evil.invalid"}}, "api_base"),
        ({"extra_headers": {"X-Job-Id": "nonsense"}}, "X-Job-Id"),
        ({"extra_headers": {"X-Job-Type": "x" * 101}}, "X-Job-Type"),
    ],
)
def test_what_we_do_not_do_is_refused_by_name(
    client: OpenAI, provider: ProviderServer, more: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        client.chat.completions.create(model="chat", messages=HELLO, **more)
    assert caught.value.param == param
    assert provider.requests == []


def test_the_errors_are_the_clients_own(
    client: OpenAI, live: Live, provider: ProviderServer
) -> None:
    with pytest.raises(openai.PermissionDeniedError) as unknown:
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert unknown.value.code == "model_not_allowed"
    stranger = OpenAI(base_url=f"{live.url}/v1", api_key="slk_nobody", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()
    provider.default = Reply(status=500)
    with pytest.raises(openai.InternalServerError) as failed:
        client.chat.completions.create(model="chat", messages=HELLO)
    assert failed.value.status_code == 502


def test_a_stranger_cannot_call_into_anothers_job(client: OpenAI, alice: Company) -> None:
    from jobs import lifecycle

    bob = factories.team(name="bob")
    theirs = lifecycle.create(team=bob, api_key=None, job_type="x")
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(
            model="chat", messages=HELLO, extra_headers={"X-Job-Id": str(theirs.pk)}
        )


def test_the_models_are_the_teams_aliases_alone(client: OpenAI, alice: Company) -> None:
    Alias.objects.create(name="secret-alias")
    assert [model.id for model in client.models.list()] == ["chat"]
    assert client.models.retrieve("chat").owned_by == "platform"
    for name in ("secret-alias", "no-such-alias"):
        with pytest.raises(openai.PermissionDeniedError):
            client.models.retrieve(name)


# --- Embeddings -------------------------------------------------------------------------------


@pytest.fixture
def embed(alice: Company) -> Alias:
    alias = factories.serve(alice.team, alias="embed", model="demo/vectors")
    Alias.objects.filter(pk=alias.pk).update(kind="embedding")
    return alias


def test_embeddings_come_as_the_client_asks_and_are_charged_by_their_tokens(
    client: OpenAI, embed: Alias
) -> None:
    packed = client.embeddings.create(model="embed", input=["one text", "another"])
    plain = client.embeddings.create(
        model="embed", input=["one text", "another"], encoding_format="float"
    )
    assert [row.index for row in packed.data] == [0, 1]
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, rel=1e-6)
    assert packed.usage.prompt_tokens == plain.usage.prompt_tokens > 0
    calls = Call.objects.all()
    assert {call.status for call in calls} == {"settled"}
    # 10 USD per million tokens in, at 10 credits a USD.
    assert {call.charged_nanocredits for call in calls} == {packed.usage.prompt_tokens * 100_000}
    assert verification.verify() == []


@pytest.mark.parametrize(
    ("given", "count"), [("text", 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2)]
)
def test_every_shape_of_input_is_taken_by_a_real_providers_protocol(
    client: OpenAI, alice: Company, provider: ProviderServer, given: Any, count: int
) -> None:
    alias = factories.serve(
        alice.team,
        alias="embed",
        model="openai/text-embedding-3-small",
        api_base=provider.openai_base,
    )
    Alias.objects.filter(pk=alias.pk).update(kind="embedding")
    answer = client.embeddings.create(model="embed", input=given, dimensions=2)
    assert [row.embedding for row in answer.data] == [[0.0, 1.0], [1.0, 1.0]][:count]
    assert provider.requests[0].json["dimensions"] == 2
    assert verification.verify() == []


def test_an_alias_serves_its_own_kind_only(client: OpenAI, embed: Alias) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match="not for chat"):
        client.chat.completions.create(model="embed", messages=HELLO)
    with pytest.raises(openai.UnprocessableEntityError, match="not for embedding"):
        client.embeddings.create(model="chat", input="text")
