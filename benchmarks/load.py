"""The load generator: `python -m benchmarks.load` with an order on stdin, figures on stdout.

As many connections as there are to be requests in flight, each sending its next request when its
answer is complete. Counted is the time after the warm-up; a request that lies partly in it counts
by that part, so that slow servers, which answer in waves, get neither more nor less than their due.
CPU of the measured processes is read at the same two moments. Written on bare asyncio: one call
costs it some twenty microseconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop

from benchmarks import processes


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to send and whom to watch. Without ``body`` it is a GET. Of several ``keys`` each
    connection has one, in turn."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    body: dict[str, Any] | None = None
    at_once: int = 1
    warm_up_seconds: float = 1.0
    seconds: float = 4.0
    pids: list[int] = field(default_factory=list)
    database_pids: list[int] = field(default_factory=list)

    def of_connection(self, number: int) -> Order:
        """The same with that connection's key."""
        if not self.keys:
            return self
        key = self.keys[number % len(self.keys)]
        return replace(self, headers={**self.headers, **signed(key)})

    @property
    def is_stream(self) -> bool:
        return bool(self.body and self.body.get("stream"))


@dataclass(slots=True)
class Figures:
    """Times in ms. ``first_*`` are the first frame's; CPU is per request, of ``pids``. ``count`` is
    of requests by their parts within the time, ``answered`` of all that ended after the warm-up."""

    rate: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    first_p50_ms: float
    first_p99_ms: float
    frames: float
    cpu_ms: float
    database_cpu_ms: float
    memory_mb: float
    count: float
    answered: int


@dataclass(frozen=True, slots=True)
class Sample:
    ended: float
    whole: float
    first: float
    frames: int

    def part(self, begins: float, ends: float) -> float:
        """How much of it lies between the two, from 0 to 1."""
        inside = min(self.ended, ends) - max(self.ended - self.whole, begins)
        return max(0.0, inside) / self.whole


def signed(key: str) -> dict[str, str]:
    """The header that a key is sent in."""
    return {"Authorization": f"Bearer {key}"}


def run(order: Order, *, by: tuple[object, ...] = ("benchmarks.load",)) -> Figures:
    """In a process of its own, of this module or of one that takes the same order."""
    done = subprocess.run(
        [str(part) for part in processes.python(*map(str, by))],
        input=json.dumps(asdict(order)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return Figures(**json.loads(done.stdout.splitlines()[-1]))


def answer(order: Order) -> Sample:
    """One request from here."""

    async def ask() -> Sample:
        connection = Connection(order)
        try:
            return await connection.ask()
        finally:
            connection.close()

    return asyncio.run(ask())


class Connection(asyncio.Protocol):
    """One request after the other over one connection, opened again when the server closed it."""

    def __init__(self, order: Order) -> None:
        self.prepare(order)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reset()

    def prepare(self, order: Order) -> None:
        """What the next requests are, to the same host."""
        parts = urlsplit(order.url)
        self._address = (parts.hostname or "", parts.port or 80)
        self._is_stream = order.is_stream
        self._request = _request(order, parts.netloc, parts.path or "/")

    def _reset(self) -> None:
        self._pieces: list[bytes] = []
        self._missing: int | None = None
        self._status, self._first = 0, 0.0
        self._done: asyncio.Future[None] = self._loop.create_future()

    async def ask(self) -> Sample:
        """Raises RuntimeError for anything but a complete answer with status 200."""
        await self.begin()
        await self._done
        ended, body = time.perf_counter(), b"".join(self._pieces)
        is_whole = b"data: [DONE]" in body[-40:] if self._is_stream else True
        if self._status != 200 or not is_whole or b'"error"' in body[-400:]:
            raise RuntimeError(f"{self._status}: {body[-600:]!r}")
        first = (self._first or ended) - self._began
        return Sample(ended, ended - self._began, first, body.count(b"data: {"))

    async def begin(self) -> None:
        """Send the request."""
        if self._transport is None or self._transport.is_closing():
            await self._loop.create_connection(lambda: self, *self._address)
        assert self._transport is not None
        self._reset()
        self._began = time.perf_counter()
        self._transport.write(self._request)

    async def first_frame(self) -> None:
        """Wait until the stream has begun."""
        while not self._first:
            if self.is_done:
                raise RuntimeError(f"{self._status}: {b''.join(self._pieces)[-600:]!r}")
            await asyncio.sleep(0.005)

    @property
    def is_done(self) -> bool:
        return self._done.done()

    def close(self) -> None:
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._finish()

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        if not self._status:
            self._read_head()
            data = b"".join(self._pieces)
        elif self._missing is not None:
            self._missing -= len(data)
        if self._is_stream and not self._first and b"data: {" in b"".join(self._pieces[-2:]):
            self._first = time.perf_counter()
        if self._status and (
            self._missing <= 0 if self._missing is not None else data.endswith(b"0\r\n\r\n")
        ):
            self._finish()

    def _read_head(self) -> None:
        head, found, body = b"".join(self._pieces).partition(b"\r\n\r\n")
        if not found:
            return
        self._status = int(head.split(b" ", 2)[1])
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                self._missing = int(line.split(b":")[1]) - len(body)
        self._pieces = [body]

    def _finish(self) -> None:
        if not self._done.done():
            self._done.set_result(None)


def _request(order: Order, host: str, path: str) -> bytes:
    body = b"" if order.body is None else json.dumps(order.body).encode()
    headers = {"Host": host, **order.headers}
    if order.body is not None:
        headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    method = "GET" if order.body is None else "POST"
    return f"{method} {path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode() + body


async def drive(order: Order, askers: list[Callable[[], Awaitable[Sample]]]) -> Figures:
    """Keep every asker busy until the time is over, and count."""
    samples: list[Sample] = []
    begins = time.perf_counter() + order.warm_up_seconds
    ends = begins + order.seconds

    async def keep_asking(ask: Callable[[], Awaitable[Sample]]) -> None:
        while time.perf_counter() < ends:
            samples.append(await ask())

    asking = asyncio.gather(*(keep_asking(ask) for ask in askers))
    await asyncio.wait([asking], timeout=order.warm_up_seconds)
    before = _spent(order)
    await asyncio.wait([asking], timeout=ends - time.perf_counter())
    after = _spent(order)
    await asking
    counted = [sample for sample in samples if sample.ended >= begins]
    if not counted:
        raise RuntimeError(f"no answer in {order.seconds} s: {order.url}")
    whole, first = _ranks([s.whole for s in counted]), _ranks([s.first for s in counted])
    count = sum(sample.part(begins, ends) for sample in counted)
    return Figures(
        rate=count / order.seconds,
        p50_ms=whole[49],
        p95_ms=whole[94],
        p99_ms=whole[98],
        first_p50_ms=first[49],
        first_p99_ms=first[98],
        frames=sum(sample.frames for sample in counted) / len(counted),
        cpu_ms=(after[0] - before[0]) * 1000 / count,
        database_cpu_ms=(after[1] - before[1]) * 1000 / count,
        memory_mb=processes.memory_mb(order.pids),
        count=count,
        answered=len(counted),
    )


def _spent(order: Order) -> tuple[float, float]:
    return processes.cpu_seconds(order.pids), processes.cpu_seconds(order.database_pids)


def _ranks(seconds: list[float]) -> list[float]:
    """Percentiles in ms; of a single answer each is that answer's."""
    if len(seconds) == 1:
        return [seconds[0] * 1000] * 99
    return [rank * 1000 for rank in statistics.quantiles(seconds, n=100, method="inclusive")]


async def main(order: Order) -> Figures:
    connections = [Connection(order.of_connection(number)) for number in range(order.at_once)]
    try:
        return await drive(order, [connection.ask for connection in connections])
    finally:
        for connection in connections:
            connection.close()


if __name__ == "__main__":
    os.sched_setaffinity(0, processes.LOAD_CORE)
    figures = uvloop.run(main(Order(**json.load(sys.stdin))))
    print(json.dumps(asdict(figures)))
