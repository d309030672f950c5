"""Local HTTP servers that speak a provider's protocol: OpenAI's or Anthropic's.

    with ProviderServer() as provider:
        provider.script(Reply(text="Hello"), Reply(status=429, retry_after=3))
        ... deployments point at provider.openai_base or provider.anthropic_base ...
        assert provider.requests[0].json["messages"]

Replies are used up in order; then ``provider.default`` answers. Every request is recorded, and for
a stream how many frames were sent and whether the client went away first.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

SECRET_MODEL = "provider-model-4321"
PICTURE = base64.b64encode(b"a picture").decode()
SOUND = b"a sound"


@dataclass(kw_only=True)
class Reply:
    """One answer. ``words`` stream as one frame each, ``frame_delay`` seconds apart."""

    text: str | None = "Hello from afar"
    tool: dict[str, Any] | None = None
    # Several tools called in parallel, instead of one ``tool``.
    tools: Sequence[dict[str, Any]] = ()
    usage: dict[str, Any] | None = field(
        default_factory=lambda: {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    )
    status: int = 200
    error: str = "says no"
    retry_after: int | None = None
    first_delay: float = 0.0
    frame_delay: float = 0.0
    cut_after: int | None = None
    garbage: bool = False
    finish_reason: str = "stop"
    lines: list[str] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    # Fields of the provider's own, at the top of a body and of each frame.
    more: dict[str, Any] = field(default_factory=dict)
    # And beside the words: in a message, in deltas, in a block.
    beside: dict[str, Any] = field(default_factory=dict)
    fault: dict[str, Any] | None = None

    @property
    def called(self) -> Sequence[dict[str, Any]]:
        return [self.tool] if self.tool else self.tools

    @property
    def words(self) -> list[str]:
        return [word + " " for word in (self.text or "").split(" ")]


@dataclass
class Seen:
    path: str
    headers: dict[str, str]
    json: dict[str, Any]
    frames_sent: int = 0
    is_abandoned: bool = False
    last_frame_at: float = 0.0


class ProviderServer:
    def __init__(self) -> None:
        self.default = Reply()
        self.requests: list[Seen] = []
        self._scripted: deque[Reply] = deque()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        # Ended rather than left: a task that is collected later says so in somebody else's test.
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def script(self, *replies: Reply) -> None:
        self._scripted.extend(replies)

    def script_anew(self, *replies: Reply) -> None:
        """The same, whatever was scripted before and not used up."""
        self._scripted.clear()
        self.script(*replies)

    @property
    def openai_base(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def anthropic_base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()

    async def _start(self) -> None:
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_post("/v1/chat/completions", self._openai)
        application.router.add_post("/v1/messages", self._anthropic)
        application.router.add_post("/v1/embeddings", self._embeddings)
        application.router.add_post("/v1/images/generations", self._images)
        application.router.add_post("/v1/audio/transcriptions", self._transcriptions)
        application.router.add_post("/v1/audio/speech", self._speech)
        for version in ("v1", "v2"):
            application.router.add_post(f"/{version}/rerank", self._rerank)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]

    async def _stop(self) -> None:
        await self._runner.cleanup()
        # Nobody else ends an answer that waits though its client has left.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _openai(self, request: web.Request) -> web.StreamResponse:
        return await self._reply(request, _openai_body, openai_frames)

    async def _anthropic(self, request: web.Request) -> web.StreamResponse:
        return await self._reply(request, _anthropic_body, anthropic_frames)

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        sent = await request.json()
        count = len(sent["input"]) if isinstance(sent["input"], list) else 1
        return await self._reply(
            request, lambda reply: _embeddings_body(reply, count, sent), openai_frames
        )

    async def _images(self, request: web.Request) -> web.StreamResponse:
        count = (await request.json()).get("n", 1)
        return await self._reply(
            request,
            lambda reply: {
                "created": 1,
                "data": [{"b64_json": PICTURE, "revised_prompt": reply.text}] * count,
            },
            openai_frames,
        )

    async def _transcriptions(self, request: web.Request) -> web.StreamResponse:
        return await self._reply(
            request,
            lambda reply: {"text": reply.text, **(reply.usage or {})},
            openai_frames,
            sent={name: str(value) for name, value in (await request.post()).items()},
        )

    async def _speech(self, request: web.Request) -> web.StreamResponse:
        return await self._reply(request, lambda reply: SOUND, openai_frames)

    async def _rerank(self, request: web.Request) -> web.StreamResponse:
        documents = (await request.json())["documents"]
        places = [
            {"index": index, "relevance_score": 1 / (1 + place)}
            for place, index in enumerate(reversed(range(len(documents))))
        ]
        return await self._reply(
            request,
            lambda reply: {
                "id": "chatcmpl-provider-id",
                "results": places,
                **({"meta": {"billed_units": {"search_units": 3}}} if reply.usage else {}),
            },
            openai_frames,
        )

    async def _reply(
        self, request: web.Request, body: Any, frames: Any, sent: Any = None
    ) -> web.StreamResponse:
        reply = self._scripted.popleft() if self._scripted else self.default
        sent = await request.json() if sent is None else sent
        seen = Seen(request.path, dict(request.headers), sent)
        self.requests.append(seen)
        await asyncio.sleep(reply.first_delay)
        if reply.status != 200:
            after = {"Retry-After": str(reply.retry_after)} if reply.retry_after else {}
            error = reply.fault or {
                "error": {"message": f"{SECRET_MODEL} {reply.error}", "type": "x", "code": "x"}
            }
            return web.json_response(error, status=reply.status, headers={**reply.headers, **after})
        if not seen.json.get("stream"):
            if reply.cut_after is not None:
                request.transport.close()  # type: ignore[union-attr]
            if reply.garbage:
                return web.Response(
                    text="<html>not json", content_type="application/json", headers=reply.headers
                )
            given = body(reply)
            if isinstance(given, bytes):
                return web.Response(body=given, content_type="audio/mpeg", headers=reply.headers)
            return web.json_response({**given, **reply.more}, headers=reply.headers)
        response = web.StreamResponse(
            headers={**reply.headers, "Content-Type": "text/event-stream"}
        )
        await response.prepare(request)
        try:
            await self._send(request, response, reply, seen, frames)
        except (ConnectionResetError, asyncio.CancelledError):
            seen.is_abandoned = True
            raise
        return response

    async def _send(
        self,
        request: web.Request,
        response: web.StreamResponse,
        reply: Reply,
        seen: Seen,
        frames: Any,
    ) -> None:
        for frame in reply.lines if reply.lines is not None else frames(reply):
            if reply.cut_after is not None and seen.frames_sent >= reply.cut_after:
                request.transport.abort()  # type: ignore[union-attr]
                return
            text = "data: {not json\n\n" if reply.garbage and seen.frames_sent == 1 else frame
            await response.write(text.encode())
            seen.frames_sent += 1
            seen.last_frame_at = time.monotonic()
            await asyncio.sleep(reply.frame_delay)


def tool_id(index: int) -> str:
    """As Anthropic's look: the first tool's, the second's, ..."""
    return f"toolu_secret{index or ''}"


def _data(event: Any) -> str:
    return f"data: {json.dumps(event)}\n\n"


def _openai_body(reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text, **reply.beside}
    if reply.called:
        message["tool_calls"] = [
            {
                "id": tool_id(index),
                "type": "function",
                "function": {"name": tool["name"], "arguments": json.dumps(tool["input"])},
            }
            for index, tool in enumerate(reply.called)
        ]
    return {
        "id": "chatcmpl-provider-id",
        "object": "chat.completion",
        "created": 1,
        "model": SECRET_MODEL,
        "system_fingerprint": "fp_secret",
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish_reason}],
        **({"usage": reply.usage} if reply.usage else {}),
    }


def _embeddings_body(reply: Reply, count: int, sent: dict[str, Any]) -> dict[str, Any]:
    """Vectors [0, 1], [1, 1], ... in the form that was asked for."""
    vectors = [[float(index), 1.0] for index in range(count)]
    is_packed = sent.get("encoding_format") == "base64"
    packed = [base64.b64encode(struct.pack("<2f", *vector)).decode() for vector in vectors]
    return {
        "object": "list",
        "model": SECRET_MODEL,
        "data": [
            {"object": "embedding", "index": index, "embedding": embedding}
            for index, embedding in enumerate(packed if is_packed else vectors)
        ],
        **({"usage": reply.usage} if reply.usage else {}),
    }


def openai_frames(reply: Reply) -> list[str]:
    head = {
        "id": "chatcmpl-provider-id",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": SECRET_MODEL,
        **reply.more,
    }

    def frame(delta: dict[str, Any], finish_reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return _data({**head, "choices": [choice]})

    frames = [frame({"role": "assistant", "content": ""})]
    for index, tool in enumerate(reply.called):
        arguments = json.dumps(tool["input"])
        start = {"name": tool["name"], "arguments": ""}
        call = {"index": index, "id": tool_id(index), "type": "function", "function": start}
        frames.append(frame({"tool_calls": [call]}))
        frames += [
            frame({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
            for part in (arguments[:3], arguments[3:])
        ]
    if not reply.called:
        frames += [frame({"content": word, **reply.beside}) for word in reply.words]
    frames.append(frame({}, reply.finish_reason))
    if reply.usage:
        frames.append(_data({**head, "choices": [], "usage": reply.usage}))
    return [*frames, "data: [DONE]\n\n"]


def _anthropic_usage(reply: Reply) -> dict[str, Any]:
    usage = reply.usage or {}
    return {
        "input_tokens": usage.get("prompt_tokens", 0),
        "output_tokens": usage.get("completion_tokens", 0),
        **{name: count for name, count in usage.items() if name.startswith("cache_")},
    }


def _anthropic_body(reply: Reply) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": reply.text, **reply.beside}]
    if reply.called:
        content = [
            {"type": "tool_use", "id": tool_id(index), **tool}
            for index, tool in enumerate(reply.called)
        ]
    return {
        "id": "msg_provider_id",
        "type": "message",
        "role": "assistant",
        "model": SECRET_MODEL,
        "content": content,
        "stop_reason": "tool_use" if reply.called else "end_turn",
        "stop_sequence": None,
        "usage": _anthropic_usage(reply),
    }


def anthropic_frames(reply: Reply) -> list[str]:
    body = _anthropic_body(reply)
    usage = body["usage"]
    started = {
        **body,
        **reply.more,
        "content": [],
        "stop_reason": None,
        "usage": {**usage, "output_tokens": 1},
    }
    events: list[dict[str, Any]] = [{"type": "message_start", "message": started}]
    for index, block in enumerate(body["content"]):
        begun, deltas = _block(block, reply)
        events.append({"type": "content_block_start", "index": index, "content_block": begun})
        events += [
            {"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas
        ]
        events.append({"type": "content_block_stop", "index": index})
    stop = {"stop_reason": body["stop_reason"], "stop_sequence": None}
    events.append({"type": "message_delta", "delta": stop, "usage": usage})
    events.append({"type": "message_stop"})
    return [f"event: {event['type']}\n{_data(event)}" for event in events]


def _block(whole: dict[str, Any], reply: Reply) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """How a block begins, and its deltas."""
    if whole["type"] == "text":
        return {"type": "text", "text": ""}, [
            {"type": "text_delta", "text": word} for word in reply.words
        ]
    arguments = json.dumps(whole["input"])
    return {**whole, "input": {}}, [
        {"type": "input_json_delta", "partial_json": part}
        for part in (arguments[:3], arguments[3:])
    ]
