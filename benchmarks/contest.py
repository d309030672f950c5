"""Everybody side by side: rounds in turn (A B C, A B C, ...), medians of the rounds with their span."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import contenders, processes
from benchmarks.contenders import BARE, DIRECT, EMBEDDED, PG1, PG2, PORTKEY, PROXY, TITLES
from benchmarks.load import Figures
from benchmarks.upstream import SPARSE_FRAMES

# Of each contender and kind of request: every figure's median, least and greatest over the rounds.
Table = dict[str, dict[str, dict[str, list[float]]]]
OURS = (EMBEDDED, PG1, PG2)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request. A ``page`` is asked of this project alone."""

    name: str
    title: str
    model: str = "burst"
    is_stream: bool = False
    at_once: int = 1
    page: str = ""
    # Where p99 is of interest and calls are few.
    times: float = 1.0


def kinds(at_once: int) -> list[Kind]:
    return [
        Kind("one", "calls, one in flight", times=2),
        Kind("one-stream", "streams, one in flight", is_stream=True),
        Kind("calls", f"calls, {2 * at_once} in flight", at_once=2 * at_once),
        Kind("streams", f"streams at once, {at_once} in flight", is_stream=True, at_once=at_once),
        Kind(
            "paced",
            f"streams at a pace, {at_once} in flight",
            model="paced",
            is_stream=True,
            at_once=at_once,
        ),
        Kind(
            "sparse",
            f"streams as long, of {SPARSE_FRAMES} frames, {at_once} in flight",
            model="sparse",
            is_stream=True,
            at_once=at_once,
        ),
        Kind("healthz", "GET /healthz, 16 in flight", at_once=16, page="/healthz"),
        Kind("models", "GET /v1/models with a key, 16 in flight", at_once=16, page="/v1/models"),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    rounds: int = 3
    seconds: float = 2
    at_once: int = 32
    delay_ms: float = 20
    frames: int = 53
    pace_ms: float = 5


def run(names: Sequence[str], sizes: Sizes, folder: Path) -> dict[str, Any]:
    """The table, and what was measured how. The upstream itself is always among them."""
    chosen = [DIRECT, *(name for name in TITLES if name in names and name != DIRECT)]
    rounds: dict[str, dict[str, list[Figures]]] = {name: {} for name in chosen}
    alone = _upstream_alone(sizes)
    with contextlib.ExitStack() as stack:
        flags = {"delay_ms": sizes.delay_ms, "frames": sizes.frames, "pace_ms": sizes.pace_ms}
        base = stack.enter_context(contenders.upstream(**flags))
        ready = [contender for name in chosen if (contender := _started(name, base, folder, stack))]
        for number in range(sizes.rounds):
            for kind in kinds(sizes.at_once):
                for contender in ready:
                    if kind.page and contender.name not in OURS:
                        continue
                    figures = contender.run(_order(contender, kind, sizes))
                    rounds[contender.name].setdefault(kind.name, []).append(figures)
                    print(_line(number, kind, contender.name, figures), flush=True)
    table = {name: _summary(of) for name, of in rounds.items() if of}
    return {"sizes": asdict(sizes), "alone": alone, "table": table}


def _upstream_alone(sizes: Sizes) -> dict[str, float]:
    """Calls and streams per second of load and upstream by themselves, without any delay."""
    with contenders.upstream(delay_ms=0, frames=sizes.frames) as base:
        direct = contenders.Contender(name=DIRECT, base=base)
        return {
            name: direct.run(
                direct.order("burst", is_stream=is_stream, at_once=sizes.at_once, seconds=2)
            ).rate
            for name, is_stream in (("calls", False), ("streams", True))
        }


def _started(
    name: str, base: str, folder: Path, stack: contextlib.ExitStack
) -> contenders.Contender | None:
    """Up and warm; or nothing, and why, where another's program cannot be had here."""
    began = time.monotonic()
    try:
        contender = stack.enter_context(contenders.started(name, base, folder))
        contender.warm_up()
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        if name not in (PROXY, PORTKEY):
            raise
        print(f"without {name}: {error}", flush=True)
        return None
    print(f"started {name} in {time.monotonic() - began:.0f} s", flush=True)
    return contender


def _order(contender: contenders.Contender, kind: Kind, sizes: Sizes) -> Any:
    pace = {
        "at_once": kind.at_once,
        "seconds": sizes.seconds * kind.times,
        "warm_up_seconds": 0.7,
    }
    if kind.page:
        return contender.page(kind.page, **pace)
    return contender.order(kind.model, is_stream=kind.is_stream, **pace)


def _line(number: int, kind: Kind, name: str, figures: Figures) -> str:
    return (
        f"round {number + 1} {kind.name:10} {name:14} {figures.rate:8.1f}/s"
        f" p50 {figures.p50_ms:7.1f} p99 {figures.p99_ms:7.1f} ms, CPU {figures.cpu_ms:7.2f} ms"
    )


def _summary(of: dict[str, list[Figures]]) -> dict[str, dict[str, list[float]]]:
    return {
        kind: {
            name: _span([asdict(figures)[name] for figures in rounds]) for name in asdict(rounds[0])
        }
        for kind, rounds in of.items()
    }


def _span(values: list[float]) -> list[float]:
    return [statistics.median(values), min(values), max(values)]


def markdown(figures: dict[str, Any]) -> str:
    """The tables of one run."""
    table: Table = figures["table"]
    sizes = Sizes(**figures["sizes"])
    asked = [k for k in kinds(sizes.at_once) if any(k.name in of for of in table.values())]
    return "\n\n".join(
        [_ratios(table), _how(figures, sizes), *(_table_of(kind, table) for kind in asked)]
    )


def _how(figures: dict[str, Any], sizes: Sizes) -> str:
    one, two, load, upstream = (
        "+".join(map(str, cores))
        for cores in (
            processes.server_cores(1),
            processes.server_cores(2),
            processes.LOAD_CORE,
            processes.UPSTREAM_CORE,
        )
    )
    alone = figures["alone"]
    return (
        f"Medians of {sizes.rounds} rounds in turn, {sizes.seconds:g} s each; the upstream answers"
        f" after {sizes.delay_ms:g} ms, a stream has {sizes.frames} frames, at a pace one every"
        f" {sizes.pace_ms:g} ms. *Added* is above the upstream called directly in the same rounds;"
        " CPU is that of the server's processes and their children, for one call or stream."
        f" Servers have core {one}, two workers cores {two}, the load generator core {load}, the"
        f" upstream core {upstream}; PostgreSQL and Redis are not pinned. Load generator and"
        f" upstream alone reach {alone['calls']:,.0f} calls/s and {alone['streams']:,.0f} streams/s."
        " This project checks a team's key and its limits, and each call is a job of its own, with"
        " hold, settlement and ledger entry; litellm's proxy checks one master key, the others"
        " check nothing."
    )


def _ratios(table: Table) -> str:
    lines = [
        "| times as many as | calls/s | streams/s, at once | streams/s, at a pace |",
        "|---|---|---|---|",
    ]
    for ours in (PG1, EMBEDDED):
        for other in (PROXY, PORTKEY, BARE):
            if ours in table and other in table:
                cells = [ratio(table, ours, other, kind) for kind in ("calls", "streams", "paced")]
                shown = " | ".join(f"{cell:.2f} ×" for cell in cells)
                lines.append(f"| {TITLES[ours]} : {TITLES[other]} | {shown} |")
    return "\n".join(lines)


def ratio(table: Table, name: str, other: str, kind: str, figure: str = "rate") -> float:
    return table[name][kind][figure][0] / table[other][kind][figure][0]


def added(table: Table, name: str, kind: str, figure: str) -> float:
    """Milliseconds above the upstream, called directly in the same rounds."""
    return table[name][kind][figure][0] - table[DIRECT][kind][figure][0]


def _table_of(kind: Kind, table: Table) -> str:
    first = " first frame added p50 / p99, ms |" if kind.is_stream else ""
    lines = [
        f"**{kind.title}**",
        "",
        f"| | per s (span) | added p50 / p95 / p99, ms |{first}"
        " CPU, ms (span) | PostgreSQL's CPU, ms | memory, MB |",
        f"|---|---|---|{'---|' if first else ''}---|---|---|",
    ]
    for name, of in table.items():
        if kind.name in of:
            lines.append(_row(kind, name, table))
    return "\n".join(lines)


def _row(kind: Kind, name: str, table: Table) -> str:
    of = table[name][kind.name]
    rate, cpu = of["rate"], of["cpu_ms"]
    cells = [TITLES[name], f"{rate[0]:.0f} ({rate[1]:.0f}–{rate[2]:.0f})"]
    quantiles = ("p50_ms", "p95_ms", "p99_ms")
    if name == DIRECT or kind.page:
        cells.append(" / ".join(f"{of[q][0]:.1f}" for q in quantiles) + " in all")
    else:
        cells.append(" / ".join(f"{added(table, name, kind.name, q):.1f}" for q in quantiles))
    if kind.is_stream:
        firsts = ("first_p50_ms", "first_p99_ms")
        cells.append(
            " / ".join(f"{of[q][0]:.1f}" for q in firsts) + " in all"
            if name == DIRECT
            else " / ".join(f"{added(table, name, kind.name, q):.1f}" for q in firsts)
        )
    cells.append("–" if name == DIRECT else f"{cpu[0]:.2f} ({cpu[1]:.2f}–{cpu[2]:.2f})")
    database = of["database_cpu_ms"][0]
    cells += [f"{database:.2f}" if database else "–"]
    cells += ["–" if name == DIRECT else f"{of['memory_mb'][0]:.0f}"]
    return "| " + " | ".join(cells) + " |"


def cpu_per_frame(table: Table, name: str, frames: int) -> tuple[float, float]:
    """Milliseconds a frame costs, at once and at a pace.

    At once: what a stream takes more than a plain call, by its frames. At a pace: what it takes more
    than a stream that is as long and of few frames, by the frames between. Beside plain calls, which
    are many more a second and so share transactions, those few calls would count as frames.
    """
    cost = {kind: of["cpu_ms"][0] for kind, of in table[name].items()}
    # Figures that were kept from before there were sparse streams.
    beside = cost.get("sparse", cost["calls"])
    between = max(1, frames - SPARSE_FRAMES) if "sparse" in cost else frames
    return (cost["streams"] - cost["calls"]) / frames, (cost["paced"] - beside) / between
