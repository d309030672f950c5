"""A job's status, live: what a reader is sent, who may read, and what many readers cost."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest
from django.conf import settings as configured
from django.db.backends.utils import CursorWrapper
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from jobs.following import feed as feeds
from jobs.following.feed import feed
from jobs.models import Job
from teams import keys, operators
from tests import factories, work
from tests.conftest import Live, wait_until
from tests.factories import Company
from tests.teams.test_roles import person


@pytest.fixture
def alice(transactional_db: None) -> Company:
    return factories.company()


@pytest.fixture(autouse=True)
def _nobody_is_left() -> Iterator[None]:
    yield
    wait_until(lambda: not feed.readers)


class Stream:
    """An open answer: its frames as they come."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.iter_lines()

    def frame(self) -> dict[str, Any]:
        """The next frame with data; ``id`` is the frame's own."""
        found: dict[str, Any] = {}
        for line in self._lines:
            name, _, text = line.partition(": ")
            if name == "data":
                return {**json.loads(text), **found}
            if name == "id":
                found["id"] = int(text)
        raise EOFError

    def rest(self) -> list[str]:
        return list(self._lines)


@contextmanager
def follow(
    live: Live, headers: dict[str, str], job: Job, *, last: int | None = None
) -> Iterator[Stream]:
    more = {} if last is None else {"Last-Event-ID": str(last)}
    with (
        live.client({**headers, **more}) as client,
        client.stream("GET", f"/api/jobs/{job.pk}/events") as answer,
    ):
        yield Stream(answer)


def socket(live: Live, key: str, job: Any, *, query: str = "", **more: Any) -> ClientConnection:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    url = f"{live.url.replace('http', 'ws')}/api/jobs/{job}/ws{query}"
    return connect(url, additional_headers=headers, proxy=None, ping_interval=None, **more)


def test_a_reader_sees_the_present_and_then_every_step(live: Live, alice: Company) -> None:
    job = work.job(alice.team)
    with follow(live, alice.headers, job) as stream:
        assert stream.answer.headers["content-type"] == "text/event-stream"
        assert stream.answer.headers["cache-control"] == "no-cache"
        first = stream.frame()
        assert (first["status"], first["job_id"], first["from"]) == ("pending", str(job.pk), None)
        work.call(job)
        began = time.monotonic()
        assert stream.frame()["status"] == "in_progress"
        assert time.monotonic() - began < 6
        work.close(job, "failed", error_message="the contract is empty")
        last = stream.frame()
        assert (last["from"], last["status"]) == ("in_progress", "failed")
        assert last["reason"] == "the contract is empty"
        assert stream.rest() == [""]


def test_a_reader_that_comes_back_gets_what_it_missed(live: Live, alice: Company) -> None:
    job = work.job(alice.team)
    with follow(live, alice.headers, job) as stream:
        seen = stream.frame()["id"]
    work.call(job)
    work.close(job)
    with follow(live, alice.headers, job, last=seen) as stream:
        steps = [stream.frame(), stream.frame()]
        assert [step["status"] for step in steps] == ["in_progress", "completed"]
    with follow(live, alice.headers, job) as stream:
        assert stream.frame()["status"] == "completed"
        assert stream.rest() == [""]
    with follow(live, alice.headers, job, last=steps[-1]["id"]) as stream:
        assert stream.answer.status_code == 204


def test_silence_is_broken_by_comments(live: Live, alice: Company, settings: Any) -> None:
    settings.KEEP_ALIVE_SECONDS = 0.2
    job = work.job(alice.team)
    with follow(live, alice.headers, job) as stream:
        stream.frame()
        lines = stream._lines
        assert [next(lines) for _ in range(4)] == ["", ": keep-alive", "", ": keep-alive"]
        work.close(job)
        assert stream.frame()["status"] == "completed"


def test_a_socket_is_told_the_same(live: Live, alice: Company) -> None:
    job = work.job(alice.team)
    with socket(live, alice.key, job.pk) as following:
        first = json.loads(following.recv(timeout=5))
        work.call(job)
        second = json.loads(following.recv(timeout=5))
        work.close(job)
        third = json.loads(following.recv(timeout=5))
        with pytest.raises(ConnectionClosed) as over:
            following.recv(timeout=5)
    assert over.value.rcvd is not None
    assert over.value.rcvd.code == 1000
    assert [step["status"] for step in (first, second, third)] == [
        "pending",
        "in_progress",
        "completed",
    ]
    with socket(live, alice.key, job.pk, query=f"?last_event_id={first['id']}") as again:
        assert [json.loads(again.recv(timeout=5)) for _ in range(2)] == [second, third]


def test_nothing_may_be_sent_over_a_socket(live: Live, alice: Company) -> None:
    with socket(live, alice.key, work.job(alice.team).pk) as following:
        following.recv(timeout=5)
        following.send("hello")
        with pytest.raises(ConnectionClosed) as closed:
            following.recv(timeout=5)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


def test_strangers_and_unknown_jobs_are_refused_alike(live: Live, alice: Company) -> None:
    job = work.job(alice.team)
    charlie = keys.issue(team=factories.team(name="charlie"), actor="test")[1]
    for key, of, status in (
        (charlie, job.pk, 404),
        (alice.key, uuid4(), 404),
        ("", job.pk, 401),
        ("slk_nobody", job.pk, 401),
    ):
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        with live.client(headers) as client:
            assert client.get(f"/api/jobs/{of}/events").status_code == status
        with pytest.raises(InvalidStatus) as refused:
            socket(live, key, of)
        assert refused.value.response.status_code == status
        assert json.loads(refused.value.response.body)["error"]["request_id"]
    with live.client(alice.headers) as client:
        wrong = client.get(f"/api/jobs/{job.pk}/events", headers={"Last-Event-ID": "x"})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (422, "last_event_id")
        assert client.post(f"/api/jobs/{job.pk}/events", json={}).status_code == 405
    assert not feed.readers


def test_an_operator_for_the_team_may_follow(live: Live, alice: Company) -> None:
    key = operators.issue(user=person("olga", "admin"), actor="test")[1]
    job = work.job(alice.team)
    with follow(live, {"Authorization": f"Bearer {key}"}, job) as stream:
        assert stream.frame()["status"] == "pending"


def test_in_the_open_demo_no_foreign_page_follows(
    live: Live, alice: Company, settings: Any
) -> None:
    settings.DEBUG = settings.SAAS_OPEN_DEMO = True
    job = work.job(alice.team)
    with socket(live, "", job.pk) as following:
        assert json.loads(following.recv(timeout=5))["status"] == "pending"
    with pytest.raises(InvalidStatus):
        socket(live, "", job.pk, origin="https://evil.example")


@pytest.mark.parametrize("way", ["stream", "socket"])
def test_a_key_that_is_revoked_stops_following(
    live: Live, alice: Company, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(feeds, "CHECK_SECONDS", 0.2)
    job = work.job(alice.team)
    other = keys.issue(team=alice.team, actor="test")[1]
    with follow(live, {"Authorization": f"Bearer {other}"}, job) as stays:
        stays.frame()
        if way == "stream":
            with follow(live, alice.headers, job) as stream:
                stream.frame()
                keys.revoke(prefix=alice.key.split("_")[1], actor="test")
                assert stream.frame()["error"]["code"] == "invalid_api_key"
                assert stream.rest() == [""]
        else:
            with socket(live, alice.key, job.pk) as following:
                following.recv(timeout=5)
                keys.revoke(prefix=alice.key.split("_")[1], actor="test")
                with pytest.raises(ConnectionClosed) as closed:
                    following.recv(timeout=5)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4401
        work.close(job)
        assert stays.frame()["status"] == "completed"


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What any thread of this process says to the database from now on."""
    said: list[str] = []
    execute = CursorWrapper.execute

    def keep(self: Any, sql: str, params: Any = None) -> Any:
        said.append(sql)
        return execute(self, sql, params)

    monkeypatch.setattr(CursorWrapper, "execute", keep)
    return said


def test_many_readers_cost_one_look_and_no_thread(
    live: Live, alice: Company, statements: list[str]
) -> None:
    """A connection belongs to a thread, so what keeps no thread keeps no connection."""
    jobs = [work.job(alice.team) for _ in range(3)]
    with ExitStack() as open_ones:
        before = set(threading.enumerate())
        streams = [
            open_ones.enter_context(follow(live, alice.headers, jobs[number % 3]))
            for number in range(30)
        ]
        for stream in streams:
            stream.frame()
        added = set(threading.enumerate()) - before
        assert len(added) <= configured.DATABASE_THREADS
        statements.clear()
        time.sleep(2)
        assert 0 < len(statements) <= 2 / feeds.LOOK_SECONDS + 2
        work.close(jobs[0])
        for stream in streams[::3]:
            assert stream.frame()["status"] == "completed"
    wait_until(lambda: not feed.readers)
    time.sleep(2 * feeds.LOOK_SECONDS)
    statements.clear()
    time.sleep(1.5)
    assert statements == []


def test_a_process_has_so_many_readers_and_no_more(
    live: Live, alice: Company, settings: Any
) -> None:
    settings.JOB_READERS_MAX = 1
    job = work.job(alice.team)
    with follow(live, alice.headers, job) as stream:
        stream.frame()
        with live.client(alice.headers) as client:
            full = client.get(f"/api/jobs/{job.pk}/events")
        assert (full.status_code, full.json()["error"]["code"]) == (503, "overloaded")
        assert full.headers["Retry-After"] == "5"
        with pytest.raises(InvalidStatus) as refused:
            socket(live, alice.key, job.pk)
        assert refused.value.response.status_code == 503
    wait_until(lambda: not feed.readers)
    with follow(live, alice.headers, job) as stream:
        assert stream.frame()["status"] == "pending"


def test_over_two_processes_and_a_stop(spawned: Any, alice: Company) -> None:
    """What one process changes, the readers of another see; one that stops lets them go at once."""
    here: Live = spawned(DEBUG="1", ALLOWED_HOSTS="127.0.0.1")
    there: Live = spawned(DEBUG="1", ALLOWED_HOSTS="127.0.0.1")
    job, other = work.job(alice.team), work.job(alice.team)
    with (
        follow(here, alice.headers, job) as stream,
        follow(here, alice.headers, other) as endless,
        socket(here, alice.key, other.pk) as following,
    ):
        assert stream.frame()["status"] == endless.frame()["status"] == "pending"
        following.recv(timeout=5)
        with there.client(alice.headers) as client:
            done = client.post(f"/api/jobs/{job.pk}/complete", json={})
            assert done.status_code == 200
        assert stream.frame()["status"] == "completed"
        assert here.process is not None
        here.process.send_signal(signal.SIGTERM)
        assert endless.frame()["error"]["code"] == "overloaded"
        with pytest.raises(ConnectionClosed) as closed:
            following.recv(timeout=5)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
    assert here.process.wait(20) in {0, -signal.SIGTERM}
