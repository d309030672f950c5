"""Many calls in one transaction: the same as one after the other, under race, and after a failure."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from billing import budgets, plans
from billing.ledger import HoldAlreadyClosed
from billing.models import Account, BudgetPeriod, Entry, Hold
from jobs import calls, closing, quotes, refunds
from jobs.lifecycle import spender_of
from jobs.models import Call, Job, Payload
from jobs.open_calls import OpenCall
from jobs.opening import open_all
from jobs.refusals import QuoteUsed
from jobs.settling import settle_all
from saas_litellm import verification
from saas_litellm.base import clock, standing
from saas_litellm.base.idempotency import Claim, InProgress
from saas_litellm.base.models import IdempotencyRecord
from saas_litellm.base.money import NANO
from saas_litellm.base.refusals import Refusal
from teams import directory, keys
from teams.models import Deployment, Team
from tests import batches, factories, work
from tests.batches import Ending, opening, settlement
from tests.conftest import ROOT, Live, database_url, wait_until
from tests.jobs.test_repricing import PLANS
from tests.providers.server import ProviderServer, Reply
from tests.work import Clock

COUNTED = {
    "jobs": {
        "call_rules": [
            {
                "kind": "tiered",
                "metric": "jobs",
                "tiers": [{"up_to": 2, "credits": "0.1"}, {"credits": "0.04"}],
            }
        ]
    },
    "clamped": {"call_rules": [{"kind": "markup", "clamp_output": True}]},
}
on_postgresql = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="SQLite takes rows one by one, on one connection a thread"
)
SHARED = ("anna", "bert", "carl")


def sharing(*, credits_: int, names: tuple[str, ...] = SHARED[:2]) -> list[Team]:
    """Teams of one organization that draw on its wallet, and one with a wallet of its own."""
    organization = directory.create_organization(slug="shop", actor="test")
    made = []
    for name in names:
        team = directory.create_team(slug=name, organization=organization, actor="test")
        directory.set_wallet(team=team, draws_on=Team.Wallet.ORGANIZATION, actor="test")
        team.default_alias = factories.serve(team, alias="chat", model="demo/echo")
        team.save()
        made.append(Team.objects.select_related("organization").get(pk=team.pk))
    if credits_:
        factories.top_up(made[0], credits_ * NANO)
    return made


def assigned(team: Team, spec: dict[str, Any], *, name: str) -> None:
    plans.assign(plan=work.plan(name, **spec), team=team, actor="test")


openings = st.tuples(
    st.integers(0, 30),  # which job, the last ones new
    st.integers(1, 3000),  # tokens of output at most
    st.none() | st.integers(0, 9),  # the cap of a new job, in tenths of a credit
    st.sampled_from(["", "", "single", "reserving", "quoted"]),
    st.booleans(),  # by the team's key
)
endings = st.tuples(st.integers(0, 4000), st.booleans())


@settings(
    max_examples=30,
    deadline=None,
    # To shrink one of these takes minutes.
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    asked=st.lists(openings, min_size=1, max_size=8),
    ends=st.lists(endings, min_size=8, max_size=8),
    order=st.permutations(range(8)),
)
def test_any_batch_does_what_the_same_calls_do_one_after_the_other(
    stage: Stage, asked: list[Any], ends: list[Any], order: list[int]
) -> None:
    with transaction.atomic():
        made = [stage.opening(number, *one) for number, one in enumerate(asked, start=1)]
        seen = [stage.played(made, ends, order, at_once=size) for size in (1, 3, 8)]
        transaction.set_rollback(True)
    assert seen[1] == seen[0]
    assert seen[2] == seen[0]


class Stage:
    """Two teams that share a wallet and one with its own, with jobs under every kind of plan."""

    def __init__(self, clock: Clock) -> None:
        self.teams = sharing(credits_=2)
        self.teams.append(factories.company(name="carl", credits_=1, plan="").team)
        self.teams[-1] = Team.objects.select_related("organization").get(slug="carl")
        # One way only: which deployment is asked is a matter of chance.
        Deployment.objects.exclude(pk=Deployment.objects.earliest("pk").pk).delete()
        self.keys = [keys.issue(team=team, actor="test")[0] for team in self.teams]
        plans_ = [work.plan(f"plan-{name}", **spec) for name, spec in {**PLANS, **COUNTED}.items()]
        self.jobs: list[Job] = []
        for team in self.teams:
            for plan in plans_:
                clock.tick(60)
                plans.assign(plan=plan, team=team, actor="test")
                if plan.slug not in {"plan-flat", "plan-minimum"}:
                    self.jobs.append(work.job(team))
        self.jobs.append(work.job(self.teams[0], max_nanocredits=NANO // 2))
        self.jobs.append(work.job(self.teams[2], max_nanocredits=NANO // 2, is_reserving=True))
        owner: Any
        for owner, period, limit in (
            (self.teams[0], "day", NANO),
            (self.teams[0].organization, "month", 3 * NANO // 2),
            (self.keys[2], "total", NANO // 2),
        ):
            budgets.create(owner=owner, period=period, limit_nanocredits=limit, actor="test")
        for team, api_key in zip(self.teams, self.keys, strict=True):
            # Made now: a sequence is not rolled back, and theirs are rows to compare.
            budgets.current(spender_of(team, api_key.pk))
        self.versions = [plan.versions.get().pk for plan in plans_]

    def opening(
        self, number: int, which: int, max_tokens: int, cap: int | None, kind: str, is_keyed: bool
    ) -> Any:
        team_number = which % 3
        more: dict[str, Any] = {}
        if which < len(self.jobs):
            job = self.jobs[which]
            team_number = next(n for n, team in enumerate(self.teams) if team.pk == job.team_id)
            more["job"] = job
        else:
            more = {
                "version_id": self.versions[(number + which) % len(self.versions)],
                "is_single": kind == "single",
                "is_reserving": kind == "reserving",
                "max_nanocredits": None if cap is None else cap * NANO // 10,
            }
        team = self.teams[team_number]
        if kind == "quoted" and "job" not in more:
            more["quote"] = quotes.give(
                team=team, job_type="contract", model=None, messages=[], expected_calls=2
            )
        api_key = self.keys[team_number] if is_keyed else None
        return opening(team, number=number, max_tokens=max_tokens, api_key=api_key, **more)

    def played(self, made: Any, ends: Any, order: Any, *, at_once: int) -> Any:
        """What came of it all, and the books after; then it never was."""
        with transaction.atomic():
            results = batches.opened(made, at_once=at_once)
            after_opening = batches.picture()
            pairs = [
                (results[number], Ending(prompt=ends[number][0], is_delivered=ends[number][1]))
                for number in order
                if number < len(results) and isinstance(results[number], OpenCall)
            ]
            batches.settled(pairs, at_once=at_once)
            seen = ([batches.told(one) for one in results], after_opening, batches.picture())
            assert verification.verify() == []
            transaction.set_rollback(True)
        return seen


@pytest.fixture
def stage(db: None, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(Clock(monkeypatch))


@pytest.fixture
def clock_(monkeypatch: pytest.MonkeyPatch, db: None) -> Clock:
    return Clock(monkeypatch)


def customer(spec: dict[str, Any], *, credits_: int = 100) -> Team:
    made = factories.company(credits_=credits_, plan="").team
    assigned(made, spec, name="theirs")
    return Team.objects.select_related("organization").get(pk=made.pk)


def opened_calls(*made: Any) -> list[OpenCall]:
    results = open_all(made)
    assert [one for one in results if not isinstance(one, OpenCall)] == []
    return [one for one in results if isinstance(one, OpenCall)]


def test_a_single_job_that_another_call_has_joined_ends_by_all_that_was_delivered(
    clock_: Clock,
) -> None:
    team = customer(PLANS["flat"])
    (first,) = opened_calls(opening(team, number=1, is_single=True))
    (second,) = opened_calls(opening(team, number=2, job=first.job))
    settle_all([settlement(first)])
    assert Job.objects.get().is_open
    settle_all([settlement(second, Ending(is_delivered=False))])
    job = Job.objects.get()
    assert (job.status, job.charged_nanocredits) == ("completed", NANO // 2)
    assert verification.verify() == []


@pytest.mark.parametrize("delivered", [(True, False), (False, True)])
def test_and_so_it_does_when_both_settle_at_once(
    clock_: Clock, delivered: tuple[bool, bool]
) -> None:
    team = customer(PLANS["flat"])
    (first,) = opened_calls(opening(team, number=1, is_single=True))
    (second,) = opened_calls(opening(team, number=2, job=first.job))
    settle_all(
        [
            settlement(call, Ending(is_delivered=is_delivered))
            for call, is_delivered in zip((first, second), delivered, strict=True)
        ]
    )
    job = Job.objects.get()
    assert (job.status, job.charged_nanocredits) == ("completed", NANO // 2)
    assert verification.verify() == []


def test_a_job_that_ends_with_its_call_says_what_was_left_of_its_hold(clock_: Clock) -> None:
    team = customer(PLANS["minimum"])
    (call,) = opened_calls(opening(team, number=1, is_single=True))
    settle_all([settlement(call, Ending(prompt=1000))])
    # Its call took 0.07 of the 0.25 that were set aside; the job itself the 0.18 that were left.
    own = Hold.objects.get(reference=f"job:{call.job.pk}")
    assert (own.amount_nanocredits, own.state) == (180_000_000, "settled")
    assert Job.objects.get().charged_nanocredits == NANO // 4
    assert verification.verify() == []


def test_a_call_that_comes_twice_in_a_batch_settles_once(clock_: Clock) -> None:
    team = customer({"call_rules": [{"kind": "markup"}]})
    (call,) = opened_calls(opening(team, number=1))
    once, twice = settle_all([settlement(call), settlement(call)])
    assert once is twice
    job = Job.objects.get()
    assert (job.in_flight, job.successful_calls) == (0, 1)
    assert Entry.objects.filter(kind=Entry.Kind.CHARGE).count() == 1
    assert verification.verify() == []


def test_a_quote_that_two_ask_for_at_once_is_used_by_one(clock_: Clock) -> None:
    team = customer({"call_rules": [{"kind": "markup"}]})
    quote = quotes.give(team=team, job_type="contract", model=None, messages=[], expected_calls=1)
    both = [opening(team, number=number, quote=quote) for number in (1, 2)]
    with pytest.raises(QuoteUsed), transaction.atomic():
        open_all(both)
    assert not Job.objects.exists()
    opened_calls(both[0])
    with pytest.raises(QuoteUsed), transaction.atomic():
        open_all(both[1:])
    assert Job.objects.get().in_flight == 1
    assert verification.verify() == []


def test_a_key_that_two_send_at_once_is_taken_by_one_and_a_refused_call_frees_its_own(
    clock_: Clock,
) -> None:
    team = customer({"call_rules": [{"kind": "markup"}]})
    dear = opening(team, number=3, max_nanocredits=0)
    made = [
        replace(opening(team, number=1), claim=Claim(scope="b", fingerprint="x")),
        replace(opening(team, number=2), claim=Claim(scope="b", fingerprint="x")),
        replace(dear, claim=Claim(scope="a", fingerprint="x")),
    ]
    first, second, third = open_all(made)
    assert isinstance(first, OpenCall)
    assert isinstance(second, InProgress)
    assert isinstance(third, Refusal)
    assert [row.scope for row in IdempotencyRecord.objects.all()] == ["b"]


def test_what_a_team_forbids_to_keep_while_its_call_runs_is_not_kept(clock_: Clock) -> None:
    team = customer({"call_rules": [{"kind": "markup"}]})
    team.payload_policy, team.payload_retention_days = Team.PayloadPolicy.FULL, 30
    team.save()
    claim = Claim(scope="a", fingerprint="x")
    with transaction.atomic():
        (call,) = opened_calls(replace(opening(team, number=1), claim=claim))
    Team.objects.update(is_replay_kept=False, payload_retention_days=1)
    settle_all([settlement(call)])
    record = IdempotencyRecord.objects.get()
    assert (record.is_done, record.ciphertext) == (True, "")
    payload = Payload.objects.get()
    assert payload.expires_at - payload.created_at == timedelta(days=1)


def test_an_attempt_that_was_recorded_and_never_asked_costs_nothing_in_the_end(
    clock_: Clock,
) -> None:
    team = customer({"call_rules": [{"kind": "markup"}]})
    (call,) = opened_calls(opening(team, number=1))
    Call.objects.update(expires_at=clock.now() - timedelta(seconds=1))
    assert calls.abandon_expired() == 1
    assert Job.objects.get().provider_cost_nano_usd > 0
    settle_all([replace(settlement(call, Ending(is_delivered=False)), attempt=None)])
    assert Job.objects.get().provider_cost_nano_usd == 0
    assert verification.verify() == []


def test_a_settlement_that_was_rolled_back_leaves_nothing_for_the_next_to_write(
    clock_: Clock,
) -> None:
    team = customer({"call_rules": [{**PLANS["volume"]["call_rules"][0], "failed_jobs": "free"}]})
    job = work.job(team)
    (call,) = opened_calls(opening(team, number=1, job=job))
    assert _fails(lambda: settle_all([settlement(call)]), at=6)
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
        if sql.lstrip().startswith(("INSERT", "UPDATE", "DELETE")):
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
    assert failures > 3


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
    story = "import sys, django; django.setup(); from tests.jobs import test_batches as t; "
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
    assert (len(opening_them), len(settling_them)) == (15, 15)


def test_what_a_volume_tier_gives_back_stands_among_the_charges_in_their_order(
    clock_: Clock,
) -> None:
    team = customer(PLANS["volume"])
    job = work.job(team)
    running = opened_calls(*(opening(team, number=number, job=job) for number in (1, 2, 3)))
    # 2.5 credits; then 4.5 tokens in thousands at 0.5, so that 0.25 come back; then 0.05 more.
    ends = [Ending(prompt=2500), Ending(prompt=2000), Ending(prompt=100)]
    settle_all([settlement(*pair) for pair in zip(running, ends, strict=True)])
    entries = Entry.objects.order_by("id").values_list("kind", "balance_after_nanocredits")
    assert [(kind, after / NANO) for kind, after in entries] == [
        ("grant", 100),
        ("charge", 97.5),
        ("adjustment", 97.75),
        ("charge", 97.7),
    ]
    assert verification.verify() == []


def test_a_new_job_and_its_first_call_set_aside_what_they_say_they_do(clock_: Clock) -> None:
    team = customer(PLANS["minimum"])
    (call,) = opened_calls(opening(team, number=1, is_single=True))
    own = Hold.objects.get(reference=f"job:{call.job.pk}")
    assert own.amount_nanocredits == NANO // 4 - call.call.held_nanocredits
    assert Account.objects.get().held_nanocredits == NANO // 4
    assert verification.verify() == []


@on_postgresql
def test_a_batch_whose_connection_is_killed_leaves_nothing_and_is_done_once(
    transactional_db: None,
) -> None:
    team = customer(PLANS["minimum"])
    made = [opening(team, number=number, is_single=True) for number in range(1, 5)]
    for place in (1, 4, 7):
        _killed(lambda: open_all(made), at=place)
        assert not Job.objects.exists()
    running = opened_calls(*made)
    for place in (1, 4, 7):
        _killed(lambda: settle_all([settlement(call) for call in running]), at=place)
        assert Job.objects.filter(in_flight=1).count() == 4
        assert Account.objects.get().balance_nanocredits == 100 * NANO
    settle_all([settlement(call) for call in running])
    assert Account.objects.get().balance_nanocredits == 99 * NANO
    assert verification.verify() == []


def _killed(act: Callable[[], Any], *, at: int) -> None:
    """Do it, and end its connection before the so-maniest write is sent."""
    left = [at]

    def killing(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.lstrip().startswith(("INSERT", "UPDATE", "DELETE")):
            left[0] -= 1
            if left[0] == 0:
                execute("SELECT pg_terminate_backend(pg_backend_pid())", None, False, context)
        return execute(sql, params, many, context)

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
