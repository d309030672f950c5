"""What others offer, each in a throw-away environment: the versions are pinned here."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.prepare import MODELS

ROOT = Path(__file__).resolve().parent.parent
PORTKEY = "1.15.2"
# With later ones, which its package.json allows, Portkey's gateway answers plain calls with 500.
PORTKEY_OVERRIDES = {"@hono/node-server": "1.13.8"}
# litellm's proxy is compared in the version that this project uses as a library.
LITELLM = re.search(r"^litellm==([\w.]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)[1]  # type: ignore[index]


def cache_folder() -> Path:
    """BENCH_CACHE, else a folder in the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("BENCH_CACHE") or Path(base) / "saas-litellm-bench")


def litellm_proxy() -> Path:
    """The command of litellm's proxy, installed on first use (about 300 MB, a minute)."""
    folder = cache_folder() / f"litellm-{LITELLM}"
    if not (folder / "complete").exists():
        print(f"installing litellm[proxy] {LITELLM} into {folder} ...", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        package = f"litellm[proxy]=={LITELLM}"
        subprocess.run([folder / "bin/pip", "install", "-qq", package], check=True)
        (folder / "complete").touch()
    return folder / "bin/litellm"


def litellm_config(folder: Path, base: str) -> tuple[Path, str]:
    """A configuration with the upstream's models and no database; and a new master key."""
    entry = (
        "- model_name: {0}\n  litellm_params: {{model: openai/{0}, api_base: '{1}', api_key: x}}"
    )
    path = folder / "litellm.yaml"
    path.write_text("model_list:\n" + "\n".join(entry.format(m, base) for m in MODELS) + "\n")
    return path, f"sk-{secrets.token_urlsafe(32)}"


def portkey() -> Path:
    """The script that starts Portkey's gateway, installed on first use. It needs Node."""
    folder = cache_folder() / f"portkey-{PORTKEY}"
    package = folder / "node_modules/@portkey-ai/gateway"
    if not (folder / "complete").exists():
        print(f"installing @portkey-ai/gateway {PORTKEY} into {folder} ...", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text(
            json.dumps({"private": True, "overrides": PORTKEY_OVERRIDES})
        )
        quiet = ["--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(
            ["npm", "install", *quiet, f"@portkey-ai/gateway@{PORTKEY}"], cwd=folder, check=True
        )
        (folder / "complete").touch()
    return package / "build/start-server.js"
