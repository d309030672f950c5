"""Plain calls beneath litellm: what is sent and what is understood is what litellm's client would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from jobs import gateway
from jobs.gateway import FailureKind, ProviderFailure, Target, boot, direct, mapping, reading
from jobs.gateway.boot import litellm
from jobs.gateway.streams import LibraryStream
from tests.providers.server import ProviderServer, Reply

pytestmark = [pytest.mark.any_database, pytest.mark.usefixtures("connections_closed")]

ASK = [{"role": "user", "content": "hi"}]
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string", "pattern": "^(?<name>a)$"}, "b": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {"name": "look", "description": "Look.", "parameters": SCHEMA, "strict": True},
}
EITHER = {
    "type": "function",
    "function": {"name": "choose", "parameters": {"anyOf": [SCHEMA, {"type": "object"}]}},
}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
TALK: list[dict[str, Any]] = [
    {"role": "developer", "content": "Be brief."},
    {
        "role": "system",
        "content": [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}],
    },
    {"role": "user", "content": [{"type": "text", "text": "What is it?"}, PICTURE], "name": "ann"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "a horse 🐎"},
    {"role": "assistant", "content": "A horse.", "refusal": "none"},
    {"role": "user", "content": ""},
]
PARAMS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.2, "top_p": 0.9, "max_tokens": 100, "seed": 7, "n": 2, "user": "u-1"},
    {"temperature": 1, "max_completion_tokens": 100},
    {"temperature": 0},
    {"n": 1, "stop": "x"},
    {"stop": ["a", "b", "c", "d", "e"]},
    {"presence_penalty": 0.5, "frequency_penalty": -1, "logit_bias": {"50256": -100}},
    {"logprobs": True, "top_logprobs": 3},
    {"response_format": {"type": "json_object"}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "r", "schema": SCHEMA}}},
    {"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False},
    {"tools": [TOOL, EITHER], "tool_choice": {"type": "function", "function": {"name": "look"}}},
    {"tool_choice": {"type": "auto"}, "tools": [TOOL]},
    {"tool_choice": "none"},
    {"reasoning_effort": "low"},
    {"reasoning_effort": "none", "temperature": 0.5},
    {"tools": [TOOL], "reasoning_effort": "high"},
    {"user": "someone"},
]
MODELS = [
    "openai/gpt-4o-mini",
    "gpt-4",
    "openai/o3-mini",
    "openai/o1-mini",
    "openai/gpt-5-mini",
    "openai/gpt-5.4",
    "openai/gpt-5-chat-latest",
    "openai/gpt-4o-search-preview",
    "openai/gpt-4o-audio-preview",
    "openai/qwen2.5-7b-instruct",
    "openai/org/model:free",
]


@dataclass
class Wire:
    """What reached a provider, request by request."""

    requests: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    base: str = ""


@pytest.fixture
def fresh() -> Iterator[None]:
    """Nothing is kept of what was mapped before."""
    steps = mapping.steps
    mapping.forget()
    yield
    # A test may have put another in its place.
    mapping._plans.clear()
    steps.cache_clear()


@asynccontextmanager
async def listening() -> AsyncIterator[Wire]:
    wire = Wire()

    async def answer(request: web.Request) -> web.StreamResponse:
        sent = json.loads(await request.read())
        wire.requests.append((request.method, request.path_qs, dict(request.headers), sent))
        if sent.get("stream"):
            return web.Response(body=b"data: [DONE]\n\n", content_type="text/event-stream")
        message = {"role": "assistant", "content": "ok"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return web.json_response(
            {"id": "x", "created": 1, "model": "m", "choices": [choice], "usage": usage}
        )

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(application) as server:
        wire.base = str(server.make_url("/deep/v1"))
        yield wire


def copied(given: Any) -> Any:
    return json.loads(json.dumps(given))


async def asked(target: Target, params: dict[str, Any], *, is_stream: bool) -> FailureKind | None:
    place = gateway.open_stream if is_stream else gateway.complete
    try:
        answer = await place(target=target, messages=copied(TALK), params=copied(params))
    except ProviderFailure as failure:
        return failure.kind
    if is_stream:
        await answer.aclose()  # type: ignore[union-attr]
    return None


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("model", MODELS)
async def test_a_request_is_the_one_that_litellm_would_send(
    monkeypatch: pytest.MonkeyPatch, model: str, is_stream: bool
) -> None:
    async with listening() as wire:
        target = Target(model=model, api_key="sk-hush", api_base=wire.base)
        # The second time from what was kept of the first.
        ours = [
            (await asked(target, params, is_stream=is_stream), len(wire.requests))
            for params in (*PARAMS, *PARAMS)
        ]
        first, again = ours[: len(PARAMS)], ours[len(PARAMS) :]
        sent, wire.requests = wire.requests, []
        assert [kind for kind, _ in again] == [kind for kind, _ in first]
        monkeypatch.setattr(mapping, "steps", lambda: None)
        theirs = [
            (await asked(target, params, is_stream=is_stream), len(wire.requests))
            for params in PARAMS
        ]
    assert first == theirs
    for mine in (sent[: len(wire.requests)], sent[len(wire.requests) :]):
        for (method, path, headers, body), their in zip(mine, wire.requests, strict=True):
            assert (method, path, body) == (their[0], their[1], their[3])
            for name in ("Authorization", "Content-Type", "Accept"):
                assert headers[name] == their[2][name]


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "openai/o3-mini", "openai/gpt-5-mini"])
def test_common_requests_go_out_directly(model: str) -> None:
    target = Target(model=model, api_key="sk-x", api_base="http://127.0.0.1:1/v1")
    for params in ({}, {"max_tokens": 5}, {"tools": [TOOL], "tool_choice": "auto"}):
        for is_stream in (False, True):
            made = mapping.request(
                target=target, messages=copied(TALK), params=params, is_stream=is_stream
            )
            assert made is not None, (model, params)


def test_openai_itself_is_asked_at_its_address() -> None:
    target = Target(model="gpt-4o-mini", api_key="sk-x")
    made = mapping.request(target=target, messages=copied(ASK), params={}, is_stream=False)
    assert made is not None
    assert made.url == "https://api.openai.com/v1/chat/completions"


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    "target",
    [
        Target(model="anthropic/claude-sonnet-4-5", api_key="k"),
        Target(model="azure/gpt-4o", api_key="k", api_base="https://x.example"),
        Target(model="groq/llama-3.3-70b-versatile", api_key="k"),
        Target(model="deepseek/deepseek-chat", api_key="k"),
        Target(model="openai/gpt-4o-mini"),
        Target(model="openai/gpt-4o-mini", api_key="k", extra={"organization": "o"}),
        Target(model="openai/o1-pro", api_key="k"),
        Target(model="demo/demo", api_key="k"),
    ],
    ids=lambda target: target.model,
)
def test_what_is_not_plainly_openais_format_is_left_to_litellm(target: Target) -> None:
    made = mapping.request(target=target, messages=copied(ASK), params={}, is_stream=False)
    assert made is None


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTPS_PROXY", "http://127.0.0.1:3128"),
        ("OPENAI_ORG_ID", "o"),
        ("OPENAI_CUSTOM_HEADERS", "a: b"),
    ],
)
def test_an_environment_that_adds_something_is_litellms_to_read(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    target = Target(model="openai/gpt-4o-mini", api_key="k")
    assert mapping.request(target=target, messages=copied(ASK), params={}, is_stream=False) is None


def test_this_release_of_litellm_has_every_step() -> None:
    mapping.forget()
    assert mapping.steps() is not None
    transport = litellm().llms.custom_httpx.http_handler.AsyncHTTPHandler.create_async_transport()
    assert callable(transport.get_valid_client_session)
    assert callable(litellm().litellm_core_utils.core_helpers.map_finish_reason)
    assert litellm().REPEATED_STREAMING_CHUNK_LIMIT > 1


class Lacking:
    """litellm as an upgrade may leave it: without one name, wherever it stood."""

    def __init__(self, part: Any, name: str) -> None:
        self._part = part
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name == self._name:
            raise AttributeError(name)
        found = getattr(self._part, name)
        return Lacking(found, self._name) if isinstance(found, ModuleType | type) else found


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    "name",
    [
        "_resolve_openai_api_base",
        "responses_api_bridge_check",
        "get_optional_params",
        "validate_and_fix_openai_messages",
        "ProviderConfigManager",
        "get_ssl_configuration",
        "create_async_transport",
    ],
)
async def test_without_a_step_litellm_answers_itself(
    monkeypatch: pytest.MonkeyPatch, provider: ProviderServer, name: str
) -> None:
    library = litellm()
    monkeypatch.setattr(mapping, "litellm", lambda: Lacking(library, name))
    monkeypatch.setattr(boot, "litellm", lambda: Lacking(library, name))
    target = Target(model="openai/gpt-4o-mini", api_key="k", api_base=provider.openai_base)
    response = await direct.post(target=target, messages=copied(ASK), params={}, is_stream=False)
    assert response is None
    answer = await gateway.complete(target=target, messages=copied(ASK), params={})
    assert answer.choices[0]["message"]["content"] == "Hello from afar"
    stream = await gateway.open_stream(target=target, messages=copied(ASK), params={})
    assert isinstance(stream, LibraryStream)
    assert [chunks async for chunks in stream]
    assert len(provider.requests) == 2


ANSWERS: dict[str, Reply] = {
    "plain": Reply(),
    "tools": Reply(text=None, tools=[{"name": "a", "input": {"x": 1}}, {"name": "b", "input": {}}]),
    "a tool and stop": Reply(text=None, tool={"name": "a", "input": {}}, finish_reason="stop"),
    "no usage": Reply(usage=None),
    "zero usage": Reply(usage={"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}),
    "usage in detail": Reply(
        usage={
            "prompt_tokens": 9,
            "completion_tokens": 4,
            "total_tokens": 13,
            "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": 1},
            "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 1},
        }
    ),
    "usage of DeepSeek's": Reply(
        usage={"prompt_tokens": 9, "completion_tokens": 4, "prompt_cache_hit_tokens": 5}
    ),
    "usage that is none": Reply(usage={"prompt_tokens": "many"}),
    "thoughts beside": Reply(beside={"reasoning_content": "hm"}),
    "thoughts by another name": Reply(beside={"reasoning": "hm"}),
    "thoughts in the text": Reply(text="<think>hm</think>Hello"),
    "a refusal": Reply(text=None, beside={"refusal": "I won't."}),
    "another reason": Reply(finish_reason="length"),
    "a reason of their own": Reply(finish_reason="max_tokens"),
    "no reason": Reply(finish_reason=""),
    "no role": Reply(beside={"role": None}),
    "a hidden call of many": Reply(
        text=None,
        tool={
            "name": "multi_tool_use.parallel",
            "input": {"tool_uses": [{"recipient_name": "functions.a", "parameters": {"x": 1}}]},
        },
    ),
    "an error that is none": Reply(more={"error": {}}),
    "an error with 200": Reply(more={"error": {"message": "overloaded", "code": 503}}),
    "no choices": Reply(more={"choices": []}),
    "choices that are none": Reply(more={"choices": None}),
    "when is not told": Reply(more={"created": None}),
    "a page": Reply(garbage=True),
    "cut": Reply(cut_after=0),
    "400": Reply(status=400),
    "401": Reply(status=401),
    "402": Reply(status=402),
    "403": Reply(status=403),
    "404": Reply(status=404),
    "408": Reply(status=408),
    "409": Reply(status=409),
    "413": Reply(status=413),
    "422": Reply(status=422),
    "429": Reply(status=429),
    "429 and when": Reply(status=429, retry_after=7),
    "429 and the date": Reply(status=429, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    "500": Reply(status=500),
    "502": Reply(status=502),
    "503 and when": Reply(status=503, retry_after=3),
    "504": Reply(status=504),
    "too long": Reply(
        status=400,
        fault={
            "error": {
                "message": "This model's maximum context length is 10 tokens.",
                "type": "invalid_request_error",
                "code": "context_length_exceeded",
            }
        },
    ),
    "filtered": Reply(
        status=400,
        fault={
            "error": {
                "message": "Your request was rejected as a result of our safety system.",
                "type": "invalid_request_error",
                "code": "content_policy_violation",
            }
        },
    ),
    "no quota": Reply(
        status=429,
        fault={
            "error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}
        },
    ),
    "an unknown parameter": Reply(
        status=400,
        fault={
            "error": {
                "message": "Unsupported parameter: 'stop' is not supported with this model.",
                "type": "invalid_request_error",
                "param": "stop",
                "code": "unsupported_parameter",
            }
        },
    ),
    "no room for a token": Reply(
        status=400,
        fault={
            "error": {
                "message": "Could not finish the message because max_tokens or model output limit"
                " was reached. Please try again with higher max_tokens.",
                "type": "invalid_request_error",
            }
        },
    ),
    "an error in words": Reply(status=500, fault={"detail": "no"}),
}


async def told(target: Target, *, is_stream: bool) -> Any:
    """What came of a call, but for what differs from call to call."""
    try:
        if is_stream:
            stream = await gateway.open_stream(target=target, messages=copied(ASK), params={})
            chunks = [chunk async for chunks in stream for chunk in chunks]
            await stream.aclose()
            return chunks, stream.usage()
        answer = await gateway.complete(target=target, messages=copied(ASK), params={})
        for choice in answer.choices:
            for call in choice["message"].get("tool_calls", ()):
                assert call.pop("id").startswith("call_")
        return answer.choices, answer.usage
    except ProviderFailure as failure:
        return (
            failure.kind,
            failure.retry_after_seconds,
            failure.param,
            "sk-hush" in failure.detail,
        )


# Usage that is none fails litellm's stream after its last word; thoughts that were not counted it
# counts itself, in a stream alone.
OURS_ALONE = {"usage that is none", "thoughts beside", "thoughts by another name"}


@pytest.mark.parametrize(
    ("name", "is_stream"),
    [(name, False) for name in ANSWERS]
    + [(name, True) for name in ANSWERS if name not in OURS_ALONE],
)
async def test_an_answer_is_understood_the_same_by_either_way(
    monkeypatch: pytest.MonkeyPatch, provider: ProviderServer, name: str, is_stream: bool
) -> None:
    provider.default = ANSWERS[name]
    target = Target(model="openai/gpt-4o-mini", api_key="sk-hush", api_base=provider.openai_base)
    ours = await told(target, is_stream=is_stream)
    assert len(provider.requests) == 1
    assert ours[-1] is not True
    monkeypatch.setattr(mapping, "steps", lambda: None)
    assert ours == await told(target, is_stream=is_stream)


async def test_silence_is_a_timeout_and_nobody_there_a_lost_connection(
    provider: ProviderServer,
) -> None:
    provider.default = Reply(first_delay=5)
    target = Target(
        model="openai/gpt-4o-mini", api_key="k", api_base=provider.openai_base, timeout_seconds=0.2
    )
    nobody = replace(target, api_base="http://127.0.0.1:1/v1")
    for is_stream in (False, True):
        assert (await told(target, is_stream=is_stream))[0] == FailureKind.TIMEOUT
        assert (await told(nobody, is_stream=is_stream))[0] == FailureKind.CONNECTION


async def test_a_key_does_not_follow_to_another_host(provider: ProviderServer) -> None:
    async def elsewhere(request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect(
            provider.openai_base.replace("127.0.0.1", "localhost") + "/chat/completions"
        )

    application = web.Application()
    application.router.add_post("/v1/chat/completions", elsewhere)
    async with TestServer(application) as server:
        target = Target(
            model="openai/gpt-4o-mini", api_key="sk-hush", api_base=str(server.make_url("/v1"))
        )
        answer = await gateway.complete(target=target, messages=copied(ASK), params={})
    assert answer.choices
    assert [request.headers.get("Authorization") for request in provider.requests] == [None]


async def test_open_streams_leave_room_for_more(provider: ProviderServer) -> None:
    """500 to one host are litellm's own bound: with as many open, the next would wait for ever."""
    target = Target(model="openai/gpt-4o-mini", api_key="k", api_base=provider.openai_base)
    await told(target, is_stream=False)
    connector = direct._sessions[asyncio.get_running_loop()].connector
    assert connector is not None
    assert (connector.limit, connector.limit_per_host) == (10_000, 10_000)


async def test_one_connection_serves_one_call_after_the_other(provider: ProviderServer) -> None:
    target = Target(model="openai/gpt-4o-mini", api_key="k", api_base=provider.openai_base)
    for is_stream in (False, True, False, True, False):
        await told(target, is_stream=is_stream)
        await asyncio.sleep(0.05)
    session = direct._sessions[asyncio.get_running_loop()]
    assert session.connector is not None
    assert len({id(kept[0]) for each in session.connector._conns.values() for kept in each}) == 1
    await gateway.shut_down()
    assert session.closed


counts = st.integers(-5, 10**9)
details = st.one_of(
    st.none(),
    st.dictionaries(
        st.sampled_from(
            [
                "cached_tokens",
                "audio_tokens",
                "reasoning_tokens",
                "text_tokens",
                "cache_creation_tokens",
            ]
        ),
        counts,
    ),
)


@given(
    usage=st.fixed_dictionaries(
        {"prompt_tokens": counts, "completion_tokens": counts},
        optional={
            "total_tokens": counts,
            "prompt_tokens_details": details,
            "completion_tokens_details": details,
            "prompt_cache_hit_tokens": counts,
            "cache_read_input_tokens": counts,
            "cache_creation_input_tokens": counts,
            "reasoning_tokens": counts,
            "cost": st.floats(0, 1),
        },
    )
)
def test_a_providers_figures_mean_what_litellm_takes_them_for(usage: dict[str, Any]) -> None:
    answer = {
        "id": "x",
        "created": 1,
        "model": "m",
        "object": "chat.completion",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}
        ],
        "usage": copied(usage),
    }
    parsed = ChatCompletion.construct(**copied(answer))
    read = litellm().utils.convert_to_model_response_object(
        response_object=parsed.model_dump(), model_response_object=litellm().ModelResponse()
    )
    assert direct.usage_of(usage) == reading.usage(read.usage)
