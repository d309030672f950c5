"""A customer's page: the ledger's figures, each act once and by who may, a secret shown once."""

from __future__ import annotations

import csv
import io
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings as configured
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client

from billing import budgets, ledger
from billing.models import Account, Entry, PlanAssignment
from jobs import profit
from jobs.models import Job
from saas_litellm import verification
from saas_litellm.base import clock as today
from saas_litellm.base.models import AuditEntry
from saas_litellm.base.money import NANO, from_nano
from saas_litellm.customers import page, spending, statement
from teams import directory, keys, roles
from teams.models import ApiKey, Organization, Team, User
from tests import factories, work
from tests.conftest import Live
from tests.teams.test_roles import browser, person
from tests.work import Clock

pytestmark = [
    pytest.mark.any_database,
    pytest.mark.django_db,
    pytest.mark.usefixtures("pages_served"),
]
SECRET = re.compile(r"slk_[0-9a-f]{12}_[\w-]{43}")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def alice() -> Team:
    return factories.company().team


@pytest.fixture
def owner() -> Client:
    return browser(person("olga", "owner"))


def at(owner_: Team | Organization, act: str = "change") -> str:
    return f"{page.address(owner_).removesuffix('change/')}{act}/"


def shown(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, path
    return str(answer.content.decode())


def form_of(client: Client, path: str, **given: Any) -> dict[str, Any]:
    """What a person would send: the page's own hidden key, and what they typed."""
    return {"idempotency_key": client.get(path).context["form"]["idempotency_key"].value(), **given}


def everything(_permission: str) -> bool:
    return True


def spend(team: Team, *, prompt: int = 10_000, job_type: str = "letters") -> Job:
    work.call(job := work.job(team, job_type), prompt=prompt)
    return work.close(job)


# --- What the page says ------------------------------------------------------------------------


def test_the_figures_are_the_ledgers(alice: Team) -> None:
    spend(alice)
    spend(alice, prompt=3_000)
    found = page.of_team(alice, may=everything, acts={})
    account = ledger.account_of(alice)
    exact = {figure.name: figure.exact for figure in found.figures}
    assert exact["Balance"] == f"{from_nano(account.balance_nanocredits)} credits"
    charged = -sum(
        entry.amount_nanocredits for entry in Entry.objects.filter(account=account, kind="charge")
    )
    assert exact["Spent"] == f"{from_nano(charged)} credits"
    assert found.spending is not None
    assert sum(found.spending.credits.series[0].values) == from_nano(charged)
    end = today.now().date() + timedelta(days=1)
    start = end - timedelta(days=spending.DAYS)
    report = profit.report(start=start, end=end, filters=profit.Filters(team="alice")).total
    assert exact["Margin"] == f"{from_nano(report.margin_nano_usd)} USD"
    assert [row.job.job_type for row in found.jobs or ()] == ["letters", "letters"]


def test_held_credits_lots_limits_plan_and_access_are_on_the_page(
    owner: Client, alice: Team
) -> None:
    job = work.job(alice, max_nanocredits=None)
    work.start(job)
    alice.requests_per_minute = 77
    alice.save()
    budgets.create(owner=alice, period="day", limit_nanocredits=99 * NANO, actor="test")
    text = shown(owner, at(alice))
    held = from_nano(ledger.account_of(alice).held_nanocredits)
    assert f'title="{held} credits"' in text
    for said in (
        "Requests a minute: 77",
        "of 99.00 credits",
        "consumption_usd",
        "purchase",
        ">chat<",
    ):
        assert said in text, said


def test_a_new_organization_and_a_new_team_lead_to_their_next_steps(owner: Client) -> None:
    made = owner.post("/admin/teams/organization/add/", {"slug": "new-org", "name": "New"})
    organization = Organization.objects.get(slug="new-org")
    assert made["Location"] == at(organization)
    text = shown(owner, at(organization))
    add = f"/admin/teams/team/add/?organization={organization.pk}"
    assert "Add the first team" in text
    assert add in text
    assert f'value="{organization.pk}"' in shown(owner, add)
    form = {"organization": organization.pk, "slug": "new-team", "name": "N", "draws_on": "team"}
    made = owner.post("/admin/teams/team/add/", form)
    team = Team.objects.get(slug="new-team")
    assert made["Location"] == at(team)
    text = shown(owner, at(team))
    assert text.count(">to do<") == 4
    assert at(team, "top-up") in text
    assert at(team, "issue-key") in text
    factories.top_up(team, NANO)
    keys.issue(team=team, actor="test")
    assert shown(owner, at(team)).count(">to do<") == 2
    # To look at a page makes no wallet.
    assert not Account.objects.filter(organization=organization).exists()


def test_a_team_on_its_organizations_wallet_says_so(owner: Client, alice: Team) -> None:
    directory.set_wallet(team=alice, draws_on="organization", actor="test")
    text = shown(owner, at(alice))
    assert "It draws on the wallet of" in text
    assert "100.00 credits lie unused" in text
    path = at(alice, "top-up")
    form = form_of(owner, path, credits="7", paid_usd="0", reason="r")
    assert owner.post(path, form)["Location"] == at(alice)
    account = Account.objects.get(organization=alice.organization)
    assert account.balance_nanocredits == 7 * NANO


def test_an_organizations_page_has_its_teams_and_all_their_credits(
    owner: Client, alice: Team
) -> None:
    for n in range(page.TEAMS):
        directory.create_team(slug=f"a-{n:02}", organization=alice.organization, actor="test")
    spend(alice)
    found = page.of_organization(alice.organization, may=everything, acts={}, number=2)
    assert [row.team.slug for row in found.rows] == ["alice"]
    assert found.rows[0].spent == "1.00"
    total = {figure.name: figure.exact for figure in found.figures}["All wallets"]
    assert total == f"{from_nano(ledger.account_of(alice).balance_nanocredits)} credits"
    text = shown(owner, f"{at(alice.organization)}?teams=2")
    assert ">alice</a>" in text
    assert "Page 2 of 2" in text
    assert "a-24" in shown(owner, f"{at(alice.organization)}?teams=1&x=")


# --- The statement -----------------------------------------------------------------------------


def test_a_statement_runs_from_the_balance_before_to_the_balance_after(
    clock: Clock, alice: Team
) -> None:
    factories.top_up(alice, 5 * NANO)
    clock.set(2026, 3, 12)
    spend(alice)
    ledger.adjust(
        account=ledger.account_of(alice),
        amount_nanocredits=-NANO,
        reason="gone",
        actor="test",
        idempotency_key="1",
    )
    clock.set(2026, 3, 14)
    factories.top_up(alice, 2 * NANO)
    account = ledger.account_of(alice)
    period = statement.period_of(
        {"period": "custom", "from": "2026-03-12", "to": "2026-03-13"}, account
    )
    found = statement.of(account, period)
    balances = [line.entry.balance_after_nanocredits for line in reversed(found.lines)]
    amounts = [line.entry.amount_nanocredits for line in reversed(found.lines)]
    assert (found.count, found.run.opening, found.came_in) == (2, 105 * NANO, 0)
    assert balances == [found.run.opening + amounts[0], found.run.opening + sum(amounts)]
    assert found.run.closing == balances[-1] == found.run.opening + found.went_out
    whole = statement.of(account, statement.period_of({"period": "all"}, account))
    assert (whole.run.opening, whole.run.closing) == (0, account.balance_nanocredits)
    assert whole.count == Entry.objects.filter(account=account).count()


def test_a_long_statement_has_pages(owner: Client, alice: Team) -> None:
    for _ in range(statement.ROWS + 3):
        factories.top_up(alice, NANO)
    first = shown(owner, f"{at(alice, 'statement')}?period=all")
    assert "Page 1 of 2" in first
    last = shown(owner, f"{at(alice, 'statement')}?period=all&page=2")
    assert "100.00" in last
    assert last.count('<th scope="row">') == 4
    assert "Page 2 of 2" in shown(owner, f"{at(alice, 'statement')}?period=all&page=99")
    assert "No line in this time" in shown(
        owner, f"{at(alice, 'statement')}?period=custom&from=2020-01-01&to=2020-01-02"
    )


@pytest.mark.django_db(transaction=True)
def test_the_statement_as_csv_totals_to_the_balance(
    live: Live, monkeypatch: Any, settings: Any
) -> None:
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    monkeypatch.setattr(statement, "ROWS_AT_ONCE", 3)
    alice = factories.company().team
    for number in range(7):
        spend(alice, prompt=1_000 + number)
    client = browser(person("fred", "finance"))
    cookie = (
        f"{configured.SESSION_COOKIE_NAME}={client.cookies[configured.SESSION_COOKIE_NAME].value}"
    )
    with live.client({"Cookie": cookie}) as http:
        answer = http.get(f"{at(alice, 'statement')}?period=all&format=csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert "alice-" in answer.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 8
    total = Decimal(0)
    for row in rows:
        total += Decimal(row["credits"])
        assert Decimal(row["balance"]) == total
    assert total == from_nano(ledger.account_of(alice).balance_nanocredits)


# --- Acts --------------------------------------------------------------------------------------


def test_a_top_up_sent_twice_adds_once_and_leads_back(owner: Client, alice: Team) -> None:
    path = at(alice, "top-up")
    form = form_of(
        owner, path, credits="2.5", paid_usd="10", reason="invoice 7", expires_at="2031-01-31T12:00"
    )
    for _ in range(2):
        assert owner.post(path, form)["Location"] == at(alice)
    account = ledger.account_of(alice)
    assert account.balance_nanocredits == 102_500_000_000
    assert "2031-01-31" in shown(owner, at(alice))
    refused = owner.post(path, {**form, "idempotency_key": "x", "expires_at": "2020-01-01T00:00"})
    assert "lies in the past" in refused.content.decode()
    account.refresh_from_db()
    assert account.balance_nanocredits == 102_500_000_000
    assert verification.verify() == []


def test_an_adjustment_takes_what_is_there_once(owner: Client, alice: Team) -> None:
    path = at(alice, "adjust")
    form = form_of(owner, path, credits="-40", reason="a mistake")
    for _ in range(2):
        assert owner.post(path, form)["Location"] == at(alice)
    assert ledger.account_of(alice).balance_nanocredits == 60 * NANO
    assert owner.post(path, {**form, "reason": ""}).status_code == 200


def test_a_credit_limit_in_use_is_not_lowered(owner: Client, alice: Team) -> None:
    path = at(alice, "credit-limit")
    form = form_of(owner, path, credit_limit="50", reason="trusted")
    for _ in range(2):
        assert owner.post(path, form)["Location"] == at(alice)
    assert AuditEntry.objects.filter(action="credits.limit").count() == 1
    account = ledger.account_of(alice)
    assert account.credit_limit_nanocredits == 50 * NANO
    ledger.adjust(
        account=account,
        amount_nanocredits=-120 * NANO,
        reason="x",
        actor="test",
        idempotency_key="1",
    )
    refused = owner.post(path, {**form, "credit_limit": "0", "idempotency_key": "anew"})
    assert "has used more of its credit limit" in refused.content.decode()


def test_a_plan_is_assigned_once_from_a_date(owner: Client, alice: Team) -> None:
    path = at(alice, "assign-plan")
    before = PlanAssignment.objects.count()
    form = form_of(owner, path, plan="job_based", effective_from="")
    for _ in range(2):
        assert owner.post(path, form)["Location"] == at(alice)
    assert PlanAssignment.objects.count() == before + 1
    later = form_of(owner, path, plan="consumption_tokens", effective_from="2031-05-01T00:00")
    owner.post(path, later)
    text = shown(owner, at(alice))
    assert "Its own plan job_based" in text
    assert "From 2031-05-01 00:00 UTC: consumption_tokens" in text
    past = form_of(owner, path, plan="job_based", effective_from="2020-01-01T00:00")
    assert "lies in the past" in owner.post(path, past).content.decode()
    whole = at(alice.organization, "assign-plan")
    owner.post(whole, form_of(owner, whole, plan="job_based", effective_from=""))
    assert PlanAssignment.objects.filter(organization=alice.organization).count() == 1


def test_pausing_suspending_and_resuming_ask_for_a_reason_and_are_audited(
    owner: Client, alice: Team
) -> None:
    for act, status in (("pause", "paused"), ("suspend", "suspended"), ("resume", "active")):
        path = at(alice, act)
        assert owner.post(path, form_of(owner, path, reason="")).status_code == 200
        form = form_of(owner, path, reason=f"because of {act}")
        for _ in range(2):
            assert owner.post(path, form)["Location"] == at(alice)
        alice.refresh_from_db()
        assert alice.status == status
        written = AuditEntry.objects.filter(action=f"team.{status}")
        assert [entry.reason for entry in written] == [f"because of {act}"]
    for act, status in (("suspend", "suspended"), ("resume", "active")):
        path = at(alice.organization, act)
        owner.post(path, form_of(owner, path, reason="late"))
        alice.organization.refresh_from_db()
        assert alice.organization.status == status


def test_support_pauses_but_ends_no_suspension(alice: Team) -> None:
    sue = browser(person("sue", "support"))
    path = at(alice, "pause")
    assert sue.post(path, form_of(sue, path, reason="odd")).status_code == 302
    directory.set_team_status(team=alice, status=Team.Status.SUSPENDED, actor="test")
    path = at(alice, "resume")
    refused = sue.post(path, form_of(sue, path, reason="please"))
    assert "takes the right to change teams" in refused.content.decode()
    alice.refresh_from_db()
    assert alice.status == "suspended"


def test_the_default_alias_is_one_the_team_may_use(owner: Client, alice: Team) -> None:
    path = at(alice, "default-alias")
    owner.post(path, form_of(owner, path, alias=""))
    alice.refresh_from_db()
    assert alice.default_alias is None
    factories.serve(factories.team(name="bob"), alias="secret", model="demo/other")
    assert owner.post(path, form_of(owner, path, alias="secret")).status_code == 200
    owner.post(path, form_of(owner, path, alias="chat"))
    alice.refresh_from_db()
    assert str(alice.default_alias) == "chat"
    assert AuditEntry.objects.filter(action="team.default_alias").count() == 2


def test_the_wallet_is_chosen_on_the_page(owner: Client, alice: Team) -> None:
    path = at(alice, "wallet")
    assert owner.post(path, form_of(owner, path, draws_on="nobody")).status_code == 200
    assert owner.post(path, form_of(owner, path, draws_on="organization")).status_code == 302
    alice.refresh_from_db()
    assert alice.draws_on == "organization"


def test_a_job_is_refunded_from_the_page_and_leads_back_to_it(owner: Client, alice: Team) -> None:
    job = spend(alice)
    link = f"/admin/jobs/job/{job.pk}/refund/?next={at(alice)}"
    assert link in shown(owner, at(alice))
    form = form_of(owner, link, credits="", reason="sorry")
    for _ in range(2):
        assert owner.post(link, form)["Location"] == at(alice)
    assert ledger.account_of(alice).balance_nanocredits == 100 * NANO
    assert link not in shown(owner, at(alice))
    elsewhere = f"/admin/jobs/job/{job.pk}/refund/?next=https://example.com/"
    assert "example.com" not in owner.post(elsewhere, form).get("Location", "")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("act", "given", "action"),
    [
        ("top-up", {"credits": "2.5", "paid_usd": "1"}, "credits.grant"),
        ("adjust", {"credits": "-40"}, "credits.adjust"),
        ("credit-limit", {"credit_limit": "50"}, "credits.limit"),
        ("refund", {"credits": "0.5"}, "job.refund"),
    ],
)
def test_two_clicks_at_once_move_money_once(act: str, given: dict[str, Any], action: str) -> None:
    team = factories.company().team
    job = spend(team, prompt=100_000)
    path = f"/admin/jobs/job/{job.pk}/refund/" if act == "refund" else at(team, act)
    olga = person("olga", "owner")
    before = Entry.objects.count()
    form = form_of(browser(olga), path, reason="x", **given)
    gate = threading.Barrier(2)

    def send(client: Client) -> int:
        gate.wait()
        try:
            return client.post(path, form).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(send, [browser(olga), browser(olga)])) == [302, 302]
    assert Entry.objects.count() == before + (act != "credit-limit")
    assert AuditEntry.objects.filter(actor="user:olga", action=action).count() == 1
    assert verification.verify() == []


# --- Keys --------------------------------------------------------------------------------------


def test_a_key_is_issued_once_and_its_secret_is_on_one_answer_only(
    owner: Client, alice: Team
) -> None:
    path = at(alice, "issue-key")
    form = form_of(
        owner, path, name="production", expires_at="2031-01-01T00:00", requests_per_minute="9"
    )
    before = ApiKey.objects.count()
    answer = owner.post(path, form)
    [secret] = set(SECRET.findall(answer.content.decode()))
    assert "no-store" in answer["Cache-Control"]
    key = keys.authenticate(secret)
    assert (key.team, key.name, key.requests_per_minute) == (alice, "production", 9)
    again = owner.post(path, form, follow=True).content.decode()
    assert "has made the key" in again
    assert ApiKey.objects.count() == before + 1
    kept = f"{dict(owner.session.items())} {owner.cookies} {again} {shown(owner, at(alice))}"
    kept += shown(owner, "/admin/teams/apikey/") + shown(owner, "/admin/base/auditentry/")
    assert secret not in kept
    assert key.prefix in kept


@pytest.mark.django_db(transaction=True)
def test_one_form_sent_twice_at_once_makes_one_key() -> None:
    alice = factories.company().team
    olga = person("olga", "owner")
    path = at(alice, "issue-key")
    form = form_of(browser(olga), path, name="production")
    clients, gate = [browser(olga), browser(olga)], threading.Barrier(2)

    def send(client: Client) -> str:
        gate.wait()
        try:
            return str(client.post(path, form, follow=True).content.decode())
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(send, clients))
    assert sum(bool(SECRET.search(text)) for text in answers) == 1
    assert ApiKey.objects.filter(team=alice, name="production").count() == 1


def test_a_key_that_would_have_ended_already_is_not_issued(owner: Client, alice: Team) -> None:
    path = at(alice, "issue-key")
    form = form_of(owner, path, name="", expires_at="2020-01-01T00:00")
    assert "lies in the past" in owner.post(path, form).content.decode()
    # The refusal took the form's key back: mended, the same form issues.
    assert SECRET.search(owner.post(path, {**form, "expires_at": ""}).content.decode())


def test_a_key_is_rotated_once_with_an_overlap(owner: Client, alice: Team) -> None:
    old = ApiKey.objects.get(team=alice)
    path = f"/admin/teams/apikey/{old.pk}/rotate/"
    assert path in shown(owner, at(alice))
    form = form_of(owner, path, overlap_hours="2")
    [secret] = set(SECRET.findall(owner.post(path, form).content.decode()))
    assert keys.authenticate(secret).replaces == old
    assert owner.post(path, form)["Location"] == at(alice)
    refused = owner.post(path, form_of(owner, path, overlap_hours="2"))
    assert "already replaced" in refused.content.decode()
    assert ApiKey.objects.filter(team=alice).count() == 2
    assert owner.post(path, form_of(owner, path, overlap_hours="-1")).status_code == 200


def test_a_key_is_revoked_with_a_reason(owner: Client, alice: Team) -> None:
    key = ApiKey.objects.get(team=alice)
    path = f"/admin/teams/apikey/{key.pk}/revoke/"
    assert owner.post(path, form_of(owner, path, reason="")).status_code == 200
    for _ in range(2):
        form = form_of(owner, path, reason="leaked")
        assert owner.post(path, form)["Location"] == at(alice)
    assert AuditEntry.objects.get(action="key.revoke").reason == "leaked"
    assert path not in shown(owner, at(alice))


# --- Who, and how much it costs ----------------------------------------------------------------

ACTS = {
    "top-up": {"owner", "admin", "finance"},
    "adjust": {"owner", "admin", "finance"},
    "credit-limit": {"owner", "admin", "finance"},
    "assign-plan": {"owner", "admin", "finance"},
    "wallet": {"owner", "admin", "finance"},
    "issue-key": {"owner", "admin"},
    "default-alias": {"owner", "admin"},
    "suspend": {"owner", "admin"},
    "pause": {"owner", "admin", "support"},
    "statement": set(roles.ROLES),
}


@pytest.mark.parametrize("role", roles.ROLES)
def test_each_role_is_offered_what_it_may_do(alice: Team, role: str) -> None:
    job = spend(alice)
    key = ApiKey.objects.get(team=alice)
    text = shown(browser(person("pat", role)), at(alice))
    assert {act for act in ACTS if at(alice, act) in text} == {
        act for act, who in ACTS.items() if role in who
    }
    assert (f"/admin/jobs/job/{job.pk}/refund/" in text) == (role != "viewer")
    assert (f"/admin/teams/apikey/{key.pk}/revoke/" in text) == (role in {"owner", "admin"})
    assert "Margin" in text


def test_who_may_see_teams_alone_sees_no_money(alice: Team) -> None:
    user = User.objects.create_user("tess", password="x" * 20, is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_team"))
    client = browser(user)
    spend(alice)
    text = shown(client, at(alice))
    assert "alice" in text
    for word in ("Balance", "Margin", "Lots", "Recent jobs", "Issue a key", "Spent"):
        assert word not in re.sub(r"<[^>]*>", " ", text.split("content-main")[1]), word
    assert "100.00" not in shown(client, "/admin/teams/team/")


def test_strangers_and_unknown_customers(alice: Team, owner: Client) -> None:
    for act in ("change", "statement", "top-up", "issue-key"):
        assert Client().get(at(alice, act)).status_code == 302
    for act in ("statement", "top-up", "issue-key", "pause"):
        assert owner.get(f"/admin/teams/team/999/{act}/").status_code == 404
    assert owner.get("/admin/teams/team/999/change/").status_code == 302


def test_the_lists_find_teams_and_ask_as_much_for_many_as_for_few(
    owner: Client, django_assert_max_num_queries: Any
) -> None:
    for n in range(12):
        factories.company(name=f"team-{n}", alias=f"alias-{n}")
    directory.set_wallet(team=Team.objects.get(slug="team-3"), draws_on="organization", actor="t")
    with django_assert_max_num_queries(16):
        text = shown(owner, "/admin/teams/team/")
    assert "100.00" in text
    assert "0.00 (shared)" in text
    with django_assert_max_num_queries(16):
        shown(owner, "/admin/teams/organization/")
    for query in ("team-7", "team-7-org"):
        found = shown(owner, f"/admin/teams/team/?q={query}")
        assert ">team-7<" in found
        assert ">team-8<" not in found
    chosen = Team.objects.get(slug="team-7").organization_id
    assert ">team-8<" not in shown(owner, f"/admin/teams/team/?organization__id__exact={chosen}")


def test_the_pages_ask_as_much_for_much_work_as_for_little(
    owner: Client, alice: Team, django_assert_max_num_queries: Any
) -> None:
    for n in range(10):
        spend(alice, job_type=f"type-{n}")
        keys.issue(team=alice, actor="test")
        factories.top_up(alice, NANO)
        other = directory.create_team(slug=f"t-{n}", organization=alice.organization, actor="test")
        factories.top_up(other, NANO)
        budgets.create(owner=alice, period="day", limit_nanocredits=99 * NANO, actor="test")
    shown(owner, at(alice))  # Folds the lots.
    with django_assert_max_num_queries(60):
        shown(owner, at(alice))
    with django_assert_max_num_queries(50):
        shown(owner, at(alice.organization))
    with django_assert_max_num_queries(16):
        shown(owner, at(alice, "statement"))
