from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

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
from tests import emptying
from tests.own_database import own as own_database_of
from tests.providers.server import ProviderServer

ROOT = Path(__file__).resolve().parent.parent


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
    with own_database_of(django_db_blocker) as name:
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
    process: subprocess.Popen[bytes] | None = None

    def client(self, headers: dict[str, str] | None = None) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)


class _Thread(uvicorn.Server):
    def install_signal_handlers(self) -> None: ...

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
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
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start: was its port taken meanwhile?"
        time.sleep(0.01)
    yield Live(f"http://127.0.0.1:{port}")
    server.should_exit = True
    thread.join(20)


@pytest.fixture
def spawned(transactional_db: None) -> Iterator[Any]:
    """A function that starts the platform as a process of its own, on the test's database."""
    started: list[subprocess.Popen[bytes]] = []

    def spawn(*, port: int = 0, log: IO[bytes] | None = None, **environment: str) -> Live:
        port = port or free_port()
        # Where pages are looked at, seldom a model is called.
        environment = {"WARM_UP": "0" if environment.get("DEBUG") else "1", **environment}
        command = [sys.executable, "-m", "uvicorn", "saas_litellm.asgi:application"]
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": database_url(), **environment},
            stdout=log,
            stderr=subprocess.STDOUT if log else None,
        )
        started.append(process)
        served = Live(f"http://127.0.0.1:{port}", process)
        wait_until(lambda: _is_up(served), seconds=30)
        return served

    yield spawn
    for process in started:
        process.kill()
        process.wait()


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
