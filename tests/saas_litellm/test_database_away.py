"""The database does not answer: it is said soon and plainly, and nobody waits who was told to stop."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import IO, Any

import pytest

from saas_litellm import health, worker
from tests import factories
from tests.conftest import ROOT, Live, free_port, wait_until

AWAY = f"postgres://nobody@127.0.0.1:{free_port()}/nothing"
pytestmark = pytest.mark.any_database


def manage(*arguments: str, log: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": AWAY},
        stdout=log or subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.mark.long
def test_a_worker_stops_soon_though_no_chore_can_end(tmp_path: Any) -> None:
    log = tmp_path / "log"
    with log.open("wb") as written:
        process = manage("worker", log=written)
    try:
        wait_until(lambda: b"the database does not answer" in log.read_bytes(), seconds=60)
        process.terminate()
        told_at = time.monotonic()
        assert process.wait(60) == 0
        assert time.monotonic() - told_at < 10
    finally:
        process.kill()


def test_a_round_ends_with_the_chore_before_which_the_worker_was_stopped(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = threading.Event()

    def stop() -> int:
        stopped.set()
        return 1

    monkeypatch.setattr(worker, "CHORES", {"first": stop, "second": lambda: 1})
    assert worker.sweep(is_slow_due=False, stopped=stopped) == {"first": 1}
    assert worker.sweep(is_slow_due=False) == {"first": 1, "second": 1}


@pytest.mark.long
def test_who_asks_hears_of_it_within_seconds(spawned: Any) -> None:
    alice = factories.company()
    server: Live = spawned(DATABASE_URL=AWAY, ALLOWED_HOSTS="*", WARM_UP="0")
    with server.client(alice.headers) as client:
        began_at = time.monotonic()
        not_ready = client.get("/readyz")
        assert time.monotonic() - began_at < health.READY_SECONDS + 2
        made = client.post("/api/jobs/create", json={"team_id": "alice", "job_type": "letter"})
        asked = client.post(
            "/v1/messages",
            json={
                "model": "chat",
                "max_tokens": 5,
                "messages": [{"role": "user", "content": "hi"}],
            },
        )
        listed = client.get("/v1/models")
    assert not_ready.status_code == 503
    assert not_ready.json() == {"status": "unavailable", "database": "unavailable", "cache": "ok"}
    for refused in (made, asked, listed):
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        assert "database" in refused.json()["error"]["message"]
    assert made.json()["error"]["code"] == "overloaded"


def test_the_doctor_does_not_wait_for_it() -> None:
    began_at = time.monotonic()
    process = manage("doctor")
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"database: does not answer" in said
    assert time.monotonic() - began_at < 20
