"""Batches of calls under race and under failure: nothing half, nothing twice, nobody locked out."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from billing import budgets
from billing.ledger import HoldAlreadyClosed
from billing.models import Account, BudgetPeriod, Entry, Hold
from jobs import closing, refunds
from jobs.models import Call, Job
from jobs.open_calls import OpenCall
from jobs.opening import open_all
from jobs.settling import settle_all
from saas_litellm import verification
from saas_litellm.base import clock, standing
from saas_litellm.base.money import NANO
from saas_litellm.base.refusals import Refusal
from teams import keys
from teams.models import Team
from tests import batches, factories, work
from tests.batches import (
    Ending,
    Stage,
    assigned,
    customer,
    on_postgresql,
    opened_calls,
    opening,
    settlement,
    sharing,
)
from tests.conftest import ROOT, Live, database_url, wait_until
from tests.jobs.test_repricing import PLANS
from tests.providers.server import ProviderServer, Reply
from tests.work import Clock


@pytest.fixture
def clock_(monkeypatch: pytest.MonkeyPatch, db: None) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def stage(db: None, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(Clock(monkeypatch))


def test_a_settlement_that_was_rolled_back_leaves_nothing_for_the_next_to_write(
    clock_: Clock,
) -> None:
    team = customer({"call_rules": [{**PLANS["volume"]["call_rules"][0], "failed_jobs": "free"}]})
    job = work.job(team)
    (call,) = opened_calls(opening(team, number=1, job=job))
    assert _fails(lambda: settle_all([settlement(call)]), at=1)
    closing.cancel(job=job, reason="no more", actor="test")
    (settled,) = settle_all([settlement(call)])
    settled.refresh_from_db()
    # A cancelled job's call is free here, and counts in no tier.
    assert (settled.charged_nanocredits, settled.quantity) == (0, None)
    assert verification.verify() == []


def _pairs(results: Any, ends: Any) -> list[Any]:
    return [
        (result, Ending(prompt=end[0], is_delivered=end[1]))
        for result, end in zip(results, ends, strict=True)
        if isinstance(result, OpenCall)
    ]


def _fails(act: Callable[[], Any], *, at: int) -> bool:
    """Do it with a database that goes away at its so-maniest write; whether it got that far.

    What was done otherwise is taken back.
    """
    left = [at]

    def counted(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.lstrip().startswith(("INSERT", "UPDATE", "DELETE", "WITH")):
            left[0] -= 1
            if left[0] == -1:
                raise OperationalError("the database has gone")
        return execute(sql, params, many, context)

    try:
        with transaction.atomic(), connection.execute_wrapper(counted):
            act()
            transaction.set_rollback(True)
    except OperationalError:
        return True
    return False


@pytest.mark.parametrize("act", ["open", "settle"])
def test_a_batch_that_fails_at_any_of_its_writes_leaves_nothing_and_is_done_once(
    stage: Stage, act: str
) -> None:
    asked = [(0, ""), (6, ""), (13, ""), (21, "single"), (22, "reserving"), (19, "")]
    made = [
        stage.opening(number, which, 200, 5, kind, True)
        for number, (which, kind) in enumerate(asked, start=1)
    ]
    ends = [(300, True), (0, False), (900, True), (50, True), (10, False), (70, True)]
    expected = stage.played(made, ends, range(6), at_once=6)[2]
    failures, is_failing = 0, True
    while is_failing:
        with transaction.atomic():
            results = open_all(made) if act == "settle" else []

            def work_on(results: Any = results) -> Any:
                if act == "open":
                    return open_all(made)
                return settle_all([settlement(*pair) for pair in _pairs(results, ends)])

            before = batches.picture()
            is_failing = _fails(work_on, at=failures)
            assert batches.picture() == before
            failures += is_failing
            results = results or open_all(made)
            settle_all([settlement(*pair) for pair in _pairs(results, ends)])
            assert batches.picture() == expected
            assert verification.verify() == []
            transaction.set_rollback(True)
    # What is written together is one statement on PostgreSQL, and one for each row on SQLite.
    assert failures > (0 if connection.vendor == "postgresql" else 3)


@pytest.mark.parametrize("seed", range(2))
def test_batches_that_cross_each_other_exceed_nothing_and_lock_nobody_out(
    transactional_db: None, seed: int
) -> None:
    _open_shop()
    failed: list[BaseException] = []

    def work_through(number: int) -> None:
        try:
            work_in_shop(seed=10 * seed + number)
        except BaseException as error:
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work_through, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert failed == []
    assert not any(thread.is_alive() for thread in threads)
    _check_shop()


def test_and_so_do_those_of_many_processes(transactional_db: None) -> None:
    _open_shop()
    story = "import sys, django; django.setup(); from tests.jobs import test_batch_races as t; "
    story += "t.work_in_shop(seed=int(sys.argv[1]))"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", story, str(seed)],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": database_url()},
            stderr=subprocess.PIPE,
        )
        for seed in (101, 102, 103)
    ]
    for process in processes:
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said.decode()[-2000:]
    _check_shop()


LIMIT = 6 * NANO


def _open_shop() -> None:
    """Two teams with one wallet, a budget each and one for both, and jobs that all work in."""
    teams = sharing(credits_=6)
    for team, name in zip(teams, ("graduated", "minimum"), strict=True):
        assigned(team, PLANS[name], name=name)
    owners: list[Any] = [*teams, teams[0].organization]
    for owner in owners:
        budgets.create(owner=owner, period="month", limit_nanocredits=LIMIT, actor="test")
    for team in teams:
        for cap in (None, 1, 2):
            work.job(
                team, max_nanocredits=cap and cap * NANO, is_reserving=cap == 2, user_id="shared"
            )


def work_in_shop(*, seed: int) -> None:
    """Six batches, one after the other."""
    chance = random.Random(seed)
    teams = list(Team.objects.select_related("organization").order_by("pk"))
    shared = list(Job.objects.filter(user_id="shared").order_by("created_at"))
    for turn in range(6):
        _one_batch(teams, shared, chance, number=1000 * seed + 10 * turn)


def _check_shop() -> None:
    assert verification.verify() == []
    assert Call.objects.filter(status="settled").count() > 10
    assert not Call.objects.filter(status__in=Call.RUNNING).exists()
    for period in BudgetPeriod.objects.select_related("budget"):
        assert period.used_nanocredits + period.held_nanocredits <= LIMIT
    for account in Account.objects.all():
        assert account.available_nanocredits >= 0
    for job in Job.objects.exclude(max_nanocredits=None):
        assert job.charged_nanocredits <= job.max_nanocredits


def _one_batch(teams: list[Team], shared: list[Job], chance: random.Random, *, number: int) -> None:
    """Five calls in as many jobs, old and new, in any order; and what others do meanwhile."""
    made = []
    for place in range(5):
        job = chance.choice([None, *shared])
        team = next(one for one in teams if job is None or one.pk == job.team_id)
        is_single = chance.random() < 0.5
        more: dict[str, Any] = {"job": job} if job is not None else {"is_single": is_single}
        made.append(opening(team, number=number + place, max_tokens=300, **more))
    running = [one for one in open_all(made) if isinstance(one, OpenCall)]
    meanwhile = chance.choice(["top up", "refund", "close", "cancel", "nothing"])
    settled = Call.objects.filter(charged_nanocredits__gt=0).select_related("job").first()
    try:
        if meanwhile == "top up":
            factories.top_up(teams[0], NANO // 10)
        elif meanwhile == "refund" and settled is not None:
            refunds.refund_call(
                call=settled, nanocredits=1, reason="r", actor="test", idempotency_key=str(number)
            )
        elif meanwhile == "close":
            closing.close(job=chance.choice(shared), status="completed", actor="test")
        elif meanwhile == "cancel":
            closing.cancel(job=chance.choice(shared), reason="r", actor="test")
    except Refusal:
        pass
    chance.shuffle(running)
    settle_all(
        [
            settlement(
                one, Ending(prompt=chance.randrange(3000), is_delivered=chance.random() < 0.8)
            )
            for one in running
        ]
    )


@on_postgresql
@pytest.mark.parametrize("count", [1, 8])
def test_so_many_calls_take_as_many_statements_as_one(clock_: Clock, count: int) -> None:
    team = customer({"call_rules": [{"kind": "markup"}]})
    key, _ = keys.issue(team=team, actor="test")
    budgets.create(owner=team, period="day", limit_nanocredits=50 * NANO, actor="test")
    made = [
        replace(
            opening(team, number=number, api_key=key, is_single=True), is_stamped=True, stamp=stamp
        )
        for stamp in [standing.stamp_now()]
        for number in range(1, count + 1)
    ]
    with CaptureQueriesContext(connection) as opening_them:
        running = opened_calls(*made)
    with CaptureQueriesContext(connection) as settling_them:
        settle_all([settlement(call) for call in running])
    assert Job.objects.filter(status="completed").count() == count
    # Among them SAVEPOINT and RELEASE, in life BEGIN and COMMIT.
    assert (len(opening_them), len(settling_them)) == (11, 9)


@on_postgresql
def test_a_batch_whose_connection_is_killed_leaves_nothing_and_is_done_once(
    transactional_db: None,
) -> None:
    team = customer(PLANS["minimum"])
    made = [opening(team, number=number, is_single=True) for number in range(1, 5)]
    _killed(lambda: open_all(made))
    assert not Job.objects.exists()
    running = opened_calls(*made)
    _killed(lambda: settle_all([settlement(call) for call in running]))
    assert Job.objects.filter(in_flight=1).count() == 4
    assert Account.objects.get().balance_nanocredits == 100 * NANO
    settle_all([settlement(call) for call in running])
    assert Account.objects.get().balance_nanocredits == 99 * NANO
    assert verification.verify() == []


def _killed(act: Callable[[], Any]) -> None:
    """Do it, and end its connection when it has written and not committed."""

    def killing(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        done = execute(sql, params, many, context)
        if sql.startswith("WITH"):
            execute("SELECT pg_terminate_backend(pg_backend_pid())", None, False, context)
        return done

    with pytest.raises(OperationalError), connection.execute_wrapper(killing):
        act()
    connection.close()


@on_postgresql
def test_no_connection_is_held_while_a_provider_answers(
    live: Live, provider: ProviderServer
) -> None:
    provider.default = Reply(first_delay=3)
    alice = factories.company(model="openai/gpt-4o-mini", api_base=provider.openai_base)
    with live.client(alice.headers) as client, ThreadPoolExecutor(6) as threads:
        ask = {"model": "chat", "messages": work.HELLO, "max_tokens": 20}
        answers = [threads.submit(client.post, "/v1/chat/completions", json=ask) for _ in range(6)]
        wait_until(lambda: len(provider.requests) == 6, seconds=30)
        connection.close()
        # Whoever looks is not among them: the pool is asked, not the database.
        wait_until(_is_idle, seconds=2)
        assert not any(answer.done() for answer in answers)
        assert [answer.result().status_code for answer in answers] == [200] * 6
    assert verification.verify() == []


def _is_idle() -> bool:
    """Whether every connection of this process is in its pool."""
    stats = connection.pool.get_stats()  # type: ignore[attr-defined]
    return bool(stats["pool_available"] == stats["pool_size"])


def test_rows_that_the_database_refuses_take_the_whole_batch_with_them(clock_: Clock) -> None:
    team = customer(PLANS["minimum"])
    same = [opening(team, number=1), opening(team, number=1)]
    with pytest.raises(IntegrityError), transaction.atomic():
        open_all(same)
    assert not Job.objects.exists()
    assert Account.objects.get().held_nanocredits == 0
    running = opened_calls(same[0], opening(team, number=2))
    Hold.objects.filter(reference=f"call:{running[0].call.pk}").update(
        state="released", closed_at=clock.now()
    )
    # One of them was closed behind their backs: neither is charged.
    with pytest.raises(HoldAlreadyClosed), transaction.atomic():
        settle_all([settlement(call) for call in running])
    assert not Entry.objects.filter(kind=Entry.Kind.CHARGE).exists()
    assert [call.status for call in Call.objects.all()] == ["dispatched"] * 2
    settle_all([settlement(running[1])])
    assert Entry.objects.filter(kind=Entry.Kind.CHARGE).count() == 1
