"""The catalog's pages: keys kept, deployments tested, aliases granted; queries bounded."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from saas_litellm.base.models import AuditEntry
from saas_litellm.catalog import trial
from teams import roles
from teams.models import (
    AccessGroup,
    Alias,
    Deployment,
    DeploymentHealth,
    ProviderCredential,
    Team,
)
from tests import factories
from tests.providers.server import ProviderServer, Reply
from tests.teams.test_roles import browser, person

pytestmark = [pytest.mark.any_database, pytest.mark.usefixtures("pages_served")]
BASE = "/admin/teams"
SET = f"{BASE}/unitprice/set-price/"
IMPORT = f"{BASE}/unitprice/import-prices/"
MINI = "openai/gpt-4o-mini"
SECRET = "sk-very-secret-4711"


@pytest.fixture
def olga(db: None) -> Client:
    return browser(person("olga", roles.OWNER))


def text_of(response: Any) -> str:
    assert response.status_code == 200, response.status_code
    return " ".join(response.content.decode().split())


def said(response: Any) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def entries(action: str) -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(action=action).order_by("id"))


# --- Credentials -------------------------------------------------------------------------------

CREDENTIAL = {"name": "main", "provider": "openai", "secret": SECRET, "api_base": "", "extra": "{}"}


def test_a_key_is_nowhere_to_be_read_after_it_was_saved_nor_after_it_was_replaced(
    olga: Client, caplog: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    add = f"{BASE}/providercredential/add/"
    pages = [olga.post(add, {**CREDENTIAL, "api_base": "ftp://x"}), olga.post(add, CREDENTIAL)]
    saved = ProviderCredential.objects.get()
    alias = Alias.objects.create(name="a")
    Deployment.objects.create(alias=alias, model=MINI, credential=saved)
    change = f"{BASE}/providercredential/{saved.pk}/change/"
    pages.append(olga.post(change, {**CREDENTIAL, "secret": "sk-another-0815"}))
    seen = [
        "providercredential/",
        f"alias/{alias.pk}/change/",
        f"providercredential/{saved.pk}/change/",
    ]
    pages += [olga.get(f"{BASE}/{path}") for path in seen]
    pages.append(olga.get("/admin/base/auditentry/"))
    shown = " ".join(page.content.decode() for page in pages) + caplog.text
    shown += " ".join(map(str, AuditEntry.objects.values_list()))
    assert SECRET not in shown
    assert "sk-another-0815" not in shown
    assert saved.secret_ciphertext not in shown
    assert [one.action for one in AuditEntry.objects.filter(target="credential:main")] != []
    assert entries("credential.replace")[0].after == {"secret_ciphertext": "[secret]"}
    assert "a → openai/gpt-4o-mini" in text_of(olga.get(change))


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("api_base", "ftp://files.example", "begins with https"),
        ("api_base", "not an address", "begins with https"),
        ("api_base", "https://me:sk-1@api.example/v1", "belongs in its own field"),
        ("api_base", "https://api.example/v1?key=1", "no ? and no #"),
        ("api_base", "http://169.254.169.254/latest", "link-local"),
        ("api_base", "http://[::ffff:169.254.169.254]/", "link-local"),
        ("extra", '{"aws_secret_access_key": "x"}', "sounds secret"),
        ("extra", '{"model": "x"}', "cannot be set here"),
        ("extra", "[1]", "one JSON object"),
        ("secret", "", "needs its key"),
    ],
)
def test_a_credential_says_no(olga: Client, field: str, value: str, why: str) -> None:
    page = olga.post(f"{BASE}/providercredential/add/", {**CREDENTIAL, field: value})
    assert why in text_of(page)
    assert not ProviderCredential.objects.exists()


def test_a_model_beside_the_platform_may_be_called(olga: Client) -> None:
    local = {**CREDENTIAL, "api_base": "http://127.0.0.1:11434/v1"}
    assert olga.post(f"{BASE}/providercredential/add/", local).status_code == 302


# --- Aliases and groups ------------------------------------------------------------------------


def test_an_alias_is_made_with_its_deployment_and_granted_on_one_form(olga: Client) -> None:
    team = factories.team()
    group = AccessGroup.objects.create(name="g")
    team.access_groups.add(group)
    inner = {"model": "demo/echo", "priority": 0, "weight": 1, "is_active": "on", "image_tokens": 1}
    form: dict[str, Any] = {f"deployments-0-{name}": value for name, value in inner.items()}
    form |= {"deployments-TOTAL_FORMS": 1, "deployments-INITIAL_FORMS": 0}
    form |= {"name": "smart", "kind": "chat", "is_active": "on", "access_groups": [group.pk]}
    form |= {"default_max_tokens": 10, "max_output_tokens": 10, "cache_ttl_seconds": 0}
    made = olga.post(f"{BASE}/alias/add/", form, follow=True)
    page = text_of(made)
    assert made.request["PATH_INFO"].endswith("/change/")
    assert "no unit price: calls are refused" in page
    assert ">1 team</a> may use it" in page
    assert [one.after for one in entries("alias.access_groups")] == [{"access_groups": ["g"]}]
    asked = {"access_groups__aliases": Alias.objects.get().pk, "access_groups__is_active__exact": 1}
    assert "alice" in text_of(olga.get(f"{BASE}/team/", asked))


def test_a_group_is_granted_and_withdrawn_on_its_own_page(olga: Client) -> None:
    alice, bob = factories.team(), factories.team(name="bob")
    group = AccessGroup.objects.create(name="g")
    bob.access_groups.add(group)
    change = f"{BASE}/accessgroup/{group.pk}/change/"
    form = {"name": "g", "is_active": "on", "grant_to": [alice.pk, bob.pk]}
    for _ in range(2):
        assert olga.post(change, form).status_code == 302
    assert set(group.teams.all()) == {alice, bob}
    (granted,) = entries("accessgroup.grant")
    assert (granted.before, granted.after) == ({"teams": 1}, {"teams": 2})
    assert granted.detail["teams"] == ["alice"]
    for _ in range(2):
        olga.post(f"{BASE}/accessgroup/{group.pk}/withdraw/", {"teams": [bob.pk]})
    assert list(group.teams.all()) == [alice]
    (withdrawn,) = entries("accessgroup.withdraw")
    assert (withdrawn.after, withdrawn.detail["teams"]) == ({"teams": 1}, ["bob"])


def test_many_rows_cost_no_more_queries_than_few(olga: Client) -> None:
    def queries(path: str) -> int:
        olga.get(path)
        with CaptureQueriesContext(connection) as seen:
            assert olga.get(path).status_code == 200
        return len(seen)

    alice = factories.company(model="openai/m0")
    group = AccessGroup.objects.get()
    paths = [
        f"{BASE}/{name}/" for name in ("alias", "accessgroup", "providercredential", "unitprice")
    ]
    paths += [f"{BASE}/alias/{alice.alias.pk}/change/", f"{BASE}/accessgroup/{group.pk}/change/"]
    paths += [IMPORT, f"{IMPORT}?show=all"]
    few = {path: queries(path) for path in paths}
    for number in range(1, 8):
        served = factories.serve(
            alice.team, alias=f"m{number}", model=f"openai/m{number}", api_base="http://x.example"
        )
        credential = ProviderCredential.objects.latest("id")
        Deployment.objects.create(
            alias=alice.alias, model=f"openai/m{number}", credential=credential
        )
        AccessGroup.objects.create(name=f"g{number}").aliases.add(served)
        factories.team(name=f"t{number}", credits_=0).access_groups.add(group)
    many = {path: queries(path) for path in paths}
    assert {path: (few[path], count) for path, count in many.items() if count > few[path] + 2} == {}


def test_a_group_of_many_teams_is_shown_a_page_at_a_time(olga: Client) -> None:
    organization = factories.team(name="zoe").organization
    group = AccessGroup.objects.create(name="g")
    Team.objects.bulk_create(
        Team(slug=f"t{n:03}", name=f"t{n}", organization=organization) for n in range(120)
    )
    group.teams.set(Team.objects.all())
    change = f"{BASE}/accessgroup/{group.pk}/change/"
    page = text_of(olga.get(change))
    assert page.count('name="teams"') == 50
    assert "t119" not in page
    assert "t119" in text_of(olga.get(change, {"team": "119"}))


# --- Testing a deployment ----------------------------------------------------------------------


def try_out(client: Client, deployment: Deployment, key: str = "1") -> Any:
    path = f"/admin/catalog/deployments/{deployment.pk}/test/"
    return client.post(path, {"idempotency_key": key})


def served(provider: ProviderServer) -> tuple[Client, Deployment]:
    factories.company(model=MINI, api_base=provider.openai_base)
    return browser(person("olga", roles.OWNER)), Deployment.objects.get()


@pytest.mark.django_db(transaction=True)
def test_a_deployment_that_answers_is_told_with_its_cost_and_asked_once(
    provider: ProviderServer,
) -> None:
    olga, deployment = served(provider)
    path = f"/admin/catalog/deployments/{deployment.pk}/test/"
    # 64 tokens in at 10 USD a million and 16 out at 30, at most.
    assert "<strong>0.00112 USD</strong> at most" in text_of(olga.get(path))
    assert provider.requests == []
    provider.default = Reply(usage={"prompt_tokens": 14, "completion_tokens": 2})
    for _ in range(2):
        page = text_of(try_out(olga, deployment))
        # 14 tokens in and 2 out.
        assert "16 tokens, 0.0002 USD" in page
    assert len(provider.requests) == 1
    (asked,), (found,) = entries("deployment.test"), entries("deployment.tested")
    assert (asked.actor, asked.detail) == ("user:olga", {"at_most_usd": "0.00112"})
    assert (found.after["is_well"], found.after["cost_usd"]) == (True, "0.0002")
    try_out(olga, deployment, key="2")
    assert len(provider.requests) == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("reply", "kind", "advice"),
    [
        (
            Reply(status=401, error="sk-upstream-secret is wrong"),
            "credentials",
            "check the credential",
        ),
        (Reply(status=404), "not_found", "check the model string"),
        (Reply(status=429), "rate_limited", "limiting this account"),
        (Reply(garbage=True), "server_error", "something else answered"),
        (Reply(first_delay=20), "timeout", "No answer in time"),
    ],
)
def test_a_deployment_that_fails_is_told_with_what_to_do(
    provider: ProviderServer, monkeypatch: Any, reply: Reply, kind: str, advice: str
) -> None:
    olga, deployment = served(provider)
    monkeypatch.setattr(trial, "TIMEOUT_SECONDS", 10 / (1 + reply.first_delay))
    provider.default = reply
    page = text_of(try_out(olga, deployment))
    assert advice in page
    assert kind in page
    assert "sk-upstream-secret" not in page
    assert DeploymentHealth.objects.get().last_failure == kind
    (found,) = entries("deployment.tested")
    assert found.after["is_well"] is False
    assert "sk-upstream-secret" not in str(found.after)


@pytest.mark.django_db(transaction=True)
def test_two_clicks_at_once_ask_the_provider_once(provider: ProviderServer) -> None:
    olga, deployment = served(provider)
    provider.default = Reply(first_delay=1)
    pages: list[str] = []

    def click() -> None:
        pages.append(text_of(try_out(olga, deployment)))

    threads = [threading.Thread(target=click) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(provider.requests) == 1
    assert sorted("running already" in page for page in pages) == [False, True]


@pytest.mark.django_db(transaction=True)
def test_what_has_no_price_is_not_tested_and_the_page_says_how_to_set_it() -> None:
    factories.company(model="demo/echo", sheet=None)
    olga, deployment = browser(person("olga", roles.OWNER)), Deployment.objects.get()
    page = text_of(try_out(olga, deployment))
    assert "no unit price" in page
    assert SET in page
    assert entries("deployment.test") == []


@pytest.mark.django_db(transaction=True)
def test_only_who_may_change_deployments_tests_them() -> None:
    factories.company(model="demo/echo")
    deployment = Deployment.objects.get()
    path = f"/admin/catalog/deployments/{deployment.pk}/test/"
    for role in roles.ROLES:
        client = browser(person(f"the-{role}", role))
        expected = 200 if role in {"owner", "admin"} else 403
        assert (client.get(path).status_code, try_out(client, deployment).status_code) == (
            expected,
            expected,
        ), role
    stranger = Client().get(path)
    assert (stranger.status_code, stranger["Location"].split("?")[0]) == (302, "/admin/login/")
    assert (
        browser(person("o", "owner")).get("/admin/catalog/deployments/999/test/").status_code == 404
    )
