"""How long starting takes, and which commands of `manage.py` import litellm."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import contenders, load, peers, processes
from benchmarks.contenders import EMBEDDED

STARTS = 3
# Each is timed from nothing to its end; none of them calls a model.
TIMED = ("check", "verify_ledger", "sweep")
# What loading every command imports.
LOADING = """
import sys, json, django
django.setup()
from django.core.management import get_commands, load_command_class
guilty = []
for name, app in sorted(get_commands().items()):
    if isinstance(app, str) and not app.startswith(("django.", "rest_framework")):
        load_command_class(app, name)
        if any(module.split(".")[0] == "litellm" for module in sys.modules):
            guilty.append(name)
            break
print(json.dumps(guilty))
"""


def run() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        base = stack.enter_context(contenders.upstream())
        server = contenders.ours(EMBEDDED, base, folder, stack)
        told = contenders.environment(f"sqlite:///{next(folder.glob('*.sqlite3'))}")
        processes.stop(server.process)  # type: ignore[arg-type]
        starts = [_start(server, told, folder) for _ in range(STARTS)]
        print(f"starts, seconds to /healthz and to an answer: {starts}", flush=True)
        commands = {name: _command(name, told) for name in TIMED}
        print(f"commands, seconds and whether litellm was imported: {commands}", flush=True)
        loaded = subprocess.run(
            [sys.executable, "-c", LOADING],
            env=told,
            cwd=peers.ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
        loading = json.loads(loaded.stdout.splitlines()[-1])
    return {"starts": starts, "commands": commands, "loading": loading}


def _start(server: contenders.Contender, told: dict[str, str], folder: Path) -> tuple[float, float]:
    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        process, port, _ = contenders.serve("start", told, folder, stack)
        processes.until_up(f"http://127.0.0.1:{port}/healthz", process)
        up = time.monotonic() - began
        again = replace(server, base=f"http://127.0.0.1:{port}/v1", process=process)
        order = again.order("burst", warm_up_seconds=0, seconds=0.05)
        load.answer(order)
        return up, time.monotonic() - began


def _command(name: str, told: dict[str, str]) -> tuple[float, bool]:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "manage.py", name],
        env=told,
        cwd=peers.ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stdout[-500:]} {done.stderr[-500:]}")
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    return time.monotonic() - began, "litellm" in imported


def markdown(figures: dict[str, Any]) -> str:
    lines = ["| embedded, from nothing | seconds |", "|---|---|"]
    ups, answers = zip(*figures["starts"], strict=True)
    lines.append(f"| to /healthz | {', '.join(f'{s:.1f}' for s in ups)} |")
    lines.append(f"| to the first answer of a call | {', '.join(f'{s:.1f}' for s in answers)} |")
    for name, (seconds, is_imported) in figures["commands"].items():
        note = ", with litellm" if is_imported else ", without litellm"
        lines.append(f"| `manage.py {name}`{note} | {seconds:.1f} |")
    guilty = ", ".join(figures["loading"]) or "none"
    lines.append(f"| commands whose loading imports litellm | {guilty} |")
    return "\n".join(lines)
