"""A share of a core, and what a second worker is said to bring."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import processes, quota, report, workers

pytestmark = pytest.mark.any_database
SPIN = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"


def test_a_process_gets_its_share_and_leaves_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", SPIN])
    try:
        before = _groups()
        try:
            with quota.shares([process.pid], 0.2):
                began, spent = time.monotonic(), processes.cpu_seconds([process.pid])
                time.sleep(2)
                used = processes.cpu_seconds([process.pid]) - spent
                # A machine that is busy gives it less, and never more.
                assert used <= 0.25 * (time.monotonic() - began)
        except OSError as error:
            pytest.skip(f"NOT RUN: no group may be made here: {error}")
        assert _groups() == before
    finally:
        process.kill()
        process.wait()


def test_two_workers_are_told_in_times_of_one() -> None:
    figures = {
        "rates": {"1": [99.0, 100.0, 103.0], "2": [170.0, 180.0, 185.0]},
        "cpu_ms": {"1": [1.0, 1.0, 1.0], "2": [1.1, 1.1, 1.1]},
    }

    assert workers.times(figures) == 1.8
    assert "| 1.80 × the calls/s of one | reached |" in report.targets(
        {"workers": {"figures": figures}}
    )
    assert "| 2 | 180 (170–185) | 1.10 |" in workers.markdown(figures)


def _groups() -> set[Path]:
    return {path for base in quota.BASES for path in base.glob("bench-*")}
