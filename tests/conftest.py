from __future__ import annotations

import asyncio
import gc
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import certifi
import httpx
import pytest
import uvicorn
from django.db import connection
from django.test import TransactionTestCase

from billing import plans
from jobs import gateway
from jobs.gateway import direct
from saas_litellm.base import clock, outbox
from saas_litellm.base.limiter import limiter
from tests import emptying, forks
from tests import own_database as databases
from tests.providers.server import ProviderServer

ROOT = Path(__file__).resolve().parent.parent
ENOUGH_BYTES = 256 * 1024 * 1024


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    django_db_modify_db_settings_parallel_suffix: None,
) -> Iterator[None]:
    """SQLite's file lies in memory where there is room: no test is about a power cut."""
    memory = Path("/dev/shm")
    is_there = connection.vendor == "sqlite" and memory.is_dir()
    if not is_there or shutil.disk_usage(memory).free < ENOUGH_BYTES:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="saas-tests-", dir=memory) as folder:
        connection.settings_dict["TEST"]["NAME"] = f"{folder}/db.sqlite3"
        yield


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """Nor does PostgreSQL wait for its disk: in no process, as the database itself says so."""
    if connection.vendor != "postgresql":
        return
    with django_db_blocker.unblock():
        databases.commit_quickly()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish() -> None:
    """What is imported stays: to look through it again and again for garbage takes a tenth of it
    all."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


@pytest.fixture(autouse=True, scope="session")
def _one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """httpx reads every authority of the world, 30 ms, for each client: here none is on the web."""
    file = tmp_path_factory.mktemp("tls") / "authority.pem"
    file.write_text("".join(certifi.contents().partition("-----END CERTIFICATE-----\n")[:2]))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SSL_CERT_FILE", str(file))
        yield


@pytest.fixture(autouse=True, scope="session")
def _empty_quickly() -> None:
    TransactionTestCase._fixture_teardown = emptying.empty


@pytest.fixture(autouse=True)
def _forget_plans(settings: Any) -> None:
    """Rows of a plan version never change in life, but a test's database forgets them, and who
    listens."""
    plans.load.cache_clear()
    outbox.forget()
    settings.SECURE_SSL_REDIRECT = False
    # A password is slow to hash on purpose, which proves nothing here.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def own_database(transactional_db: None, django_db_blocker: Any) -> Iterator[str]:
    """A PostgreSQL database of the test's own, which it may change as it likes; its name."""
    if connection.vendor != "postgresql":
        pytest.skip("of PostgreSQL alone")
    with databases.own(django_db_blocker) as name:
        yield name


@pytest.fixture
def pages_served(settings: Any) -> None:
    """Pages find their files though nobody collected them."""
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


@pytest.fixture
def sold_online(settings: Any) -> None:
    """Credits are for sale by a Stripe that does not answer."""
    settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRET = "sk_test_x", "whsec_x"
    settings.STRIPE_API_BASE = "http://127.0.0.1:1"


@pytest.fixture
def provider() -> Iterator[ProviderServer]:
    with ProviderServer() as server:
        yield server


@pytest.fixture
async def connections_closed() -> AsyncIterator[None]:
    """The gateway's connections end with the test, as its event loop does."""
    yield
    await gateway.shut_down()


@pytest.fixture
def fresh_limits(settings: Any) -> Iterator[None]:
    """A limiter that has counted nothing yet."""
    settings.REDIS_NAMESPACE = uuid4().hex
    # A busy machine is not an outage.
    settings.REDIS_TIMEOUT_SECONDS = 10
    limiter.cache_clear()
    yield
    limiter.cache_clear()


@pytest.fixture
def fresh_cache(settings: Any) -> None:
    """Django's cache as if empty. Never clear it: that empties the Redis of whoever tests beside."""
    default = {**settings.CACHES["default"], "KEY_PREFIX": uuid4().hex}
    settings.CACHES = {**settings.CACHES, "default": default}


@pytest.fixture
def forward(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that moves the platform's clock on by some seconds."""
    now, ahead = clock.now, [0.0]
    monkeypatch.setattr("saas_litellm.base.clock.now", lambda: now() + timedelta(seconds=ahead[0]))

    def move(seconds: float) -> None:
        ahead[0] += seconds

    return move


@dataclass
class Live:
    """A served platform, and the process behind it when it is one of its own."""

    url: str
    process: forks.Forked | subprocess.Popen[bytes] | None = None

    def client(self, headers: dict[str, str] | None = None) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)


class _Thread(uvicorn.Server):
    """Ends at once: uvicorn's own looks whether it should every tenth of a second, and waits one."""

    def install_signal_handlers(self) -> None: ...

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop, self.ending = asyncio.get_running_loop(), asyncio.Event()
        await super().startup(sockets)

    async def main_loop(self) -> None:
        await self.on_tick(0)
        await self.ending.wait()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.ending.set)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for client in list(self.server_state.connections):
            client.shutdown()
        while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await direct.close()


@pytest.fixture
def live(transactional_db: None) -> Iterator[Live]:
    """The real ASGI application under uvicorn, on a thread, on the test's database."""
    from saas_litellm.asgi import application

    port = free_port()
    server = _Thread(
        uvicorn.Config(
            application,
            port=port,
            lifespan="off",
            log_level="warning",
            server_header=False,
            proxy_headers=False,
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start: was its port taken meanwhile?"
        time.sleep(0.01)
    yield Live(f"http://127.0.0.1:{port}")
    server.stop()
    thread.join(20)


@pytest.fixture(scope="session")
def forking() -> None:
    """Begun before any test changes the environment."""
    forks.begin()


@pytest.fixture
def spawned(transactional_db: None, forking: None) -> Iterator[Any]:
    """A function that starts the platform as a process of its own, on the test's database.

    A fork, unless it ``is_fresh``: then its interpreter begins from nothing.
    """
    started: list[forks.Forked | subprocess.Popen[bytes]] = []

    def spawn(
        *,
        port: int = 0,
        log: IO[bytes] | None = None,
        is_fresh: bool = False,
        **environment: str,
    ) -> Live:
        port = port or free_port()
        start = forks.fresh if is_fresh else forks.forked
        process = start(
            ["saas_litellm.asgi:application", "--host", "127.0.0.1", "--port", str(port)],
            environment={**os.environ, "DATABASE_URL": database_url(), **environment},
            log=log,
        )
        started.append(process)
        served = Live(f"http://127.0.0.1:{port}", process)
        wait_until(lambda: _is_up(served), seconds=30)
        return served

    yield spawn
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def paged(spawned: Any) -> Any:
    """The same for a browser to look at, so that its pages are served with their files."""
    return partial(spawned, DEBUG="1", DJANGO_SETTINGS_MODULE="tests.page_settings")


def database_url() -> str:
    """The test database, for another process."""
    settings = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{settings['NAME']}"
    host, port = settings["HOST"] or "127.0.0.1", settings["PORT"] or 5432
    secret = f":{settings['PASSWORD']}" if settings["PASSWORD"] else ""
    return f"postgres://{settings['USER']}{secret}@{host}:{port}/{settings['NAME']}"


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def wait_until(condition: Any, *, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def _is_up(served: Live) -> bool:
    try:
        return httpx.get(f"{served.url}/healthz", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
