"""What we rely on in litellm, one rule a test: an upgrade that changes one of these fails here."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from jobs import gateway
from jobs.gateway import FailureKind, ProviderFailure, Target
from jobs.gateway.boot import litellm
from jobs.gateway.retelling import Said, retold
from teams import cost_map
from tests.conftest import ROOT, wait_until
from tests.providers.server import ProviderServer, Reply, anthropic_frames, openai_frames

pytestmark = [pytest.mark.any_database, pytest.mark.usefixtures("connections_closed")]

ASK = [{"role": "user", "content": "hi"}]
FULL = {"include_usage": True}


@pytest.fixture
def openai(provider: ProviderServer) -> dict[str, Any]:
    return {
        "model": "openai/gpt-4o-mini",
        "messages": ASK,
        "api_base": provider.openai_base,
        "api_key": "sk-x",
        "max_retries": 0,
        "num_retries": 0,
    }


async def test_one_request_is_sent_even_when_it_fails(
    provider: ProviderServer, openai: dict[str, Any]
) -> None:
    for status in (429, 500):
        provider.script(Reply(status=status))
        with pytest.raises(Exception, match="no"):
            await litellm().acompletion(**openai)
    assert len(provider.requests) == 2


async def test_a_client_of_ours_is_asked_instead_of_the_provider(
    provider: ProviderServer, openai: dict[str, Any]
) -> None:
    target = Target(model=openai["model"], api_key="sk-x", api_base=provider.openai_base)
    body = b'{"error": {"message": "no"}}'
    said = Said(status=404, headers={"content-type": "application/json"}, body=body)
    for params in ({}, {"stream": True}):
        with pytest.raises(ProviderFailure) as failed:
            await retold(target=target, messages=ASK, params=params, said=said)
        assert failed.value.kind == FailureKind.NOT_FOUND
    assert provider.requests == []  # why what was said can be told again


async def test_include_usage_is_sent_and_brings_the_providers_usage(
    provider: ProviderServer, openai: dict[str, Any]
) -> None:
    stream = await litellm().acompletion(**openai, stream=True, stream_options=FULL)
    pieces = [piece async for piece in stream]
    assert provider.requests[0].json["stream_options"] == FULL
    assert pieces[-1].usage.prompt_tokens == 100


async def test_a_made_up_usage_can_be_told_from_a_reported_one(
    provider: ProviderServer, openai: dict[str, Any]
) -> None:
    provider.script(Reply(usage=None))
    stream = await litellm().acompletion(**openai, stream=True, stream_options=FULL)
    pieces = [piece async for piece in stream]
    assert pieces[-1].usage.total_tokens > 0  # invented, without a word
    assert [chunk for chunk in stream.chunks if getattr(chunk, "usage", None)] == []


async def test_aclose_ends_the_request_at_once(
    provider: ProviderServer, openai: dict[str, Any]
) -> None:
    provider.script(Reply(text="a " * 200, frame_delay=0.02))
    stream = await litellm().acompletion(**openai, stream=True, stream_options=FULL)
    await anext(stream)
    await stream.aclose()
    await asyncio.to_thread(wait_until, lambda: provider.requests[0].is_abandoned, seconds=2)
    assert provider.requests[0].frames_sent < 50


async def test_cancelling_ends_a_plain_request(
    provider: ProviderServer, openai: dict[str, Any]
) -> None:
    provider.script(Reply(first_delay=30))
    task = asyncio.create_task(litellm().acompletion(**openai))
    await asyncio.to_thread(wait_until, lambda: provider.requests)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_senders_mock_response_would_be_a_free_answer(
    provider: ProviderServer, openai: dict[str, Any]
) -> None:
    answer = await litellm().acompletion(**openai, mock_response="free")
    assert answer.choices[0].message.content == "free"
    assert provider.requests == []  # why request fields are an allow-list


async def test_unknown_fields_go_to_the_provider(
    provider: ProviderServer, openai: dict[str, Any]
) -> None:
    await litellm().acompletion(**openai, surprise="x")
    assert provider.requests[0].json["surprise"] == "x"  # why request fields are an allow-list


async def test_anthropics_prompt_tokens_include_what_the_cache_read_and_wrote(
    provider: ProviderServer,
) -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "cache_read_input_tokens": 30,
        "cache_creation_input_tokens": 40,
    }
    provider.script(Reply(usage=usage), Reply(usage=usage))
    target = Target(
        model="anthropic/claude-sonnet-4-5", api_key="x", api_base=provider.anthropic_base
    )
    answer = await gateway.complete(target=target, messages=ASK, params={"max_tokens": 9})
    stream = await gateway.open_stream(target=target, messages=ASK, params={"max_tokens": 9})
    assert [chunk async for chunks in stream for chunk in chunks]
    for found in (answer.usage, stream.usage()):
        counted = (found.prompt_tokens, found.cached_tokens, found.cache_write_tokens)
        assert (*counted, found.completion_tokens, found.source) == (80, 30, 40, 5, "provider")


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(status=400), FailureKind.INVALID_REQUEST),
        (Reply(status=401), FailureKind.CREDENTIALS),
        (Reply(status=404), FailureKind.NOT_FOUND),
        (Reply(status=429, retry_after=7), FailureKind.RATE_LIMITED),
        (Reply(status=500), FailureKind.SERVER_ERROR),
        (Reply(status=503), FailureKind.SERVER_ERROR),
        (Reply(cut_after=0), FailureKind.CONNECTION),
    ],
)
async def test_failures_map_to_kinds(
    provider: ProviderServer, reply: Reply, kind: FailureKind
) -> None:
    provider.script(reply)
    target = Target(model="openai/gpt-4o-mini", api_key="sk-hush", api_base=provider.openai_base)
    with pytest.raises(ProviderFailure) as failed:
        await gateway.complete(target=target, messages=ASK, params={})
    assert failed.value.kind == kind
    assert "sk-hush" not in failed.value.detail
    assert "provider-model" not in str(failed.value)


@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
async def test_a_stream_that_ends_early_without_an_error_is_told_from_a_whole_one(
    provider: ProviderServer, protocol: str
) -> None:
    model, base, frames = {
        "openai": ("openai/gpt-4o-mini", provider.openai_base, openai_frames),
        "anthropic": ("anthropic/claude-sonnet-4-5", provider.anthropic_base, anthropic_frames),
    }[protocol]
    whole = frames(Reply(text="a b c"))
    provider.script(Reply(lines=whole[:4]), Reply(lines=whole))
    target = Target(model=model, api_key="x", api_base=base)
    cut = await gateway.open_stream(target=target, messages=ASK, params={"max_tokens": 9})
    with pytest.raises(ProviderFailure) as failed:
        assert [chunk async for chunks in cut for chunk in chunks]
    assert failed.value.kind == FailureKind.CONNECTION
    assert cut.usage().source == "estimate"
    stream = await gateway.open_stream(target=target, messages=ASK, params={"max_tokens": 9})
    assert [chunk async for chunks in stream for chunk in chunks]
    assert stream.usage().source == "provider"


async def test_a_slow_provider_is_a_timeout(provider: ProviderServer) -> None:
    provider.script(Reply(first_delay=5))
    target = Target(
        model="openai/gpt-4o-mini",
        api_key="x",
        api_base=provider.openai_base,
        timeout_seconds=0.3,
    )
    with pytest.raises(ProviderFailure) as failed:
        await gateway.complete(target=target, messages=ASK, params={})
    assert failed.value.kind == FailureKind.TIMEOUT


async def test_a_parameter_that_a_provider_lacks_is_named(provider: ProviderServer) -> None:
    target = Target(
        model="anthropic/claude-sonnet-4-5", api_key="x", api_base=provider.anthropic_base
    )
    with pytest.raises(ProviderFailure) as failed:
        await gateway.complete(target=target, messages=ASK, params={"seed": 1, "max_tokens": 5})
    assert failed.value.kind == FailureKind.UNSUPPORTED_PARAMETER
    assert provider.requests == []


async def test_images_and_json_schemas_reach_both_protocols(provider: ProviderServer) -> None:
    image = "data:image/png;base64,iVBORw0KGgo="
    content = [
        {"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": image}},
    ]
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    params = {
        "max_tokens": 50,
        "response_format": {"type": "json_schema", "json_schema": {"name": "r", "schema": schema}},
    }
    for model, base in (
        ("openai/gpt-4o-mini", provider.openai_base),
        ("anthropic/claude-sonnet-4-5", provider.anthropic_base),
    ):
        target = Target(model=model, api_key="x", api_base=base)
        await gateway.complete(
            target=target, messages=[{"role": "user", "content": content}], params=params
        )
        sent = json.dumps(provider.requests[-1].json)
        assert "iVBORw0KGgo=" in sent
        assert '"required": ["a"]' in sent


def test_the_cost_map_is_where_we_read_it() -> None:
    assert len(cost_map.load()) > 1000
    os.environ.pop("LITELLM_LOCAL_MODEL_COST_MAP", None)
    litellm()
    assert hasattr(litellm(), "close_litellm_async_clients")


def test_the_application_imports_without_litellm() -> None:
    look = "import saas_litellm.asgi, sys; sys.exit('litellm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_no_client_beneath_the_library_tries_again(
    provider: ProviderServer, status: int
) -> None:
    provider.default = Reply(status=status, retry_after=1)
    target = Target(
        model="openai/text-embedding-3-small", api_key="k", api_base=provider.openai_base
    )
    with pytest.raises(ProviderFailure):
        await gateway.embed(target=target, texts=["a"], params={})
    drawn = {"media": {"prompt": "a"}, "params": {}, "milliunits": 1000}
    with pytest.raises(ProviderFailure):
        await gateway.MAKERS["image"](target=replace(target, model="openai/dall-e-3"), **drawn)
    assert [seen.path for seen in provider.requests] == [
        "/v1/embeddings",
        "/v1/images/generations",
    ]


@pytest.mark.parametrize("model", ["groq/llama-3.3-70b-versatile", "cohere/command-r"])
def test_no_tokenizer_is_fetched_to_count_with(model: str) -> None:
    assert litellm().utils._select_tokenizer(model=model)["type"] == "openai_tokenizer"
    assert gateway.count_usage(model=model, messages=ASK, text="hi").total_tokens > 0
