"""The audit log: who, what, before, after, why and from where, for each write and each look."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.test import Client, RequestFactory

from billing import ledger, plans
from billing.models import Budget, PricePlan
from jobs.models import Payload
from saas_litellm.base import addresses, audit, encryption
from saas_litellm.base.admin import Audited
from saas_litellm.base.models import AuditEntry
from teams import credentials, operators, roles
from teams.models import AccessGroup, Alias, Deployment, Team, User
from tests import factories, work
from tests.conftest import Live
from tests.teams.test_roles import browser, change, person

BASE = "/admin/teams"
ALIAS: dict[str, Any] = {
    "name": "chat",
    "kind": "chat",
    "is_active": "on",
    "default_max_tokens": 10,
    "max_output_tokens": 10,
    "cache_ttl_seconds": 0,
}


@pytest.fixture
def olga(db: None, pages_served: None) -> Client:
    return browser(person("olga", roles.OWNER))


def entry(action: str) -> AuditEntry:
    return AuditEntry.objects.filter(action=action).latest("id")


def test_every_admin_that_writes_is_audited(db: None) -> None:
    request = RequestFactory().get("/")
    request.user = User.objects.create_superuser("root", password="x" * 20)
    for model, page in admin.site._registry.items():
        writes = (
            page.has_add_permission(request)
            or page.has_change_permission(request)
            or page.has_delete_permission(request)
        )
        assert isinstance(page, Audited) or not writes, model


def test_a_plain_save_leaves_what_changed_as_it_was_and_as_it_is(olga: Client) -> None:
    form = {**ALIAS, "description": "old", "deployments-TOTAL_FORMS": 0}
    form |= {"deployments-INITIAL_FORMS": 0}
    page = olga.post(f"{BASE}/alias/add/", form)
    assert page.status_code == 302, page.context["errors"]
    made = entry("alias.create")
    assert (made.actor, made.target, made.address) == ("user:olga", "alias:chat", "127.0.0.1")
    assert (made.before, made.after["description"]) == (None, "old")
    path = f"{BASE}/alias/{Alias.objects.get().pk}/change/"
    olga.post(path, {**form, "description": "new"})
    changed = entry("alias.change")
    assert (changed.before, changed.after) == ({"description": "old"}, {"description": "new"})
    count = AuditEntry.objects.count()
    olga.post(path, {**form, "description": "new"})
    assert AuditEntry.objects.count() == count, "nothing changed"
    olga.post(f"{BASE}/alias/{Alias.objects.get().pk}/delete/", {"post": "yes"})
    gone = entry("alias.delete")
    assert (gone.before["description"], gone.after) == ("new", None)


def test_rows_inside_a_page_are_audited_too(olga: Client) -> None:
    alias = Alias.objects.create(name="chat")
    row: dict[str, Any] = {"model": "demo/echo", "priority": 1, "weight": 1, "is_active": "on"}
    row |= {"timeout_seconds": 60, "image_tokens": 1}

    def save(**inner: Any) -> None:
        initial = Deployment.objects.count()
        sent = {f"deployments-0-{name}": value for name, value in {**row, **inner}.items()}
        sent |= {"deployments-TOTAL_FORMS": 1, "deployments-INITIAL_FORMS": initial}
        page = olga.post(f"{BASE}/alias/{alias.pk}/change/", {**ALIAS, **sent})
        assert page.status_code == 302, page.context["errors"]

    save(alias=alias.pk)
    made = entry("deployment.create")
    assert (made.after["model"], made.detail) == ("demo/echo", {"within": "alias:chat"})
    known = {"id": Deployment.objects.get().pk, "alias": alias.pk}
    save(**known, priority=7)
    assert (entry("deployment.change").before, entry("deployment.change").after) == (
        {"priority": 1},
        {"priority": 7},
    )
    save(**known, DELETE="on")
    assert entry("deployment.delete").before["model"] == "demo/echo"


def test_who_may_use_what_is_audited(olga: Client) -> None:
    one, two = (Alias.objects.create(name=name) for name in ("one", "two"))
    olga.post(f"{BASE}/accessgroup/add/", {"name": "g", "is_active": "on", "aliases": [one.pk]})
    group = AccessGroup.objects.get()
    olga.post(
        f"{BASE}/accessgroup/{group.pk}/change/",
        {"name": "g", "is_active": "on", "aliases": [one.pk, two.pk]},
    )
    assert entry("accessgroup.change").before == {"aliases": ["one"]}
    assert entry("accessgroup.change").after == {"aliases": ["one", "two"]}


def test_a_team_made_in_the_admin_is_recorded_once_and_its_groups_beside(olga: Client) -> None:
    organization = factories.team().organization
    group = AccessGroup.objects.create(name="g")
    form = {"organization": organization.pk, "slug": "new", "name": "New", "draws_on": "team"}
    page = olga.post(f"{BASE}/team/add/", {**form, "access_groups": [group.pk]})
    assert page.status_code == 302, page.context["errors"]
    made = AuditEntry.objects.filter(target="team:new")
    assert [one.action for one in made.order_by("id")] == ["team.create", "team.change"]
    assert made.latest("id").after == {"access_groups": ["g"]}
    team = Team.objects.get(slug="new")
    olga.post(f"{BASE}/team/{team.pk}/change/", {"name": "New", "requests_per_minute": "5"})
    assert entry("team.change").before == {"requests_per_minute": None, "access_groups": ["g"]}
    assert entry("team.change").after == {"requests_per_minute": 5, "access_groups": []}


def test_people_and_roles_are_audited_without_passwords(olga: Client) -> None:
    vera = person("vera", "viewer")
    finance = Group.objects.get(name="finance")
    change(olga, vera, groups=[finance.pk], email="vera@example.com")
    assert entry("user.change").before == {"email": "", "groups": ["viewer"]}
    assert entry("user.change").after == {"email": "vera@example.com", "groups": ["finance"]}
    secret = "a new long password"
    olga.post(f"{BASE}/user/{vera.pk}/password/", {"password1": secret, "password2": secret})
    vera.refresh_from_db()
    assert vera.check_password(secret)
    assert entry("user.password").target == "user:vera"
    form = {"username": "zoe", "usable_password": "true", "password1": secret, "password2": secret}
    assert olga.post(f"{BASE}/user/add/", form).status_code == 302
    assert entry("user.create").after["password"] == audit.HIDDEN
    stored = " ".join(map(str, AuditEntry.objects.values_list()))
    assert secret not in stored
    assert vera.password.rsplit("$", 1)[1] not in stored


def test_a_credential_is_audited_without_its_secret(olga: Client) -> None:
    form = {"name": "main", "secret": "sk-very-secret", "api_base": "", "extra": '{"a": "hush"}'}
    assert olga.post(f"{BASE}/providercredential/add/", form).status_code == 302
    made = entry("credential.create")
    assert (made.after["secret_ciphertext"], made.after["extra"]) == (audit.HIDDEN, audit.HIDDEN)
    pk = credentials.ProviderCredential.objects.get().pk
    path = f"{BASE}/providercredential/{pk}/change/"
    # Another address asks for the key again; the same one is no change.
    olga.post(path, {**form, "api_base": "https://x.example"})
    moved = entry("credential.replace")
    assert (moved.before, moved.after) == ({"api_base": ""}, {"api_base": "https://x.example"})
    olga.post(path, {**form, "secret": "sk-another", "api_base": "https://x.example"})
    assert entry("credential.replace").after["secret_ciphertext"] == audit.HIDDEN
    assert credentials.reveal(credentials.ProviderCredential.objects.get()) == "sk-another"
    stored = " ".join(map(str, AuditEntry.objects.values_list()))
    assert not any(word in stored for word in ("sk-very-secret", "hush", "sk-another"))


def test_what_the_domain_saves_says_before_and_after(olga: Client) -> None:
    team = factories.team()
    olga.post(f"{BASE}/team/", {"action": "pause", "_selected_action": [team.pk]})
    paused = entry("team.paused")
    assert (paused.before, paused.after) == ({"status": "active"}, {"status": "paused"})
    account = ledger.account_of(team)
    limit = {"credit_limit": "5", "reason": "trusted", "idempotency_key": "x"}
    olga.post(f"/admin/billing/account/{account.pk}/credit-limit/", limit)
    given = entry("credits.limit")
    assert (given.before, given.after) == ({"credit_limit": "0"}, {"credit_limit": "5"})
    assert given.reason == "trusted"
    top_up = {"credits": "7", "paid_usd": "0", "reason": "invoice 9", "idempotency_key": "y"}
    olga.post(f"/admin/billing/account/{account.pk}/top-up/", top_up)
    added = entry("credits.grant")
    assert (added.before, added.after) == ({"balance": "100"}, {"balance": "107"})
    budget = {"team": team.pk, "period": "day", "limit_nanocredits": "3", "is_active": "on"}
    rows = {"periods-TOTAL_FORMS": 0, "periods-INITIAL_FORMS": 0}
    assert olga.post("/admin/billing/budget/add/", {**budget, **rows}).status_code == 302
    path = f"/admin/billing/budget/{Budget.objects.get().pk}/change/"
    olga.post(path, {**budget, **rows, "limit_nanocredits": "4"})
    assert entry("budget.change").before == {"limit_nanocredits": 3_000_000_000}
    assert entry("budget.change").after == {"limit_nanocredits": 4_000_000_000}


def test_a_waived_job_is_audited(olga: Client) -> None:
    job = work.job(factories.company().team)
    form = {"reason": "our fault", "idempotency_key": "x"}
    olga.post(f"/admin/jobs/job/{job.pk}/waive/", form)
    assert (entry("job.waive").target, entry("job.waive").reason) == (f"job:{job.pk}", "our fault")


def test_each_look_at_a_payload_is_audited(olga: Client) -> None:
    job = work.job(factories.company().team)
    call = work.call(job)
    Payload.objects.create(
        call=call,
        ciphertext=encryption.encrypt('{"request": {}}'),
        created_at=call.created_at,
        expires_at=call.created_at.replace(year=2999),
    )
    for _ in range(2):
        assert olga.get(f"/admin/jobs/call/{call.pk}/payload/").status_code == 200
    looks = AuditEntry.objects.filter(action="payload.look", target=f"call:{call.pk}")
    assert [(one.actor, one.address) for one in looks] == [("user:olga", "127.0.0.1")] * 2


# --- Addresses -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        (0, "6.6.6.6", "10.0.0.1"),
        (1, "", "10.0.0.1"),
        (1, "6.6.6.6", "6.6.6.6"),
        (1, "1.1.1.1, 6.6.6.6", "6.6.6.6"),
        (2, "1.1.1.1, 6.6.6.6, 10.0.0.2", "6.6.6.6"),
        (2, "6.6.6.6", "10.0.0.1"),
        (1, "nonsense", "10.0.0.1"),
        (1, "6.6.6.6:443", "6.6.6.6"),
        (1, "[2001:db8::1]:443", "2001:db8::1"),
        (1, "2001:db8::1", "2001:db8::1"),
        (1, "' OR 1=1", "10.0.0.1"),
    ],
)
def test_a_client_cannot_make_up_its_address(
    settings: Any, proxies: int, forwarded: str, expected: str
) -> None:
    settings.TRUSTED_PROXY_COUNT = proxies
    headers = {"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {}
    request = RequestFactory().get("/", REMOTE_ADDR="10.0.0.1", **headers)
    assert addresses.of(request) == expected


def test_an_unknown_address_is_none(db: None) -> None:
    assert addresses.of(RequestFactory().get("/", REMOTE_ADDR="")) is None
    assert audit.record(actor="worker", action="x", target="y").address is None


def test_what_an_operator_does_over_the_api_has_its_address(live: Live) -> None:
    factories.company()
    _, text = operators.issue(user=person("olga", roles.OWNER), actor="test")
    # No proxy is trusted here, so nobody is believed.
    lie = {"X-Forwarded-For": "6.6.6.6", "Forwarded": "for=6.6.6.6"}
    with live.client({"Authorization": f"Bearer {text}", **lie}) as client:
        body = {"credit_limit": 5, "reason": "x"}
        assert client.post("/api/credits/teams/alice/limit", json=body).status_code == 200
    assert entry("credits.limit").address == "127.0.0.1"
    assert addresses.current() is None


# --- The log's own page ----------------------------------------------------------------------


def test_the_log_is_read_filtered_and_exported(olga: Client) -> None:
    audit.record(
        actor="user:eve",
        action="team.change",
        target="team:alice",
        reason="=1+1",
        before={"name": "<b>old</b>"},
        after={"name": "new", "requests_per_minute": 5},
    )
    made = audit.record(actor="user:fred", action="x", target="team:bob", before="a", after="b")
    path = "/admin/base/auditentry/"
    for query, shown in (
        ("actor__icontains=eve", 1),
        ("action__exact=x", 1),
        ("target__icontains=team:", 2),
        ("created_at_from=2000-01-01&created_at_to=2999-01-01", None),
        ("created_at_from=2999-01-01", 0),
        ("q=alice", 1),
    ):
        found = olga.get(f"{path}?{query}").context["cl"].result_count
        assert found == shown or (shown is None and found >= 2), query
    page = olga.get(f"{path}{made.pk - 1}/change/").content.decode()
    assert "&lt;b&gt;old&lt;/b&gt;" in page
    assert "requests per minute" in page
    chosen = list(
        AuditEntry.objects.filter(target__startswith="team:").values_list("pk", flat=True)
    )
    file = olga.post(path, {"action": "export", "_selected_action": chosen})
    rows = list(csv.DictReader(io.StringIO(file.content.decode())))
    assert {row["actor"] for row in rows} == {"user:eve", "user:fred"}
    assert next(row["reason"] for row in rows if row["actor"] == "user:eve") == "'=1+1"


def test_a_draft_of_a_plan_is_audited_with_its_rules(olga: Client) -> None:
    version = plans.draft(plan=PricePlan.objects.create(slug="gold", name="Gold"))
    olga.post("/admin/billing/priceplan/add/", {"slug": "tin", "name": "Tin"})
    assert entry("priceplan.create").target == "priceplan:tin"
    assert version.pk
