"""The teams' own pages in a real browser: at every width, light and dark, and by keyboard."""

from __future__ import annotations

import os
from typing import Any

import pytest
from django.conf import settings as configured

from payments.models import Payment
from tests import browser, portal
from tests.conftest import Live
from tests.portal import MIA, at
from tests.saas_litellm.test_browser import SIZES
from tests.teams.test_members import invite
from tests.teams.test_roles import PASSWORD

pytestmark = [
    pytest.mark.any_database,
    pytest.mark.skipif(
        browser.binary() is None and os.environ.get("CI") != "true",
        reason="NOT RUN: no Chromium here; install it, or name it with CHROMIUM",
    ),
]


@pytest.fixture
def shop(paged: Any) -> Live:
    portal.filled(portal.company().team)
    sold = {"STRIPE_SECRET_KEY": "sk_test_x", "STRIPE_WEBHOOK_SECRET": "whsec_x"}
    live: Live = paged(STRIPE_API_BASE="http://127.0.0.1:1", **sold)
    return live


def mias() -> dict[str, str]:
    name = configured.SESSION_COOKIE_NAME
    return {name: portal.signed_in(MIA).cookies[name].value}


def found(seen: browser.Seen) -> tuple[Any, ...]:
    return (seen.errors, seen.foreign, seen.serious, seen.is_scrolled_sideways)


@SIZES
def test_the_overview_is_well(shop: Live, size: tuple[int, int], is_dark: bool) -> None:
    def hover(page: Any) -> str:
        page.hover(".chart-slot >> nth=-1")
        return str(page.inner_text(".chart-tip"))

    seen = browser.look(
        shop.url + at("overview"), cookies=mias(), size=size, is_dark=is_dark, act=hover
    )
    assert "Used: 0.45 credits" in seen.found
    assert found(seen) == ([], [], [], False)


def test_tables_and_forms_are_well_on_a_phone(shop: Live) -> None:
    beneath = (at("auto_top_up"), at("purchase", Payment.objects.get().pk))

    def walk(page: Any) -> list[str]:
        wide = []
        for name in ("Statement", "Budgets", "Buy credits", "Keys"):
            page.click(f"nav.pages >> text={name}")
            page.wait_for_selector(f"nav.pages [aria-current] >> text={name}")
            is_wide = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
            wide += [name] * is_wide + browser.serious(page)
        for address in beneath:
            page.goto(shop.url + address)
            wide += browser.serious(page)
        return wide

    seen = browser.look(
        shop.url + at("jobs"), cookies=mias(), size=browser.PHONE, is_dark=True, act=walk
    )
    assert seen.found == []
    assert found(seen) == ([], [], [], False)


def test_an_invitation_is_accepted_by_keyboard(shop: Live) -> None:
    token = invite(portal.Team.objects.get(), "eve@example.com", "member")

    def join(page: Any) -> str:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "To the content"
        page.focus("#id_password")
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Tab")
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_url("**/overview/")
        return str(page.inner_text(".notice"))

    url = f"{shop.url}/portal/invitations/{token}/"
    seen = browser.look(url, cookies={}, size=browser.PHONE, act=join)
    assert seen.found == "You are a member of alice now."
    assert found(seen) == ([], [], [], False)
