from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from tests.webhooks import receiver as receivers
from tests.webhooks.receiver import Receiver
from webhooks import courier


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    yield from receivers.receiving()


@pytest.fixture
def near(settings: Any) -> None:
    """Receivers of this machine may be written to, without TLS."""
    settings.DEBUG = True
    settings.WEBHOOK_PRIVATE_TARGETS = True


@pytest.fixture
def couriers(transactional_db: None, near: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A function that starts couriers; they stop with the test."""
    monkeypatch.setattr(courier, "LOOK_SECONDS", 0.05)
    stopped, threads = threading.Event(), list[threading.Thread]()

    def carry() -> None:
        courier.run_until(stopped)
        connection.close()

    def start(count: int = 1) -> None:
        for _ in range(count):
            threads.append(threading.Thread(target=carry))
            threads[-1].start()

    yield start
    stopped.set()
    for thread in threads:
        thread.join(30)
