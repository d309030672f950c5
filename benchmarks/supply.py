"""What each part of supply adds to a call: `python -m benchmarks.supply [CALLS]`.

One call at a time, in turn with and without each part, on a scratch PostgreSQL and on Redis
(BENCH_REDIS). Server, provider and client share this process, so the absolute figures are too
high; what a part adds is the difference to the plain call. Statements and commands are counted at
the drivers.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiohttp
from aiohttp import web

from benchmarks import run, scratch
from benchmarks.upstream import application

Body = dict[str, Any]
Part = tuple[str, dict[str, str], Callable[[int], tuple[Body, dict[str, str]]]]
ASK = {"messages": [{"role": "user", "content": "Summarise our contract."}], "max_tokens": 100}
counted: Counter[str] = Counter()


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    redis_url = os.environ.get("BENCH_REDIS", "redis://127.0.0.1:6379/8")
    with scratch.database() as url:
        os.environ["REDIS_NAMESPACE"] = f"bench-{secrets.token_hex(4)}"
        scratch.set_up(url, redis_url=redis_url)
        _count()
        asyncio.run(_measure(calls))


def _count() -> None:
    """Count what is sent to PostgreSQL and to Redis."""
    import redis.asyncio
    from django.db.backends.utils import CursorWrapper

    execute, command = CursorWrapper.execute, redis.asyncio.Redis.execute_command

    def counting(self: Any, *arguments: Any, **more: Any) -> Any:
        counted["statements"] += 1
        return execute(self, *arguments, **more)

    async def commanding(self: Any, *arguments: Any, **more: Any) -> Any:
        counted["commands"] += 1
        return await command(self, *arguments, **more)

    CursorWrapper.execute = counting  # type: ignore[method-assign]
    redis.asyncio.Redis.execute_command = commanding  # type: ignore[method-assign]


def _parts(upstream: str) -> list[Part]:
    """Name, headers, and what the nth request sends."""
    from teams import privacy
    from teams.models import Team

    def key_of(team_and_key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {team_and_key.split()[1]}"}

    def named(team_and_key: str) -> Team:
        return Team.objects.get(slug=team_and_key.split(maxsplit=1)[0])

    plain, limited, kept = (run._prepare(upstream) for _ in range(3))
    Team.objects.filter(pk=named(limited).pk).update(
        requests_per_minute=10**6, tokens_per_minute=10**9, calls_in_flight=1000
    )
    privacy.set_policy(team=named(kept), policy="full", actor="bench")

    def same(n: int) -> tuple[Body, dict[str, str]]:
        return {}, {}

    def keyed(n: int) -> tuple[Body, dict[str, str]]:
        return {}, {"Idempotency-Key": f"bench-{n}"}

    def missed(n: int) -> tuple[Body, dict[str, str]]:
        return {"cache": {"ttl": 60}, "seed": n}, {}

    def hit(n: int) -> tuple[Body, dict[str, str]]:
        return {"cache": {"ttl": 600}}, {}

    return [
        ("a plain call", key_of(plain), same),
        ("with limits", key_of(limited), same),
        ("with an idempotency key", key_of(plain), keyed),
        ("cached, missed", key_of(plain), missed),
        ("cached, hit", key_of(plain), hit),
        ("prompt and answer kept", key_of(kept), same),
    ]


async def _measure(calls: int) -> None:
    import uvicorn

    upstream_port, port = run._free_port(), run._free_port()
    runner = web.AppRunner(application(delay_seconds=0.02, frames=50))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", upstream_port).start()
    upstream = f"http://127.0.0.1:{upstream_port}/v1"
    parts = await asyncio.to_thread(_parts, upstream)
    from jobs import gateway
    from saas_litellm.asgi import application as served

    server = uvicorn.Server(uvicorn.Config(served, port=port, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    async with aiohttp.ClientSession() as session:
        while not server.started:  # noqa: ASYNC110 - uvicorn tells it no other way
            await asyncio.sleep(0.05)
        address = f"http://127.0.0.1:{port}/v1/chat/completions"
        taken: dict[str, list[float]] = {name: [] for name, _, _ in parts}
        used: dict[str, Counter[str]] = {name: Counter() for name, _, _ in parts}
        direct: list[float] = []
        for number in itertools.count(-10):
            if number == calls:
                break
            elapsed, _ = await _ask(session, f"{upstream}/chat/completions", {"model": "b"}, {})
            direct.append(elapsed)
            for name, headers, make in parts:
                more, besides = make(number)
                model = {"model": await _model(session, port, headers)}
                elapsed, spent = await _ask(
                    session, address, {**model, **more}, {**headers, **besides}
                )
                if number >= 0:
                    taken[name].append(elapsed)
                    used[name] += spent
    server.should_exit = True
    await serving
    await runner.cleanup()
    await gateway.shut_down()
    _print(calls, direct, taken, used)


_models: dict[str, str] = {}


async def _model(session: aiohttp.ClientSession, port: int, headers: dict[str, str]) -> str:
    key = headers["Authorization"]
    if key not in _models:
        async with session.get(f"http://127.0.0.1:{port}/v1/models", headers=headers) as answer:
            _models[key] = (await answer.json())["data"][0]["id"]
    return _models[key]


async def _ask(
    session: aiohttp.ClientSession, address: str, body: Body, headers: dict[str, str]
) -> tuple[float, Counter[str]]:
    # What the last request still writes after its answer is its own.
    await asyncio.sleep(0.01)
    counted.clear()
    started = time.perf_counter()
    async with session.post(address, json={**ASK, **body}, headers=headers) as answer:
        text = await answer.read()
        elapsed = time.perf_counter() - started
        if answer.status != 200:
            raise RuntimeError(text[:300])
    await asyncio.sleep(0.02)
    return elapsed, Counter(counted)


def _print(
    calls: int, direct: list[float], taken: dict[str, list[float]], used: dict[str, Counter[str]]
) -> None:
    print(f"{calls} calls of each, one at a time; PostgreSQL + Redis; the provider takes 20 ms")
    print(
        f"{'':28}{'p50 ms':>8}{'p99 ms':>8}{'added p50':>11}{'added p99':>11}{'SQL':>7}{'Redis':>7}"
    )
    print(f"{'the provider, directly':28}{_at(direct, 50):8.1f}{_at(direct, 99):8.1f}")
    plain = taken["a plain call"]
    for name, times in taken.items():
        base = direct if times is plain else plain
        print(
            f"{name:28}{_at(times, 50):8.1f}{_at(times, 99):8.1f}"
            f"{_at(times, 50) - _at(base, 50):11.1f}{_at(times, 99) - _at(base, 99):11.1f}"
            f"{used[name]['statements'] / calls:7.1f}{used[name]['commands'] / calls:7.1f}"
        )


def _at(times: list[float], percent: int) -> float:
    return statistics.quantiles(times, n=100)[percent - 1] * 1000


if __name__ == "__main__":
    main()
