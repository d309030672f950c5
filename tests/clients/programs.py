"""Programs in JavaScript that use an official client; they write one JSON line a finding."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

JS = Path(__file__).parent / "js"
LOCK = JS / "package-lock.json"
_OPTIONS = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")


def install(folder: Path = JS) -> None:
    """Install what the lock file says, once for all test processes; skips loudly without node."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            assert os.environ.get("CI") != "true", f"{tool} is missing"
            pytest.skip(f"NOT RUN: {tool} is missing")
    lock, installed = folder / "package-lock.json", folder / "node_modules/.installed"
    with FileLock(folder / ".install.lock"):
        if not installed.exists() or installed.read_text() != lock.read_text():
            subprocess.run(["npm", "ci", *_OPTIONS], cwd=folder, check=True, timeout=300)
            installed.write_text(lock.read_text())


def run(name: str, *, url: str, key: str, **environment: str) -> list[Any]:
    """What the program found, line by line; it must end well."""
    done = subprocess.run(
        ["node", f"{name}.mjs"],
        cwd=JS,
        env={
            **os.environ,
            "OPENAI_BASE_URL": f"{url}/v1",
            "OPENAI_API_KEY": key,
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
