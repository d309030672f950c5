"""An operator sells from the admin: prices, credits, budgets, refunds, profit."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from billing import ledger, plans
from billing.models import (
    Account,
    BalanceThreshold,
    Budget,
    Entry,
    Grant,
    PlanAssignment,
    PricePlan,
    RecurringGrant,
)
from jobs.models import Job, Shadow
from saas_litellm import verification
from saas_litellm.base.money import NANO
from teams.models import User
from tests import factories, work
from tests.saas_litellm.test_admin import owner

__all__ = ["owner"]
KEY = {"idempotency_key": "one"}


@pytest.fixture
def alice(owner: Client) -> factories.Company:
    return factories.company()


def rules(prefix: str, *rows: dict[str, Any]) -> dict[str, Any]:
    form: dict[str, Any] = {f"{prefix}-TOTAL_FORMS": len(rows), f"{prefix}-INITIAL_FORMS": 0}
    for number, row in enumerate(rows):
        form |= {f"{prefix}-{number}-{name}": value for name, value in row.items()}
    return form


def test_an_assignment_says_no_in_words(owner: Client, alice: factories.Company) -> None:
    path = "/admin/billing/planassignment/add/"
    plan = plans.ensure_preset("job_based").plan
    old = {
        "plan": plan.pk,
        "team": alice.team.pk,
        "effective_from_0": "2020-01-01",
        "effective_from_1": "00:00",
    }
    page = owner.post(path, old)
    assert "lies in the past" in page.content.decode()
    page = owner.post(path, {**old, "effective_from_0": "2999-01-01", "team": ""})
    assert "one of them" in page.content.decode()
    assert owner.post(path, {**old, "effective_from_0": "2999-01-01"}).status_code == 302
    page = owner.post(path, {**old, "effective_from_0": "2999-01-01"})
    assert PlanAssignment.objects.filter(plan=plan).count() == 1


def test_credits_are_adjusted_limited_and_expired(owner: Client, alice: factories.Company) -> None:
    account = Account.objects.get()
    path = f"/admin/billing/account/{account.pk}"
    for _ in range(2):
        owner.post(f"{path}/adjust/", {"credits": "-30", "reason": "mistake", **KEY})
    owner.post(f"{path}/credit-limit/", {"credit_limit": "25", **KEY})
    lot = Grant.objects.get()
    owner.post(f"/admin/billing/grant/{lot.pk}/expire/", {"reason": "ended", **KEY})
    account.refresh_from_db()
    assert (account.balance_nanocredits, account.credit_limit_nanocredits) == (0, 25 * NANO)
    shown = owner.get(f"{path}/change/").content.decode()
    assert "ended" in shown
    assert verification.verify() == []
    nothing = owner.post(f"/admin/billing/grant/{lot.pk}/expire/", {"reason": "x", **KEY})
    assert "Nothing of this lot can expire" in nothing.content.decode()


def test_a_top_up_has_a_kind_and_an_expiry(owner: Client, alice: factories.Company) -> None:
    path = f"/admin/billing/account/{Account.objects.get().pk}/top-up/"
    form = {"credits": "5", "paid_usd": "0", "kind": "promotional", "reason": "gift", **KEY}
    past = owner.post(path, {**form, "expires_at": "2020-01-01"})
    assert "lies in the past" in past.content.decode()
    assert owner.post(path, {**form, "expires_at": "2999-01-01"}).status_code == 302
    gift = Grant.objects.get(kind="promotional")
    assert gift.expires_at is not None
    assert gift.entry.actor == "user:owner"


def test_budgets_schedules_and_thresholds(owner: Client, alice: factories.Company) -> None:
    budget = {
        "team": alice.team.pk,
        "period": "day",
        "limit_nanocredits": "2.5",
        "is_hard": "on",
        "is_active": "on",
        **rules("periods"),
    }
    assert owner.post("/admin/billing/budget/add/", budget).status_code == 302
    made = Budget.objects.get()
    assert made.limit_nanocredits == 2_500_000_000
    change = f"/admin/billing/budget/{made.pk}/change/"
    assert owner.post(change, {**budget, "limit_nanocredits": "3"}).status_code == 302
    assert Budget.objects.get().limit_nanocredits == 3 * NANO
    wrong = owner.post("/admin/billing/budget/add/", {**budget, "limit_nanocredits": "-3"})
    assert wrong.status_code == 200
    account = Account.objects.get().pk
    schedule = {
        "account": account,
        "kind": "promotional",
        "period": "daily",
        "priority": 100,
        "amount_nanocredits": "10",
        "paid_nano_usd": "0",
        "starts_at_0": "2026-01-01",
        "starts_at_1": "00:00",
    }
    assert owner.post("/admin/billing/recurringgrant/add/", schedule).status_code == 302
    assert RecurringGrant.objects.get().amount_nanocredits == 10 * NANO
    for amount in ("5", "7"):
        form = {"account": account, "nanocredits": amount}
        assert owner.post("/admin/billing/balancethreshold/add/", form).status_code == 302
    assert BalanceThreshold.objects.count() == 2
    stop = {"action": "stop", "_selected_action": [RecurringGrant.objects.get().pk]}
    owner.post("/admin/billing/recurringgrant/", stop)
    assert not RecurringGrant.objects.get().is_active


def test_jobs_are_refunded_and_waived(owner: Client, alice: factories.Company) -> None:
    jobs = [work.job(alice.team) for _ in range(2)]
    for job in jobs:
        work.call(job, prompt=1000)
    work.close(jobs[0])
    for _ in range(2):
        page = f"/admin/jobs/job/{jobs[0].pk}/refund/"
        owner.post(page, {"credits": "0.04", "reason": "sorry", **KEY})
    owner.post(f"/admin/jobs/job/{jobs[1].pk}/waive/", {"reason": "our fault", **KEY})
    assert [work.paid(job) for job in jobs] == ["0.06", "0"]
    beyond = owner.post(page, {"credits": "1", "reason": "x", "idempotency_key": "two"})
    assert "At most 0.06 credits" in beyond.content.decode()
    assert Job.objects.get(pk=jobs[1].pk).status == "cancelled"
    assert verification.verify() == []


def test_profit_by_job_type_and_the_months_revenue(owner: Client, alice: factories.Company) -> None:
    job = work.job(alice.team, "=cmd")
    work.call(job, prompt=1000)
    work.close(job)
    page = owner.get("/admin/jobs/profitday/?group_by=job_type").content.decode()
    assert "=cmd" in page
    text = owner.get("/admin/jobs/profitday/?group_by=job_type&format=csv").content.decode()
    assert text.splitlines()[1].startswith("'=cmd,1,0,1,0,1000")
    deferred = owner.get("/admin/jobs/profitday/deferred-revenue/").content.decode()
    assert "closing usd" in deferred
    assert (
        "promotional"
        in owner.get("/admin/jobs/profitday/deferred-revenue/?format=csv").content.decode()
    )
    assert "No cost per job" in owner.get("/admin/jobs/profitday/cost-drift/").content.decode()
    assert "one of" in owner.get("/admin/jobs/profitday/?group_by=x").content.decode()


def test_a_shadow_plan_is_started_and_stopped(owner: Client, alice: factories.Company) -> None:
    version = plans.ensure_preset("job_based")
    form = {"version": version.pk, "team": "", **rules("days")}
    assert owner.post("/admin/jobs/shadow/add/", form).status_code == 302
    again = owner.post("/admin/jobs/shadow/add/", form)
    assert "shadows that team already" in again.content.decode()
    shadow = Shadow.objects.get()
    assert owner.get(f"/admin/jobs/shadow/{shadow.pk}/change/").status_code == 200
    owner.post("/admin/jobs/shadow/", {"action": "stop", "_selected_action": [shadow.pk]})
    assert Shadow.objects.get().ended_at is not None


def test_a_viewer_changes_nothing(client: Client, alice: factories.Company) -> None:
    viewer = User.objects.create_user("vera", password="x" * 20, is_staff=True)
    viewer.user_permissions.add(*Permission.objects.filter(codename__startswith="view_"))
    client.force_login(viewer)
    job = work.job(alice.team)
    work.call(job, prompt=1000)
    work.close(job)
    account = ledger.account_of(alice.team).pk
    plans.draft(plan=PricePlan.objects.create(slug="gold", name="Gold"))
    entries = Entry.objects.count()
    for path in (
        f"billing/account/{account}/top-up/",
        f"billing/account/{account}/adjust/",
        f"billing/account/{account}/credit-limit/",
        f"jobs/job/{job.pk}/refund/",
        f"jobs/job/{job.pk}/waive/",
        "prices/plans/gold/1/activate/",
        "billing/planversion/add/",
        "jobs/shadow/add/",
        "billing/budget/add/",
        "billing/recurringgrant/add/",
    ):
        assert client.post(f"/admin/{path}", KEY).status_code == 403, path
    assert client.get("/admin/jobs/profitday/").status_code == 200
    assert Entry.objects.count() == entries


def test_a_stranger_sees_no_page(client: Client, db: None) -> None:
    for path in (
        "jobs/profitday/",
        "jobs/profitday/deferred-revenue/",
        "jobs/profitday/cost-drift/",
        "billing/account/",
    ):
        assert client.get(f"/admin/{path}").status_code == 302
