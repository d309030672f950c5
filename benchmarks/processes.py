"""Processes of a benchmark: started on cores of their own, watched, and ended with their children."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
TASKSET = shutil.which("taskset")
CORES = sorted(os.sched_getaffinity(0))
# Load and provider share the last core, or have one each where there are four; what is measured
# has the first. PostgreSQL and Redis are left to the kernel.
LOAD_CORE = CORES[-1:]
UPSTREAM_CORE = CORES[-2:-1] if len(CORES) >= 4 else CORES[-1:]


def server_cores(workers: int) -> list[int]:
    """A core each from the first on; the load's core is shared only when there are too few."""
    return CORES[:workers]


def start(
    command: Sequence[object],
    *,
    cores: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
    folder: Path | None = None,
) -> subprocess.Popen[bytes]:
    """A process in a group of its own, on these cores where there is taskset."""
    pinned = [TASKSET, "-c", ",".join(map(str, cores))] if TASKSET and cores else []
    with (log or Path(os.devnull)).open("ab") as output:
        return subprocess.Popen(
            [str(part) for part in (*pinned, *command)],
            env=None if environment is None else dict(environment),
            stdout=output,
            stderr=output,
            cwd=folder,
            start_new_session=True,
        )


def python(module: str, *arguments: object) -> list[object]:
    return [sys.executable, "-m", module, *arguments]


def stop(process: subprocess.Popen[bytes], *, patience_seconds: float = 10) -> None:
    """Ask it to end, then end the whole group."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience_seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def until_up(url: str, process: subprocess.Popen[bytes], *, seconds: float = 90) -> None:
    """Wait until the address answers 200. Raises RuntimeError when it does not in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            pass
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} does not answer at {url}")


def until_open(port: int, process: subprocess.Popen[bytes], *, seconds: float = 20) -> None:
    """Wait until something listens there. Raises RuntimeError when nothing does in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} does not listen on {port}")


def tree(root: int) -> list[int]:
    """The process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        found.append(waiting.pop())
        waiting += parents.get(found[-1], [])
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes, and of children that they have waited for."""
    fields = [_stat(pid) for pid in pids]
    return sum(sum(map(int, parts[11:15])) for parts in fields if parts) / TICKS


def memory_mb(pids: Iterable[int]) -> float:
    """Resident memory; pages that processes share count in each of them."""
    return sum(int(parts[21]) for pid in pids if (parts := _stat(pid))) * PAGE / 2**20


def _stat(pid: int) -> list[str]:
    """/proc/<pid>/stat from the state on, or nothing when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
