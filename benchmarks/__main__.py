"""Measure: `python -m benchmarks [part ...]`, by default all but supply, into benchmarks/RESULTS.md.

contest: this project, litellm's proxy, Portkey's gateway and bare litellm side by side; workers:
what a second one brings; wire:
statements and round trips of a call; money: hold + settle pairs; idle: open streams; startup;
supply: what limits, idempotency, cache and privacy add to a call.
PostgreSQL and Redis are those of BENCH_POSTGRES and BENCH_REDIS, else on the standard ports.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import contest, idle, money, report, startup, supply, wire, workers
from benchmarks.contenders import TITLES

ALL = ("contest", "workers", "wire", "money", "idle", "startup")


def main() -> None:
    flags = _flags()
    # However it is ended, what it started ends with it.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    sizes = contest.Sizes(
        **{name: getattr(flags, name) for name in contest.Sizes.__dataclass_fields__}
    )

    def compare() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            return contest.run(flags.only or list(TITLES), sizes, Path(folder))

    parts: dict[str, Callable[[], Any]] = {
        "contest": compare,
        "workers": workers.run,
        "wire": wire.run,
        "money": money.run,
        "idle": idle.run,
        "startup": startup.run,
        "supply": supply.run,
    }
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    failed = []
    for name in flags.parts or ALL:
        load, began = os.getloadavg(), time.monotonic()
        print(f"== {name}; load {load[0]:.1f}", flush=True)
        try:
            figures = parts[name]()
            if flags.only:
                print(report.PARTS[name](figures), flush=True)
            else:
                report.keep(flags.section, name, figures, command=command, load=load)
        except Exception:
            # The others are measured all the same.
            traceback.print_exc()
            failed.append(name)
        print(f"== {name} took {time.monotonic() - began:.0f} s", flush=True)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


def _end(number: int, frame: object) -> None:
    sys.exit(128 + number)


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*report.PARTS, []], metavar="part")
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        help=f"of the contest these alone, printed and not written: {', '.join(TITLES)}",
    )
    parser.add_argument("--section", choices=report.SECTIONS, default="now")
    for name, about in contest.Sizes.__dataclass_fields__.items():
        kind = int if about.type == "int" else float
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=kind, default=about.default)
    return parser.parse_args()


if __name__ == "__main__":
    main()
