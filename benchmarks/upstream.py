"""A fast local provider in OpenAI's protocol: `python -m benchmarks.upstream PORT DELAY_MS FRAMES`."""

from __future__ import annotations

import asyncio
import json
import sys

from aiohttp import web

HEAD = {"id": "c", "created": 1, "model": "bench"}
USAGE = {"prompt_tokens": 20, "completion_tokens": 50, "total_tokens": 70}


def application(*, delay_seconds: float, frames: int) -> web.Application:
    """``frames`` content frames a stream; plain answers and first frames after the delay."""
    message = {"role": "assistant", "content": "word " * frames}
    plain = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE}
    plain_bytes = json.dumps({**HEAD, "object": "chat.completion", **plain}).encode()

    def frame(**parts: object) -> bytes:
        return (
            b"data: "
            + json.dumps({**HEAD, "object": "chat.completion.chunk", **parts}).encode()
            + b"\n\n"
        )

    word = frame(choices=[{"index": 0, "delta": {"content": "word "}, "finish_reason": None}])
    end = frame(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    end += frame(choices=[], usage=USAGE) + b"data: [DONE]\n\n"

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        await asyncio.sleep(delay_seconds)
        if not body.get("stream"):
            return web.Response(body=plain_bytes, content_type="application/json")
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for _ in range(frames):
            await response.write(word)
        await response.write(end)
        return response

    served = web.Application()
    served.router.add_post("/v1/chat/completions", answer)
    return served


if __name__ == "__main__":
    port, delay_ms, frames = map(int, sys.argv[1:4])
    web.run_app(
        application(delay_seconds=delay_ms / 1000, frames=frames),
        host="127.0.0.1",
        port=port,
        print=None,
        access_log=None,
    )
