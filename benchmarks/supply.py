"""What each part of supply adds to a call, in time, statements and round trips.

One call at a time, in turn with and without each part, on PostgreSQL and Redis.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import contenders, prepare, scratch, wire
from benchmarks.contenders import DIRECT, PG1, Contender
from benchmarks.load import Connection, Order, signed

CALLS, WARM_UP = 100, 10
WIRE = ("postgres statements", "postgres round trips", "redis commands", "redis round trips")
# What the nth request of a part says beside the others', in its body and in its headers.
Saying = Callable[[int], tuple[dict[str, Any], dict[str, str]]]


def run() -> dict[str, Any]:
    """By part: p50 and p99 in ms, and what passed over the wire for a call."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, between = Path(name), stack.enter_context(wire.relays())
        base = stack.enter_context(contenders.upstream())
        server = contenders.ours(PG1, base, folder, stack, through=between.through)
        server.warm_up()
        scratch.set_up(f"{scratch.server()}/{server.database}")
        direct = stack.enter_context(contenders.started(DIRECT, base, folder))
        parts = {"the provider, directly": (direct, _same), **_parts(server, base)}
        return asyncio.run(_measure(parts, between))


def _parts(server: Contender, base: str) -> dict[str, tuple[Contender, Saying]]:
    from django.db import connections

    from teams import privacy
    from teams.models import Team

    plain, limited, kept = (
        prepare.team(base),
        prepare.team(base, **prepare.LIMITS),
        prepare.team(base),
    )
    privacy.set_policy(team=Team.objects.get(slug=kept["team"]), policy="full", actor="bench")
    connections.close_all()

    def of(team: dict[str, str]) -> Contender:
        return replace(server, headers=signed(team["key"]), keys=())

    return {
        "a plain call": (of(plain), _same),
        "with limits": (of(limited), _same),
        "with an idempotency key": (of(plain), lambda n: ({}, {"Idempotency-Key": f"bench-{n}"})),
        "cached, missed": (of(plain), lambda n: ({"cache": {"ttl": 60}, "seed": n}, {})),
        "cached, hit": (of(plain), _hit),
        "prompt and answer kept": (of(kept), _same),
    }


def _same(number: int) -> tuple[dict[str, Any], dict[str, str]]:
    return {}, {}


def _hit(number: int) -> tuple[dict[str, Any], dict[str, str]]:
    return {"cache": {"ttl": 600}}, {}


async def _measure(
    parts: dict[str, tuple[Contender, Saying]], between: wire.Relays
) -> dict[str, Any]:
    taken: dict[str, list[float]] = {name: [] for name in parts}
    used: dict[str, Counter[str]] = {name: Counter() for name in parts}
    connections = {name: Connection(of.order("burst")) for name, (of, _) in parts.items()}
    for number in range(-WARM_UP, CALLS):
        for name, (of, says) in parts.items():
            before = Counter(between.counted)
            connections[name].prepare(_order(of, *says(number)))
            sample = await connections[name].ask()
            # What is written after the answer belongs to the call.
            await asyncio.sleep(0.03)
            if number >= 0:
                taken[name].append(sample.whole * 1000)
                used[name] += between.counted - before
    for connection in connections.values():
        connection.close()
    return {
        name: {
            "p50": statistics.median(taken[name]),
            "p99": statistics.quantiles(taken[name], n=100, method="inclusive")[98],
            "wire": {kind: used[name][kind] / CALLS for kind in WIRE},
        }
        for name in parts
    }


def _order(of: Contender, body: dict[str, Any], headers: dict[str, str]) -> Order:
    order = of.order("burst")
    return replace(
        order,
        body={**(order.body or {}), "max_tokens": 100, **body},
        headers={**order.headers, **headers},
    )


def markdown(figures: dict[str, Any]) -> str:
    lines = [
        f"| | p50, ms | p99, ms | added p50 | added p99 | {' | '.join(WIRE)} |",
        f"|---|---|---|---|---|{'---|' * len(WIRE)}",
    ]
    direct, plain, *_ = figures.values()
    for name, of in figures.items():
        base = direct if of in (direct, plain) else plain
        added = " | ".join(f"{of[q] - base[q]:.1f}" for q in ("p50", "p99"))
        passed = " | ".join(f"{of['wire'][kind]:.1f}" for kind in WIRE)
        lines.append(f"| {name} | {of['p50']:.1f} | {of['p99']:.1f} | {added} | {passed} |")
    return "\n".join(lines)
