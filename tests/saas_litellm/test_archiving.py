"""A closed month's charges leave the ledger: every figure stays, and they can come back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import F

from billing import guards, ledger, lots, revenue
from billing.ledger import archive
from billing.models import Account, ArchivedEntry, ArchivedMonth, Draw, Entry, Lot
from jobs import profit, refunds
from jobs.models import Job
from saas_litellm import archiving, verification, worker
from saas_litellm.base.models import AuditEntry
from saas_litellm.base.refusals import Conflict, Invalid
from saas_litellm.customers import statement
from saas_litellm.dashboard.periods import Period
from saas_litellm.portal import wallets
from teams.models import Organization, Team
from tests import factories, work
from tests.conftest import ROOT, database_url, wait_until
from tests.saas_litellm.test_commands import run
from tests.work import Clock

FEBRUARY, MARCH = date(2026, 2, 1), date(2026, 3, 1)


@pytest.fixture
def clock(monkeypatch: Any) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def alice(transactional_db: None, clock: Clock) -> Team:
    """Work from January to May, some of it refunded, topped up each month."""
    if connection.vendor != "postgresql":
        pytest.skip("of PostgreSQL alone")
    clock.set(2026, 1, 5)
    company = factories.company(credits_=1)
    team = company.team
    for month in (1, 2, 3, 4, 5):
        clock.set(2026, month, 12, 9)
        factories.top_up(team, 10**9)
        for prompt in (1000, 5000):
            job = work.job(team)
            work.call(job, prompt=prompt)
            clock.tick(3600)
            work.close(job)
    clock.set(2026, 2, 20)
    give_back(Job.objects.filter(created_at__month=2).earliest("created_at"), "early")
    settle_days(clock)
    return team


def settle_days(clock: Clock) -> None:
    clock.set(2026, 6, 10)
    while revenue.keep_due():
        pass
    worker.sweep()


def give_back(job: Job, key: str) -> list[Entry]:
    return refunds.refund_job(
        job=job, nanocredits=None, reason="sorry", actor="test", idempotency_key=key
    )


def figures(team: Team) -> dict[str, Any]:
    """What must not change: balances, lots, reports by month, statements of whole months."""
    account = Account.objects.get(team=team)
    months = [
        Period(key="custom", start=date(2026, m, 1), end=date(2026, m + 1, 1)) for m in range(1, 6)
    ]
    told = [statement.of(account, month) for month in months]
    return {
        "account": Account.objects.values_list().get(pk=account.pk),
        "lots": list(Lot.objects.order_by("pk").values_list()),
        "outstanding": lots.outstanding(account),
        "deferred": revenue.deferred(),
        "deferred of it": revenue.deferred(account_ids=[account.pk]),
        "profit": profit.report(start=date(2026, 1, 1), end=date(2026, 6, 1), group_by="month"),
        "statements": [(s.run.opening, s.run.closing, s.came_in + s.went_out) for s in told],
    }


def rows() -> list[list[Any]]:
    draws = Draw.objects.annotate(kind_of=F("entry__kind")).order_by("entry_id", "lot_id", "kind")
    return [
        list(Entry.objects.order_by("pk").values_list()),
        list(
            draws.values_list(
                "lot_id", "entry_id", "kind", "amount_nanocredits", "paid_nano_usd", "at"
            )
        ),
    ]


def put_away(month: str = "2026-02", *more: str) -> dict[str, Any]:
    return dict(run("archive_ledger", "run", month, *more))


def test_every_figure_stays(alice: Team) -> None:
    before, lines = figures(alice), Entry.objects.count()
    # The one of February's two charges that was not refunded.
    assert put_away()["lines"] == 1
    assert put_away("2026-01")["lines"] == 2
    assert put_away("2026-03")["lines"] == 2
    assert figures(alice) == before
    assert Entry.objects.count() == lines - 2
    assert verification.verify() == []
    assert revenue.compare() == []
    revenue.rebuild()
    assert figures(alice) == before
    carried = Entry.objects.get(reference="carried:2026-03")
    assert (carried.kind, carried.reason) == ("carried", "2 charges of 2026-03")
    assert AuditEntry.objects.filter(action="ledger.archive").count() == 3


def test_work_goes_on_upon_a_carried_balance(alice: Team, clock: Clock) -> None:
    put_away()
    put_away("2026-03")
    job = work.job(alice)
    work.call(job, prompt=20_000)
    job = work.close(job)
    give_back(job, "late")
    factories.top_up(alice, 10**9)
    lots.fold_all()
    assert verification.verify() == []


def test_what_came_in_and_what_was_refunded_stay(alice: Team) -> None:
    kept = Entry.objects.exclude(kind="charge").order_by("pk")
    refunded = Entry.objects.filter(kind="refund").values_list("corrects", flat=True)
    before = [list(kept.values_list()), list(Entry.objects.filter(pk__in=refunded).values_list())]
    put_away()
    assert [
        list(kept.exclude(kind="carried").values_list()),
        list(Entry.objects.filter(pk__in=refunded).values_list()),
    ] == before


def test_an_archived_charge_is_refunded_no_more(alice: Team) -> None:
    put_away("2026-03")
    job = Job.objects.filter(created_at__month=3).earliest("created_at")
    with pytest.raises(Invalid, match="is archived"):
        give_back(job, "too-late")
    assert not AuditEntry.objects.filter(action="job.refund", target=f"job:{job.pk}").exists()
    run("archive_ledger", "restore", "2026-03")
    assert give_back(job, "too-late")
    lots.fold_all()
    assert verification.verify() == []


def test_an_archived_key_stays_taken(alice: Team) -> None:
    put_away("2026-03")
    gone = ArchivedEntry.objects.first()
    assert gone is not None
    with pytest.raises(IntegrityError, match="archived"):
        Entry.objects.create(
            account=gone.account,
            kind="charge",
            amount_nanocredits=-1,
            balance_after_nanocredits=0,
            reference=gone.reference,
            actor="test",
            idempotency_key=gone.idempotency_key,
            created_at=gone.created_at,
        )


def test_a_month_comes_back_as_it_was(alice: Team) -> None:
    before, told = rows(), figures(alice)
    put_away("2026-03")
    put_away()
    run("archive_ledger", "restore", "2026-02")
    assert run("archive_ledger", "restore", "2026-03") == {"month": "2026-03", "lines": 2}
    assert rows() == before
    assert figures(alice) == told
    assert not ArchivedEntry.objects.exists()
    assert AuditEntry.objects.filter(action="ledger.restore").count() == 2


def test_no_other_way_out_of_the_ledger(alice: Team) -> None:
    put_away("2026-03")
    tables = ("billing_entry", "billing_draw", "billing_archivedentry")
    for table in tables:
        for change in (f"DELETE FROM {table}", f"UPDATE {table} SET account_id = account_id"):
            with pytest.raises(DatabaseError):
                _execute(change)
    # Even while archiving, a line goes only with its like on the other side.
    for table in tables:
        with pytest.raises(DatabaseError, match="append-only"):
            _leave_and(guards.begin_archiving, f"DELETE FROM {table}")
    # Another transaction's leave is nobody else's.
    with pytest.raises(DatabaseError, match="append-only"):
        _leave_and(
            lambda: _execute("SET LOCAL saas.archiving = '1'"),
            "DELETE FROM billing_entry WHERE kind = 'carried'",
        )


def test_refused_while_something_is_open(alice: Team, clock: Clock) -> None:
    clock.set(2026, 3, 15)
    job = work.job(alice)
    work.start(job)
    clock.set(2026, 6, 10)
    found = run("archive_ledger", "plan", "2026-03")
    assert (found["lines"], found["accounts"]) == (2, 1)
    assert [line.split(" of that time")[0] for line in found["obstacles"]] == ["1 jobs", "1 holds"]
    with pytest.raises(CommandError, match="still open"):
        put_away("2026-03")
    with pytest.raises(CommandError, match="Months from 2026-04 on are kept"):
        put_away("2026-04")
    with pytest.raises(CommandError, match="Months from 2026-05 on are kept"):
        put_away("2026-05", "--months-kept", "1")
    worker.sweep()
    put_away()
    with pytest.raises(CommandError, match="archived already"):
        put_away()


def test_refused_while_the_books_do_not_agree(alice: Team) -> None:
    before = rows()
    Account.objects.update(balance_nanocredits=F("balance_nanocredits") + 1)
    with pytest.raises(CommandError, match="do not agree before it, nothing was done: I1 account"):
        put_away()
    assert rows() == before
    assert not ArchivedMonth.objects.exists()


def test_undone_when_the_books_do_not_agree_after(alice: Team, monkeypatch: Any) -> None:
    """As if a line had been lost on the way."""
    before, carry = rows(), archive._carry

    def lose(named: Any) -> None:
        carry(named)
        _execute(
            "DELETE FROM billing_draw d USING billing_entry e WHERE d.entry_id = e.id AND e.kind = 'carried'"
        )

    monkeypatch.setattr(archive, "_carry", lose)
    with pytest.raises(Conflict, match="do not agree after it, nothing was done: I5"):
        archiving.archive_month(MARCH, months_kept=3, actor="test")
    assert rows() == before
    assert not ArchivedMonth.objects.exists()


def test_what_no_longer_agrees_is_found(alice: Team) -> None:
    put_away("2026-03")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE billing_archivedentry DISABLE TRIGGER USER")
        cursor.execute(
            "UPDATE billing_archivedentry SET amount_nanocredits = amount_nanocredits - 1"
        )
        cursor.execute("ALTER TABLE billing_archivedentry ENABLE TRIGGER USER")
    found = [str(violation) for violation in verification.verify()]
    assert any("is not the charges that it carries forward" in line for line in found)
    assert any("by the ledger" in line for line in found)


def test_killed_in_the_midst_nothing_is_half(alice: Team) -> None:
    before = rows()
    with transaction.atomic():
        # The audit row waits for it when everything has been moved.
        _execute("LOCK TABLE base_auditentry IN SHARE MODE")
        process = subprocess.Popen(
            [sys.executable, "manage.py", "archive_ledger", "run", "2026-03"],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": database_url()},
            stderr=subprocess.PIPE,
        )
        wait_until(lambda: is_waiting(process), seconds=60)
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_until(lambda: not waiting(), seconds=30)
    assert rows() == before
    assert not ArchivedMonth.objects.exists()
    assert put_away("2026-03")["lines"] == 2


def test_a_refund_against_an_archive(alice: Team) -> None:
    """Whichever is first: the books agree, and a charge is refunded or archived, not both."""
    jobs = list(Job.objects.filter(created_at__month=3))
    outcomes: list[Any] = []

    def act(what: Any) -> None:
        try:
            what()
            outcomes.append("done")
        except (Conflict, Invalid, IntegrityError) as error:
            outcomes.append(type(error).__name__)
        finally:
            connection.close()

    acts = [lambda: archiving.archive_month(MARCH, months_kept=3, actor="test")]
    acts += [lambda job=job: give_back(job, str(job.pk)) for job in jobs]
    threads = [threading.Thread(target=act, args=(one,)) for one in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 3
    lots.fold_all()
    assert verification.verify() == []
    refunded = set(Entry.objects.filter(kind="refund").values_list("reference", flat=True))
    assert not refunded & set(ArchivedEntry.objects.values_list("reference", flat=True))


def test_a_shared_wallets_months_are_each_teams_own(alice: Team, clock: Clock) -> None:
    """What one team sees of a carried month is its own charges, none of another's."""
    clock.set(2026, 3, 20)
    organization = Organization.objects.get()
    bob = factories.team(name="bob", credits_=0)
    Team.objects.filter(pk=bob.pk).update(organization=organization)
    Team.objects.update(draws_on="organization")
    group = alice.access_groups.get()
    wallet = ledger.account_of_organization(organization)
    ledger.grant(account=wallet, amount_nanocredits=9 * 10**9, actor="test", idempotency_key="w")
    for slug, prompt in (("alice", 1000), ("bob", 2000), ("alice", 3000)):
        team = Team.objects.get(slug=slug)
        team.access_groups.add(group)
        job = work.job(team)
        work.call(job, prompt=prompt, model="chat")
        work.close(job)
    settle_days(clock)
    revenue.rebuild()
    march = Period(key="custom", start=MARCH, end=date(2026, 4, 1))
    alice = Team.objects.get(pk=alice.pk)

    def seen() -> int:
        found = wallets.in_use(alice)
        lines = found.seen(statement.run_of(wallet, march))
        return sum(line.amount_nanocredits for line in lines if line.kind in {"charge", "carried"})

    before = seen()
    put_away("2026-03")
    assert seen() == before != 0
    assert Entry.objects.filter(account=wallet, kind="carried").count() == 2
    assert verification.verify() == []


def test_a_months_file_is_whole_and_the_same_each_time(alice: Team, tmp_path: Path) -> None:
    put_away("2026-03")
    manifest = run("archive_ledger", "write", "2026-03", str(tmp_path / "one"))
    assert run("archive_ledger", "write", "2026-03", str(tmp_path / "two")) == manifest
    one, two = (tmp_path / name / manifest["file"] for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert manifest["amount_nanocredits"] == sum(
        ArchivedEntry.objects.values_list("amount_nanocredits", flat=True)
    )
    told = tmp_path / "one" / "ledger-2026-03.json"
    assert run("archive_ledger", "check", str(told))["lines"] == 2
    one.write_bytes(one.read_bytes()[:-1] + b"x")
    with pytest.raises(CommandError, match="not the file that was written"):
        call_command("archive_ledger", "check", str(told))
    changed = json.loads(told.read_text()) | {"lines": 3}
    (tmp_path / "two" / "ledger-2026-03.json").write_text(json.dumps(changed))
    with pytest.raises(CommandError, match="lines is 2, not 3"):
        call_command("archive_ledger", "check", str(tmp_path / "two" / "ledger-2026-03.json"))
    with pytest.raises(CommandError, match="2026-02 is not archived"):
        call_command("archive_ledger", "write", "2026-02", str(tmp_path))


@pytest.mark.any_database
@pytest.mark.skipif(connection.vendor != "sqlite", reason="of SQLite alone")
def test_sqlite_says_plainly_that_it_archives_nothing(db: None) -> None:
    for act in ("plan", "run"):
        with pytest.raises(CommandError, match="Only a ledger on PostgreSQL is archived"):
            call_command("archive_ledger", act, "2026-03")


def is_waiting(process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, process.stderr and process.stderr.read()
    return waiting()


def waiting() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_locks WHERE NOT granted")
        return cursor.fetchone() is not None


def _leave_and(take_leave: Any, statement: str) -> None:
    with transaction.atomic():
        take_leave()
        _execute(statement)


def _execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)
