"""Group commit: who comes while one act runs shares the next, and each gets what is its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Sequence
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from saas_litellm.base import clock, grouping
from saas_litellm.base.grouping import Group
from saas_litellm.base.models import Heartbeat
from saas_litellm.base.refusals import NotFound

# Between two acts the bridge looks after its thread's connection.
pytestmark = pytest.mark.django_db(transaction=True)


class Acts:
    """An act that notes its batches, and stands still in the first one until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[Any]] = []
        self.begun, self.go_on = threading.Event(), threading.Event()

    def __call__(self, items: Sequence[Any]) -> Sequence[Any]:
        self.batches.append(list(items))
        self.begun.set()
        assert self.go_on.wait(20)
        return [self.one(item) for item in items]

    def one(self, item: Any) -> Any:
        return f"done {item}"


async def all_of(acts: Acts, *items: Any) -> list[Any]:
    """The first alone, and while it is at work the others."""
    group: Group[Any, Any] = Group(acts)
    first = asyncio.ensure_future(group.do(items[0]))
    await asyncio.to_thread(acts.begun.wait, 20)
    others = [asyncio.ensure_future(group.do(item)) for item in items[1:]]
    await asyncio.sleep(0)
    acts.go_on.set()
    return await asyncio.gather(first, *others, return_exceptions=True)


def run(work: Awaitable[Any]) -> Any:
    async def main() -> Any:
        return await asyncio.wait_for(work, 60)

    return asyncio.run(main())


def test_one_that_comes_alone_is_done_at_once_and_who_waits_shares_the_next() -> None:
    acts = Acts()
    assert run(all_of(acts, "a", "b", "c")) == ["done a", "done b", "done c"]
    assert acts.batches == [["a"], ["b", "c"]]


def test_more_than_the_most_at_once_are_done_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "MOST_AT_ONCE", 3)
    acts = Acts()
    assert run(all_of(acts, *range(9))) == [f"done {number}" for number in range(9)]
    assert acts.batches == [[0], [1, 2, 3], [4, 5, 6], [7, 8]]


class Refusing(Acts):
    def one(self, item: Any) -> Any:
        return NotFound(str(item)) if item == "b" else super().one(item)


def test_what_one_is_refused_for_is_told_to_it_alone() -> None:
    first, second, third = run(all_of(Refusing(), "a", "b", "c"))
    assert (first, third) == ("done a", "done c")
    assert isinstance(second, NotFound)


class Breaking(Acts):
    def one(self, item: Any) -> Any:
        if item == "b":
            raise ValueError(item)
        return super().one(item)


def test_where_one_breaks_the_act_each_is_done_alone() -> None:
    acts = Breaking()
    first, second, third = run(all_of(acts, "a", "b", "c"))
    assert (first, third) == ("done a", "done c")
    assert isinstance(second, ValueError)
    assert acts.batches[:2] == [["a"], ["b", "c"]]
    assert sorted(acts.batches[2:]) == [["b"], ["c"]]


class Away(Acts):
    def one(self, item: Any) -> Any:
        if len(self.batches) == 2:
            raise OperationalError("gone")
        return super().one(item)


def test_a_database_that_is_away_is_away_for_all_of_them_and_is_asked_once() -> None:
    acts = Away()
    first, second, third = run(all_of(acts, "a", "b", "c"))
    assert first == "done a"
    assert isinstance(second, OperationalError)
    assert isinstance(third, OperationalError)
    assert len(acts.batches) == 2


def test_one_that_gives_up_waiting_takes_nothing_from_the_others() -> None:
    acts = Acts()

    async def story() -> list[Any]:
        group: Group[Any, Any] = Group(acts)
        first = asyncio.ensure_future(group.do("a"))
        await asyncio.to_thread(acts.begun.wait, 20)
        leaving, staying = (asyncio.ensure_future(group.do(name)) for name in "bc")
        await asyncio.sleep(0)
        leaving.cancel()
        acts.go_on.set()
        return [await first, await staying, await group.do("d")]

    assert run(story()) == ["done a", "done c", "done d"]


def test_one_whose_row_is_locked_for_long_holds_up_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite locks no rows")
    monkeypatch.setattr(grouping, "LONGEST_WAIT", "100ms")
    for name in "abc":
        Heartbeat.objects.create(name=name, at=clock.now())
    acts = Acts()

    def locking(items: Sequence[str]) -> Sequence[str]:
        acts(items)
        with transaction.atomic():
            grouping.brisk()
            for name in items:
                Heartbeat.objects.select_for_update().get(name=name)
        return items

    async def story() -> None:
        group: Group[str, str] = Group(locking)
        first = asyncio.ensure_future(group.do("a"))
        await asyncio.to_thread(acts.begun.wait, 20)
        held_up, other = (asyncio.ensure_future(group.do(name)) for name in "bc")
        await asyncio.sleep(0)
        acts.go_on.set()
        assert (await first, await other, await group.do("c")) == ("a", "c", "c")
        assert not held_up.done()
        locked.set()
        assert await held_up == "b"

    locked = threading.Event()
    with transaction.atomic():
        Heartbeat.objects.select_for_update().get(name="b")
        thread = threading.Thread(target=run, args=(story(),))
        thread.start()
        assert locked.wait(30)
    thread.join(30)
    assert not thread.is_alive()
    assert sorted(acts.batches[2:]) == [["b"], ["c"], ["c"]]


def test_each_event_loop_has_a_queue_of_its_own() -> None:
    acts = Acts()
    acts.go_on.set()
    group: Group[Any, Any] = Group(acts)
    assert [run(group.do("a")), run(group.do("b"))] == ["done a", "done b"]


def test_what_broke_has_left_nothing_in_the_database() -> None:
    names = ["a", "b", "broken"]

    def noted(items: Sequence[str]) -> Sequence[str]:
        with transaction.atomic():
            for item in items:
                Heartbeat.objects.create(name=item, at="2026-03-10T12:00:00Z")
            if "broken" in items:
                raise ValueError
        return items

    async def story() -> list[Any]:
        group: Group[str, str] = Group(noted)
        acts = [asyncio.ensure_future(group.do(name)) for name in names]
        return await asyncio.gather(*acts, return_exceptions=True)

    told = run(story())
    assert told[:2] == ["a", "b"]
    assert isinstance(told[2], ValueError)
    assert not connection.in_atomic_block
    assert sorted(Heartbeat.objects.values_list("name", flat=True)) == ["a", "b"]
