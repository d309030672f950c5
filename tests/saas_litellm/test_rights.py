"""Every page, action and object page of the admin, and the management API, by role."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import RequestFactory

from billing import budgets, ledger, plans, recurring, thresholds
from billing.models import Entry, PricePlan
from jobs import allowance, refunds, shadows
from jobs.models import Job, Reconciliation
from payments import checkout
from payments.models import AutoTopUp, StripeEvent
from saas_litellm.base import alarms, clock, outbox
from saas_litellm.base.money import NANO
from saas_litellm.base.refusals import Refusal
from teams import credentials, members, operators, roles
from teams.models import User
from tests import factories, paying, work
from tests.conftest import Live
from tests.teams.test_roles import browser, person
from webhooks import deliveries, endpoints

pytestmark = pytest.mark.any_database
NOBODY: frozenset[str] = frozenset()
OWNERS = frozenset({"owner"})
ADMINS = OWNERS | {"admin"}
MONEY = ADMINS | {"finance"}
HELP = ADMINS | {"support"}
REFUNDS = MONEY | {"support"}
ALL = frozenset(roles.ROLES)

# Who looks at a model's pages, who adds, changes and deletes. A page that is not in here yet is a
# decision to be made.
PAGES: dict[str, tuple[frozenset[str], frozenset[str], frozenset[str], frozenset[str]]] = {
    "auth.group": (OWNERS, OWNERS, OWNERS, OWNERS),
    "base.alarm": (ALL, NOBODY, NOBODY, NOBODY),
    "base.auditentry": (ALL, NOBODY, NOBODY, NOBODY),
    "base.event": (ALL, NOBODY, NOBODY, NOBODY),
    "base.ledgercheck": (ALL, NOBODY, NOBODY, NOBODY),
    "billing.account": (ALL, NOBODY, NOBODY, NOBODY),
    "billing.balancethreshold": (ALL, MONEY, NOBODY, NOBODY),
    "billing.budget": (ALL, MONEY, MONEY, NOBODY),
    "billing.draw": (ALL, NOBODY, NOBODY, NOBODY),
    "billing.entry": (ALL, NOBODY, NOBODY, NOBODY),
    "billing.grant": (ALL, NOBODY, NOBODY, NOBODY),
    "billing.hold": (ALL, NOBODY, NOBODY, NOBODY),
    "billing.loss": (ALL, NOBODY, NOBODY, NOBODY),
    "billing.monthlyminimum": (ALL, NOBODY, NOBODY, NOBODY),
    "billing.planassignment": (ALL, MONEY, NOBODY, NOBODY),
    "billing.planversion": (ALL, NOBODY, NOBODY, NOBODY),
    "billing.priceplan": (ALL, MONEY, MONEY, NOBODY),
    "billing.recurringgrant": (ALL, MONEY, NOBODY, NOBODY),
    "jobs.call": (ALL, NOBODY, NOBODY, NOBODY),
    "jobs.costline": (ALL, NOBODY, NOBODY, NOBODY),
    "jobs.job": (ALL, NOBODY, NOBODY, NOBODY),
    "jobs.profitday": (ALL, NOBODY, NOBODY, NOBODY),
    "jobs.quote": (ALL, NOBODY, NOBODY, NOBODY),
    "jobs.reconciliation": (ALL, NOBODY, NOBODY, NOBODY),
    "jobs.reconciliationline": (ALL, NOBODY, NOBODY, NOBODY),
    "jobs.rollupday": (ALL, NOBODY, NOBODY, NOBODY),
    "jobs.shadow": (ALL, MONEY, NOBODY, NOBODY),
    "payments.autotopup": (ALL, NOBODY, NOBODY, NOBODY),
    "payments.package": (ALL, MONEY, MONEY, NOBODY),
    "payments.payment": (ALL, NOBODY, NOBODY, NOBODY),
    "payments.stripeevent": (ALL, NOBODY, NOBODY, NOBODY),
    "teams.accessgroup": (ALL, ADMINS, ADMINS, ADMINS),
    "teams.alias": (ALL, ADMINS, ADMINS, ADMINS),
    "teams.apikey": (ALL, NOBODY, NOBODY, NOBODY),
    "teams.deploymenthealth": (ALL, NOBODY, NOBODY, NOBODY),
    "teams.invitation": (ALL, NOBODY, NOBODY, NOBODY),
    "teams.membership": (ALL, NOBODY, ADMINS, ADMINS),
    "teams.operatorkey": (ADMINS, NOBODY, NOBODY, NOBODY),
    "teams.organization": (ALL, ADMINS, ADMINS, NOBODY),
    "teams.providercredential": (ADMINS, ADMINS, ADMINS, ADMINS),
    "teams.team": (ALL, ADMINS, ADMINS, NOBODY),
    "teams.unitprice": (ALL, NOBODY, NOBODY, NOBODY),
    "teams.user": (OWNERS, OWNERS, OWNERS, OWNERS),
    "webhooks.delivery": (ALL, NOBODY, NOBODY, NOBODY),
    "webhooks.endpoint": (ALL, NOBODY, NOBODY, NOBODY),
}
ACTIONS: dict[tuple[str, str], frozenset[str]] = {
    ("auth.group", "delete_selected"): OWNERS,
    ("base.auditentry", "export"): ALL,
    ("billing.priceplan", "delete_selected"): NOBODY,
    ("billing.recurringgrant", "stop"): MONEY,
    ("jobs.shadow", "stop"): MONEY,
    ("payments.autotopup", "switch_off"): MONEY,
    ("payments.payment", "look_again"): MONEY,
    ("payments.stripeevent", "apply_again"): MONEY,
    ("teams.accessgroup", "delete_selected"): ADMINS,
    ("teams.alias", "delete_selected"): ADMINS,
    ("teams.apikey", "revoke"): ADMINS,
    ("teams.deploymenthealth", "close"): ADMINS,
    ("teams.invitation", "revoke"): ADMINS,
    ("teams.membership", "delete_selected"): ADMINS,
    ("teams.operatorkey", "revoke"): OWNERS,
    ("teams.organization", "resume"): ADMINS,
    ("teams.organization", "suspend"): ADMINS,
    ("teams.providercredential", "delete_selected"): ADMINS,
    ("teams.team", "own_wallet"): MONEY,
    ("teams.team", "pause"): HELP,
    ("teams.team", "resume"): HELP,
    ("teams.team", "share_wallet"): MONEY,
    ("teams.team", "suspend"): ADMINS,
    ("teams.user", "delete_selected"): OWNERS,
    ("teams.user", "reset_second_factor"): OWNERS,
    ("webhooks.delivery", "resend"): HELP,
}
# The pages of one object (or of a list) beside Django's own, by the model's admin and attribute.
OBJECT_PAGES: dict[tuple[str, str], frozenset[str]] = {
    ("billing.account", "adjust"): MONEY,
    ("billing.account", "credit_limit_page"): MONEY,
    ("billing.account", "top_up"): MONEY,
    ("billing.grant", "expire_now"): MONEY,
    ("jobs.call", "payload"): ADMINS,
    ("jobs.call", "refund"): REFUNDS,
    ("jobs.job", "cancel"): MONEY,
    ("jobs.job", "refund"): REFUNDS,
    ("jobs.job", "waive"): MONEY,
    ("jobs.reconciliation", "upload"): MONEY,
    ("teams.apikey", "revoke_page"): ADMINS,
    ("teams.apikey", "rotate_page"): ADMINS,
    ("teams.organization", "adjust"): MONEY,
    ("teams.organization", "assign_plan"): MONEY,
    ("teams.organization", "credit_limit"): MONEY,
    ("teams.organization", "resume_page"): ADMINS,
    ("teams.organization", "statement"): ALL,
    ("teams.organization", "suspend_page"): ADMINS,
    ("teams.organization", "top_up"): MONEY,
    ("teams.team", "adjust"): MONEY,
    ("teams.team", "auto_top_up"): MONEY,
    ("teams.team", "card_link"): MONEY,
    ("teams.team", "payment_link"): MONEY,
    ("teams.team", "assign_plan"): MONEY,
    ("teams.team", "credit_limit"): MONEY,
    ("teams.team", "default_alias_page"): ADMINS,
    ("teams.team", "issue_key"): ADMINS,
    ("teams.team", "pause_page"): HELP,
    ("teams.team", "invite"): ADMINS,
    ("teams.team", "privacy"): ADMINS,
    ("teams.team", "resume_page"): HELP,
    ("teams.team", "statement"): ALL,
    ("teams.team", "suspend_page"): ADMINS,
    ("teams.team", "top_up"): MONEY,
    ("teams.team", "wallet_page"): MONEY,
    ("teams.unitprice", "import_prices"): ADMINS,
    ("teams.unitprice", "set_price"): ADMINS,
    ("webhooks.delivery", "resend_page"): HELP,
    ("webhooks.endpoint", "change_page"): ADMINS,
    ("webhooks.endpoint", "create_page"): ADMINS,
    ("webhooks.endpoint", "delete_page"): ADMINS,
    ("webhooks.endpoint", "replay_page"): HELP,
    ("webhooks.endpoint", "rotate_page"): ADMINS,
    ("webhooks.endpoint", "test_page"): HELP,
}
REPORTS = {
    "live/": ALL,
    "jobs/profitday/deferred-revenue/": ALL,
    "jobs/profitday/cost-drift/": ALL,
    "teams/alias/models/": ALL,
    "prices/plans/": ALL,
    "prices/plans/gold/": ALL,
    "prices/plans/gold/teams/": ALL,
    "prices/plans/gold/new/": MONEY,
    "prices/plans/gold/assign/": MONEY,
    "prices/plans/gold/1/edit/": MONEY,
    "prices/plans/gold/1/activate/": MONEY,
    "prices/plans/gold/1/shadow/": MONEY,
    "prices/what-if/": ALL,
    "prices/shadows/": ALL,
}
_ACTION_LISTS = ("actions_detail", "actions_row", "actions_list", "actions_submit_line")


def label(model: Any) -> str:
    return f"{model._meta.app_label}.{model._meta.model_name}"


@pytest.fixture
def alice(db: None, pages_served: None, settings: Any) -> factories.Company:
    """A platform with a row of nearly everything."""
    settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRET = "sk_test_x", "whsec_x"
    alice = factories.company()
    job = work.job(alice.team)
    work.call(job, prompt=1000)
    work.close(job)
    account, team = ledger.account_of(alice.team), alice.team
    budgets.create(
        owner=team, period="day", limit_nanocredits=99 * NANO, is_hard=True, actor="test"
    )
    recurring.create(
        account=account, kind="subscription", period="daily", amount_nanocredits=1, actor="test"
    )
    thresholds.replace(account=account, nanocredits=[NANO], actor="test")
    shadows.start(version=plans.ensure_preset("job_based"), team=team, actor="test")
    plans.draft(plan=PricePlan.objects.create(slug="gold", name="Gold"))
    credentials.save(name="main", api_key="sk-x", actor="test")
    alarms.sound(kind="test", subject="x")
    Reconciliation.objects.create(
        source="ours",
        filename="x.csv",
        digest="0" * 64,
        first_day=clock.now().date(),
        last_day=clock.now().date(),
        created_at=clock.now(),
        actor="test",
        threshold_basis_points=100,
    )
    Group.objects.create(name="of our own")
    endpoints.create(team=team, url="https://app.example.com/", types=["*"], actor="test")
    outbox.forget()
    work.job(team)
    deliveries.fan_out()
    operators.issue(user=person("keyed", "viewer"), actor="test")
    for email in ("mia@example.com", "bob@example.com"):
        link = members.invite(team=team, email=email, role="member", actor="test")[1]
    members.accept_anew(token=link.split("/")[-2], password="x" * 9 + "y" * 9)
    payment = checkout.begin(
        team=team, account=account, package=paying.package(), actor="test", kind="link"
    )
    AutoTopUp.objects.create(account=account, team=team, package=payment.package)
    StripeEvent.objects.create(
        event_id="evt_1", type="x", created_at=clock.now(), received_at=clock.now()
    )
    return alice


def test_every_page_and_action_is_in_the_tables(db: None) -> None:
    registry = {label(model): page for model, page in admin.site._registry.items()}
    assert set(registry) - set(PAGES) == set()
    request = RequestFactory().get("/")
    request.user = User.objects.create_superuser("root", password="x" * 20)
    actions, pages = set(), set()
    for name, page in registry.items():
        # Even of actions that nobody gets: what is not offered may still be asked for.
        actions |= {(name, action[1]) for action in page._get_base_actions()}
        for kind in _ACTION_LISTS:
            pages |= {(name, action.split(".")[-1]) for action in getattr(page, kind, ())}
    actions -= {pair for pair in actions if pair[1] == "delete_selected" and pair not in ACTIONS}
    assert actions == set(ACTIONS)
    assert pages == set(OBJECT_PAGES)


@pytest.mark.parametrize("role", roles.ROLES)
def test_pages_by_role(alice: factories.Company, role: str) -> None:
    client = browser(person("pat", role))
    for model in admin.site._registry:
        base = f"/admin/{label(model).replace('.', '/')}/"
        looks, adds, changes, deletes = PAGES[label(model)]
        expected = 200 if role in looks else 403
        assert client.get(base).status_code == expected, base
        assert client.get(f"{base}add/").status_code == (200 if role in adds else 403), base
        # The newest: a group and a person of no wider rights than whoever may change them.
        row = model._default_manager.order_by("pk").last()
        if row is None or label(model) == "jobs.reconciliation":
            continue
        page = client.get(f"{base}{row.pk}/change/")
        assert page.status_code == expected, base
        if role in looks:
            may = page.context["has_change_permission"]
            assert may == (role in changes)
        if role not in changes | adds:
            assert client.post(f"{base}{row.pk}/change/", {}).status_code == 403, base
        assert client.get(f"{base}{row.pk}/delete/").status_code == (
            200 if role in deletes else 403
        ), base


@pytest.mark.parametrize("role", roles.ROLES)
def test_actions_by_role(alice: factories.Company, role: str) -> None:
    request = RequestFactory().get("/")
    request.user = person("pat", role)
    for model, page in admin.site._registry.items():
        offered = {name for name in page.get_actions(request) if page.has_view_permission(request)}
        expected = {
            name for (of, name), who in ACTIONS.items() if of == label(model) and role in who
        }
        assert offered == expected, model


@pytest.mark.parametrize("role", roles.ROLES)
def test_object_pages_and_reports_by_role(alice: factories.Company, role: str) -> None:
    client = browser(person("pat", role))
    rows = {
        label(model): model._default_manager.order_by("pk").last() for model in admin.site._registry
    }
    for model, page in admin.site._registry.items():
        for kind in _ACTION_LISTS:
            for name in getattr(page, kind, ()):
                path = page.get_unfold_action(name).path
                row = rows[label(model)]
                at = f"/admin/{label(model).replace('.', '/')}/"
                at += path if kind == "actions_list" else f"{row.pk}/{path}"
                at += "/"
                expected = {200} if role in OBJECT_PAGES[label(model), name] else {302, 403}
                assert client.get(at).status_code in expected, (at, role)
                if 200 not in expected:
                    assert client.post(at, {"idempotency_key": "x"}).status_code in expected, at
    for report, who in REPORTS.items():
        assert client.get(f"/admin/{report}").status_code == (200 if role in who else 403), report


def test_a_correction_is_finances(alice: factories.Company) -> None:
    for role in roles.ROLES:
        answer = browser(person(f"the-{role}", role)).post(
            "/admin/jobs/reconciliation/lines/9/correct/"
        )
        assert answer.status_code == (404 if role in MONEY else 403), role


JOB = "00000000-0000-0000-0000-000000000001"
ONCE = {"idempotency_key": "x"}
# A request each that the door lets in or not; what lies behind it is told elsewhere.
API: list[tuple[str, str, dict[str, Any] | None, frozenset[str]]] = [
    ("GET", "reports/profit", None, ALL),
    ("GET", "reports/cost-drift", None, ALL),
    ("GET", "reports/deferred-revenue", None, ALL),
    (
        "GET",
        "reports/usage-events?format=lago&start=2026-01-01&end=2026-02-01",
        None,
        ALL,
    ),
    ("GET", "plans", None, ALL),
    ("GET", "budgets", None, ALL),
    ("GET", "credits/teams/alice/balance", None, ADMINS),
    ("POST", "credits/teams/alice/add", {"credits": 1, **ONCE}, MONEY),
    ("POST", "credits/teams/alice/adjust", {"credits": 1, "reason": "x", **ONCE}, MONEY),
    ("POST", "credits/teams/alice/limit", {"credit_limit": 1}, MONEY),
    ("POST", "credits/teams/alice/wallet", {"draws_on": "team"}, MONEY),
    ("POST", "credits/teams/alice/refund", {"job_id": JOB, "reason": "x", **ONCE}, REFUNDS),
    ("POST", f"jobs/{JOB}/waive", {"reason": "x"}, MONEY),
    ("GET", "credits/teams/alice/auto-top-up", None, ALL),
    (
        "PUT",
        "credits/teams/alice/auto-top-up",
        {"package_id": 1, "threshold": 1, "monthly_ceiling_minor": 1},
        MONEY,
    ),
    ("POST", "credits/teams/alice/auto-top-up/card", {}, MONEY),
    ("POST", "plans", {"slug": "tin", "name": "Tin"}, MONEY),
    ("POST", "plans/tin/assign", {"team_id": "alice"}, MONEY),
    ("DELETE", "plans/shadows/1", None, MONEY),
    ("POST", "reconciliations/lines/1/correct", {"reason": "x"}, MONEY),
    ("GET", "webhooks", None, ALL),
    ("GET", "webhooks/1/deliveries", None, ALL),
    ("POST", "webhooks", {"url": "https://app.example.com/", "types": ["*"]}, ADMINS),
    ("PATCH", "webhooks/1", {"description": "x"}, ADMINS),
    ("POST", "webhooks/1/rotate-secret", {}, ADMINS),
    ("POST", "webhooks/1/test", {}, HELP),
    ("POST", "webhooks/1/replay", {"from_id": 1}, HELP),
    ("POST", "webhooks/1/deliveries/1/resend", {}, HELP),
    ("DELETE", "webhooks/1", None, ADMINS),
]


@pytest.mark.parametrize("role", roles.ROLES)
def test_the_api_by_role(live: Live, role: str) -> None:
    """A role of the user's, and the same role of an owner's key, open the same doors."""
    factories.company()
    own = operators.issue(user=person("pat", role), actor="test")[1]
    olga = person("olga", "owner")
    narrowed = operators.issue(user=olga, actor="test", role=role)[1]
    for key in (own, narrowed):
        with live.client({"Authorization": f"Bearer {key}"}) as client:
            for method, path, body, who in API:
                answer = client.request(method, f"/api/{path}", json=body)
                assert (answer.status_code == 403) == (role not in who), (path, answer.text)
                # Neither an accident nor a body that never came to the door.
                assert answer.status_code < 500, (path, answer.text)
                assert answer.status_code not in {400, 401, 405}, (path, answer.text)


# --- How much support may give back ------------------------------------------------------------


@pytest.fixture
def charged(alice: factories.Company, settings: Any) -> list[Job]:
    """Three jobs that were charged 0.1 credits each; support may give 0.15 back a day."""
    settings.SUPPORT_REFUND_LIMIT_CREDITS = 1
    jobs = []
    for _ in range(3):
        job = work.job(alice.team)
        work.call(job, prompt=10_000)
        jobs.append(work.close(job))
    return jobs


def test_support_refunds_up_to_a_days_limit_however_it_asks(
    charged: list[Job], monkeypatch: Any
) -> None:
    monkeypatch.setattr(allowance, "NANO", NANO * 15 // 100)
    sue = person("sue", "support")
    first, second, third = charged
    path = "/admin/jobs/job/{}/refund/"
    form = {"credits": "0.1", "reason": "x", "idempotency_key": "1"}
    for _ in range(2):  # A second click is the same refund, and counts once.
        answer = browser(sue).post(path.format(first.pk), form)
        assert answer.status_code == 302
    _, text = operators.issue(user=sue, actor="test")
    by_key = operators.authenticate(text)
    asked: dict[str, Any] = {"reason": "x", "actor": by_key.actor, "operator": by_key}
    with pytest.raises(allowance.RefundBeyondAllowance, match=r"0\.05 more credits"):
        refunds.refund_job(job=second, nanocredits=NANO // 10, idempotency_key="2", **asked)
    refunds.refund_job(job=second, nanocredits=NANO // 25, idempotency_key="3", **asked)
    named = ("refund", "--job", str(third.pk), "--reason", "x", "--by", "sue")
    with pytest.raises(CommandError, match=r"0\.01 more credits"):
        call_command(*named, "--credits", "0.02")
    call_command(*named, "--credits", "0.01")
    given = Entry.objects.filter(kind="refund").order_by("id")
    assert [entry.amount_nanocredits * 100 // NANO for entry in given] == [10, 4, 1]
    shown = browser(sue).post(path.format(third.pk), {**form, "idempotency_key": "4"})
    assert "0 more credits today" in shown.content.decode()
    # Finance is not limited, nor is whoever has the machine itself.
    more = {**form, "credits": "0.05", "idempotency_key": "5"}
    browser(person("fred", "finance")).post(path.format(third.pk), more)
    call_command("refund", "--job", str(third.pk), "--reason", "x", "--credits", "0.04")
    assert Entry.objects.filter(kind="refund").count() == 5


def test_a_new_day_is_a_new_allowance(charged: list[Job], monkeypatch: Any) -> None:
    monkeypatch.setattr(allowance, "NANO", NANO // 10)
    sue = operators.signed_in(person("sue", "support"))
    asked: dict[str, Any] = {"reason": "x", "actor": sue.actor, "operator": sue}
    asked |= {"nanocredits": NANO // 10}
    refunds.refund_job(job=charged[0], idempotency_key="1", **asked)
    with pytest.raises(allowance.RefundBeyondAllowance):
        refunds.refund_job(job=charged[1], idempotency_key="2", **asked)
    tomorrow = clock.now() + timedelta(days=1)
    monkeypatch.setattr("saas_litellm.base.clock.now", lambda: tomorrow)
    refunds.refund_job(job=charged[1], idempotency_key="2", **asked)


def test_who_may_not_refund_may_not_by_command_either(charged: list[Job]) -> None:
    person("vera", "viewer")
    with pytest.raises(CommandError, match=r"jobs\.refund_job"):
        call_command("refund", "--job", str(charged[0].pk), "--reason", "x", "--by", "vera")


@pytest.mark.django_db(transaction=True)
def test_two_refunds_at_once_stay_within_the_allowance(settings: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(allowance, "NANO", NANO * 15 // 100)
    settings.SUPPORT_REFUND_LIMIT_CREDITS = 1
    alice = factories.company()
    jobs = []
    for _ in range(2):
        job = work.job(alice.team)
        work.call(job, prompt=10_000)
        jobs.append(work.close(job))
    sue = operators.signed_in(person("sue", "support"))
    gate, said = threading.Barrier(2), []

    def refund(number: int) -> None:
        gate.wait()
        try:
            refunds.refund_job(
                job=jobs[number],
                nanocredits=NANO // 10,
                reason="x",
                actor=sue.actor,
                operator=sue,
                idempotency_key=str(number),
            )
            said.append("done")
        except Refusal as refusal:
            said.append(refusal.code)
        finally:
            connection.close()

    threads = [threading.Thread(target=refund, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == ["done", "refund_limit_exceeded"]
