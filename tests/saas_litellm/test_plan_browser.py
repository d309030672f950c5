"""The price pages in a real browser: a founder tries a price, sees what it would do, and makes it."""

from __future__ import annotations

import os
from typing import Any

import pytest

from billing import plans
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


@pytest.fixture
def shop(paged: Any) -> Live:
    """A platform whose two teams pay their provider cost, and no more."""
    for name in ("alice", "bob"):
        company = factories.company(name=name, credits_=9)
        for prompt in (1000, 5000, 9000):
            work.call(job := work.job(company.team, f"letters_{name}"), prompt=prompt, output=100)
            work.close(job)
    live: Live = paged()
    return live


def test_a_founder_changes_a_price_after_seeing_what_it_would_do(shop: Live) -> None:
    def change(page: Any) -> list[str]:
        page.click("text=Consumption usd")
        page.click("text=Change its prices")
        found = [page.inner_text("[data-previewed]")]
        # By keyboard, into the first price per call; the prices follow without a click.
        page.focus("[name=call-0-markup_percent]")
        page.keyboard.type("100")
        page.wait_for_selector("text=50.0 %")
        found.append(page.inner_text("[data-previewed] article >> nth=0"))
        page.click("text=Save the draft, and see what it would have done")
        found.append(page.inner_text(".tiles"))
        page.click("text=Activate consumption_usd v2 from a date")
        page.click("text=Activate version 2 for good")
        page.wait_for_selector("text=is active")
        found.append(page.inner_text("section.panel >> nth=0"))
        return found

    seen = browser.look(f"{shop.url}/admin/prices/plans/", cookies=cookie_of("finance"), act=change)
    before, while_typing, what_if, active = seen.found
    # The middle job: 5,000 tokens at 10 USD a million, 100 out at 30.
    assert "0.5300 credits = $0.0530" in before
    assert "1.06 credits = $0.1060" in while_typing
    assert "$0.6360" in what_if
    assert "now $0.3180" in what_if
    assert "provider cost + 100 %" in active
    assert "ACTIVE" in active.upper()
    assert (seen.errors, seen.foreign, seen.serious) == ([], [], [])
    current = plans.in_effect(plans.find("consumption_usd"))
    assert current is not None
    assert current.call_rules.get().markup_basis_points == 10_000


@SIZES
def test_the_form_grows_shrinks_and_is_well(
    shop: Live, size: tuple[int, int], is_dark: bool
) -> None:
    def build(page: Any) -> list[Any]:
        found = [page.locator(".rule").count()]
        page.click("text=Add a price per job")
        page.fill("[name=job-1-credits]", "x")
        page.select_option("[name=job-1-kind]", "package")
        page.wait_for_selector("text=Mend the marked fields")
        found.append(page.is_visible("[name=job-1-package_tokens]"))
        page.click("text=Remove this price >> nth=0")
        page.wait_for_selector("text=50.0 %", state="detached")
        page.select_option("[name=call-0-kind]", "tiered")
        for number, (reach, price) in enumerate((("3000", "1"), ("", "0.5"))):
            page.click("text=Add a tier")
            tier = f"call-0-tiers-{number + 2}"
            page.fill(f"[name={tier}-up_to]", reach)
            page.fill(f"[name={tier}-credits]", price)
        # 3,000 tokens at a credit each 1,000, 2,100 at half of it.
        page.wait_for_selector("text=4.05 credits")
        page.click(".rule:not([hidden]) summary >> nth=0")
        return found

    seen = browser.look(
        f"{shop.url}/admin/prices/plans/consumption_usd/new/",
        cookies=cookie_of("owner"),
        size=size,
        is_dark=is_dark,
        act=build,
    )
    assert seen.found == [1, True]
    assert (seen.errors, seen.foreign, seen.serious) == ([], [], [])
    assert not seen.is_scrolled_sideways


@SIZES
def test_the_answer_is_well(shop: Live, size: tuple[int, int], is_dark: bool) -> None:
    version = plans.ensure_preset("job_based")
    seen = browser.look(
        f"{shop.url}/admin/prices/what-if/?version={version.pk}&jobs=all",
        cookies=cookie_of("viewer"),
        size=size,
        is_dark=is_dark,
        act=lambda page: page.inner_text(".tiles"),
    )
    assert "$0.6000" in seen.found
    assert (seen.errors, seen.foreign, seen.serious) == ([], [], [])
    assert not seen.is_scrolled_sideways
