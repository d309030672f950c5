"""Exported days: their sums are the ledger's and the report's, each is there once, and stays the same."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pyarrow.parquet
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import Sum

from billing import plans, revenue
from billing.models import Entry
from jobs import calls, profit, refunds
from jobs.facts import NAMES
from jobs.models import Call, CostLine, Job
from jobs.profit import Filters
from jobs.warehouse import export, tables
from saas_litellm import archiving
from saas_litellm.base import clock as clocks
from saas_litellm.base.refusals import Conflict
from tests import factories, work
from tests.conftest import ROOT, database_url, wait_until
from tests.saas_litellm.test_commands import run
from tests.work import Clock

START, END = date(2026, 3, 1), date(2026, 5, 1)
SQL = ROOT / "deploy" / "clickhouse"


@pytest.fixture
def clock(monkeypatch: Any) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def sold(db: None, clock: Clock) -> None:
    """Two customers' work over three days: flat and by use, failed, refunded, corrected."""
    _sell(clock)


def _sell(clock: Clock) -> None:
    alice = factories.company(name="alice").team
    bob = factories.company(name="bob", plan="", alias="bob-chat", model="demo/bob").team
    plans.assign(plan=factories.plan("flat", flat=3 * 10**9), team=bob, actor="test")
    factories.top_up(bob, 50 * 10**9)
    for day in (10, 11, 12):
        clock.set(2026, 3, day, 13)
        for team in (alice, bob):
            job = work.job(team)
            work.call(job, prompt=333 * day, output=7, cached=3)
            work.call(job, prompt=1, delivered=False)
            work.close(job, "failed" if day == 11 else "completed")
    CostLine.objects.create(
        kind="correction", day=date(2026, 3, 11), amount_nano_usd=-77, created_at=clocks.now()
    )
    clock.set(2026, 3, 13, 2)
    give_back(Job.objects.filter(team=alice).earliest("created_at"))


def give_back(job: Job) -> None:
    refunds.refund_job(
        job=job, nanocredits=None, reason="sorry", actor="test", idempotency_key=str(job.pk)
    )


def written(folder: Path, *more: str) -> dict[str, Any]:
    return dict(run("export_warehouse", str(folder), *more))


def warehouse(folder: Path) -> Any:
    """The folder as a store sees it, its views called as ClickHouse's."""
    store = duckdb.connect()
    store.execute("SET TimeZone = 'UTC'")
    for table in tables.TABLES:
        store.execute(
            f"CREATE VIEW {table.name} AS SELECT * FROM read_parquet('{folder}/{table.name}/*.parquet')"
        )
    return store


def report_of(store: Any, where: str = "1 = 1") -> dict[str, int]:
    sums = ", ".join(f"SUM({name})" for name in NAMES)
    query = f"SELECT {sums} FROM ({(SQL / 'profit.sql').read_text()}) WHERE {where}"
    return dict(
        zip(NAMES, (int(value or 0) for value in store.execute(query).fetchone()), strict=True)
    )


def ours(**filters: Any) -> dict[str, int]:
    total = profit.report(start=START, end=END, filters=Filters(**filters)).total
    return {name: getattr(total, name) for name in NAMES}


def test_the_query_gives_the_profit_report(sold: None, tmp_path: Path) -> None:
    written(tmp_path)
    store = warehouse(tmp_path)
    assert report_of(store) == ours()
    assert ours()["provider_cost_nano_usd"] != 0 != ours()["refunded_nano_usd"]
    for team in ("alice", "bob"):
        assert report_of(store, f"team = '{team}'") == ours(team=team)
    for alias in ("chat", "bob-chat"):
        assert report_of(store, f"alias = '{alias}'") == ours(alias=alias)


def test_sums_are_the_ledgers(sold: None, tmp_path: Path, clock: Clock) -> None:
    clock.set(2026, 3, 14, 2)
    written(tmp_path)
    lines = pyarrow.parquet.read_table(tmp_path / "entries").to_pylist()
    assert len(lines) == Entry.objects.count()
    for account, total in (
        Entry.objects.order_by().values_list("account_id").annotate(Sum("amount_nanocredits"))
    ):
        of = [line for line in lines if line["account_id"] == account]
        assert sum(line["amount_nanocredits"] for line in of) == total
        assert of[-1]["balance_after_nanocredits"] == total
    costs = pyarrow.parquet.read_table(tmp_path / "cost_lines")["amount_nano_usd"].to_pylist()
    assert sum(costs) == CostLine.objects.aggregate(n=Sum("amount_nano_usd"))["n"]
    # Beside each integer stands the exact decimal.
    assert all(line["amount_credits"] * 10**9 == line["amount_nanocredits"] for line in lines)
    attempts = pyarrow.parquet.read_table(tmp_path / "attempts")
    assert attempts.num_rows == 12


def test_again_writes_nothing_and_anew_the_same_bytes(sold: None, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert written(one)["rows"] > 0
    before = contents(one)
    assert written(one) == {"files": [], "rows": 0}
    assert written(one, "--recheck") == {"files": [], "rows": 0}
    assert contents(one) == before
    written(two)
    assert contents(two) == before


def test_a_changed_day_is_written_again_in_its_place(
    sold: None, tmp_path: Path, clock: Clock
) -> None:
    written(tmp_path)
    clock.set(2026, 3, 20)
    give_back(Job.objects.filter(team__slug="bob").latest("created_at"))
    again = written(tmp_path)["files"]
    assert "jobs/2026-03-12.r2.parquet" in again
    assert not (tmp_path / "jobs" / "2026-03-12.parquet").exists()
    assert report_of(warehouse(tmp_path)) == ours()
    # The store keeps the row with the greater serial, whichever order it loads them in.
    (kept,) = [
        file
        for file in export.read_manifest(tmp_path)["files"]
        if file["file"] == "jobs/2026-03-12.r2.parquet"
    ]
    assert kept["serial"] > 12


def test_a_late_settlement_moves_its_call(sold: None, tmp_path: Path, clock: Clock) -> None:
    clock.set(2026, 3, 13, 9)
    opened = work.start(work.job(Job.objects.filter(team__slug="alice")[0].team))
    attempt = calls.dispatch(opened)
    clock.tick(3600)
    calls.abandon_expired()
    clock.set(2026, 3, 14, 3)
    written(tmp_path)
    usage = work.Usage(prompt_tokens=50, completion_tokens=5)
    outcome = work.Outcome(usage=usage, latency_ms=1, is_output_delivered=True)
    calls.settle(opened=opened, attempt=attempt, outcome=outcome)
    clock.set(2026, 3, 15, 3)
    written(tmp_path)
    store = warehouse(tmp_path)
    found = store.execute(f"SELECT status FROM calls WHERE id = '{opened.call.pk}'").fetchall()
    assert found == [("settled",)]
    assert report_of(store) == ours()


def test_today_is_not_over(sold: None, tmp_path: Path, clock: Clock) -> None:
    clock.set(2026, 3, 12, 23)
    assert written(tmp_path)["files"][-1] == "entries/2026-03-11.parquet"
    # The last transactions of a day have an hour to end.
    clock.set(2026, 3, 13, 0, 30)
    assert written(tmp_path)["files"] == []
    clock.set(2026, 3, 13, 1, 1)
    assert "entries/2026-03-12.parquet" in written(tmp_path)["files"]


def test_json_lines_hold_the_same_integers(sold: None, tmp_path: Path) -> None:
    written(tmp_path, "--format", "jsonl")
    lines = [
        orjson.loads(line)
        for path in sorted((tmp_path / "calls").iterdir())
        for line in gzip.decompress(path.read_bytes()).splitlines()
    ]
    for name in ("provider_cost_nano_usd", "price_nano_usd", "refunded_nanocredits"):
        assert sum(line[name] for line in lines) == Call.objects.aggregate(n=Sum(name))["n"]
    with pytest.raises(CommandError, match="holds jsonl"):
        call_command("export_warehouse", str(tmp_path))


def test_without_pyarrow_it_says_what_to_install(
    sold: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(CommandError, match=r"requirements-warehouse\.txt"):
        call_command("export_warehouse", str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_two_exports_at_once(sold: None, tmp_path: Path) -> None:
    with export._alone(tmp_path), pytest.raises(Conflict, match="Another export"):
        export.export(tmp_path, format_="jsonl")


def test_killed_in_the_midst_it_goes_on(
    transactional_db: None, clock: Clock, tmp_path: Path
) -> None:
    _sell(clock)
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(tmp_path / "one")],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": database_url()},
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: list((tmp_path / "one").glob("calls/*.part")), seconds=60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for name in ("one", "two"):
        written(tmp_path / name, "--format", "jsonl")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


# Writes the first row of the first day, and then nothing more.
SLOW = """
import os, sys, time
from pathlib import Path
os.environ["DJANGO_SETTINGS_MODULE"] = "saas_litellm.settings"
import django
django.setup()
from jobs.warehouse import export, tables

add = tables.Table.add
tables.Table.add = lambda *arguments: (add(*arguments), time.sleep(600))
export.export(Path(sys.argv[1]), format_="jsonl")
"""


@pytest.mark.skipif(connection.vendor != "postgresql", reason="only there months are archived")
def test_archived_charges_are_exported_as_before(
    transactional_db: None, clock: Clock, tmp_path: Path
) -> None:
    _sell(clock)
    clock.set(2026, 6, 20)
    while revenue.keep_due():
        pass
    written(tmp_path / "one")
    archiving.archive_month(START, months_kept=3, actor="test")
    assert written(tmp_path / "one", "--recheck")["files"] == []
    written(tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_clickhouse_has_the_columns_that_are_exported() -> None:
    told = (SQL / "tables.sql").read_text()
    for table in tables.TABLES:
        _, _, rest = told.partition(f"CREATE TABLE IF NOT EXISTS {table.name}_loaded (\n")
        lines = rest.partition(") ENGINE")[0].splitlines()
        named = [line.split()[0] for line in lines if " ALIAS " not in line]
        assert named == [*table.columns, "serial"]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the manifest, which also says when it was looked at."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in {export.MANIFEST, ".lock"}
    }
