"""The live view over many processes: one looks for all, another takes over, Redis may be away."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.test import Client

from saas_litellm.live import leadership
from saas_litellm.live.figures import State, Window
from tests import factories, work
from tests.conftest import Live, free_port
from tests.teams.test_roles import browser, person
from tests.watching import closed, has, seen, watch

REDIS_URL = os.environ.get("TEST_REDIS_URL") or os.environ.get("REDIS_URL") or ""


@pytest.fixture(autouse=True)
def _known_by_its_address(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["127.0.0.1", "testserver"]


@pytest.fixture
def vera(transactional_db: None) -> Client:
    """Signed in, with the least role that may watch."""
    return browser(person("vera", "viewer"))


@pytest.fixture
def shared(settings: Any) -> Iterator[dict[str, str]]:
    """A Redis between this process and others; the environment that they need for it."""
    url = REDIS_URL or "redis://127.0.0.1:6379/0"
    try:
        redis.from_url(url).ping()
    except redis.RedisError:
        assert os.environ.get("CI") != "true", "Redis is missing"
        pytest.skip(f"NOT RUN: no Redis at {url}")
    namespace = uuid4().hex
    use_redis(settings, url, namespace)
    settings.REDIS_TIMEOUT_SECONDS = 5
    yield {"REDIS_URL": url, "REDIS_NAMESPACE": namespace, "REDIS_TIMEOUT_SECONDS": "5"}
    leadership._clients.cache_clear()


def use_redis(settings: Any, url: str, namespace: str) -> None:
    leadership._clients.cache_clear()
    settings.REDIS_URL, settings.REDIS_NAMESPACE = url, namespace
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [url], "prefix": f"{namespace}:asgi"},
        }
    }


def test_one_process_looks_for_all_and_another_takes_over(
    shared: dict[str, str],
    live: Live,
    spawned: Any,
    vera: Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[float] = []
    look = Window.look

    def count(self: Window) -> State:
        looks.append(time.monotonic())
        return look(self)

    monkeypatch.setattr(Window, "look", count)
    other: Live = spawned(DEBUG="1", **shared)
    job = work.job(factories.company().team)
    with watch(other, vera) as there:
        seen(there, lambda message: True)
        with watch(live, vera) as here:
            call = work.call(job)
            assert seen(here, has(call))
            assert seen(there, has(call))
            assert looks == []
            assert other.process is not None
            killed_at = time.monotonic()
            other.process.kill()
            call = work.call(job)
            assert seen(here, has(call))
            # Within four seconds; a busy machine has more.
            assert looks[0] - killed_at < 12


def test_a_process_that_nobody_watches_any_more_hands_over(
    shared: dict[str, str], live: Live, spawned: Any, vera: Client
) -> None:
    other: Live = spawned(DEBUG="1", **shared)
    with watch(other, vera) as there:
        with watch(live, vera) as here:
            # It only listens, and for longer than one wait for a message lasts in Redis.
            for _ in range(7):
                seen(there, lambda message: True)
                seen(here, lambda message: True)
        call = work.call(work.job(factories.company().team))
        assert seen(there, has(call))
    with watch(live, vera) as here:
        assert seen(here, has(call))


def test_without_redis_each_process_looks_for_itself(
    live: Live, vera: Client, settings: Any
) -> None:
    use_redis(settings, f"redis://127.0.0.1:{free_port()}/0", uuid4().hex)
    call = work.call(work.job(factories.company().team))
    with watch(live, vera) as socket:
        assert seen(socket, has(call))
        assert seen(socket, lambda message: True)
    leadership._clients.cache_clear()


def test_a_process_that_stops_lets_its_watchers_go(
    shared: dict[str, str], spawned: Any, vera: Client
) -> None:
    served: Live = spawned(DEBUG="1", **shared)
    assert served.process is not None
    with watch(served, vera) as socket:
        seen(socket, lambda message: True)
        served.process.send_signal(signal.SIGTERM)
        assert closed(socket)[0] == 1012
    assert served.process.wait(10) in {0, -signal.SIGTERM}
