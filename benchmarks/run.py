"""Measure this server beside bare `litellm.acompletion`, in one run, on loopback alone.

`make bench` (or `python -m benchmarks.run --calls 400 --streams 100 --at-once 16`). The server runs
on a throw-away SQLite database, or on DATABASE_URL (an empty one) and REDIS_URL when they are set.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
from cryptography.fernet import Fernet

ASK = {"messages": [{"role": "user", "content": "Summarise our contract."}]}
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            "SAAS_READ_LOCAL_ENV": "0",
            "SECRET_KEY": secrets.token_urlsafe(48),
            "API_KEY_PEPPER": secrets.token_urlsafe(48),
            "ENCRYPTION_KEYS": Fernet.generate_key().decode(),
            "LOG_LEVEL": "ERROR",
        }
        os.environ.setdefault("DATABASE_URL", f"sqlite:///{folder}/bench.sqlite3")
        upstream_port, port = _free_port(), _free_port()
        base = f"http://127.0.0.1:{upstream_port}/v1"
        key = _prepare(base)
        started: list[subprocess.Popen[bytes]] = []
        try:
            started.append(
                _start("-m", "benchmarks.upstream", upstream_port, options.delay_ms, options.frames)
            )
            server = _start(
                "-m",
                "uvicorn",
                "saas_litellm.asgi:application",
                "--port",
                port,
                "--no-access-log",
                "--log-level",
                "error",
            )
            started.append(server)
            ours = asyncio.run(_load(f"http://127.0.0.1:{port}", key, server.pid, options))
            bare = _bare(base, options)
        finally:
            for process in started:
                process.terminate()
                process.wait()
    _print(ours, bare, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (
        ("calls", 400),
        ("streams", 100),
        ("at-once", 16),
        ("delay-ms", 20),
        ("frames", 53),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


def _prepare(base: str) -> str:
    """Tables, a team with credits, an alias behind the upstream; returns an API key."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "saas_litellm.settings"
    import django

    django.setup()
    from django.core.management import call_command

    from billing import ledger, plans
    from saas_litellm.base.money import NANO
    from teams import credentials, directory, keys, prices
    from teams.models import AccessGroup, Alias, Deployment

    call_command("migrate", verbosity=0)
    suffix = secrets.token_hex(4)
    organization = directory.create_organization(slug=f"bench-{suffix}", actor="bench")
    alias = Alias.objects.create(name=f"bench-{suffix}")
    credential = credentials.save(name=f"b-{suffix}", api_key="x", api_base=base, actor="bench")
    Deployment.objects.create(alias=alias, model="openai/bench", credential=credential)
    sheet = prices.UnitPrices(base=prices.Rates(input=10**8, output=10**8))
    prices.publish(price_key="openai/bench", prices=sheet, source="bench")
    group = AccessGroup.objects.create(name=f"bench-{suffix}")
    group.aliases.add(alias)
    team = directory.create_team(
        slug=f"bench-{suffix}",
        organization=organization,
        actor="bench",
        access_groups=[group],
        default_alias=alias,
    )
    plans.assign(plan=plans.ensure_preset("consumption_usd").plan, team=team, actor="bench")
    ledger.grant(
        account=ledger.account_of(team),
        amount_nanocredits=10**6 * NANO,
        actor="bench",
        idempotency_key="bench",
    )
    return f"{team.slug} {keys.issue(team=team, actor='bench')[1]}"


async def _load(
    url: str, team_and_key: str, pid: int, options: argparse.Namespace
) -> dict[str, Any]:
    team, key = team_and_key.split()
    headers = {"Authorization": f"Bearer {key}"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, headers=headers, connector=connector) as session:
        await _until_up(session)
        async with session.post(
            "/api/jobs/create", json={"team_id": team, "job_type": "b"}
        ) as made:
            job_id = (await made.json())["job_id"]
        path = f"/api/jobs/{job_id}/llm-call"
        return {
            "plain": await _measure(session, path, pid, options.calls, options.at_once),
            "stream": await _measure(
                session, f"{path}-stream", pid, options.streams, options.at_once
            ),
        }


async def _measure(
    session: aiohttp.ClientSession, path: str, pid: int, count: int, at_once: int
) -> dict[str, float]:
    gate = asyncio.Semaphore(at_once)
    latencies: list[float] = []

    async def one() -> int:
        async with gate:
            started = time.perf_counter()
            async with session.post(path, json=ASK) as response:
                body = await response.read()
                if response.status != 200 or b'"error"' in body[-300:]:
                    raise RuntimeError(body[:300])
            latencies.append(time.perf_counter() - started)
            return body.count(b"data: {")

    await asyncio.gather(*(one() for _ in range(at_once)))
    latencies.clear()
    wall, cpu = time.perf_counter(), _cpu_seconds(pid)
    frames = sum(await asyncio.gather(*(one() for _ in range(count))))
    wall, cpu = time.perf_counter() - wall, _cpu_seconds(pid) - cpu
    ranks = statistics.quantiles(latencies, n=100)
    return {
        "rate": count / wall,
        "cpu_ms": cpu * 1000 / count,
        "frames": frames / count,
        "p50_ms": ranks[49] * 1000,
        "p99_ms": ranks[98] * 1000,
    }


async def _until_up(session: aiohttp.ClientSession) -> None:
    for _ in range(200):
        try:
            async with session.get("/healthz") as response:
                if response.status == 200:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.1)
    raise RuntimeError("the server did not start")


def _bare(base: str, options: argparse.Namespace) -> dict[str, Any]:
    counts = map(str, (options.calls, options.streams, options.at_once))
    command = [sys.executable, "-m", "benchmarks.bare", base, *counts]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return figures


def _print(ours: dict[str, Any], bare: dict[str, Any], options: argparse.Namespace) -> None:
    print(
        f"{options.calls} calls, {options.streams} streams of {options.frames} frames,"
        f" {options.at_once} at once, upstream {options.delay_ms} ms;"
        f" {'PostgreSQL' if 'postgres' in os.environ['DATABASE_URL'] else 'SQLite'}"
    )
    print(f"{'':28}{'this server':>14}{'bare litellm':>14}{'ratio':>8}")
    for kind, unit in (("plain", "calls/s"), ("stream", "streams/s")):
        for name, label in (("rate", unit), ("cpu_ms", f"CPU ms per {unit[:-3]}")):
            mine, theirs = ours[kind][name], bare[kind][name]
            print(f"{label:28}{mine:14.1f}{theirs:14.1f}{mine / theirs:8.2f}")
    mine = ours["stream"]["cpu_ms"] / ours["stream"]["frames"]
    theirs = bare["stream"]["cpu_ms"] / bare["stream"]["frames"]
    print(f"{'CPU ms per frame':28}{mine:14.3f}{theirs:14.3f}{mine / theirs:8.2f}")
    for kind in ("plain", "stream"):
        print(
            f"{kind} latency p50 {ours[kind]['p50_ms']:.0f} ms, p99 {ours[kind]['p99_ms']:.0f} ms"
        )


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _start(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, *map(str, arguments)])


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


if __name__ == "__main__":
    main()
