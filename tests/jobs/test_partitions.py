"""Attempts by month and payloads by day on PostgreSQL: the models work on, and nothing is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction

from jobs import partitions, payloads
from jobs.models import Attempt, Call, CostLine, Payload
from saas_litellm import verification, worker
from saas_litellm.base import partitioning
from saas_litellm.base.models import AuditEntry
from teams import privacy
from teams.models import Team
from tests import factories, work
from tests.conftest import ROOT, database_url, wait_until
from tests.saas_litellm.test_commands import run
from tests.work import Clock


@pytest.fixture
def clock(monkeypatch: Any) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def alice(own_database: str, clock: Clock) -> Team:
    """Two months of work, a call that fell back among it, and payloads of each."""
    clock.set(2026, 2, 20, 12)
    team = factories.company().team
    factories.serve(team, alias="chat", model="demo/second")
    privacy.set_policy(
        team=team, policy="full", retention_days=20, redacted_fields=[], actor="test"
    )
    job = work.job(team)
    work.call(job)
    clock.set(2026, 3, 10, 12)
    work.call(job, prompt=500)
    work.fail_over(work.start(job))
    work.close(job)
    return team


def facts() -> list[list[Any]]:
    return [
        list(model.objects.order_by("pk").values_list())
        for model in (Attempt, CostLine, Payload, Call)
    ]


def catalogue(table: str) -> dict[str, list[Any]]:
    """What stands around a table: its checks and keys, and the keys that lead to it."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT contype, conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
            " FROM pg_constraint WHERE conparentid = 0 AND"
            " (conrelid = %s::regclass OR confrelid = %s::regclass)",
            [table, table],
        )
        found: dict[str, list[Any]] = {"c": [], "f": [], "p": [], "u": []}
        for kind, *rest in cursor.fetchall():
            found[kind if isinstance(kind, str) else kind.decode()].append(rest)
        cursor.execute(
            "SELECT indexname, replace(indexdef, ' ON ONLY ', ' ON ') FROM pg_indexes"
            " WHERE tablename = %s AND indexdef NOT LIKE 'CREATE UNIQUE%%'",
            [table],
        )
        found["indexes"] = cursor.fetchall()
    return {kind: sorted(rows) for kind, rows in found.items()}


def partition(*arguments: str) -> dict[str, Any]:
    return dict(run("partition", *arguments))


def test_a_dry_run_tells_and_changes_nothing(alice: Team) -> None:
    told = partition("attempts", "--dry-run")
    assert told["partitions"] == ["jobs_attempt_2026_02", "jobs_attempt_2026_03"]
    assert (told["rows"], told["is_done"]) == (4, False)
    assert not partitioning.is_partitioned("jobs_attempt")


@pytest.mark.parametrize("table", ["jobs_attempt", "jobs_payload"])
def test_rows_keys_checks_and_indexes_are_as_they_were(alice: Team, table: str) -> None:
    before, around = facts(), catalogue(table)
    done = partition(table.removeprefix("jobs_") + "s")
    assert done["rows"] == len(facts()[0 if table == "jobs_attempt" else 2])
    assert facts() == before
    after = catalogue(table)
    # The primary key of payloads grows by the key of the ranges; uniqueness moves into partitions.
    for kind in ("c", "f", "indexes"):
        assert after[kind] == around[kind], kind
    assert len(after["p"]) == 1
    assert verification.verify() == []
    assert AuditEntry.objects.filter(action="table.partition", target=table).exists()
    with pytest.raises(CommandError, match="already"):
        call_command("partition", table.removeprefix("jobs_") + "s")


def test_a_cost_line_still_needs_its_attempt(alice: Team) -> None:
    partition("attempts")
    connection.cursor().execute("ALTER TABLE jobs_costline ALTER CONSTRAINT " + _key_of_lines())
    with pytest.raises(IntegrityError):
        connection.cursor().execute("DELETE FROM jobs_attempt")


def test_a_call_has_each_attempt_once(alice: Team) -> None:
    partition("attempts")
    first = Attempt.objects.earliest("pk")
    again = {"call_id": first.call_id, "deployment_id": first.deployment_id, "number": 1}
    with pytest.raises(IntegrityError):
        Attempt.objects.create(pk=0, started_at=first.started_at, **again)
    # In another month's partition no constraint sees it: the check over the books does.
    Attempt.objects.create(started_at=first.started_at, **again)
    assert [str(found) for found in verification.verify()] == [
        f"I6 call {first.call_id}: its attempt 1 is there twice"
    ]


def test_work_goes_on_into_the_next_months(alice: Team, clock: Clock) -> None:
    partition("attempts")
    partition("payloads")
    # The worker was away while the month turned: attempts go on in the month before.
    clock.set(2026, 4, 1, 0, 1)
    job = work.job(alice)
    early = work.call(job)
    worker.sweep()
    late = work.call(job)
    work.close(job)
    of = {
        call.pk: where
        for call in (early, late)
        for (where,) in _fetched(
            "SELECT tableoid::regclass::text FROM jobs_attempt WHERE call_id = %s", call.pk
        )
    }
    assert of == {early.pk: "jobs_attempt_2026_03", late.pk: "jobs_attempt_2026_04"}
    assert {"jobs_attempt_2026_05"} <= set(partitioning.names("jobs_attempt"))
    assert early.attempts.get().number == late.attempts.get().number == 1
    assert verification.verify() == []


def test_a_new_months_ids_collide_with_none(alice: Team, clock: Clock) -> None:
    """Workers that raise the sequence at once, while calls draw on it."""
    partition("attempts")
    clock.set(2026, 4, 1, 0, 1)
    job, made, failures = work.job(alice), [], []

    def go_on(act: Any) -> None:
        try:
            made.append(act())
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    acts = [partitions.keep_ahead, lambda: work.call(job)] * 8
    threads = [threading.Thread(target=go_on, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert Attempt.objects.filter(call__job=job).count() == 8
    assert verification.verify() == []


@pytest.mark.parametrize(("step", "gone_at"), [("day", (2026, 4, 1)), ("month", (2026, 4, 1))])
def test_old_payloads_go_with_their_partition(
    alice: Team, clock: Clock, step: str, gone_at: tuple[int, int, int]
) -> None:
    partition("payloads", "--by", step)
    old, *young = Call.objects.order_by("created_at")
    assert payloads.look(young[0], actor="test") is not None
    # The older expired on 12 March: nobody sees it from then on; its partition goes when past.
    clock.set(2026, 3, 13)
    assert payloads.look(old, actor="test") is None
    worker.sweep()
    assert Payload.objects.filter(call=old).exists() == (step == "month")
    # 20 days from 10 March.
    clock.set(*gone_at)
    worker.sweep()
    assert not Payload.objects.exists()
    assert not [name for name in partitioning.names("jobs_payload") if "_2026_03" in name]


def test_a_payload_beyond_every_partition_waits_for_its_own(alice: Team, clock: Clock) -> None:
    partition("payloads")
    privacy.set_policy(
        team=alice, policy="full", retention_days=900, redacted_fields=[], actor="test"
    )
    job = work.job(Team.objects.get())
    call = work.call(job)
    where = "SELECT tableoid::regclass::text FROM jobs_payload WHERE call_id = %s"
    assert _fetched(where, call.pk) == [("jobs_payload_default",)]
    clock.set(2028, 8, 1)
    partitions.keep_ahead()
    assert _fetched(where, call.pk) == [("jobs_payload_2028_08_26",)]
    assert payloads.look(call, actor="test") is not None


def test_a_team_that_keeps_no_more_is_forgotten_at_once(alice: Team) -> None:
    partition("payloads")
    Team.objects.update(payload_policy="off")
    payloads.purge()
    assert not Payload.objects.exists()


def test_killed_in_the_midst_nothing_is_half(alice: Team) -> None:
    """The move waits for a lock after it has begun; then its process dies."""
    before = facts()
    with transaction.atomic():
        # Holds up the foreign key that is made again last.
        connection.cursor().execute("LOCK TABLE jobs_costline IN SHARE MODE")
        process = subprocess.Popen(
            [sys.executable, "manage.py", "partition", "attempts"],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": database_url()},
            stderr=subprocess.PIPE,
        )
        wait_until(lambda: _is_waiting(process), seconds=60)
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_until(lambda: _fetched("SELECT 1 FROM pg_locks WHERE NOT granted") == [], seconds=30)
    assert not partitioning.is_partitioned("jobs_attempt")
    assert facts() == before
    assert partition("attempts")["rows"] == 4
    assert facts() == before


def test_what_was_moved_is_told_as_it_goes(alice: Team) -> None:
    told = StringIO()
    call_command("partition", "attempts", stderr=told, stdout=StringIO())
    assert told.getvalue().splitlines() == [
        "jobs_attempt_2026_02: 1 rows",
        "jobs_attempt_2026_03: 3 rows",
    ]


def test_sizes_by_table(alice: Team) -> None:
    partition("attempts")
    (attempts,) = [row for row in partition("show")["tables"] if row["table"] == "jobs_attempt"]
    assert attempts["partitions"] == 2
    assert attempts["bytes"] > 0


@pytest.mark.any_database
@pytest.mark.skipif(connection.vendor != "sqlite", reason="of SQLite alone")
def test_sqlite_says_plainly_that_it_has_none(db: None) -> None:
    for act in ("show", "attempts", "payloads"):
        with pytest.raises(CommandError, match="Only PostgreSQL has partitions"):
            call_command("partition", act)
    assert partitions.keep_ahead() == 0


def _fetched(statement: str, *values: Any) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchall()


def _key_of_lines() -> str:
    """The foreign key from cost lines to attempts, checked at once."""
    ((name,),) = _fetched(
        "SELECT conname FROM pg_constraint WHERE conparentid = 0 AND"
        " conrelid = 'jobs_costline'::regclass AND confrelid = 'jobs_attempt'::regclass"
    )
    return f'"{name}" NOT DEFERRABLE'


def _is_waiting(process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, process.stderr and process.stderr.read()
    return bool(_fetched("SELECT 1 FROM pg_locks WHERE NOT granted"))
