"""Which wallets a team sees, what of them, and what it takes to look at them."""

from __future__ import annotations

import csv
import io
import itertools
import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from billing import ledger, plans
from billing.models import Account, Entry, Fold, Lot
from jobs.models import Job
from saas_litellm.base.money import NANO
from saas_litellm.customers import statement
from saas_litellm.portal import wallets
from teams import directory
from teams.models import Team, User
from tests import factories, portal, work
from tests.conftest import Live
from tests.portal import MIA, ONLY_POSTED, at, paths, streamed
from tests.teams.test_members import member
from tests.teams.test_roles import browser
from tests.work import Clock

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("pages_served", "sold_online")]


@pytest.fixture
def served(live: Live, settings: Any) -> Live:
    settings.ALLOWED_HOSTS = ["127.0.0.1", "testserver"]
    return live


def organization() -> tuple[Team, Team]:
    """Two teams of one organization that share its wallet; the second has worked in it."""
    one = factories.company(name="one").team
    two = directory.create_team(slug="two", organization=one.organization, actor="test")
    plans.assign(plan=plans.ensure_preset("consumption_usd").plan, team=two, actor="test")
    for team in (one, two):
        directory.set_wallet(team=team, draws_on="organization", actor="test")
    factories.serve(two, alias="chat2", model="demo/two")
    ledger.grant(
        account=ledger.account_of(two),
        amount_nanocredits=50 * NANO,
        reason="secret-invoice",
        actor="test",
        idempotency_key="shared",
    )
    work.close(_called(two, "secret-plans", "chat2"))
    return one, two


def _called(team: Team, job_type: str, alias: str = "chat") -> Job:
    work.call(job := work.job(team, job_type), prompt=1000, model=alias)
    return job


def _looks(team: Team) -> dict[str, str]:
    names = ("overview", "jobs", "receipts", "statement", "statement_csv", "budgets", "members")
    return {name: at(name, team=team.slug) for name in names}


def lines(answer: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(answer.text)))


@pytest.mark.django_db(transaction=True)
def test_the_statement_runs_from_one_balance_to_the_next(served: Live, monkeypatch: Any) -> None:
    monkeypatch.setattr(statement, "ROWS_AT_ONCE", 1)
    time = Clock(monkeypatch)
    time.set(2026, 1, 31, 23)
    team = factories.company(credits_=10).team
    mia = member(team, MIA).user
    time.set(2026, 2, 3)
    work.call(job := work.job(team, "=letters"), prompt=100_000)
    work.close(job)
    factories.top_up(team, 5 * NANO)
    time.set(2026, 3, 1)
    factories.top_up(team, 7 * NANO)
    client = browser(mia)
    shown = client.get(at("statement") + "?month=2026-02").context
    assert (shown["opening"], shown["closing"]) == ("10.00", "5.00")
    assert shown["sums"] == [("Charge", "-10.00"), ("Grant", "5.00")]
    file = streamed(served, client, at("statement_csv") + "?month=2026-02")
    assert file.headers["Content-Disposition"] == 'attachment; filename="alice-2026-02.csv"'
    balance = Decimal(10)
    for line in lines(file):
        balance += Decimal(line["credits"])
        assert Decimal(line["balance"]) == balance
    assert [line["kind"] for line in lines(file)] == ["charge", "grant"]
    # A spreadsheet would have run it.
    assert lines(file)[0]["job_type"] == "'=letters"
    empty = streamed(served, client, at("statement_csv") + "?month=2025-12")
    assert empty.text.startswith("at,line,kind,")
    assert client.get(at("statement") + "?month=2025-12").context["closing"] == "0.00"
    for wrong in ("x", "2026-13", "0001-01", "9999-12"):
        assert client.get(at("statement") + f"?month={wrong}").status_code == 422


@pytest.mark.django_db(transaction=True)
def test_a_shared_wallet_shows_a_team_its_own_lines_only(served: Live) -> None:
    one, _two = organization()
    work.close(_called(one, "letters"))
    client = browser(member(one, MIA).user)
    answers = {name: client.get(path) for name, path in _looks(one).items()}
    answers["statement_csv"] = streamed(served, client, at("statement_csv", team="one"))
    for name, answer in answers.items():
        assert answer.status_code == 200, name
        assert "secret-plans" not in answer.content.decode(), name
    assert answers["statement"].context["opening"] is None
    rows = lines(answers["statement_csv"])
    assert [line["kind"] for line in rows] == ["grant", "charge"]
    assert "balance" not in rows[0]
    assert [row["name"] for row in answers["overview"].context["types"]] == ["letters"]
    # What it had before stands in its own wallet's statement.
    own = client.get(at("statement", team="one") + "?wallet=team").context
    assert own["closing"] == "100.00"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("has_drawn", [False, True])
def test_a_wallet_of_its_own_shows_nothing_of_the_organizations(
    served: Live, *, has_drawn: bool
) -> None:
    """But what the team itself used there, when it drew on it."""
    one, two = organization()
    if has_drawn:
        work.close(_called(one, "letters"))
    directory.set_wallet(team=one, draws_on="team", actor="test")
    client = browser(member(one, MIA).user)
    asked = "?wallet=organization"
    answers = {name: client.get(path + asked) for name, path in _looks(one).items()}
    file = streamed(served, client, at("statement_csv", team="one") + asked)
    answers["statement_csv"] = file  # type: ignore[assignment]
    for name, answer in answers.items():
        assert "secret" not in answer.content.decode(), name
    page = answers["statement"].context
    seen = [wallet.key for wallet in [page["wallet"], *page["others"]]]
    assert seen == (["organization", "team"] if has_drawn else ["team"])
    if has_drawn:
        assert (page["opening"], page["closing"]) == (None, None)
        assert [line["job_type"] for line in lines(file)] == ["letters"]
        assert "balance" not in lines(file)[0]
    theirs = wallets.receipts(two).get(entry__reason="secret-invoice")
    assert client.get(at("receipt", theirs.pk, team="one")).status_code == 404
    assert answers["overview"].context["account"][1][2] == "100"


def test_who_only_paid_a_minimum_from_the_organizations_wallet_sees_that() -> None:
    one, _two = organization()
    ledger.settle(
        account_id=ledger.account_of(one).pk,
        held=None,
        bill=ledger.Bill(
            price_nanocredits=NANO,
            nanocredits_per_usd=NANO,
            plan_version_id=Job.objects.values_list("plan_version", flat=True)[0],
            reference=f"minimum:{one.pk}:2026-01",
            reason="minimum for 2026-01",
            actor="worker",
            labels={"team": one.slug},
        ),
    )
    directory.set_wallet(team=one, draws_on="team", actor="test")
    assert [wallet.key for wallet in wallets.of(one)] == ["team", "organization"]


def test_lines_whose_clocks_differ_add_up_all_the_same() -> None:
    team = factories.team(credits_=0)
    account = ledger.account_of(team)
    # In the order in which they were written; the second process's clock is ahead.
    for number, moment in enumerate(
        [
            datetime(2026, 1, 31, 23, 59, 50, tzinfo=UTC),
            datetime(2026, 2, 1, 0, 0, 5, tzinfo=UTC),
            datetime(2026, 1, 31, 23, 59, 55, tzinfo=UTC),
        ],
        start=1,
    ):
        Entry.objects.create(
            account=account,
            kind="grant",
            amount_nanocredits=NANO,
            balance_after_nanocredits=number * NANO,
            reference=f"x:{number}",
            actor="test",
            idempotency_key=f"{number}",
            created_at=moment,
        )
    own = wallets.in_use(team)
    months = [date(2026, month, 1) for month in range(1, 5)]
    found = [
        wallets.statement(own, start=start, end=end) for start, end in itertools.pairwise(months)
    ]
    assert found[0].opening == 0
    for before, after in itertools.pairwise(found):
        assert before.closing == after.opening
    for month in found:
        assert month.opening is not None
        assert month.opening + sum(amount for _, amount in month.sums) == month.closing
    assert sum(month.count for month in found) == 3
    used = wallets.used_by_day(team, start=months[0], end=months[1])
    assert list(used)[-1] == date(2026, 1, 31)


def test_a_month_is_found_by_an_index(alice: factories.Company) -> None:
    account = ledger.account_of(alice.team)
    with CaptureQueriesContext(
        connection,
    ) as asked:
        wallets.statement(wallets.in_use(alice.team), start=date(2026, 1, 1), end=date(2026, 2, 1))
        list(
            wallets.lines(wallets.in_use(alice.team), start=date(2026, 1, 1), end=date(2026, 2, 1))
        )
    assert account.entries.exists()
    explained = []
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # Of a few rows it would read all.
            cursor.execute("SET LOCAL enable_seqscan = off")
        for query in asked.captured_queries:
            cursor.execute(
                ("EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN ")
                + query["sql"]
            )
            explained.append(str(cursor.fetchall()))
    assert sum("entry_moment" in plan for plan in explained) >= 1
    assert not any("SCAN billing_entry" in plan or "Seq Scan" in plan for plan in explained)


@pytest.fixture
def alice() -> factories.Company:
    return portal.company()


def test_looking_writes_nothing_but_the_session(alice: factories.Company) -> None:
    full = portal.filled(alice.team)
    client = browser(User.objects.get(username=MIA))
    looked = {name: path for name, path in paths(full).items() if name not in ONLY_POSTED}
    looked |= {path: f"/portal/{path}" for path in ("", "account/", "sign-in/", "password-reset/")}
    with CaptureQueriesContext(connection) as asked:
        for name, path in looked.items():
            assert client.get(path).status_code in {200, 302}, name
    written = [
        query["sql"]
        for query in asked.captured_queries
        if re.match("INSERT|UPDATE|DELETE", query["sql"]) and "django_session" not in query["sql"]
    ]
    assert written == []
    assert not Fold.objects.exists()
    assert not Lot.objects.exists()


def test_a_team_that_has_no_wallet_yet_sees_an_empty_one_and_makes_none() -> None:
    team = factories.team(credits_=0)
    client = browser(member(team, MIA).user)
    for draws_on in ("team", "organization"):
        Team.objects.update(draws_on=draws_on)
        answers = {name: client.get(path) for name, path in _looks(team).items()}
        assert {answer.status_code for answer in answers.values()} == {200}
        assert "No credits are left" in answers["overview"].content.decode()
        assert "No line in this month" in answers["statement"].content.decode()
    assert not Account.objects.exists()
