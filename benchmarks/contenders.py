"""Who is measured: this project in its forms, others beside it, and the upstream by itself."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks import load, peers, processes, scratch
from benchmarks.load import Figures, Order

ASK = [{"role": "user", "content": "Summarise our contract."}]
DIRECT, EMBEDDED, PG1, PG2 = "direct", "ours-embedded", "ours-pg", "ours-pg-2"
PROXY, PORTKEY, BARE, GATEWAY = "proxy", "portkey", "bare", "gateway"
TITLES = {
    DIRECT: "the upstream, called directly",
    EMBEDDED: "this project, embedded (SQLite)",
    PG1: "this project, PostgreSQL + Redis, 1 worker",
    PG2: "this project, PostgreSQL + Redis, 2 workers",
    PROXY: "litellm[proxy], no database, 1 worker",
    PORTKEY: "Portkey's gateway, 1 process",
    BARE: "bare litellm.acompletion",
    GATEWAY: "this project's provider call alone",
}
# What production sets by itself stays out: a benchmark begins with the same environment everywhere.
CLEAN = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """``base`` is what an OpenAI client would be told; ``by`` sends the requests."""

    name: str
    base: str
    headers: Mapping[str, str] = field(default_factory=dict)
    keys: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = None
    by: tuple[str, ...] = ("benchmarks.load",)
    database: str = ""
    log: Path | None = None

    @property
    def title(self) -> str:
        return TITLES[self.name]

    @property
    def pids(self) -> list[int]:
        return processes.tree(self.process.pid) if self.process else []

    def order(self, model: str, *, is_stream: bool = False, **more: Any) -> Order:
        """To /chat/completions, for one of the upstream's models."""
        path = "/chat/completions" if self.by[0] == "benchmarks.load" else ""
        body: dict[str, Any] = {"model": model, "messages": ASK}
        if is_stream:
            body["stream"] = True
        headers, keys = dict(self.headers), list(self.keys)
        return Order(url=self.base + path, headers=headers, keys=keys, body=body, **more)

    def page(self, path: str, **more: Any) -> Order:
        """A GET of this project, beneath its root."""
        root = self.base.removesuffix("/v1")
        return Order(url=root + path, headers=dict(self.headers), **more)

    def warm_up(self) -> None:
        """Both kinds of call on every worker: what is loaded or connected late is then there."""
        if self.process:
            for is_stream in (False, True):
                self.run(self.order("burst", is_stream=is_stream, at_once=16, warm_up_seconds=3))

    def run(self, order: Order) -> Figures:
        """Raises RuntimeError with the end of the server's log when an answer is not right."""
        watched = replace(order, pids=self.pids, database_pids=scratch.backends(self.database))
        try:
            return load.run(watched, by=self.by)
        except RuntimeError as error:
            log = self.log.read_text(errors="replace")[-2000:] if self.log else ""
            raise RuntimeError(f"{self.name}: {error}\n{log}") from error


@contextmanager
def upstream(**flags: float) -> Iterator[str]:
    """The local provider; its base URL. ``flags`` are those of `benchmarks.upstream`."""
    port = processes.free_port()
    told = [f"--{name.replace('_', '-')}={value}" for name, value in flags.items()]
    command = processes.python("benchmarks.upstream", f"--port={port}", *told)
    process = processes.start(command, cores=processes.UPSTREAM_CORE)
    try:
        processes.until_open(port, process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        processes.stop(process)


@contextmanager
def started(name: str, base: str, folder: Path) -> Iterator[Contender]:
    """The contender, ready to answer, behind the upstream at ``base``."""
    with contextlib.ExitStack() as stack:
        yield {
            DIRECT: lambda: Contender(name=DIRECT, base=base),
            BARE: lambda: Contender(name=BARE, base=base, by=("benchmarks.bare", "litellm")),
            GATEWAY: lambda: Contender(name=GATEWAY, base=base, by=("benchmarks.bare", "gateway")),
            PROXY: lambda: _proxy(base, folder, stack),
            PORTKEY: lambda: _portkey(base, folder, stack),
            EMBEDDED: lambda: ours(EMBEDDED, base, folder, stack),
            PG1: lambda: ours(PG1, base, folder, stack),
            PG2: lambda: ours(PG2, base, folder, stack, workers=2),
        }[name]()


def environment(url: str, redis_url: str = "") -> dict[str, str]:
    """Of this project as it runs in production, with secrets of its own."""
    return {
        **CLEAN,
        "PATH": f"{Path(sys.executable).parent}:{CLEAN['PATH']}",
        "DJANGO_SETTINGS_MODULE": "saas_litellm.settings",
        "SAAS_READ_LOCAL_ENV": "0",
        "DATABASE_URL": url,
        **({"REDIS_URL": redis_url} if redis_url else {}),
        "REDIS_NAMESPACE": f"bench-{secrets.token_hex(4)}",
        "ALLOWED_HOSTS": "127.0.0.1",
        **scratch.SECRETS,
        "LOG_LEVEL": "ERROR",
    }


def ours(
    name: str,
    base: str,
    folder: Path,
    stack: contextlib.ExitStack,
    *,
    workers: int = 1,
    cores: Sequence[int] = (),
    teams: int = 1,
    through: Callable[[str], str] = lambda url: url,
) -> Contender:
    """This project as its Procfile starts it. ``through`` changes the addresses of PostgreSQL and
    Redis for the server alone, to put something between."""
    if name == EMBEDDED:
        url, redis_url = f"sqlite:///{folder}/{secrets.token_hex(4)}.sqlite3", ""
    else:
        url, redis_url = stack.enter_context(scratch.database()), scratch.redis_url()
    told = environment(url, redis_url)
    prepared = subprocess.run(
        [str(part) for part in processes.python("benchmarks.prepare", base, teams)],
        env=told,
        check=True,
        capture_output=True,
        text=True,
        cwd=peers.ROOT,
    )
    keys = json.loads(prepared.stdout.splitlines()[-1])
    told |= {"DATABASE_URL": through(url), "WEB_PROCESSES": str(workers)}
    if redis_url:
        told["REDIS_URL"] = through(redis_url)
    process, port, log = serve(name, told, folder, stack, workers=workers, cores=cores)
    processes.until_up(f"http://127.0.0.1:{port}/healthz", process)
    return Contender(
        name=name,
        base=f"http://127.0.0.1:{port}/v1",
        headers=load.signed(keys[0]),
        keys=keys,
        process=process,
        database=url.rpartition("/")[2] if redis_url else "",
        log=log,
    )


def serve(
    name: str,
    told: Mapping[str, str],
    folder: Path,
    stack: contextlib.ExitStack,
    *,
    workers: int = 1,
    cores: Sequence[int] = (),
) -> tuple[subprocess.Popen[bytes], int, Path]:
    """The Procfile's web process, not waited for; on a core for each worker, unless told others."""
    lines = (peers.ROOT / "Procfile").read_text().splitlines()
    web = next(line.removeprefix("web: ") for line in lines if line.startswith("web: "))
    more = f" --workers {workers}" if workers > 1 else ""
    port, log = processes.free_port(), folder / f"{name}.log"
    process = processes.start(
        ["sh", "-c", f"exec {web}{more}"],
        cores=cores or processes.server_cores(workers),
        environment={**told, "HOST": "127.0.0.1", "PORT": str(port)},
        log=log,
        folder=peers.ROOT,
    )
    stack.callback(processes.stop, process)
    return process, port, log


def _proxy(base: str, folder: Path, stack: contextlib.ExitStack) -> Contender:
    command, port, log = peers.litellm_proxy(), processes.free_port(), folder / "proxy.log"
    config, key = peers.litellm_config(folder, base)
    told = {
        **CLEAN,
        "LITELLM_MASTER_KEY": key,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
    }
    process = processes.start(
        [command, "--config", config, "--host", "127.0.0.1", "--port", port, "--num_workers", 1],
        cores=processes.server_cores(1),
        environment=told,
        log=log,
        folder=folder,
    )
    stack.callback(processes.stop, process)
    processes.until_up(f"http://127.0.0.1:{port}/health/liveliness", process)
    headers = load.signed(key)
    base = f"http://127.0.0.1:{port}/v1"
    return Contender(name=PROXY, base=base, headers=headers, process=process, log=log)


def _portkey(base: str, folder: Path, stack: contextlib.ExitStack) -> Contender:
    script, port, log = peers.portkey(), processes.free_port(), folder / "portkey.log"
    process = processes.start(
        ["node", script, "--headless", f"--port={port}"],
        cores=processes.server_cores(1),
        environment={**CLEAN, "NODE_ENV": "production"},
        log=log,
        folder=folder,
    )
    stack.callback(processes.stop, process)
    processes.until_up(f"http://127.0.0.1:{port}/", process)
    headers = {
        "Authorization": "Bearer x",
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": base,
    }
    base = f"http://127.0.0.1:{port}/v1"
    return Contender(name=PORTKEY, base=base, headers=headers, process=process, log=log)
