"""A customer's page in a real browser: well at every width, and its dialogs by keyboard."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from billing import ledger
from billing.models import Entry
from saas_litellm.customers import page
from teams import keys
from teams.models import ApiKey, Team
from tests import browser, factories, work
from tests.conftest import Live
from tests.saas_litellm.test_browser import SIZES, cookie_of

pytestmark = [
    pytest.mark.any_database,
    pytest.mark.skipif(
        browser.binary() is None and os.environ.get("CI") != "true",
        reason="NOT RUN: no Chromium here; install it, or name it with CHROMIUM",
    ),
]


# Whether the focus is on something behind an open dialog; on the page itself it is on nothing.
OUTSIDE = """() => {
    const dialog = document.querySelector("dialog[open]"), focused = document.activeElement;
    return Boolean(dialog) && focused !== document.body && !dialog.contains(focused);
}"""


ACTS = (
    ("Top up", "credits", "2.5"),
    ("Adjust", "credits", "-1"),
    ("Credit limit", "credit_limit", "7"),
)


@pytest.fixture
def shop(paged: Any) -> Live:
    """A team that has bought something, served with its files."""
    alice = factories.company(credits_=9).team
    work.call(job := work.job(alice, "letters"), prompt=9000, output=900)
    work.close(job)
    live: Live = paged()
    return live


def team() -> Team:
    return Team.objects.get(slug="alice")


@SIZES
def test_a_teams_page_is_well(shop: Live, size: tuple[int, int], is_dark: bool) -> None:
    url = f"{shop.url}{page.address(team())}"
    seen = browser.look(
        url,
        cookies=cookie_of("owner"),
        size=size,
        is_dark=is_dark,
        act=lambda opened: opened.inner_text(".customer .tiles"),
    )
    assert "Margin" in seen.found
    assert (seen.errors, seen.foreign, seen.serious) == ([], [], [])
    assert not seen.is_scrolled_sideways


def test_a_top_up_by_keyboard_in_a_dialog(shop: Live) -> None:
    def tab_to(opened: Any, selector: str) -> None:
        """Tab until it is focused; never out of an open dialog on the way."""
        for _ in range(80):
            if opened.evaluate("what => document.activeElement.matches(what)", selector):
                return
            opened.keyboard.press("Tab")
            assert not opened.evaluate(OUTSIDE)
        pytest.fail(f"Tab does not come to {selector}")

    def go(opened: Any) -> str:
        tab_to(opened, "a[data-dialog][href$='/top-up/']")
        opened.keyboard.press("Enter")
        opened.wait_for_selector("dialog[open]")
        for key in ["Tab"] * 20 + ["Shift+Tab"] * 20:
            opened.keyboard.press(key)
            assert not opened.evaluate(OUTSIDE)
        opened.keyboard.press("Escape")
        opened.wait_for_selector("dialog", state="detached")
        assert opened.evaluate("document.activeElement.textContent.trim()") == "Top up"
        opened.keyboard.press("Enter")
        opened.wait_for_selector("dialog[open]")
        assert opened.evaluate("document.activeElement.name") == "credits"
        opened.keyboard.type("2.5")
        tab_to(opened, "dialog [name=reason]")
        opened.keyboard.type("invoice 7")
        opened.keyboard.press("Enter")
        # The dialog is over this same page: only what it says then is the answer.
        opened.wait_for_selector("text=Added 2.5 credits")
        opened.wait_for_load_state("networkidle")
        return str(opened.inner_text("body"))

    alice = team()
    seen = browser.look(f"{shop.url}{page.address(alice)}", cookies=cookie_of("finance"), act=go)
    assert "Added 2.5 credits" in seen.found
    assert (seen.errors, seen.serious) == ([], [])
    assert ledger.account_of(alice).balance_nanocredits == 10_330_000_000


def test_money_moves_once_by_however_many_clicks(shop: Live) -> None:
    def go(opened: Any) -> int:
        dialogs = 0
        for title, field, amount in ACTS:
            opened.dblclick(f"a[data-dialog]:text-is('{title}')")
            opened.wait_for_selector("dialog[open]")
            opened.wait_for_load_state("networkidle")
            dialogs += opened.locator("dialog").count()
            opened.fill(f"dialog [name={field}]", amount)
            opened.fill("dialog [name=reason]", "x")
            with opened.expect_navigation(wait_until="networkidle"):
                opened.dblclick("dialog button[type=submit]")
        return dialogs

    alice = team()
    before = ledger.account_of(alice).balance_nanocredits
    seen = browser.look(f"{shop.url}{page.address(alice)}", cookies=cookie_of("finance"), act=go)
    assert seen.found == len(ACTS)
    assert (seen.errors, seen.serious) == ([], [])
    account = ledger.account_of(alice)
    assert account.balance_nanocredits == before + 1_500_000_000
    assert account.credit_limit_nanocredits == 7_000_000_000
    assert Entry.objects.filter(reason="x").count() == 2


def test_a_key_is_issued_in_a_dialog_by_however_many_clicks_and_copied(shop: Live) -> None:
    def go(opened: Any) -> tuple[str, str]:
        opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
        opened.click("a[data-dialog]:text-is('Issue a key')")
        opened.fill("dialog [name=name]", "production")
        opened.dblclick("dialog button[type=submit]")
        opened.click("[data-copy]")
        opened.wait_for_selector("[data-copied]:text-is('Copied.')")
        copied = opened.evaluate("navigator.clipboard.readText()")
        return str(copied), str(opened.inner_text("#secret"))

    alice = team()
    seen = browser.look(
        f"{shop.url}{page.address(alice)}", cookies=cookie_of("admin"), size=browser.PHONE, act=go
    )
    copied, secret = seen.found
    assert copied == secret
    assert re.fullmatch(r"slk_\w{12}_[\w-]{43}", secret)
    assert keys.authenticate(secret).name == "production"
    assert ApiKey.objects.filter(team=alice).count() == 2
    assert (seen.errors, seen.foreign, seen.serious) == ([], [], [])
    assert not seen.is_scrolled_sideways
