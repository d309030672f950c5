"""Run the suite on both ways of running: `python -m tests.run [pytest arguments]`.

Embedded first (SQLite, memory), then PostgreSQL + Redis: those that TEST_DATABASE_URL and
TEST_REDIS_URL name, else what answers on the standard ports, else throw-away servers started from
installed binaries. Tests marked ``any_database`` run once, embedded. What could not run is said
loudly; with CI=true it is a failure.
"""

from __future__ import annotations

import glob
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from tests import browser

# Fixed values for tests alone.
SECRETS = {
    "SAAS_READ_LOCAL_ENV": "0",
    "SECRET_KEY": "test-secret-key-" + "0123456789abcdef" * 3,
    "API_KEY_PEPPER": "test-pepper-" + "0123456789abcdef" * 3,
    "ENCRYPTION_KEYS": "dGVzdHMtb25seS1rZXktMzItYnl0ZXMtbG9uZy0hISE=",
}
# Where compiled code is not kept, every process of the tests compiles the platform anew.
KEPT = {"PYTHONDONTWRITEBYTECODE": ""}


def main(arguments: list[str]) -> int:
    """Exit status: 0 only if everything that had to run passed."""
    _find_browser()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        embedded = {"DATABASE_URL": f"sqlite:///{folder}/db.sqlite3", "REDIS_URL": ""}
        status = _pytest("embedded: SQLite", embedded, arguments)
        database = servers.enter_context(_postgresql(Path(folder)))
        redis = servers.enter_context(_redis(Path(folder)))
        if database and redis:
            production = {"DATABASE_URL": database, "REDIS_URL": redis}
            # Those were run just now.
            rest = ["-m", "not any_database", *arguments]
            return status or _pytest("production: PostgreSQL + Redis", production, rest)
    missing = [name for name, url in (("PostgreSQL", database), ("Redis", redis)) if not url]
    print(
        f"\n!!! NOT RUN on PostgreSQL + Redis: no {' and no '.join(missing)} here !!!", flush=True
    )
    return status or int(os.environ.get("CI") == "true")


def _pytest(title: str, environment: dict[str, str], arguments: list[str]) -> int:
    print(f"\n=== {title} ===", flush=True)
    spread = [] if any(argument.startswith("-n") for argument in arguments) else ["-n", "2"]
    command = [sys.executable, "-m", "pytest", "--dist", "worksteal", *spread, *arguments]
    return subprocess.run(
        command, env={**os.environ, **SECRETS, **KEPT, **environment}, check=False
    ).returncode


def _find_browser() -> None:
    """Chromium, from Debian's packages where that can be; its tests fail without it when CI=true."""
    if browser.binary() is not None:
        return
    if shutil.which("apt-get") and os.geteuid() == 0:
        print("Installing Chromium for the tests in a browser ...", flush=True)
        for package in ("chromium-headless-shell", "chromium"):
            command = ["apt-get", "install", "-y", "-qq", package]
            if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode == 0:
                break
    if browser.binary() is None:
        print("\n!!! NOT RUN in a browser: no Chromium here; set CHROMIUM !!!", flush=True)


@contextmanager
def _postgresql(folder: Path) -> Iterator[str]:
    named = os.environ.get("TEST_DATABASE_URL", "")
    standard = "postgres://postgres@127.0.0.1:5432/postgres"
    if named or _answers(standard):
        yield named or standard
        return
    binaries = sorted(glob.glob("/usr/lib/postgresql/*/bin")) + [
        str(Path(found).parent) for found in [shutil.which("initdb")] if found
    ]
    if not binaries:
        yield ""
        return
    home, port = folder / "postgresql", free_port()
    home.mkdir(mode=0o777)
    # PostgreSQL refuses to run as root.
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if prefix:
        folder.chmod(0o755)
        shutil.chown(home, "postgres")
    run = [*prefix, f"{binaries[-1]}/initdb", "-D", str(home), "-U", "postgres", "-A", "trust"]
    subprocess.run(run, check=True, stdout=subprocess.DEVNULL)
    control = [*prefix, f"{binaries[-1]}/pg_ctl", "-D", str(home), "-w"]
    options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1 -c fsync=off"
    subprocess.run([*control, "-o", options, "-l", str(home / "log"), "start"], check=True)
    try:
        yield f"postgres://postgres@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False)


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    named = os.environ.get("TEST_REDIS_URL", "")
    if named or _listens(6379):
        yield named or "redis://127.0.0.1:6379/9"
        return
    binary = shutil.which("redis-server")
    if binary is None:
        yield ""
        return
    port = free_port()
    command = [
        binary,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(folder),
    ]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while not _listens(port) and time.monotonic() < deadline:
        time.sleep(0.1)
    try:
        yield f"redis://127.0.0.1:{port}/9"
    finally:
        server.terminate()
        server.wait()


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=3).close()
    except psycopg.Error:
        return False
    return True


def _listens(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(2)
        return client.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
