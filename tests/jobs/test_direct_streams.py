"""A provider of OpenAI's format answers the same by either way: read beneath litellm, or by it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from jobs import gateway
from jobs.gateway import FailureKind, ProviderFailure, Target, mapping
from jobs.gateway.direct_stream import DirectStream
from jobs.gateway.streams import LibraryStream
from jobs.usage import Usage
from tests.conftest import ROOT

pytestmark = [pytest.mark.any_database, pytest.mark.usefixtures("connections_closed")]

FOLDER = Path(os.environ.get("RECORDINGS_DIR", ROOT.parent / "shared" / "recordings"))
RECORDINGS = [
    "openai/text",
    "deepseek/reasoning",
    "deepseek/tool-call",
    "groq/tool-call",
    "mistral/text",
    "mistral/tool-call",
    "moonshot/text",
]
ASK = [{"role": "user", "content": "hi"}]
HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m-1"}
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}


def data(event: Any, end: str = "\n\n") -> bytes:
    return f"data: {json.dumps(event)}{end}".encode()


def frame(delta: Any, finish_reason: str | None = None, index: int = 0, **more: Any) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish_reason}
    return data({**HEAD, "choices": [{**choice, **more}]})


def told(usage: Any) -> bytes:
    return data({**HEAD, "choices": [], "usage": usage})


FIRST = frame({"role": "assistant", "content": ""})
STOP = frame({}, "stop")
DONE = b"data: [DONE]\n\n"
PLAIN = [FIRST, frame({"content": "Hel"}), frame({"content": "lo"}), STOP, told(USAGE), DONE]


def called(index: int, **function: Any) -> dict[str, Any]:
    return {"index": index, "function": function}


TOOLS = [
    frame(
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_a", "type": "function", **called(0, name="one", arguments="")}
            ],
        }
    ),
    frame({"tool_calls": [called(0, arguments='{"a"')]}),
    frame({"tool_calls": [called(0, arguments=": 1}")]}),
    frame(
        {
            "tool_calls": [
                {"id": "call_b", "type": "function", **called(1, name="two", arguments="{}")}
            ]
        }
    ),
    frame({}, "tool_calls"),
    told(USAGE),
    DONE,
]
TOKEN = {"token": "Hel", "logprob": -0.1, "bytes": [72], "top_logprobs": []}
STREAMS: dict[str, list[bytes]] = {
    "plain": PLAIN,
    "tools": TOOLS,
    "no role at first": [frame({"content": "a"}), STOP, DONE],
    "a role in every frame": [
        frame({"role": "assistant", "content": word}) for word in ("", "a", "b")
    ]
    + [frame({"role": "assistant", "content": ""}, "stop"), DONE],
    "the last words with the reason": [
        FIRST,
        frame({"content": "a"}),
        frame({"content": "b"}, "stop"),
        told(USAGE),
        DONE,
    ],
    "usage with the reason": [
        FIRST,
        frame({"content": "a"}),
        data(
            {
                **HEAD,
                "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
                "usage": USAGE,
            }
        ),
        DONE,
    ],
    "the reason twice": [FIRST, frame({"content": "a"}), STOP, STOP, DONE],
    "empty words between": [
        FIRST,
        frame({"content": "a"}),
        frame({"content": ""}),
        frame({}),
        frame({"content": None}),
        frame({"content": "b"}),
        STOP,
        DONE,
    ],
    "thoughts": [
        frame({"role": "assistant", "content": None, "reasoning_content": ""}),
        frame({"content": None, "reasoning_content": "hm"}),
        frame({"content": "a", "reasoning_content": None}),
        STOP,
        DONE,
    ],
    "thoughts by another name": [
        frame({"role": "assistant", "reasoning": "hm", "content": ""}),
        frame({"content": "a"}),
        STOP,
        DONE,
    ],
    "logprobs": [
        FIRST,
        frame({"content": "Hel"}, logprobs={"content": [TOKEN], "refusal": None}),
        STOP,
        DONE,
    ],
    "another reason": [FIRST, frame({"content": "a"}), frame({}, "length"), DONE],
    "a reason of their own": [FIRST, frame({"content": "a"}), frame({}, "max_tokens"), DONE],
    "filtered": [FIRST, frame({}, "content_filter"), DONE],
    "no usage": [FIRST, frame({"content": "Hello"}), STOP, DONE],
    "no DONE": [FIRST, frame({"content": "a"}), STOP, told(USAGE)],
    "usage in detail": [
        FIRST,
        frame({"content": "a"}),
        STOP,
        told(
            {
                **USAGE,
                "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": 1},
                "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 1},
            }
        ),
        DONE,
    ],
    "usage that grows": [
        data(
            {
                **HEAD,
                "choices": [
                    {
                        "index": 0,
                        "delta": {"role": "assistant", "content": "a"},
                        "finish_reason": None,
                    }
                ],
                "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10},
            }
        ),
        data(
            {
                **HEAD,
                "choices": [{"index": 0, "delta": {"content": "b"}, "finish_reason": None}],
                "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
            }
        ),
        STOP,
        told(USAGE),
        DONE,
    ],
    "comments and other fields": [
        b": keep-alive\n\n",
        b"retry: 10\n" + FIRST,
        b":\n\n",
        frame({"content": "a"}),
        STOP,
        DONE,
    ],
    "DONE without a blank": [FIRST, frame({"content": "a"}), STOP, b"data:[DONE]\n\n"],
    "data without a blank": [event.replace(b"data: ", b"data:") for event in PLAIN],
    "lines that end with CRLF": [event.replace(b"\n", b"\r\n") for event in PLAIN],
    "lines that end with CR": [event.replace(b"\n", b"\r") for event in PLAIN],
    "data in several lines": [
        FIRST,
        b'data: {"id": "chatcmpl-1", "choices":\ndata: [{"index": 0, "delta": {"content": "a"}}]}\n\n',
        STOP,
        DONE,
    ],
    "words of many bytes": [
        FIRST,
        frame({"content": "žluťoučký 🐎 "}),
        data({**HEAD, "choices": [{"index": 0, "delta": {"content": "x"}}]}).replace(
            b'"x"', '"日本語"'.encode()
        ),
        STOP,
        DONE,
    ],
    "a long frame": [FIRST, frame({"content": "word " * 60_000}), STOP, DONE],
    "no answer at all": [DONE],
    "nothing": [],
    "an error at first": [
        data({"error": {"message": "overloaded", "type": "server_error", "code": 503}})
    ],
    "an error later": [
        FIRST,
        frame({"content": "a"}),
        data({"error": {"message": "overloaded", "code": "503"}}),
    ],
    "too many, later": [
        FIRST,
        frame({"content": "a"}),
        data({"error": {"message": "slow down", "type": "rate_limit_error", "code": 429}}),
    ],
    "a reason that is an error": [FIRST, frame({"content": "a"}), frame({}, "error"), DONE],
    "not JSON": [FIRST, frame({"content": "a"}), b"data: {not json\n\n"],
    "not UTF-8": [FIRST, frame({"content": "a"}), b'data: {"a": "\xff"}\n\n'],
    "JSON that is no object": [FIRST, frame({"content": "a"}), b"data: [1]\n\n"],
    "an object without choices": [FIRST, frame({"content": "a"}), data({"x": 1}), STOP, DONE],
    "no end": [FIRST, frame({"content": "a"})],
    "a page": [b"<html>no</html>"],
    "the same for ever": [FIRST, *[frame({"content": "and "})] * 120, STOP, DONE],
}


@dataclass
class Heard:
    """All that came of one stream."""

    chunks: list[Any] = field(default_factory=list)
    usage: Usage | None = None
    failure: tuple[Any, ...] | None = None
    kind: type | None = None
    batches: int = 0
    detail: str = ""


@asynccontextmanager
async def serving(pieces: Sequence[bytes], *, is_cut: bool = False) -> AsyncIterator[str]:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0)
        if is_cut:
            await asyncio.sleep(0.05)
            assert request.transport is not None
            request.transport.abort()
        return response

    application = web.Application()
    application.router.add_post("/v1/chat/completions", answer)
    async with TestServer(application) as server:
        yield str(server.make_url("/v1"))


async def heard(base: str) -> Heard:
    target = Target(model="openai/gpt-4o-mini", api_key="sk-hush", api_base=base)
    found = Heard()
    stream = await gateway.open_stream(target=target, messages=list(ASK), params={"n": 2})
    found.kind = type(stream)
    try:
        async for chunks in stream:
            found.batches += 1
            found.chunks += [(chunk.choices, chunk.has_output) for chunk in chunks]
    except ProviderFailure as failure:
        found.failure = (failure.kind, failure.retry_after_seconds, failure.param)
        found.detail = failure.detail
    finally:
        await stream.aclose()
    found.usage = stream.usage()
    return found


async def both(
    monkeypatch: pytest.MonkeyPatch, pieces: Sequence[bytes], *, is_cut: bool = False
) -> tuple[Heard, Heard]:
    async with serving(pieces, is_cut=is_cut) as base:
        direct = await heard(base)
        monkeypatch.setattr(mapping, "steps", lambda: None)
        by_litellm = await heard(base)
    assert (direct.kind, by_litellm.kind) == (DirectStream, LibraryStream)
    return direct, by_litellm


@pytest.mark.parametrize("name", STREAMS)
async def test_a_stream_is_the_same_by_either_way(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    direct, by_litellm = await both(monkeypatch, STREAMS[name])
    assert direct.chunks == by_litellm.chunks
    assert direct.failure == by_litellm.failure, (direct.detail, by_litellm.detail)
    assert direct.usage == by_litellm.usage


@pytest.mark.parametrize("recording", RECORDINGS)
async def test_a_recorded_stream_is_the_same_by_either_way(
    monkeypatch: pytest.MonkeyPatch, recording: str
) -> None:
    direct, by_litellm = await both(monkeypatch, recorded(recording))
    assert direct.chunks == by_litellm.chunks
    assert direct.usage == by_litellm.usage
    assert direct.failure is None


async def test_the_usage_is_the_providers_own_total(monkeypatch: pytest.MonkeyPatch) -> None:
    """xAI leaves 227 tokens of reasoning out of 26: its total tells, and litellm adds it up anew."""
    direct, by_litellm = await both(monkeypatch, recorded("xai/tool-call"))
    assert direct.chunks == by_litellm.chunks
    assert direct.usage is not None
    assert (direct.usage.completion_tokens, direct.usage.source) == (26 + 227, "provider")


async def test_thoughts_that_a_provider_did_not_count_are_not_guessed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor are they in a plain answer; litellm counts them by a tokenizer in a stream alone."""
    pieces = [frame({"role": "assistant", "reasoning_content": "hm"}), *PLAIN[1:]]
    direct, by_litellm = await both(monkeypatch, pieces)
    assert direct.chunks == by_litellm.chunks
    assert direct.usage == Usage(prompt_tokens=9, completion_tokens=4)


async def test_every_choice_has_its_role_and_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """litellm looks at the first choice of a stream alone."""
    pieces = [
        frame({"role": "assistant", "content": ""}),
        frame({"role": "assistant", "content": ""}, index=1),
        frame({"content": "a"}),
        frame({"content": "b"}, index=1),
        frame({}, "stop"),
        frame({}, "length", index=1),
        told(USAGE),
        DONE,
    ]
    direct, by_litellm = await both(monkeypatch, pieces)
    first = {"role": "assistant", "content": ""}
    assert [choices for choices, _ in direct.chunks] == [
        [{"index": 0, "delta": first, "finish_reason": None}],
        [{"index": 1, "delta": first, "finish_reason": None}],
        [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}],
        [{"index": 1, "delta": {"content": "b"}, "finish_reason": None}],
        [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        [{"index": 1, "delta": {}, "finish_reason": "length"}],
    ]
    lost = (direct.chunks[1], direct.chunks[5])
    assert [chunk for chunk in direct.chunks if chunk not in lost] == by_litellm.chunks
    assert direct.usage == by_litellm.usage


async def test_a_refusal_is_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [
        FIRST,
        frame({"refusal": "I "}),
        frame({"refusal": "won't."}),
        STOP,
        told(USAGE),
        DONE,
    ]
    direct, _ = await both(monkeypatch, pieces)
    said = [choices[0]["delta"].get("refusal", "") for choices, _ in direct.chunks]
    assert "".join(said) == "I won't."
    assert any(has_output for _, has_output in direct.chunks)


@pytest.mark.parametrize(
    "pieces",
    [
        [b"id: 7\n" + FIRST, b": a comment\n\n", *PLAIN[1:]],
        [b"\xef\xbb\xbf" + FIRST, *PLAIN[1:]],
        [*PLAIN[:3], STOP.rstrip(b"\n")],
        [*PLAIN[:3], STOP.rstrip(b"\n") + b"\r"],
        [FIRST, b"event: ping\n\n", *PLAIN[1:]],
    ],
    ids=["an id before a comment", "a byte order mark", "no end of line", "half of one", "no data"],
)
async def test_what_the_protocol_allows_is_read(pieces: list[bytes]) -> None:
    async with serving(pieces) as base:
        found = await heard(base)
    assert found.failure is None
    written = [choices[0]["delta"].get("content", "") for choices, _ in found.chunks]
    assert "".join(written) == "Hello"


async def test_cuts_anywhere_change_nothing() -> None:
    async with serving(STREAMS["words of many bytes"]) as base:
        whole = await heard(base)
    stream = b"".join(STREAMS["words of many bytes"])
    async with serving([stream[place : place + 1] for place in range(len(stream))]) as base:
        found = await heard(base)
    assert (found.chunks, found.usage, found.failure) == (whole.chunks, whole.usage, None)


async def test_what_arrives_together_is_one_batch() -> None:
    async with serving([b"".join(PLAIN)]) as base:
        found = await heard(base)
    assert (found.batches, len(found.chunks)) == (1, 4)


@pytest.mark.parametrize("pieces", [PLAIN[:3], PLAIN[:4], PLAIN[:5]])
async def test_a_lost_connection_is_the_same_by_either_way(
    monkeypatch: pytest.MonkeyPatch, pieces: list[bytes]
) -> None:
    direct, by_litellm = await both(monkeypatch, pieces, is_cut=True)
    assert direct.chunks == by_litellm.chunks
    assert direct.failure == by_litellm.failure
    assert direct.usage == by_litellm.usage


async def test_an_event_without_an_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.gateway.frames.MAX_EVENT_BYTES", 1000)
    async with serving([FIRST, b"data: " + b"x" * 5000]) as base:
        found = await heard(base)
    assert found.failure is not None
    assert found.failure[0] == FailureKind.GARBLED


@pytest.mark.parametrize("place", ["[1]", '{"a": 1}', '"0"', "1.5", "-1", "128"])
async def test_a_choice_without_a_number_for_its_place_is_no_choice(place: str) -> None:
    odd = b'data: {"choices": [{"index": %b, "delta": {"content": "x"}}]}\n\n' % place.encode()
    async with serving([FIRST, odd]) as base:
        found = await heard(base)
    assert found.failure is not None


def recorded(recording: str) -> list[bytes]:
    path = FOLDER / f"{recording}.jsonl"
    if not path.exists():
        pytest.skip(f"NOT RUN: no recording at {path}")
    return [*(f"data: {line}\n\n".encode() for line in path.read_text().splitlines()), DONE]


async def test_a_provider_is_not_read_ahead_of_a_slow_reader() -> None:
    sent = 0

    async def pour(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(1000):
            await response.write(frame({"content": "word " * 20_000}))
            sent += 1
        return response

    application = web.Application()
    application.router.add_post("/v1/chat/completions", pour)
    async with TestServer(application) as server:
        target = Target(
            model="openai/gpt-4o-mini", api_key="k", api_base=str(server.make_url("/v1"))
        )
        stream = await gateway.open_stream(target=target, messages=list(ASK), params={})
        async for _ in stream:
            break
        await asyncio.sleep(0.5)
        # 100 kB each: what lies between is in the buffers of two sockets and of one response.
        at_rest = sent
        await asyncio.sleep(0.2)
        assert sent == at_rest < 200
        await stream.aclose()
        await asyncio.sleep(0.2)
        assert sent < 250
