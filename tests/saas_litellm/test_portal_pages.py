"""What the teams' own pages show: the ledger's numbers, no other team's, nothing of who answered."""

from __future__ import annotations

import re
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client

from billing import budgets, ledger, lots, plans
from billing.models import Account, Budget, BudgetPeriod, Entry
from jobs.models import Call, Job
from saas_litellm.base import clock, money
from saas_litellm.base.models import AuditEntry
from saas_litellm.base.money import NANO, from_nano
from saas_litellm.portal import overview, urls, wallets
from teams import keys, roles
from teams.models import ApiKey, Team, User
from tests import factories, leaks, portal, work
from tests.conftest import Live
from tests.portal import BOB, MIA, ONLY_POSTED, at, read, text
from tests.teams.test_members import invite, member
from tests.teams.test_roles import browser, person
from tests.work import Clock

pytestmark = [
    pytest.mark.any_database,
    pytest.mark.django_db,
    pytest.mark.usefixtures("pages_served", "sold_online"),
]


@pytest.fixture
def alice() -> factories.Company:
    return portal.company()


@pytest.fixture
def full(alice: factories.Company) -> Team:
    return portal.filled(alice.team)


@pytest.fixture
def mia(alice: factories.Company) -> Client:
    """A manager."""
    return portal.signed_in(MIA)


@pytest.fixture
def bob(alice: factories.Company) -> Client:
    """A member."""
    return portal.signed_in(BOB)


# --- The numbers -------------------------------------------------------------------------------


def test_the_overview_says_what_the_ledger_says(alice: factories.Company, mia: Client) -> None:
    work.start(work.job(alice.team, "running"))
    assert mia.get(at("overview")).context["are_lots_behind"]
    lots.fold_all()
    account = Account.objects.get(team=alice.team)
    page = mia.get(at("overview"))
    figures = {name: exact for name, _, exact, _ in page.context["account"]}
    assert figures == {
        "Available": str(from_nano(account.available_nanocredits)),
        "Balance": str(from_nano(account.balance_nanocredits)),
        "Held": str(from_nano(account.held_nanocredits)),
    }
    assert account.held_nanocredits > 0
    spent = 100 * NANO - account.balance_nanocredits
    assert sum(page.context["chart"].series[0].values) == from_nano(spent)
    today = clock.now().date()
    by_type = wallets.used_by_type(
        alice.team, start=today - timedelta(days=9), end=today + timedelta(days=2)
    )
    net = {
        kind: sum(job.net_nanocredits for job in Job.objects.filter(job_type=kind))
        for kind in ("letters", "reports")
    }
    assert dict(by_type) == net
    assert sum(net.values()) == spent
    assert [lot["remaining"] for lot in page.context["lots"]] == [
        f"{from_nano(account.balance_nanocredits).quantize(Decimal('0.01'))}"
    ]


def test_each_day_of_the_chart_is_that_days_ledger(monkeypatch: Any) -> None:
    time = Clock(monkeypatch)
    time.set(2026, 1, 1)
    team = factories.company().team
    manager = member(team, MIA).user
    for day, prompt in ((1, 1000), (2, 3000)):
        time.set(2026, 3, day, 23, 59, 59)
        work.call(job := work.job(team, "late"), prompt=prompt)
        work.close(job)
    time.set(2026, 3, 10)
    used = wallets.used_by_day(team, start=date(2026, 2, 20), end=date(2026, 3, 11))
    assert {day: str(from_nano(n)) for day, n in used.items() if n} == {
        date(2026, 3, 1): "0.1",
        date(2026, 3, 2): "0.3",
    }
    assert len(used) == 19
    client = browser(manager)
    assert len(client.get(at("overview") + "?days=90").context["chart"].labels) == 90
    assert client.get(at("overview") + "?days=7").context["days"] == 30


def test_small_job_types_are_one_row(alice: factories.Company, monkeypatch: Any) -> None:
    monkeypatch.setattr(overview, "TYPES", 1)
    page = browser(User.objects.get(username=MIA)).get(at("overview"))
    assert [row["name"] for row in page.context["types"]] == ["letters", "(1 more)"]


def test_a_receipt_says_what_was_bought_and_paid(alice: factories.Company, mia: Client) -> None:
    account = ledger.account_of(alice.team)
    bought = ledger.grant(
        account=account,
        amount_nanocredits=money.nano("12.5"),
        paid_nano_usd=money.nano("1.25"),
        reason="invoice 7",
        actor="test",
        idempotency_key="x",
    )
    [row, _] = mia.get(at("receipts")).context["rows"]
    assert (row["number"], row["credits"], row["paid"]) == (f"R-{bought.pk}", "12.50", "$1.25")
    page = text(mia, "receipt", bought.grant.pk)
    for word in ("invoice 7", "$1.25", "12.5 (purchase)", "alice-org"):
        assert word in page
    # What a refund put back is no receipt.
    refund = Entry.objects.get(kind="refund")
    assert wallets.paid(money.nano("0.0012")) == "$0.0012"
    assert mia.get(at("receipt", refund.pk)).status_code == 404


def test_jobs_are_filtered_by_status_type_day_and_end_user(
    alice: factories.Company, mia: Client
) -> None:
    def found(**query: str) -> list[str]:
        rows = mia.get(at("jobs"), query).context["rows"]
        return sorted(f"{row['job'].job_type} {row['job'].status}" for row in rows)

    every = ["letters completed", "letters failed", "reports in_progress"]
    assert found() == every
    assert found(status="failed") == ["letters failed"]
    assert found(job_type="reports") == ["reports in_progress"]
    assert found(user_id="u1") == every[:2]
    today = f"{clock.now().date()}"
    assert found(first=today, last=today) == every
    assert found(last=f"{clock.now().date() - timedelta(days=1)}") == []
    assert found(first="yesterday", status="x") == every
    assert mia.get(at("jobs"), {"cursor": "x"}).status_code == 422


def test_jobs_are_paged(alice: factories.Company, mia: Client, monkeypatch: Any) -> None:
    monkeypatch.setattr("saas_litellm.portal.work.ROWS", 2)
    first = mia.get(at("jobs"), {"user_id": ""})
    second = mia.get(f"{at('jobs')}?{first.context['following']}")
    seen = [row["job"].pk for page in (first, second) for row in page.context["rows"]]
    assert seen == list(Job.objects.values_list("pk", flat=True))
    assert second.context["following"] == ""


def test_a_job_shows_credits_tokens_and_aliases(alice: factories.Company, mia: Client) -> None:
    job = Job.objects.get(status="completed")
    page = mia.get(at("job", job.pk))
    assert page.context["exact"] == str(from_nano(job.net_nanocredits)) == "0.12"
    [call] = page.context["calls"]
    assert {name: call[name] for name in ("alias", "state", "input", "output", "charged")} == {
        "alias": "chat",
        "state": "done",
        "input": "1,000",
        "output": "100",
        "charged": "0.1300",
    }
    assert "0.0100 of them refunded" in page.content.decode()


def test_a_job_of_many_calls_is_paged(
    alice: factories.Company, mia: Client, monkeypatch: Any
) -> None:
    monkeypatch.setattr("saas_litellm.portal.work.ROWS", 2)
    job = work.job(alice.team)
    for _ in range(3):
        work.call(job)
    assert len(mia.get(at("job", job.pk)).context["calls"]) == 2
    assert len(mia.get(at("job", job.pk) + "?page=2").context["calls"]) == 1


@pytest.mark.parametrize("name", ["overview", "jobs", "receipts", "statement", "members"])
def test_a_page_asks_as_much_for_many_rows_as_for_few(
    alice: factories.Company, mia: Client, django_assert_max_num_queries: Any, name: str
) -> None:
    for number in range(12):
        work.call(job := work.job(alice.team, f"type-{number}"))
        work.close(job)
        factories.top_up(alice.team, NANO)
        invite(alice.team, f"n{number}@example.com")
    mia.get(at(name))
    with django_assert_max_num_queries(22):
        mia.get(at(name))


# --- Budgets -----------------------------------------------------------------------------------


def test_a_manager_sets_soft_budgets_and_sees_them_reached(
    alice: factories.Company, mia: Client, bob: Client
) -> None:
    form = {"period": "day", "limit": "0.05", "idempotency_key": "1"}
    for _ in range(2):
        assert mia.post(at("budgets"), form).status_code == 302
    made = Budget.objects.get()
    assert (made.team, made.is_hard, made.is_by_team) == (alice.team, False, True)
    assert made.limit_nanocredits == money.nano("0.05")
    assert bob.post(at("budgets"), {**form, "idempotency_key": "2"}).status_code == 403
    # Work goes on beyond it.
    work.call(work.job(alice.team), prompt=1000)
    [row] = mia.get(at("budgets")).context["rows"]
    assert (row["used"], row["is_reached"]) == ("0.1000", True)
    assert BudgetPeriod.objects.get().used_nanocredits == NANO // 10
    changed = mia.post(at("budget", made.pk), {"limit": "7"})
    assert changed.status_code == 302
    made.refresh_from_db()
    assert (made.limit_nanocredits, made.is_active, made.is_hard) == (7 * NANO, False, False)
    assert bob.post(at("budget", made.pk), {"limit": "8"}).status_code == 403
    assert AuditEntry.objects.filter(action="budget.change", actor=f"user:{MIA}").count() == 1


@pytest.mark.parametrize("wrong", ["", "0", "-1", "x", "1e30", "0.0000000001", "NaN"])
def test_a_limit_that_cannot_be_is_told_on_the_form(
    alice: factories.Company, mia: Client, wrong: str
) -> None:
    form = {"period": "day", "limit": wrong, "idempotency_key": "1", "is_hard": "on"}
    answer = mia.post(at("budgets"), form)
    assert answer.context["form"].errors
    assert not Budget.objects.exists()


@pytest.mark.parametrize("is_hard", [True, False])
def test_an_operators_budget_is_looked_at_only(
    alice: factories.Company, mia: Client, is_hard: bool
) -> None:
    theirs = budgets.create(
        owner=alice.team, period="day", limit_nanocredits=NANO, is_hard=is_hard, actor="test"
    )
    assert "the operator" in text(mia, "budgets")
    assert mia.post(at("budget", theirs.pk), {"limit": "99"}).status_code == 404
    theirs.refresh_from_db()
    assert theirs.limit_nanocredits == NANO


def test_a_budget_that_an_operator_makes_hard_is_the_teams_no_more(full: Team, mia: Client) -> None:
    own = full.budgets.get()
    budgets.change(budget=own, is_hard=True, actor="test")
    assert not own.is_by_team
    assert mia.get(at("budget", own.pk)).status_code == 404


def test_there_are_so_many_budgets_at_a_time(full: Team, mia: Client, monkeypatch: Any) -> None:
    monkeypatch.setattr("saas_litellm.portal.limits.MOST", 1)
    own = full.budgets.get()
    form = {"period": "day", "limit": "1", "idempotency_key": "1"}
    assert "stop one first" in mia.post(at("budgets"), form).content.decode()
    assert mia.post(at("budget", own.pk), {"limit": "1"}).status_code == 302
    assert mia.post(at("budgets"), form).status_code == 302
    again = mia.post(at("budget", own.pk), {"limit": "1", "is_active": "on"})
    assert again.status_code == 409
    assert full.budgets.filter(is_active=True).count() == 1


# --- Keys --------------------------------------------------------------------------------------


def test_keys_are_off_until_an_operator_switches_them_on(
    alice: factories.Company, mia: Client
) -> None:
    prefix = ApiKey.objects.get().prefix
    doors = (at("keys"), at("rotate", prefix), at("revoke", prefix))
    for door in doors:
        assert mia.post(door, {"name": "x", "idempotency_key": "1"}).status_code == 404, door
    assert at("keys") not in text(mia, "overview")
    assert keys.authenticate(alice.key)
    owner = browser(person("olga", roles.OWNER))
    change = f"/admin/teams/team/{alice.team.pk}/change/"
    form = {"name": "Alice", "default_alias": alice.alias.pk, "is_key_self_service": "on"}
    assert owner.post(change, form).status_code == 302
    assert Team.objects.get().is_key_self_service
    assert mia.get(doors[0]).status_code == 200
    assert at("keys") in text(mia, "overview")


def test_a_secret_is_shown_once_and_a_second_submit_issues_none(full: Team, mia: Client) -> None:
    form = {"name": "web", "ends": "30", "idempotency_key": "1"}
    first = mia.post(at("keys"), form)
    assert "no-store" in first["Cache-Control"]
    secret = re.findall(r"slk_[0-9a-f]{12}_[\w-]{43}", first.content.decode())[0]
    made = keys.authenticate(secret)
    assert (made.team, made.name) == (full, "web")
    assert made.expires_at is not None
    second = mia.post(at("keys"), form).content.decode()
    assert "done already" in second
    assert ApiKey.objects.count() == 2
    assert secret not in second + text(mia, "keys")
    assert AuditEntry.objects.filter(action="key.issue", actor=f"user:{MIA}").count() == 1


def test_a_key_is_rotated_and_revoked(
    full: Team, mia: Client, bob: Client, alice: factories.Company
) -> None:
    old = ApiKey.objects.get()
    form = {"overlap": "1", "idempotency_key": "1"}
    assert bob.post(at("rotate", old.prefix), form).status_code == 404
    page = mia.post(at("rotate", old.prefix), form).content.decode()
    new = re.findall(r"slk_[0-9a-f]{12}_[\w-]{43}", page)[0]
    assert keys.authenticate(alice.key)
    assert "done already" in mia.post(at("rotate", old.prefix), form).content.decode()
    refused = mia.post(at("rotate", old.prefix), {**form, "idempotency_key": "2"})
    assert (refused.status_code, ApiKey.objects.count()) == (409, 2)
    assert bob.post(at("revoke", old.prefix)).status_code == 404
    assert mia.post(at("revoke", old.prefix)).status_code == 302
    old.refresh_from_db()
    assert old.revoked_at is not None
    assert keys.authenticate(new).team == full


def test_there_are_so_many_keys_at_a_time(full: Team, mia: Client, monkeypatch: Any) -> None:
    monkeypatch.setattr("saas_litellm.portal.own_keys.MOST", 1)
    answer = mia.post(at("keys"), {"name": "x", "idempotency_key": "1"})
    assert (answer.status_code, ApiKey.objects.count()) == (409, 1)
    assert "revoke one first" in answer.content.decode()


# --- Nothing of who answered -------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_no_page_says_which_model_or_provider_or_what_it_cost(live: Live, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["127.0.0.1", "testserver"]
    company = factories.company(model=leaks.OPENAI_MODEL, sheet=leaks.SHEET, plan="")
    team = company.team
    # A price by tokens, so that none has the digits of its cost.
    by_tokens = factories.plan("by-tokens", kind="tokens", output_nanocredits_per_1k=NANO)
    plans.assign(plan=by_tokens, team=team, actor="test")
    client = browser(member(team, MIA).user)
    Team.objects.update(is_key_self_service=True)
    invite(team, "dora@example.com")
    portal.begin_payment(team)
    member(team, BOB, "member")
    budgets.create(
        owner=team, period="day", limit_nanocredits=NANO, is_hard=False, is_by_team=True, actor="t"
    )
    for status in ("completed", "failed"):
        work.call(job := work.job(team, "letters"), prompt=137, output=29)
        work.call(job, prompt=137, output=29, delivered=False)
        work.close(job, status)
    deployment = company.alias.deployments.get()
    call = Call.objects.first()
    assert call is not None
    assert call.provider_cost_nano_usd == 1_478_661
    also = [leaks.OPENAI_MODEL, f"deployment {deployment.pk}", "margin", "provider", "0.00147"]
    found: list[str] = []
    answers = read(client, Team.objects.get(pk=team.pk)) | {
        path: client.get(f"/portal/{path}") for path in ("", "account/", "nowhere/overview/")
    }
    answers |= {path: Client().get(f"/portal/{path}") for path in ("sign-in/", "password-reset/")}
    answers["statement_csv"] = portal.streamed(live, client, at("statement_csv"))
    for name, answer in answers.items():
        body = answer.content.decode()
        assert answer.status_code in {200, 302, 404}, name
        shown = leaks.Shown(what=name, status=200, headers=[], body=body)
        found += leaks.leaks([shown], also=also)
    assert found == []
    assert len(answers) == len(urls.OF_A_TEAM) + 1 - len(ONLY_POSTED) + 5
