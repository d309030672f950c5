"""A fast local provider in OpenAI's protocol: `python -m benchmarks.upstream --port 9000`.

The model's name says what it does with a stream: ``burst`` writes all frames at once, each by
itself; ``paced`` waits --pace-ms between two (``paced-100``: 100 ms); ``sparse`` lasts as long as
``paced`` and has but the first frame and the last two; ``held`` sends one frame and then nothing until
the client leaves. Written on bare asyncio, so that it is never what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from dataclasses import dataclass
from typing import cast

import uvloop

HEAD = {"id": "chatcmpl-bench", "created": 1, "model": "bench"}
USAGE = {"prompt_tokens": 20, "completion_tokens": 50, "total_tokens": 70}
MODEL = re.compile(rb'"model"\s*:\s*"([a-z]+)-?(\d*)"')
STREAM = re.compile(rb'"stream"\s*:\s*true')
# Of a stream that lasts as long and says next to nothing.
SPARSE_FRAMES = 3
LENGTH = re.compile(rb"content-length:\s*(\d+)", re.IGNORECASE)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Script:
    """What is sent, ready as bytes."""

    delay_seconds: float
    pace_seconds: float
    plain: bytes
    frames: tuple[bytes, ...]


def script(*, delay_ms: float, frames: int, pace_ms: float) -> Script:
    """``frames`` counts all of a stream: the words, the end and the usage."""
    message = {"role": "assistant", "content": "word " * (frames - 2)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = json.dumps({**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE})
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )

    def chunk(text: str) -> bytes:
        return f"{len(text):x}\r\n{text}\r\n".encode()

    def frame(**parts: object) -> str:
        return f"data: {json.dumps({**HEAD, 'object': 'chat.completion.chunk', **parts})}\n\n"

    word = frame(choices=[{"index": 0, "delta": {"content": "word "}, "finish_reason": None}])
    end = frame(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    last = chunk(frame(choices=[], usage=USAGE)) + chunk("data: [DONE]\n\n") + b"0\r\n\r\n"
    return Script(
        delay_seconds=delay_ms / 1000,
        pace_seconds=pace_ms / 1000,
        plain=(head + body).encode(),
        frames=(*[chunk(word)] * (frames - 2), chunk(end), last),
    )


class Connection(asyncio.Protocol):
    """One request at a time, as every client here sends them."""

    def __init__(self, what: Script) -> None:
        self._script = what
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return
        length = LENGTH.search(head)
        if not (len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")):
            return
        self._received = b""
        self._timer = self._loop.call_later(self._script.delay_seconds, self._answer, body)

    def _answer(self, body: bytes) -> None:
        if not STREAM.search(body):
            self._transport.write(self._script.plain)
            return
        self._transport.write(STREAM_HEAD)
        named = MODEL.search(body)
        kind, pace = (named[1], named[2]) if named else (b"burst", b"")
        if kind == b"held":
            self._transport.write(self._script.frames[0])
        elif kind == b"paced":
            self._send(0, int(pace) / 1000 if pace else self._script.pace_seconds)
        elif kind == b"sparse":
            self._transport.write(self._script.frames[0])
            silence = self._script.pace_seconds * (len(self._script.frames) - 1)
            self._timer = self._loop.call_later(
                silence, self._send, len(self._script.frames) - 2, 0
            )
        else:
            self._send(0, 0)

    def _send(self, number: int, pace_seconds: float) -> None:
        if self._transport.is_closing():
            return
        self._transport.write(self._script.frames[number])
        if number + 1 == len(self._script.frames):
            return
        # Without a pace too each frame is a write of its own: uvloop joins those of one turn.
        if pace_seconds:
            self._timer = self._loop.call_later(pace_seconds, self._send, number + 1, pace_seconds)
        else:
            self._loop.call_soon(self._send, number + 1, 0)


async def listen(port: int, what: Script) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Connection(what), "127.0.0.1", port, backlog=2048)


async def serve(port: int, what: Script) -> None:
    await (await listen(port, what)).serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay-ms", type=float, default=20)
    parser.add_argument("--frames", type=int, default=53)
    parser.add_argument("--pace-ms", type=float, default=5)
    flags = parser.parse_args()
    told = script(delay_ms=flags.delay_ms, frames=flags.frames, pace_ms=flags.pace_ms)
    uvloop.run(serve(flags.port, told))
