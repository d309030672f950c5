"""What was measured, kept as figures and written into RESULTS.md, each section between its marks."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import contest, idle, money, peers, scratch, startup, supply, wire, workers
from benchmarks.contenders import BARE, GATEWAY, PG1, PROXY
from benchmarks.upstream import SPARSE_FRAMES

RESULTS = Path(__file__).with_name("RESULTS.md")
# CPU of a bare litellm.acompletion on the machine of the targets, in ms.
BARE_THERE_MS = 3.2
SECTIONS = {
    "before": "Calls, streams and money: before this change",
    "now": "Calls, streams and money",
}
PARTS: dict[str, Callable[[Any], str]] = {
    "contest": contest.markdown,
    "workers": workers.markdown,
    "wire": wire.markdown,
    "money": money.markdown,
    "idle": idle.markdown,
    "startup": startup.markdown,
    "supply": supply.markdown,
}


def machine() -> str:
    """Where and with what, and how busy the machine was."""
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    with psycopg.connect(f"{scratch.server()}/postgres") as connection:
        row = connection.execute("SHOW server_version").fetchone()
    ours = ", ".join(f"{name} {version(name)}" for name in ("django", "uvicorn", "litellm"))
    return (
        f"{found[1] if found else platform.machine()}, {os.cpu_count()} cores, Linux"
        f" {platform.release()}, Python {platform.python_version()}, PostgreSQL"
        f" {row[0] if row else '?'}, {ours}; litellm[proxy] {peers.LITELLM},"
        f" @portkey-ai/gateway {peers.PORTKEY}"
    )


def keep(section: str, part: str, figures: Any, *, command: str, load: tuple[float, ...]) -> None:
    """One part's figures beside those of earlier runs, and the section written again of all."""
    path = peers.cache_folder() / f"figures-{section}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(path.read_text()) if path.exists() else {}
    busy = " (busy with other work: neither rates nor ratios are exact)" if load[0] > 1 else ""
    kept[part] = {
        "figures": figures,
        "about": f"`{command}`; load at its start {load[0]:.1f}{busy}. {machine()}.",
    }
    path.write_text(json.dumps(kept, indent=1))
    _write(section, kept)


def _write(section: str, kept: dict[str, Any]) -> None:
    parts = [f"## {SECTIONS[section]}", targets(kept)]
    for part, shown in PARTS.items():
        if part in kept:
            parts += [f"### {part}", kept[part]["about"], shown(kept[part]["figures"])]
    RESULTS.write_text(placed(RESULTS.read_text(), section, "\n\n".join(parts)))


def placed(text: str, section: str, body: str) -> str:
    """The text with this section in place of the one of that name, else below the text's title."""
    begin, end = f"<!-- begin {section} -->", f"<!-- end {section} -->"
    marked = f"{begin}\n{body}\n{end}"
    head, is_there, rest = text.partition(begin)
    if is_there:
        return head + marked + rest.partition(end)[2]
    title, _, rest = text.partition("\n\n")
    return f"{title}\n\n{marked}\n\n{rest}"


@dataclass(frozen=True, slots=True)
class Target:
    """A row: what was measured, as text, and whether it is what was to be reached."""

    title: str
    goal: str
    measured: str
    is_reached: bool


def targets(kept: dict[str, Any]) -> str:
    """Every target whose part was measured."""
    rows: list[Target] = []
    for part, make in (
        ("contest", _of_contest),
        ("workers", _of_workers),
        ("money", _of_money),
        ("idle", _of_idle),
        ("startup", _of_startup),
    ):
        if part in kept:
            rows += make(kept[part]["figures"])
    lines = ["| | target | measured | |", "|---|---|---|---|"]
    for row in rows:
        state = "reached" if row.is_reached else "not reached"
        lines.append(f"| {row.title} | {row.goal} | {row.measured} | {state} |")
    return "\n".join(lines) + (yardstick(kept["contest"]["figures"]) if "contest" in kept else "")


def yardstick(figures: dict[str, Any]) -> str:
    """The targets in ms were set on another machine: what was measured, in that one's time, by what
    bare litellm took there and here."""
    table, frames = figures["table"], figures["sizes"]["frames"]
    if not {BARE, GATEWAY, PG1} <= table.keys():
        return ""
    bare = table[BARE]["calls"]["cpu_ms"][0]
    here = bare / BARE_THERE_MS
    whole, alone = (table[name]["calls"]["cpu_ms"][0] for name in (PG1, GATEWAY))
    around = (whole - alone) / here
    at_once, paced = (cost / here for cost in contest.cpu_per_frame(table, PG1, frames))
    return (
        f"\n\nA bare `litellm.acompletion` took {BARE_THERE_MS} ms of CPU on the machine for which the"
        f" targets were set, and {bare:.1f} ms here, {here:.1f} times as long. In that machine's time,"
        f" which is worked out and not measured: {around:.2f} ms around the provider call,"
        f" {at_once:.3f} and {paced:.3f} ms a frame."
    )


def _of_contest(figures: dict[str, Any]) -> list[Target]:
    table, frames = figures["table"], figures["sizes"]["frames"]
    rows: list[Target] = []
    if PG1 not in table:
        return rows
    if PROXY in table:
        for kind, title, factor in (("calls", "calls/s", 4), ("streams", "streams/s", 10)):
            ratio = contest.ratio(table, PG1, PROXY, kind)
            rates = " : ".join(f"{table[n][kind]['rate'][0]:.0f}" for n in (PG1, PROXY))
            rows.append(
                Target(
                    f"{title} against LiteLLM's proxy without its database",
                    f"≥ {factor} ×",
                    f"{ratio:.1f} × ({rates})",
                    ratio >= factor,
                )
            )
    at_once, paced = contest.cpu_per_frame(table, PG1, frames)
    rows.append(
        Target(
            "CPU per streamed frame (at once: less a plain call; at a pace: less a stream as long of"
            f" {SPARSE_FRAMES} frames)",
            "≤ 0.05 ms",
            f"{at_once:.3f} ms at once, {paced:.3f} ms at a pace",
            at_once <= 0.05 and paced <= 0.05,
        )
    )
    if GATEWAY in table:
        whole, alone = (table[name]["calls"]["cpu_ms"][0] for name in (PG1, GATEWAY))
        rows.append(
            Target(
                "CPU of everything around the provider call",
                "≤ 1.5 ms",
                f"{whole - alone:.2f} ms ({whole:.2f} a call, less {alone:.2f} of the provider call alone)",
                whole - alone <= 1.5,
            )
        )
    p50, p99 = (contest.added(table, PG1, "one", q) for q in ("p50_ms", "p99_ms"))
    rows.append(
        Target(
            "added latency at 1 in flight, p50 / p99",
            "≤ 6 / 20 ms",
            f"{p50:.1f} / {p99:.1f} ms",
            p50 <= 6 and p99 <= 20,
        )
    )
    return rows


def _of_workers(figures: dict[str, Any]) -> list[Target]:
    times = workers.times(figures)
    return [
        Target(
            f"second worker, each with at most {workers.SHARE:.0%} of a core, so that neither cores nor"
            " PostgreSQL are full",
            "≥ 1.7 ×",
            f"{times:.2f} × the calls/s of one",
            times >= 1.7,
        )
    ]


def _of_money(figures: dict[str, Any]) -> list[Target]:
    many, hot = money.best(figures, money.WALLETS), money.best(figures, 1)
    return [
        Target(
            "hold+settle pairs per second, many wallets / one hot wallet",
            "≥ 2,000 / ≥ 1,000",
            f"{many:.0f} / {hot:.0f}",
            many >= 2000 and hot >= 1000,
        )
    ]


def _of_idle(figures: dict[str, Any]) -> list[Target]:
    silent, talking = (idle.firsts_added(figures, m)[1] for m in ("held", "paced-100"))
    most = figures["idle"][-1]
    return [
        Target(
            "time to first frame added, 200 streams open, p99",
            "≤ 50 ms",
            f"{silent:.1f} ms beside silent ones, {talking:.1f} ms beside ten frames a second each",
            silent <= 50 and talking <= 50,
        ),
        Target(
            f"{most['streams']} idle open streams on one worker",
            "served, ≤ 40 KB each above base, no database connection held",
            f"served, {most['kb_each']:.0f} KB each, {most['connections_in_use']} connections in use",
            most["kb_each"] <= 40 and not most["connections_in_use"],
        ),
    ]


def _of_startup(figures: dict[str, Any]) -> list[Target]:
    slowest = max(answered for _, answered in figures["starts"])
    guilty = [name for name, (_, is_imported) in figures["commands"].items() if is_imported]
    guilty += figures["loading"]
    return [
        Target(
            "start to first answer, embedded, slowest; litellm imported by commands that call no model",
            "≤ 6 s; none",
            f"{slowest:.1f} s; {', '.join(guilty) or 'none'}",
            slowest <= 6 and not guilty,
        )
    ]
