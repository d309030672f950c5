"""The catalog in a real browser: a founder's way from a key to a model that a team may use."""

from __future__ import annotations

import os
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from saas_litellm.base.models import AuditEntry
from teams import catalog, credentials, prices
from teams.models import ProviderCredential, UnitPrice
from tests import browser, factories
from tests.conftest import Live
from tests.providers.server import ProviderServer
from tests.saas_litellm.test_browser import cookie_of

pytestmark = [
    pytest.mark.any_database,
    pytest.mark.skipif(
        browser.binary() is None and os.environ.get("CI") != "true",
        reason="NOT RUN: no Chromium here; install it, or name it with CHROMIUM",
    ),
]
MINI = "openai/gpt-4o-mini"
SECRET = "sk-founder-secret"


def choose(page: Any, field: str, text: str) -> None:
    """From a box that looks rows up as one types."""
    page.click(f".field-{field} .select2-selection")
    page.keyboard.type(text)
    page.click(f".select2-results__option:has-text('{text}')")


def wrong_on(page: Any, url: str) -> list[str]:
    """What axe-core finds serious on a page, and whether it has to be scrolled sideways."""
    page.goto(url, wait_until="networkidle")
    findings = Axe().run(page).response["violations"]
    serious = [
        f"{finding['id']}: {node['html'][:120]}"
        for finding in findings
        if finding["impact"] in {"serious", "critical"}
        for node in finding["nodes"]
    ]
    is_wide = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
    return [*serious, *(["scrolled sideways"] if is_wide else [])]


def test_a_founder_brings_a_model_to_a_team_in_the_browser_alone(
    paged: Any, provider: ProviderServer
) -> None:
    team = factories.team()
    live: Live = paged()

    def found_it(page: Any) -> list[str]:
        seen = []
        page.fill("#id_name", "main-key")
        page.fill("#id_provider", "openai")
        page.fill("#id_secret", SECRET)
        page.fill("#id_api_base", provider.openai_base)
        page.click("button[name=_continue]")
        seen.append(page.content())
        page.goto(f"{live.url}/admin/teams/alias/add/")
        page.fill("#id_name", "smart")
        page.click("text=Add another Deployment")
        page.type("#id_deployments-0-model", "gpt-4o-mini")
        page.wait_for_selector(f"#model-names option[value='{MINI}']", state="attached")
        page.fill("#id_deployments-0-model", MINI)
        page.select_option("#id_deployments-0-credential", label="main-key")
        page.click("button[name=_save]")
        seen.append(page.inner_text(".supply"))
        page.click("text=Set price")
        seen.append(page.input_value("[name=input]"))
        page.fill("[name=input]", "0.3")
        page.click("text=Show what changes")
        page.click("text=Set this price")
        seen.append(page.inner_text(".supply"))
        page.click("text=Test this deployment")
        page.click("text=Test now")
        seen.append(page.inner_text(".verdict"))
        page.goto(f"{live.url}/admin/teams/accessgroup/add/")
        page.fill("#id_name", "smart-users")
        choose(page, "aliases", "smart")
        choose(page, "grant_to", "alice")
        page.click("button[name=_continue]")
        page.wait_for_load_state("networkidle")
        return seen

    seen = browser.look(
        f"{live.url}/admin/teams/providercredential/add/", cookies=cookie_of("owner"), act=found_it
    )
    saved, unpriced, filled, priced, verdict = seen.found
    assert SECRET not in saved
    assert "calls are refused" in unpriced
    assert (filled, "0.3" in priced) == ("0.15", True)
    # 100 tokens at 0.30 and 20 at 0.60 USD a million.
    assert "answered" in verdict
    assert "120 tokens, 0.000042 USD" in verdict
    assert (seen.errors, seen.foreign, seen.serious) == ([], [], [])
    assert credentials.reveal(ProviderCredential.objects.get()) == SECRET
    assert prices.current([MINI])[MINI].source == "user:owner-person"
    assert [alias.name for alias in catalog.granted(team)] == ["smart"]
    assert SECRET not in str(list(AuditEntry.objects.values_list()))


@pytest.mark.parametrize(
    ("size", "is_dark"), [(browser.LAPTOP, True), (browser.PHONE, False)], ids=["dark", "phone"]
)
def test_the_pages_of_the_catalog_are_well(
    paged: Any, size: tuple[int, int], is_dark: bool
) -> None:
    alice = factories.company(model=MINI)
    factories.serve(alice.team, alias="chat", model="demo/none", sheet=None)
    live: Live = paged()
    alias = f"/admin/teams/alias/{alice.alias.pk}/change/"
    group = alice.alias.access_groups.get()
    deployment = alice.alias.deployments.earliest("id")
    pages = [
        alias,
        f"/admin/teams/accessgroup/{group.pk}/change/",
        "/admin/teams/providercredential/add/",
        f"/admin/teams/unitprice/set-price/?price_key={MINI}",
        "/admin/teams/unitprice/import-prices/?show=all",
        f"/admin/catalog/deployments/{deployment.pk}/test/",
    ]

    def visit(page: Any) -> dict[str, Any]:
        return {path: wrong_on(page, f"{live.url}{path}") for path in pages}

    cookies = cookie_of("owner")
    seen = browser.look(
        f"{live.url}{alias}", cookies=cookies, size=size, is_dark=is_dark, act=visit
    )
    assert {path: wrong for path, wrong in seen.found.items() if wrong} == {}
    assert (seen.errors, seen.foreign, seen.serious) == ([], [], [])


def test_prices_are_imported_by_keyboard_and_all_at_once(paged: Any) -> None:
    alice = factories.company(model=MINI, sheet=None)
    factories.serve(alice.team, alias="other", model="openai/gpt-4o", sheet=None)
    live: Live = paged()

    def publish(page: Any) -> str:
        page.focus("[data-check-all] input")
        # Both are in use, so both are chosen to begin with: none, and all again.
        page.keyboard.press("Space")
        assert page.locator("[name=chosen]:checked").count() == 0
        page.keyboard.press("Space")
        page.focus("text=Publish the chosen prices")
        with page.expect_navigation():
            page.keyboard.press("Enter")
        return str(page.inner_text("#main"))

    seen = browser.look(
        f"{live.url}/admin/teams/unitprice/import-prices/", cookies=cookie_of("admin"), act=publish
    )
    assert UnitPrice.objects.count() == 2
    assert "Prices added: 2, changed: 0." in seen.found
    assert (seen.errors, seen.serious) == ([], [])
