"""Limits: exact in any window, all or nothing, over processes, and through an outage of Redis."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from saas_litellm.base.limiter import choice
from saas_litellm.base.limiter.choice import Limiter
from saas_litellm.base.limiter.local import LocalLimiter
from saas_litellm.base.limiter.rules import Admission, Backend, Kind, Rule
from saas_litellm.base.limiter.shared import SharedLimiter
from saas_litellm.base.refusals import Unavailable
from tests import limiting

REDIS_URL = os.environ.get("TEST_REDIS_URL") or "redis://127.0.0.1:6379/0"
WINDOW = 2
ONE = Rule(scope="team:1", kind=Kind.REQUESTS, limit=3)
TOKENS = Rule(scope="team:1", kind=Kind.TOKENS, limit=100)
FLYING = Rule(scope="team:1", kind=Kind.IN_FLIGHT, limit=2)


def ask(backend: Any, *rules: Rule, tokens: int = 0, lease: int = 60) -> Admission:
    admission: Admission = run(
        backend.admit(rules, tokens=tokens, ticket=uuid4().hex, lease_seconds=lease)
    )
    return admission


_loop = asyncio.new_event_loop()


def run(coroutine: Any) -> Any:
    return _loop.run_until_complete(coroutine)


@pytest.fixture(params=["local", "redis"])
def backend(request: pytest.FixtureRequest) -> Backend:
    if request.param == "local":
        return LocalLimiter(window=WINDOW)
    return shared()


def shared(namespace: str = "") -> SharedLimiter:
    try:
        redis.from_url(REDIS_URL).ping()
    except redis.RedisError:
        assert os.environ.get("CI") != "true", "Redis is missing"
        pytest.skip(f"NOT RUN: no Redis at {REDIS_URL}")
    return SharedLimiter(REDIS_URL, window=WINDOW, namespace=namespace or uuid4().hex)


def test_a_limit_is_reached_and_says_how_long_to_wait(backend: Backend) -> None:
    remaining = [ask(backend, ONE).standings[0].remaining for _ in range(3)]
    assert remaining == [2, 1, 0]
    refused = ask(backend, ONE)
    assert refused.refused == ONE
    assert 0 < refused.retry_after_seconds <= WINDOW + 1
    time.sleep(refused.retry_after_seconds)
    assert ask(backend, ONE).refused is None


def test_decisions_that_wait_go_together_and_each_gets_its_own() -> None:
    limiter, seen = shared(), []
    client = limiter._clients

    async def story() -> list[Admission]:
        made = client.get()
        pipeline = made.pipeline
        made.pipeline = lambda **how: seen.append(how) or pipeline(**how)
        asking = [
            limiter.admit((ONE,), tokens=0, ticket=uuid4().hex, lease_seconds=9) for _ in range(40)
        ]
        return list(await asyncio.gather(*asking))

    admissions = run(story())
    assert sum(one.refused is None for one in admissions) == 3
    assert [one.standings[0].remaining for one in admissions[:3]] == [2, 1, 0]
    assert len(seen) == 1


def test_a_process_that_was_busy_does_not_take_redis_for_late() -> None:
    namespace = uuid4().hex
    shared(namespace)
    limiter = SharedLimiter(REDIS_URL, namespace=namespace, timeout_seconds=0.05)

    async def story() -> Admission:
        loop = asyncio.get_running_loop()
        loop.call_later(0.001, time.sleep, 0.2)
        return await limiter.admit((ONE,), tokens=0, ticket="t", lease_seconds=9)

    assert run(story()).refused is None


def test_whatever_goes_wrong_is_told_to_all_who_wait_and_to_nobody_after() -> None:
    limiter = shared()

    async def story() -> list[Any]:
        client = limiter._clients.get()
        pipeline, client.pipeline = client.pipeline, None
        asking = [
            limiter.admit((ONE,), tokens=0, ticket=uuid4().hex, lease_seconds=9) for _ in range(3)
        ]
        failed = await asyncio.gather(*asking, return_exceptions=True)
        client.pipeline = pipeline
        one = await limiter.admit((ONE,), tokens=0, ticket="t", lease_seconds=9)
        return [*failed, one]

    *failed, one = run(story())
    assert [type(error) for error in failed] == [TypeError] * 3
    assert one.refused is None


def test_one_full_rule_keeps_the_others_from_counting(backend: Backend) -> None:
    other = Rule(scope="key:1", kind=Kind.REQUESTS, limit=100)
    for _ in range(3):
        ask(backend, ONE)
    assert ask(backend, other, ONE).refused == ONE
    assert ask(backend, other).standings[0].remaining == 99


def test_tokens_are_corrected_to_what_was_used(backend: Backend) -> None:
    first = ask(backend, TOKENS, tokens=90)
    assert ask(backend, TOKENS, tokens=20).refused == TOKENS
    run(backend.correct(first, tokens=-80, requests=0))
    assert ask(backend, TOKENS, tokens=20).standings[0].remaining == 70


def test_a_request_larger_than_its_limit_never_fits(backend: Backend) -> None:
    refused = ask(backend, TOKENS, tokens=101)
    assert refused.refused == TOKENS
    assert refused.retry_after_seconds == WINDOW


def test_calls_in_flight_are_freed_as_they_end_or_as_their_process_dies(backend: Backend) -> None:
    first = ask(backend, FLYING)
    ask(backend, FLYING, lease=1)
    assert ask(backend, FLYING).refused == FLYING
    run(backend.correct(first, tokens=0, requests=0))
    assert ask(backend, FLYING, lease=1).refused is None
    assert ask(backend, FLYING).refused == FLYING
    time.sleep(1.1)
    assert ask(backend, FLYING).refused is None


def test_a_request_can_be_taken_back_whole(backend: Backend) -> None:
    taken = [ask(backend, ONE, FLYING)]
    taken.append(ask(backend, ONE, FLYING))
    for admission in taken:
        run(backend.correct(admission, tokens=0, requests=-1))
    assert ask(backend, ONE, FLYING).standings[0].remaining == 2


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 4)), max_size=60))
def test_no_window_ever_holds_more_than_the_limit(steps: list[tuple[float, int]]) -> None:
    moment = [1000.0]
    limiter = LocalLimiter(window=5, now=lambda: moment[0])
    rule = Rule(scope="x", kind=Kind.TOKENS, limit=6)
    counted: list[tuple[float, int]] = []
    for pause, tokens in steps:
        moment[0] += pause
        if ask(limiter, rule, tokens=tokens).refused is None:
            counted.append((moment[0], tokens))
        in_window = [count for at, count in counted if moment[0] - 5 < at]
        assert sum(in_window) <= 6


def test_memory_is_forgotten_when_nobody_asks_any_more() -> None:
    moment = [1000.0]
    limiter = LocalLimiter(window=5, now=lambda: moment[0])
    for number in range(100):
        ask(limiter, Rule(scope=str(number), kind=Kind.REQUESTS, limit=1), FLYING, lease=1)
    moment[0] += 20
    ask(limiter, ONE)
    assert list(limiter._buckets) == [ONE.key]
    assert list(limiter._leases) == []


def test_eight_processes_and_five_hundred_requests_pass_exactly_the_limit() -> None:
    namespace = uuid4().hex
    shared(namespace)
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    shares = [63] * 4 + [62] * 4
    processes = [
        context.Process(target=limiting.ask_often, args=(REDIS_URL, namespace, share, results))
        for share in shares
    ]
    for process in processes:
        process.start()
    admitted = sum(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(10)
    assert sum(shares) == 500
    assert admitted == 100


# --- While Redis is away ----------------------------------------------------------------------


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def without_redis(told: list[str]) -> Callable[[str], Limiter]:
    async def tell(detail: str) -> None:
        told.append(detail)

    def make(policy: str) -> Limiter:
        away = SharedLimiter("redis://127.0.0.1:1/0", namespace="x", timeout_seconds=0.2)
        return Limiter(shared=away, without_redis=policy, tell=tell)

    return make


def test_each_process_counts_for_itself_and_the_operator_is_told_once(
    without_redis: Callable[[str], Limiter], told: list[str]
) -> None:
    limiter = without_redis("local")
    assert [ask(limiter, ONE).refused for _ in range(4)] == [None, None, None, ONE]
    run(asyncio.sleep(0))
    assert len(told) == 1


def test_it_can_let_everyone_through_or_no_one(without_redis: Callable[[str], Limiter]) -> None:
    open_ = without_redis("allow")
    assert [ask(open_, ONE).refused for _ in range(10)] == [None] * 10
    with pytest.raises(Unavailable):
        ask(without_redis("refuse"), ONE)


def test_redis_is_asked_again_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "PAUSE_SECONDS", 0.05)

    async def tell(detail: str) -> None: ...

    back = shared()
    limiter = Limiter(shared=SharedLimiter("redis://127.0.0.1:1/0", namespace="x"), tell=tell)
    first = ask(limiter, ONE, FLYING)
    limiter._shared = back
    time.sleep(0.06)
    assert ask(limiter, ONE).standings[0].remaining == 2
    # What was counted at home is corrected at home.
    run(limiter.settle(first, tokens=0))
    assert limiter._homes.keys() != {first.ticket}


def test_what_was_settled_once_is_not_corrected_again() -> None:
    limiter = Limiter(shared=None)
    first = ask(limiter, TOKENS, tokens=50)
    run(limiter.settle(first, tokens=10))
    run(limiter.settle(first, tokens=10))
    assert ask(limiter, TOKENS, tokens=1).standings[0].remaining == 89
