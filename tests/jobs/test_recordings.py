"""Real providers' recorded streams through the gateway: whole, neutral, and counted right."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from jobs import gateway
from jobs.gateway import Target
from tests.conftest import ROOT

FOLDER = Path(os.environ.get("RECORDINGS_DIR", ROOT.parent / "shared" / "recordings"))
pytestmark = [
    pytest.mark.any_database,
    pytest.mark.usefixtures("connections_closed"),
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"NOT RUN: no recordings at {FOLDER}"),
]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
# Recording, litellm model, and (prompt, completion) tokens as the recording's own usage says;
# xAI's completion of 26 leaves 227 reasoning tokens out.
CASES = [
    ("openai/text", "openai/gpt-4.1-nano", (16, 300)),
    ("anthropic/text", "anthropic/claude-sonnet-4-5", (12, 30)),
    ("anthropic/json-tool", "anthropic/claude-haiku-4-5", (849, 47)),
    ("anthropic/tool-no-args", "anthropic/claude-sonnet-4-5", (565, 48)),
    ("deepseek/reasoning", "deepseek/deepseek-reasoner", (18, 219)),
    ("deepseek/tool-call", "deepseek/deepseek-reasoner", (339, 83)),
    ("xai/tool-call", "xai/grok-3-mini", (307, 253)),
    ("groq/tool-call", "groq/llama-3.3-70b-versatile", (210, 15)),
    ("mistral/tool-call", "mistral/mistral-small-latest", (124, 22)),
    # Gemini counts thoughts apart from candidates: 23 + 185, and 15 + 45.
    ("google/text", "gemini/gemini-3-pro-preview", (9, 208)),
    ("google/tool-call", "gemini/gemini-3-pro-preview", (29, 60)),
    ("moonshot/text", "moonshot/kimi-k3", (9, 12)),
]


def framed(recording: str) -> bytes:
    lines = (FOLDER / f"{recording}.jsonl").read_text().splitlines()
    if recording.startswith("google"):
        frames = [f"data: {line}\n\n" for line in lines]
    elif recording.startswith(("anthropic", "cohere")):
        frames = [f"event: {json.loads(line)['type']}\ndata: {line}\n\n" for line in lines]
    else:
        frames = [*(f"data: {line}\n\n" for line in lines), "data: [DONE]\n\n"]
    return "".join(frames).encode()


@pytest.mark.parametrize(("recording", "model", "tokens"), CASES)
async def test_a_recorded_stream_leaves_whole_and_neutral(
    recording: str, model: str, tokens: tuple[int, int]
) -> None:
    if not (FOLDER / f"{recording}.jsonl").exists():
        pytest.skip(f"NOT RUN: {recording} is missing")

    async def replay(request: web.Request) -> web.Response:
        return web.Response(body=framed(recording), content_type="text/event-stream")

    application = web.Application()
    application.router.add_post("/{path:.*}", replay)
    async with TestServer(application) as server:
        base = str(server.make_url("/v1" if not model.startswith("anthropic") else "")).rstrip("/")
        target = Target(model=model, api_key="x", api_base=base)
        params: dict[str, Any] = {
            "max_tokens": 1000,
            **({"tools": TOOLS} if "tool" in recording else {}),
        }
        stream = await gateway.open_stream(
            target=target, messages=[{"role": "user", "content": "hi"}], params=params
        )
        chunks = [chunk async for chunks in stream for chunk in chunks]
        usage = stream.usage()
    assert ((usage.prompt_tokens, usage.completion_tokens), usage.source) == (tokens, "provider")
    text = json.dumps([chunk.choices for chunk in chunks])
    provider = recording.partition("/")[0]
    for leak in (provider, model.partition("/")[2], "toolu_", "msg_", "fp_", "chatcmpl"):
        assert f'"{leak}' not in text
    choices = [choice for chunk in chunks for choice in chunk.choices]
    reasons = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    assert reasons[-1] == ("tool_calls" if "tool" in recording else "stop")
    if "tool" in recording:
        calls = [call for choice in choices for call in choice["delta"].get("tool_calls", [])]
        json.loads("".join(call["function"].get("arguments", "") for call in calls) or "{}")
        assert calls[0]["id"].startswith("call_")
    else:
        assert "".join(choice["delta"].get("content") or "" for choice in choices)
