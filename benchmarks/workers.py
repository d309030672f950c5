"""What a second worker brings, where each may take only a share of a core.

Two workers, PostgreSQL, Redis, the provider and the load do not fit on two cores at full speed: what
is measured there is the machine. With so small a share that all of them fit, a worker that is added
adds its time; what is lost of it is what workers take from each other, in locks and in transactions
that fewer calls share.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import contenders, processes, quota
from benchmarks.contenders import PG1, PG2, Contender

ROUNDS = 3
SECONDS = 4.0
# Of one core, for each worker. All are on the first: load and provider have the last.
SHARE = 0.3
CORES = processes.CORES[:1]
# In flight, for each worker: as many as in the contest; each connection is one team's.
AT_ONCE = 64
TEAMS = 2 * AT_ONCE


def run() -> dict[str, Any]:
    rates: dict[int, list[float]] = {1: [], 2: []}
    costs: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        base = stack.enter_context(contenders.upstream(delay_ms=20))
        ready = {
            count: contenders.ours(
                name, base, folder, stack, workers=count, cores=CORES, teams=TEAMS
            )
            for count, name in ((1, PG1), (2, PG2))
        }
        for contender in ready.values():
            contender.warm_up()
            # Every worker knows nearly every team then.
            contender.run(contender.order("burst", at_once=4 * TEAMS, warm_up_seconds=5))
        pids = {count: _workers(contender) for count, contender in ready.items()}
        for count, found in pids.items():
            assert len(found) == count, f"{count} workers: {found}"
            stack.enter_context(quota.shares(found, SHARE))
        for number in range(ROUNDS):
            for count, contender in ready.items():
                order = contender.order(
                    "burst", at_once=AT_ONCE * count, seconds=SECONDS, warm_up_seconds=1
                )
                figures = contender.run(order)
                rates[count].append(figures.rate)
                costs[count].append(figures.cpu_ms)
                print(
                    f"round {number + 1} {count} workers {figures.rate:8.1f}/s"
                    f" CPU {figures.cpu_ms:6.2f} ms",
                    flush=True,
                )
        assert pids == {count: _workers(contender) for count, contender in ready.items()}
    return {"rates": rates, "cpu_ms": costs}


def _workers(contender: Contender) -> list[int]:
    """Those that answer: of several, the children; the one above only watches them."""
    assert contender.process is not None
    above, *children = contender.pids
    workers = [pid for pid in children if processes.memory_mb([pid]) > _ANSWERS_MB]
    return workers or [above]


# What has loaded the platform and litellm is larger than this; what only keeps others' books is not.
_ANSWERS_MB = 100


def times(figures: dict[str, Any]) -> float:
    """How many times one worker's calls two workers do."""
    one, two = (statistics.median(_of(figures["rates"], count)) for count in (1, 2))
    return two / one


def _of(by_count: dict[Any, list[float]], count: int) -> list[float]:
    # JSON's keys are texts.
    return by_count[count] if count in by_count else by_count[str(count)]


def markdown(figures: dict[str, Any]) -> str:
    lines = ["| workers | calls/s (span) | CPU a call, ms |", "|---|---|---|"]
    for count in (1, 2):
        rates, costs = _of(figures["rates"], count), _of(figures["cpu_ms"], count)
        lines.append(
            f"| {count} | {statistics.median(rates):.0f} ({min(rates):.0f}–{max(rates):.0f})"
            f" | {statistics.median(costs):.2f} |"
        )
    lines += [
        "",
        f"Each worker has at most {SHARE:.0%} of core {CORES[0]} (the kernel's CFS quota, a period of"
        f" {quota.PERIOD_MICROSECONDS // 1000} ms) and {AT_ONCE} calls in flight, of as many teams;"
        f" the load has core {processes.LOAD_CORE[0]}, the provider core"
        f" {processes.UPSTREAM_CORE[0]}; PostgreSQL and Redis are not pinned. Medians of {ROUNDS} rounds in turn,"
        f" {SECONDS:g} s each.",
    ]
    return "\n".join(lines)
