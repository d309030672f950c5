"""Open streams that say nothing: what each keeps; and how soon others begin beside open ones."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import contenders, processes, scratch
from benchmarks.contenders import DIRECT, PG1, Contender
from benchmarks.load import Connection

IDLE = (100, 1000)
OPEN = 200
PROBE_SECONDS = 6.0


def run() -> dict[str, Any]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        base = stack.enter_context(contenders.upstream())
        direct = stack.enter_context(contenders.started(DIRECT, base, folder))
        ours = stack.enter_context(contenders.started(PG1, base, folder))
        ours.warm_up()
        idle = asyncio.run(_idle(ours))
        firsts = {
            f"{model} {of.name}": asyncio.run(_beside(of, model))
            for model in ("held", "paced-100")
            for of in (direct, ours)
        }
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return {"idle": idle, "firsts": firsts}


async def _idle(of: Contender) -> list[dict[str, Any]]:
    """Memory above that of the same server before the first of them, and what else it holds."""
    base = processes.memory_mb(of.pids)
    order = of.order("held", is_stream=True)
    connections: list[Connection] = []
    rows: list[dict[str, Any]] = []
    for count in IDLE:
        more = [Connection(order) for _ in range(count - len(connections))]
        for connection in more:
            await connection.begin()
        await asyncio.gather(*(connection.first_frame() for connection in more))
        connections += more
        await asyncio.sleep(5)
        states = Counter(state for _, state in scratch.activity(of.database))
        rows.append(
            {
                "streams": count,
                "kb_each": (processes.memory_mb(of.pids) - base) * 1024 / count,
                "base_mb": base,
                "connections": sum(states.values()),
                "connections_in_use": sum(n for state, n in states.items() if state != "idle"),
            }
        )
        print(f"idle: {rows[-1]}", flush=True)
    for connection in connections:
        connection.close()
    # Until each is settled.
    await asyncio.sleep(5)
    return rows


async def _beside(of: Contender, model: str) -> tuple[float, float]:
    """p50 and p99 of a stream's first frame, in ms, with OPEN streams of that model open."""
    with _keeping_open(of, model) as opening:
        await opening
        probe = of.order("burst", is_stream=True, seconds=PROBE_SECONDS, warm_up_seconds=2)
        figures = await asyncio.to_thread(of.run, probe)
    print(f"{OPEN} {model} open, {of.name}: first {figures.first_p50_ms:.1f}", flush=True)
    await asyncio.sleep(3)
    return figures.first_p50_ms, figures.first_p99_ms


@contextmanager
def _keeping_open(of: Contender, model: str) -> Iterator[asyncio.Future[Any]]:
    """What ends is asked again. The awaited future is done when all have begun once."""
    order = replace(of.order(model, is_stream=True))
    connections = [Connection(order) for _ in range(OPEN)]

    async def keep(connection: Connection) -> None:
        while True:
            await connection.ask()

    tasks = [asyncio.ensure_future(keep(connection)) for connection in connections]
    try:
        yield asyncio.gather(*(connection.first_frame() for connection in connections))
    finally:
        for task in tasks:
            task.cancel()
        for connection in connections:
            connection.close()


def markdown(figures: dict[str, Any]) -> str:
    lines = [
        "| idle open streams | KB each above base | base, MB | connections to PostgreSQL | of them in use |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {of['streams']} | {of['kb_each']:.0f} | {of['base_mb']:.0f}"
        f" | {of['connections']} | {of['connections_in_use']} |"
        for of in figures["idle"]
    ]
    lines += [
        "",
        f"| first frame added beside {OPEN} open streams | p50, ms | p99, ms |",
        "|---|---|---|",
    ]
    titles = {"held": "that say nothing", "paced-100": "of ten frames a second each"}
    for model, title in titles.items():
        p50, p99 = firsts_added(figures, model)
        lines.append(f"| {title} | {p50:.1f} | {p99:.1f} |")
    return "\n".join(lines)


def firsts_added(figures: dict[str, Any], model: str) -> tuple[float, float]:
    direct, ours = figures["firsts"][f"{model} {DIRECT}"], figures["firsts"][f"{model} {PG1}"]
    return ours[0] - direct[0], ours[1] - direct[1]
