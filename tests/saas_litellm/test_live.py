"""The live view: what it shows, to whom, and that it costs nothing when nobody watches."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import ExitStack
from typing import Any

import pytest
from django.conf import settings as configured
from django.db import connection
from django.db.backends.utils import CursorWrapper
from django.test import Client
from django.test.utils import CaptureQueriesContext
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from jobs.models import Call
from saas_litellm.asgi import application
from saas_litellm.live import entrance, feed, figures
from saas_litellm.live.figures import State, Window
from saas_litellm.live.socket import LiveSocket
from saas_litellm.live.watchers import Watcher
from teams.models import User
from tests import factories, work
from tests.conftest import Live, wait_until
from tests.teams.test_roles import browser, person
from tests.watching import closed, cookie_of, has, seen, tile, watch


@pytest.fixture(autouse=True)
def _known_by_its_address(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["127.0.0.1", "testserver"]


@pytest.fixture
def vera(transactional_db: None) -> Client:
    """Signed in, with the least role that may watch."""
    return browser(person("vera", "viewer"))


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


def test_a_finished_call_arrives_within_three_seconds(
    live: Live, vera: Client, pages_served: None
) -> None:
    alice = factories.company()
    job = work.job(alice.team, "letters")
    with watch(live, vera) as socket:
        assert tile(seen(socket, lambda message: True), "in_flight") == "0"
        opened = work.start(job)
        state = seen(socket, lambda message: tile(message, "in_flight") == "1")
        assert state["figures"]["aliases"] == [{"name": "chat", "count": 1}]
        call = work.finish(opened, prompt=1000, output=100)
        state = seen(socket, has(call))
    (row,) = state["calls"]
    assert {name: row[name] for name in ("team", "job_type", "alias", "status", "tokens")} == {
        "team": "alice",
        "job_type": "letters",
        "alias": "chat",
        "status": "settled",
        "tokens": "1,100",
    }
    assert row["price"]["exact"] == "0.013 USD"
    assert (tile(state, "in_flight"), tile(state, "price")) == ("0", "0.013 USD")
    assert browser(User.objects.get(username="vera")).get(row["link"]).status_code == 200


def test_a_call_is_sent_once_and_again_when_it_changes(live: Live, vera: Client) -> None:
    call = work.call(work.job(factories.company().team))
    with watch(live, vera) as socket:
        assert has(call)(seen(socket, lambda message: True))
        assert seen(socket, lambda message: True)["calls"] == []
        Call.objects.filter(pk=call.pk).update(provider_cost_nano_usd=7)
        state = seen(socket, has(call))
    assert state["calls"][0]["cost"]["exact"] == "0.000000007 USD"


def test_the_figures_of_a_minute(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = work.Clock(monkeypatch)
    alice = factories.company(plan="consumption_usd")
    job = work.job(alice.team)
    work.call(job, prompt=60_000)
    clock.set(2026, 3, 10, 12, 1)
    work.call(job, prompt=1000, output=200)
    work.call(job, prompt=0, delivered=False)
    state = {"figures": Window().look().figures}
    # The first ended just 60 seconds ago: that minute is over.
    assert (tile(state, "calls"), tile(state, "tokens")) == ("2", "20.0")
    assert (tile(state, "cost"), tile(state, "margin")) == ("0.016 USD", "0 USD")
    assert sum(state["figures"]["trail"]["tokens"]) == 61_200
    assert "2 finished and 1 failed" in state["figures"]["summary"]


def test_revenue_includes_what_jobs_cost_as_a_whole(db: None) -> None:
    alice = factories.company(plan="job_based")
    job = work.job(alice.team)
    work.call(job, prompt=1000)
    work.close(job)
    job.refresh_from_db()
    state = {"figures": Window().look().figures}
    assert job.price_nano_usd > 0
    assert tile(state, "price") == f"{figures.from_nano(job.price_nano_usd):f} USD"


def test_looking_again_sees_what_a_first_look_sees(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, window = work.Clock(monkeypatch), Window()
    job = work.job(factories.company().team)
    for second in (0, 1, 9, 14, 40, 58):
        clock.set(2026, 3, 10, 12, 7, second)
        work.call(job, prompt=100 + second)
        assert window.look() == Window().look()


def test_what_committed_late_is_found(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, window = work.Clock(monkeypatch), Window()
    job = work.job(factories.company().team)
    clock.set(2026, 3, 10, 12, 7)
    window.look()
    late = work.call(job, prompt=600)
    Call.objects.filter(pk=late.pk).update(finished_at="2026-03-10T12:06:30Z")
    clock.set(2026, 3, 10, 12, 8)
    assert sum(window.look().figures["trail"]["tokens"]) == 600


def test_looking_takes_few_queries_however_much_there_is(db: None) -> None:
    job = work.job(factories.company().team)
    for _ in range(figures.CALLS + 5):
        work.call(job)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        state = Window().look()
    assert (len(queries), len(state.calls)) == (4, figures.CALLS)


def test_nobody_watches_without_a_session_that_holds(live: Live, vera: Client) -> None:
    outsider, gone = Client(), browser(person("gone", "viewer"))
    outsider.force_login(User.objects.create_user("outsider"))
    User.objects.filter(username="gone").update(is_active=False)
    assert closed(watch(live, None))[0] == 4401
    assert closed(watch(live, outsider))[0] == 4401
    assert closed(watch(live, gone)) == (4401, "You are signed out.")


def test_a_role_without_calls_does_not_watch(live: Live) -> None:
    clerk = User.objects.create_user("clerk", is_staff=True)
    assert closed(watch(live, browser(clerk)))[0] == 4403


def test_the_second_factor_is_asked_for(live: Live, vera: Client, settings: Any) -> None:
    settings.REQUIRE_SECOND_FACTOR = True
    assert closed(watch(live, vera))[0] == 4401


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_a_foreign_page_is_refused(live: Live, vera: Client, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        watch(live, vera, origin=origin)
    assert refused.value.response.status_code == 403


def test_what_names_no_page_is_refused(live: Live, vera: Client) -> None:
    address = live.url.replace("http", "ws") + "/admin/live/socket"
    with pytest.raises(InvalidStatus):
        connect(address, additional_headers={"Cookie": cookie_of(vera)}, proxy=None)


def test_a_trusted_origin_is_let_in(live: Live, vera: Client, settings: Any) -> None:
    settings.CSRF_TRUSTED_ORIGINS = ["https://*.proxy.example"]
    vars(entrance._CSRF).clear()
    with watch(live, vera, origin="https://admin.proxy.example") as socket:
        assert seen(socket, lambda message: True)
    vars(entrance._CSRF).clear()


def test_no_other_socket_opens(live: Live, vera: Client) -> None:
    for path in ("/", "/admin/live/", "/v1/chat/completions"):
        with pytest.raises(InvalidStatus):
            watch(live, vera, path=path)


def test_nothing_may_be_sent(live: Live, vera: Client) -> None:
    with watch(live, vera) as socket:
        socket.send("hello")
        assert closed(socket)[0] == 1008


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (lambda client, forward: client.post("/admin/logout/"), 4401),
        (lambda client, forward: forward(3600), 4401),
        (lambda client, forward: User.objects.update(is_staff=False), 4401),
        (lambda client, forward: User.objects.get(username="vera").groups.clear(), 4403),
    ],
    ids=["signed out", "idle", "no operator any more", "role lost"],
)
def test_a_session_that_ends_closes_the_socket(
    live: Live,
    vera: Client,
    forward: Any,
    pages_served: None,
    monkeypatch: pytest.MonkeyPatch,
    end: Any,
    code: int,
) -> None:
    assert feed.SESSIONS_SECONDS <= 5
    monkeypatch.setattr(feed, "SESSIONS_SECONDS", 0.3)
    with watch(live, vera) as socket:
        seen(socket, lambda message: True)
        end(vera, forward)
        assert closed(socket)[0] == code


def test_the_page_is_a_snapshot_by_itself(
    vera: Client, pages_served: None, django_assert_max_num_queries: Any
) -> None:
    call = work.call(work.job(factories.company().team, "letters"))
    with django_assert_max_num_queries(12):
        page = vera.get("/admin/live/").content.decode()
    assert str(call.pk) in page
    assert "letters" in page
    assert "<script>" not in page.split('id="live"')[1]


def test_the_page_is_for_those_who_may_look_at_calls(db: None, pages_served: None) -> None:
    assert Client().get("/admin/live/").status_code == 302
    clerk = browser(User.objects.create_user("clerk", is_staff=True))
    assert clerk.get("/admin/live/").status_code == 403


def test_it_costs_nothing_when_nobody_watches(
    live: Live, vera: Client, statements: list[str]
) -> None:
    the_feed = application.live.feed
    with watch(live, vera) as socket:
        seen(socket, lambda message: True)
        assert the_feed._running is not None
    wait_until(lambda: not the_feed.watchers)
    assert the_feed._running is None
    time.sleep(0.5)
    statements.clear()
    time.sleep(2.5)
    assert statements == []


def test_watchers_have_no_thread_and_share_one_look(
    live: Live, vera: Client, statements: list[str]
) -> None:
    """A connection belongs to a thread, so what keeps no thread keeps no connection."""
    with watch(live, vera) as first, ExitStack() as others:
        seen(first, lambda message: True)
        before = set(threading.enumerate())
        sockets = [others.enter_context(watch(live, vera)) for _ in range(20)]
        for socket in sockets:
            seen(socket, lambda message: True)
        added = [thread.name for thread in set(threading.enumerate()) - before]
        statements.clear()
        time.sleep(3)
        # Four a look, and what the check of one session takes.
        assert 0 < len(statements) < 4 * 4 + 10
    # The watching clients live in this process too, with a thread each.
    ours = [name for name in added if "(recv_events)" not in name]
    assert len(ours) <= configured.DATABASE_THREADS


def test_a_process_has_so_many_watchers_and_no_more(
    live: Live, vera: Client, settings: Any
) -> None:
    settings.LIVE_WATCHERS_MAX = 1
    with watch(live, vera) as first:
        seen(first, lambda message: True)
        assert closed(watch(live, vera)) == (1013, "Too many pages are watching.")
    wait_until(lambda: not application.live.feed.watchers)
    with watch(live, vera) as next_one:
        assert seen(next_one, lambda message: True)


def state_of(*ids: str, at: str = "") -> State:
    return State(figures={"at": at}, calls=[{"id": call_id} for call_id in ids])


async def test_a_slow_watcher_gets_the_newest_state_and_no_call_twice() -> None:
    watcher = Watcher("session")
    watcher.offer(state_of("a", at="1"))
    assert json.loads(str(await watcher.next()))["calls"] == [{"id": "a"}]
    for second in range(1000):
        watcher.offer(state_of(str(second), "a", at=str(second)))
    newest = json.loads(str(await watcher.next()))
    assert newest == {"figures": {"at": "999"}, "calls": [{"id": "999"}]}


async def test_a_stuck_watcher_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saas_litellm.live.socket.SEND_SECONDS", 0.2)
    of_process = LiveSocket()
    monkeypatch.setattr(of_process.feed, "_running", asyncio.create_task(asyncio.sleep(60)))
    got: list[Any] = []

    async def silent() -> Any:
        await asyncio.sleep(60)

    async def stuck(message: Any) -> None:
        await asyncio.sleep(60)

    async def quick(message: Any) -> None:
        got.append(message)

    slow = asyncio.create_task(of_process._serve("slow", silent, stuck))
    fast = asyncio.create_task(of_process._serve("fast", silent, quick))
    await asyncio.sleep(0)
    for number in range(3):
        of_process.feed.show(state_of(str(number)))
        await asyncio.sleep(0.05)
    assert len(got) == 3
    # It is let go, and its place is free.
    assert await asyncio.wait_for(slow, 2) is None
    assert len(of_process.feed.watchers) == 1
    fast.cancel()
