"""The catalog's pages: prices set and imported, deployments tested, groups granted, keys kept."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from saas_litellm.base.models import AuditEntry
from saas_litellm.base.money import femto
from saas_litellm.catalog import trial
from teams import cost_map, prices, roles
from teams.models import (
    AccessGroup,
    Alias,
    Deployment,
    DeploymentHealth,
    ProviderCredential,
    Team,
    UnitPrice,
)
from teams.prices import LongContextTier, Rates, UnitPrices
from tests import factories
from tests.providers.server import ProviderServer, Reply
from tests.teams.test_roles import browser, person

pytestmark = pytest.mark.usefixtures("pages_served")
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


def price(client: Client, key: str, **form: str) -> Any:
    """Set a price as a person does: the form, what it would change, and the confirmation."""
    opened = client.get(SET, {"price_key": key})
    path = f"{SET}?price_key={key}"
    sent = {"idempotency_key": opened.context["form"].initial["idempotency_key"], **form}
    shown = client.post(path, sent)
    assert shown.status_code == 200
    if shown.context.get("changes") is None:
        return shown
    confirmed = {**sent, "idempotency_key": shown.context["fresh_key"], "confirmed": "1"}
    done = client.post(path, confirmed, follow=True)
    # A second click of the same confirmation.
    assert said(client.post(path, confirmed, follow=True)) == said(done)
    return done


# --- Prices, set by hand -----------------------------------------------------------------------


def test_a_price_is_set_to_the_last_digit_and_once_however_often_it_is_clicked(
    olga: Client,
) -> None:
    done = price(olga, "openai/own", input="2.5", output="10.000000001", cached_read="0.25")
    assert said(done) == ["openai/own costs input 2.5, output 10.000000001, cached read 0.25 USD."]
    row = UnitPrice.objects.get()
    assert row.rates["base"] == {
        "input": 2_500_000_000,
        "output": 10_000_000_001,
        "cached_read": 250_000_000,
    }
    assert (row.source, [one.after for one in entries("prices.set")]) == ("user:olga", [row.rates])


def test_a_new_price_is_shown_beside_the_old_one_before_it_counts(olga: Client) -> None:
    prices.publish(price_key=MINI, prices=factories.SHEET, source="test")
    path = f"{SET}?price_key={MINI}"
    shown = olga.post(path, {"idempotency_key": "x", "input": "12.5", "output": "30"})
    changes = {
        one.name: (str(one.old), str(one.new), str(one.percent)) for one in shown.context["changes"]
    }
    assert changes == {
        "input": ("10", "12.5", "25.0"),
        "output": ("30", "30", "0.0"),
        "cached read": ("1", "None", "None"),
    }
    assert UnitPrice.objects.count() == 1, "looking changes nothing"


def test_a_price_says_no_to_what_it_cannot_be(olga: Client) -> None:
    factories.company(model="openai/own", sheet=factories.SHEET)
    for wrong in ("-1", "nonsense", "0.0000000001", "2,50", "NaN", "99999999"):
        page = price(olga, "openai/own", input=wrong, output="1")
        assert page.context["form"].errors, wrong
    assert "Say what input" not in text_of(price(olga, "openai/own", input="1", output=""))
    past = price(olga, "openai/own", input="1", output="1", effective_from="2020-01-01T00:00")
    assert "begins now" in text_of(past)
    assert UnitPrice.objects.count() == 1


def test_a_price_from_a_later_day_waits_for_it(olga: Client, forward: Any) -> None:
    prices.publish(price_key=MINI, prices=factories.SHEET, source="test")
    price(olga, MINI, input="1", output="2", effective_from="2099-01-01T00:00")
    assert prices.current([MINI])[MINI].source == "test"
    # What is set for now is measured by now, not by what comes later.
    price(olga, MINI, input="1", output="2")
    assert prices.current([MINI])[MINI].source == "user:olga"
    assert UnitPrice.objects.count() == 3
    forward(100 * 365 * 86_400)
    assert prices.current([MINI])[MINI].effective_from.year == 2099


def test_what_is_paid_by_the_picture_is_asked_for_by_the_picture(olga: Client) -> None:
    made = factories.company(model="openai/pictures", sheet=factories.SHEET)
    Alias.objects.update(kind="image")
    page = text_of(olga.get(SET, {"price_key": "openai/pictures"}))
    assert "USD per image" in page
    assert 'name="input"' not in page
    price(olga, "openai/pictures", per_unit="0.04")
    sheet = UnitPrices.from_json(prices.current(["openai/pictures"])["openai/pictures"].rates)
    assert sheet == UnitPrices(base=Rates(input=0, output=0), per_unit=femto("0.04"))
    assert "0.04" in text_of(olga.get(f"{BASE}/alias/{made.alias.pk}/change/"))


def test_long_prompts_keep_their_prices_unless_told_otherwise(olga: Client) -> None:
    tier = LongContextTier(above_tokens=200_000, rates=Rates(input=2, output=2))
    prices.publish(
        price_key=MINI,
        prices=UnitPrices(base=Rates(input=1, output=1), tiers=(tier,)),
        source="test",
    )
    price(olga, MINI, input="1", output="1", keep_tiers="on")
    assert prices.current([MINI])[MINI].rates["tiers"][0]["above_tokens"] == 200_000
    price(olga, MINI, input="1", output="1")
    assert prices.current([MINI])[MINI].rates["tiers"] == []


def test_the_list_says_what_each_version_changed_and_which_one_counts(olga: Client) -> None:
    for cost in ("0.00001", "0.000015"):
        sheet = UnitPrices(base=Rates(input=femto(cost), output=femto("0.00003")))
        prices.publish(price_key=MINI, prices=sheet, source="test")
    page = text_of(olga.get(f"{BASE}/unitprice/", {"price_key": MINI}))
    assert "input +50.0 %" in page
    assert page.count('now <a class="catalog-link"') == 1
    assert page.count('replaced <a class="catalog-link"') == 1


# --- Prices, imported --------------------------------------------------------------------------


def listed(**models: str) -> SimpleUploadedFile:
    """A price map of one's own, USD per token."""
    entries_ = {
        f"openai/{name}": {
            "mode": "chat",
            "litellm_provider": "openai",
            "input_cost_per_token": "COST",
            "output_cost_per_token": 0.00003,
        }
        for name in models
    }
    text = json.dumps(entries_)
    for cost in models.values():
        text = text.replace('"COST"', cost, 1)
    return SimpleUploadedFile("map.json", text.encode())


def compared(client: Client, file: SimpleUploadedFile) -> str:
    answer = client.post(IMPORT, {"upload": "1", "file": file})
    assert answer.status_code == 302, answer.context["upload"].errors
    return str(answer["Location"])


def publish(client: Client, path: str, *, key: str = "1", chosen: list[str] | None = None) -> Any:
    page = client.get(path)
    rows = page.context["rows"]
    digests = [row["line"].digest for row in rows if row["line"].new] if chosen is None else chosen
    return client.post(path, {"apply": "1", "idempotency_key": key, "chosen": digests}, follow=True)


def test_a_map_is_compared_with_the_models_in_use_to_the_last_digit(olga: Client) -> None:
    alice = factories.company(model="openai/dear")
    for model in ("openai/same", "openai/fresh", "openai/gone"):
        sheet = None if model == "openai/fresh" else factories.SHEET
        factories.serve(alice.team, alias=model.split("/")[1], model=model, sheet=sheet)
    flat = UnitPrices(base=Rates(input=femto("0.00001"), output=femto("0.00003")))
    prices.publish(price_key="openai/same", prices=flat, source="test")
    path = compared(olga, listed(dear="0.0000125", same="0.00001", fresh="1e-6", unused="0.000001"))
    page = olga.get(path)
    rows = {row["line"].price_key: row for row in page.context["rows"]}
    kinds = {key: row["line"].kind.value for key, row in rows.items()}
    assert kinds == {"openai/fresh": "new", "openai/dear": "changed", "openai/gone": "absent"}
    assert page.context["unchanged"] == 1
    changed = [
        (c.name, str(c.old), str(c.new), str(c.percent)) for c in rows["openai/dear"]["rates"]
    ]
    assert changed == [("input", "10", "12.5", "25.0"), ("cached read", "1", "None", "None")]
    everything = olga.get(f"{path}&show=all")
    assert "openai/unused" in {row["line"].price_key for row in everything.context["rows"]}


def test_only_the_chosen_rows_are_published_and_a_second_click_publishes_nothing(
    olga: Client,
) -> None:
    alice = factories.company(model="openai/one", sheet=factories.SHEET)
    factories.serve(alice.team, alias="two", model="openai/two", sheet=None)
    path = compared(olga, listed(one="0.00002", two="0.00002"))
    row = next(r for r in olga.get(path).context["rows"] if r["line"].price_key == "openai/two")
    before = UnitPrice.objects.count()
    for _ in range(2):
        page = publish(olga, path, chosen=[row["line"].digest])
        assert "Prices added: 1, changed: 0." in said(page)[0]
    assert UnitPrice.objects.count() == before + 1
    assert prices.current(["openai/two"])["openai/two"].source == "file map.json"
    (made,) = entries("prices.import")
    assert (made.detail["models"], made.detail["added"]) == (["openai/two"], 1)
    # The same rows from a page loaded anew: nothing is left of them.
    publish(olga, path, key="2", chosen=[row["line"].digest])
    assert UnitPrice.objects.count() == before + 1
    assert len(entries("prices.import")) == 1


def test_a_row_that_changed_since_it_was_looked_at_is_left_alone(olga: Client) -> None:
    factories.company(model="openai/one")
    path = compared(olga, listed(one="0.00002"))
    looked = [row["line"].digest for row in olga.get(path).context["rows"]]
    price(olga, "openai/one", input="7", output="7")
    assert "1 moved since you looked" in said(publish(olga, path, chosen=looked))[0]
    assert prices.current(["openai/one"])["openai/one"].source == "user:olga"
    # And it is shown as somebody's own, not chosen before one looks.
    (row,) = olga.get(path).context["rows"]
    assert (row["is_by_hand"], row["is_chosen"]) == (True, False)


def test_litellms_own_map_prices_a_model_in_use(olga: Client) -> None:
    alice = factories.company(model=MINI, sheet=None)
    page = text_of(olga.get(f"{BASE}/alias/{alice.alias.pk}/change/"))
    assert "no unit price: calls are refused" in page
    assert f"{SET}?price_key={MINI.replace('/', '/')}" in page
    publish(olga, IMPORT)
    row = prices.current([MINI])[MINI]
    assert row.source == cost_map.SOURCE
    assert (row.rates["base"]["input"], row.rates["base"]["output"]) == (150_000_000, 600_000_000)


@pytest.mark.parametrize("text", ["no json", "[]", '{"a": 1}', "[" * 100_000])
def test_a_file_that_is_no_map_is_told_so(olga: Client, text: str) -> None:
    answer = olga.post(IMPORT, {"upload": "1", "file": SimpleUploadedFile("x", text.encode())})
    assert "not a price map" in text_of(answer)
    strange = {
        "openai/x": {"mode": "chat", "litellm_provider": "openai", "input_cost_per_token": []}
    }
    path = compared(olga, SimpleUploadedFile("x", json.dumps(strange).encode()))
    assert olga.get(f"{path}&show=all").context["counts"]["refused"] == 1


def test_models_are_offered_as_one_types(olga: Client) -> None:
    found = olga.get(f"{BASE}/alias/models/", {"q": "gpt-4o mini"}).json()["models"]
    assert {"model": MINI, "price": "input 0.15, output 0.6, cached read 0.075"} in found
    assert len(found) <= 30
    # Under the names that litellm is called with, whatever its map calls their providers.
    assert "bedrock_converse" not in cost_map.providers()
    assert {"bedrock", "vertex_ai"} <= set(cost_map.providers())


# --- Credentials -------------------------------------------------------------------------------

CREDENTIAL = {"name": "main", "provider": "openai", "secret": SECRET, "api_base": "", "extra": "{}"}


def test_a_key_is_nowhere_to_be_read_after_it_was_saved_nor_after_it_was_replaced(
    olga: Client, caplog: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    add = f"{BASE}/providercredential/add/"
    pages = [olga.post(add, {**CREDENTIAL, "api_base": "ftp://x"}), olga.post(add, CREDENTIAL)]
    saved = ProviderCredential.objects.get()
    Deployment.objects.create(alias=Alias.objects.create(name="a"), model=MINI, credential=saved)
    change = f"{BASE}/providercredential/{saved.pk}/change/"
    pages.append(olga.post(change, {**CREDENTIAL, "secret": "sk-another-0815"}))
    seen = ["providercredential/", "alias/1/change/", f"providercredential/{saved.pk}/change/"]
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
    teams = olga.get(f"{BASE}/team/?access_groups__aliases=1&access_groups__is_active__exact=1")
    assert "alice" in text_of(teams)


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
