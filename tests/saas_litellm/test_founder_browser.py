"""A founder's first day in the browser alone, on a platform that `seed_demo` filled."""

from __future__ import annotations

import os
from typing import Any

import httpx
import pytest

from billing import ledger, plans
from billing.models import Entry
from saas_litellm import verification
from saas_litellm.seeding import demo
from teams.models import Team
from tests import browser
from tests.conftest import Live
from tests.providers.server import ProviderServer
from tests.saas_litellm.test_browser import cookie_of
from tests.saas_litellm.test_catalog_browser import choose

pytestmark = [
    pytest.mark.any_database,
    pytest.mark.skipif(
        browser.binary() is None and os.environ.get("CI") != "true",
        reason="NOT RUN: no Chromium here; install it, or name it with CHROMIUM",
    ),
]
MODEL = "openai/gpt-4o-mini"


class Founder:
    """One browser page, and what was seen on the way."""

    def __init__(self, page: Any, url: str, provider: ProviderServer) -> None:
        self.page, self.url, self.provider = page, url, provider
        self.seen: dict[str, str] = {}

    def go(self, entry: str) -> None:
        """By the side bar."""
        self.page.click(f"#nav-sidebar a:has-text('{entry}')")
        self.page.wait_for_load_state("networkidle")

    def add(self, entry: str, **fields: str) -> None:
        self.go(entry)
        self.page.click("a[href$='/add/'] >> nth=0")
        for name, value in fields.items():
            self.page.fill(f"#id_{name}", value)

    def send(self, act: str, **fields: str) -> None:
        """A dialog's form."""
        self.page.click(f"a[data-dialog]:text-is('{act}') >> nth=0")
        for name, value in fields.items():
            self.page.fill(f"dialog [name={name}]", value)
        self.page.click("dialog button[type=submit]")

    def bring_a_model(self) -> None:
        self.add("Credentials", name="main-key", provider="openai", secret="sk-founder")
        self.page.fill("#id_api_base", self.provider.openai_base)
        self.page.click("button[name=_save]")
        self.add("Aliases", name="writer")
        self.page.click("text=Add another Deployment")
        self.page.fill("#id_deployments-0-model", MODEL)
        self.page.select_option("#id_deployments-0-credential", label="main-key")
        self.page.click("button[name=_save]")
        self.page.click("text=Set price")
        self.page.fill("[name=input]", "1000")
        self.page.click("text=Show what changes")
        self.page.click("text=Set this price")
        self.add("Access groups", name="writers")
        choose(self.page, "aliases", "writer")
        self.page.click("button[name=_save]")

    def bring_a_customer(self) -> str:
        """Returns the secret of the team's key."""
        self.add("Organizations", slug="orchard", name="Orchard Books")
        self.page.click("button[name=_save]")
        self.page.click("a:has-text('Orchard Books'), a:has-text('orchard') >> nth=0")
        self.page.click("text=Add the first")
        self.page.fill("#id_slug", "orchard-editing")
        self.page.fill("#id_name", "Editing")
        self.page.check("label:has-text('writers') input, input[type=checkbox] >> nth=-1")
        self.page.click("button[name=_save]")
        self.page.wait_for_load_state("networkidle")
        self.send("Top up", credits="20", reason="invoice 1")
        self.page.wait_for_selector("text=Added 20 credits")
        self.send("Issue a key", name="production")
        self.page.wait_for_selector("#secret")
        return str(self.page.inner_text("#secret"))

    def watch_a_job_arrive(self, secret: str) -> None:
        self.go("Live")
        self.page.wait_for_selector("text=Live >> nth=-1")
        ask = {
            "team_id": "orchard-editing",
            "job_type": "blurb",
            "model": "writer",
            "messages": [{"role": "user", "content": "A blurb, please."}],
        }
        headers = {"Authorization": f"Bearer {secret}"}
        with httpx.Client(base_url=self.url, headers=headers, timeout=30) as team:
            answer = team.post("/api/jobs/create-and-call", json=ask)
            assert answer.status_code == 201, answer.text
            self.page.wait_for_selector("tr:has-text('orchard-editing')")
            self.seen["live"] = self.page.inner_text("tr:has-text('orchard-editing') >> nth=0")
            job = answer.json()["job_id"]
            done = team.post(f"/api/jobs/{job}/complete", json={"status": "completed"})
            assert done.json()["costs"]["credits_remaining"] == 19

    def give_it_back(self) -> None:
        self.go("Teams")
        self.page.fill("#searchbar", "orchard")
        self.page.keyboard.press("Enter")
        self.page.click("#result_list a:has-text('orchard-editing')")
        self.page.wait_for_load_state("networkidle")
        self.send("Refund", reason="the blurb was poor")
        self.page.wait_for_selector("text=/Gave back|Refunded/")
        self.seen["refund"] = self.page.inner_text("body")

    def find_what_loses_money(self) -> None:
        self.go("Overview")
        self.seen["overview"] = self.page.inner_text("section[aria-labelledby=h-job_type]")
        # The worst is the last.
        self.page.click("section[aria-labelledby=h-job_type] a:has-text('loss') >> nth=-1")
        self.page.wait_for_selector("#result_list")
        self.seen["losing"] = self.page.inner_text("#result_list")

    def change_its_price(self) -> None:
        self.go("Price plans")
        self.page.click("text=Per job >> nth=0")
        self.page.click("text=Change its prices")
        self.page.wait_for_load_state("networkidle")
        row = self.page.locator(".rule:has(input[value='meeting_summary'])")
        row.locator("[name$=-credits]").fill("9")
        self.page.click("text=Save the draft, and see what it would have done")
        self.seen["what_if"] = self.page.inner_text(".tiles")
        self.page.click("text=/^Activate per-job v\\d+ from a date/")
        self.page.click("text=/^Activate version \\d+ for good/")
        self.page.wait_for_selector("text=is active")


@pytest.mark.long
def test_a_founders_first_day(paged: Any, provider: ProviderServer) -> None:
    demo.seed("small")
    live: Live = paged()

    def day(page: Any) -> dict[str, str]:
        founder = Founder(page, live.url, provider)
        founder.bring_a_model()
        secret = founder.bring_a_customer()
        founder.watch_a_job_arrive(secret)
        founder.give_it_back()
        founder.find_what_loses_money()
        founder.change_its_price()
        return founder.seen

    seen = browser.look(f"{live.url}/admin/", cookies=cookie_of("owner"), act=day)
    assert (seen.errors, seen.foreign, seen.serious) == ([], [], [])
    # 100 tokens at 1,000 USD a million, and 20 at 0.60.
    assert "$0.1000" in seen.found["live"]
    assert "meeting_summary" in seen.found["overview"]
    assert "meeting_summary" in seen.found["losing"]
    assert "Revenue" in seen.found["what_if"]
    team = Team.objects.get(slug="orchard-editing")
    assert ledger.account_of(team).balance_nanocredits == 20 * 10**9
    assert Entry.objects.filter(account=ledger.account_of(team)).count() == 3
    current = plans.in_effect(plans.find("per-job"))
    assert current is not None
    assert current.number > 1
    assert verification.verify() == []
