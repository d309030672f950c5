"""What goes over the wire: statements, commands and round trips to PostgreSQL and Redis.

A relay stands between the server and each of them and reads along, so that it does not matter
which driver is used, how, or by how many processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

from benchmarks import contenders
from benchmarks.contenders import PG1

CALLS_SECONDS = 4.0
T = TypeVar("T")


class Relays:
    """``counted`` says what passed; ``through(url)`` is the address of a relay to that one."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def through(self, url: str) -> str:
        parts = urlsplit(url)
        opening = asyncio.run_coroutine_threadsafe(self._open(url), self._loop)
        user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        query = "sslmode=disable&gssencmode=disable" if _is_postgres(url) else parts.query
        return urlunsplit(parts._replace(netloc=f"{user}127.0.0.1:{opening.result()}", query=query))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _open(self, url: str) -> int:
        parts = urlsplit(url)
        kind = "postgres" if _is_postgres(url) else "redis"

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            theirs, ours = await asyncio.open_connection(parts.hostname, parts.port)
            link = Link(kind, self.counted)
            await asyncio.gather(
                _pump(reader, ours, link.asked), _pump(theirs, writer, link.answered)
            )

        server = await asyncio.start_server(relay, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])


class Link:
    """Counts one connection. A round trip begins where a client speaks after its server."""

    def __init__(self, kind: str, counted: Counter[str]) -> None:
        self._kind = kind
        self._counted = counted
        self._left = b""
        # PostgreSQL's first message of a connection has no type.
        self._is_started = kind == "redis"
        self._is_clients_turn = True

    def asked(self, data: bytes) -> None:
        if self._is_clients_turn:
            self._counted[f"{self._kind} round trips"] += 1
        self._is_clients_turn = False
        self._left += data
        if self._kind == "redis":
            self._count_commands()
        else:
            self._count_statements()

    def answered(self, data: bytes) -> None:
        self._is_clients_turn = True

    def _count_statements(self) -> None:
        """A simple query (Q) or the execution of a prepared one (E)."""
        while len(self._left) >= 5:
            start = 1 if self._is_started else 0
            length = start + int.from_bytes(self._left[start : start + 4])
            if len(self._left) < length:
                return
            if self._is_started and self._left[:1] in b"QE":
                self._counted["postgres statements"] += 1
            self._is_started, self._left = True, self._left[length:]

    def _count_commands(self) -> None:
        """Arrays of bulk strings, as clients send them."""
        while end := _end_of_command(self._left):
            self._counted["redis commands"] += 1
            self._left = self._left[end:]


def _end_of_command(data: bytes) -> int:
    """Where the first command ends; 0 when it is not all there."""
    head, found, _ = data.partition(b"\r\n")
    if not found:
        return 0
    position = len(head) + 2
    for _ in range(int(head[1:])):
        line_end = data.find(b"\r\n", position)
        if line_end < 0:
            return 0
        position = line_end + 2 + int(data[position + 1 : line_end]) + 2
    return position if position <= len(data) else 0


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: Callable[..., None]
) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            seen(data)
            writer.write(data)
            await writer.drain()
    writer.close()


def _is_postgres(url: str) -> bool:
    return url.startswith("postgres")


@contextmanager
def relays() -> Iterator[Relays]:
    made = Relays()
    try:
        yield made
    finally:
        made.close()


def run() -> dict[str, dict[str, float]]:
    """Of a plain call and of a stream, one in flight; what an idle server sends is taken off."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, between = Path(name), stack.enter_context(relays())
        base = stack.enter_context(contenders.upstream())
        server = contenders.ours(PG1, base, folder, stack, through=between.through)
        server.warm_up()
        found = {}
        for kind in ("plain", "stream"):
            idle, _ = _passing(between, functools.partial(time.sleep, CALLS_SECONDS))
            order = server.order(
                "burst",
                is_stream=kind == "stream",
                seconds=CALLS_SECONDS,
                warm_up_seconds=0,
            )
            busy, figures = _passing(between, functools.partial(server.run, order))
            calls = figures.answered
            found[kind] = {n: max(0.0, busy[n] - idle[n]) / calls for n in sorted(busy)}
            print(f"over the wire, {kind}: {found[kind]}", flush=True)
    return found


def _passing(between: Relays, act: Callable[[], T]) -> tuple[Counter[str], T]:
    before = Counter(between.counted)
    answer = act()
    # What is written after the answer belongs to the call.
    time.sleep(0.2)
    return between.counted - before, answer


def markdown(figures: dict[str, dict[str, float]]) -> str:
    names = [
        "postgres statements",
        "postgres round trips",
        "redis commands",
        "redis round trips",
    ]
    lines = [f"| over the wire, per | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for kind, of in figures.items():
        lines.append(f"| {kind} | {' | '.join(f'{of.get(n, 0):.1f}' for n in names)} |")
    return "\n".join(lines)
