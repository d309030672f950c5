"""The platform as a process: from nothing, or forked from one that has imported what takes seconds.

What reads a setting is imported after the fork, so a forked platform is as one that was started
from nothing, but for the time it takes. `python -m uvicorn` itself runs in it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.preloaded"])


class Forked:
    """As much of subprocess.Popen as the tests use."""

    def __init__(self, process: ForkServerProcess) -> None:
        self._process = process
        self.pid = process.pid or 0

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("uvicorn", timeout or 0)
        return self._process.exitcode


def begin() -> None:
    """Start the process that is forked, which keeps the environment of now."""
    forkserver.ensure_running()


def forked(
    arguments: Sequence[str], *, environment: Mapping[str, str], log: IO[bytes] | None = None
) -> Forked:
    """Runs `uvicorn ARGUMENTS`; what it says goes to the end of ``log``."""
    given = (list(arguments), dict(environment), log and log.name)
    process = _context.Process(target=_uvicorn, args=given, daemon=True)
    process.start()
    return Forked(process)


def _uvicorn(arguments: list[str], environment: dict[str, str], log: str | None) -> None:
    from uvicorn.main import main

    threading.Thread(target=_end_with_the_tests, daemon=True).start()
    os.environ.update(environment)
    if log is not None:
        file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for standard in (sys.stdout, sys.stderr):
            os.dup2(file, standard.fileno())
    sys.argv = ["uvicorn", *arguments]
    main()


def fresh(
    arguments: Sequence[str], *, environment: Mapping[str, str], log: IO[bytes] | None = None
) -> subprocess.Popen[bytes]:
    """The same, by an interpreter that has imported nothing yet."""
    return subprocess.Popen(
        [sys.executable, "-m", "uvicorn", *arguments],
        cwd=ROOT,
        env=dict(environment),
        stdout=log,
        stderr=subprocess.STDOUT if log else None,
    )


def _end_with_the_tests() -> None:
    """Who was interrupted kills nobody."""
    tests = multiprocessing.parent_process()
    assert tests is not None
    tests.join()
    os._exit(1)
