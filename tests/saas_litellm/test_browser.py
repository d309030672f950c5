"""Pages in a real browser: no finding of axe-core, no error, no foreign request, at every width."""

from __future__ import annotations

import os
from typing import Any

import pytest
from django.conf import settings as configured
from django.contrib.auth.models import Group
from django.test import Client

from billing import runway
from saas_litellm.base import alarms
from tests import browser, factories, work
from tests.conftest import Live
from tests.saas_litellm.test_rights import PAGES
from tests.teams.test_roles import person

pytestmark = [
    pytest.mark.any_database,
    pytest.mark.skipif(
        browser.binary() is None and os.environ.get("CI") != "true",
        reason="NOT RUN: no Chromium here; install it, or name it with CHROMIUM",
    ),
]
SIZES = pytest.mark.parametrize(
    ("size", "is_dark"),
    [(browser.LAPTOP, False), (browser.LAPTOP, True), (browser.PHONE, False)],
    ids=["laptop", "dark", "phone"],
)


@pytest.fixture
def shop(paged: Any) -> Live:
    """A platform that has sold something, served with its files."""
    for name in ("alice", "bob"):
        company = factories.company(name=name, credits_=9)
        work.call(job := work.job(company.team, f"letters_{name}"), prompt=9000, output=900)
        work.close(job)
    runway.keep_paces()
    alarms.sound(kind="margin.thin", subject="letters", detail="2 % is left")
    live: Live = paged()
    return live


def cookie_of(role: str) -> dict[str, str]:
    client = Client()
    client.force_login(person(f"{role}-person", role))
    name = configured.SESSION_COOKIE_NAME
    return {name: client.cookies[name].value}


@SIZES
def test_the_overview_is_well(shop: Live, size: tuple[int, int], is_dark: bool) -> None:
    def hover(page: Any) -> str:
        page.hover(".chart-slot >> nth=-1")
        return str(page.inner_text(".chart-tip"))

    cookies = cookie_of("owner")
    seen = browser.look(
        f"{shop.url}/admin/", cookies=cookies, size=size, is_dark=is_dark, act=hover
    )
    assert "Provider cost: 0.234 USD" in seen.found
    assert (seen.errors, seen.foreign, seen.serious) == ([], [], [])
    assert not seen.is_scrolled_sideways


def test_the_overview_opens_by_keyboard_for_a_viewer(shop: Live) -> None:
    def go(page: Any) -> str:
        page.focus(".periods a >> nth=0")
        page.keyboard.press("Enter")
        page.wait_for_load_state("networkidle")
        return str(page.inner_text(".periods a[aria-current]"))

    seen = browser.look(f"{shop.url}/admin/", cookies=cookie_of("viewer"), act=go)
    assert seen.found == "Today"
    assert (seen.errors, seen.serious) == ([], [])


@SIZES
def test_the_sign_in_page_is_well_and_says_no_well(
    paged: Any, size: tuple[int, int], is_dark: bool
) -> None:
    def fail(page: Any) -> list[str]:
        before = browser.serious(page)
        page.fill("#id_username", "nobody")
        page.fill("#id_password", "wrong")
        with page.expect_navigation(wait_until="networkidle"):
            page.keyboard.press("Enter")
        assert "That does not fit" in page.inner_text("body")
        return before

    address = f"{paged().url}/admin/login/"
    seen = browser.look(address, cookies={}, size=size, is_dark=is_dark, act=fail)
    assert (seen.errors, seen.foreign, seen.found, seen.serious) == ([], [], [], [])
    assert not seen.is_scrolled_sideways


@pytest.mark.long
def test_an_owner_finds_every_page_well(shop: Live) -> None:
    """Every page that adds something, and an own group's, beside what the side bar leads to."""
    Group.objects.create(name="a group of our own")
    adding = [
        f"/admin/{name.replace('.', '/')}/add/" for name, who in PAGES.items() if "owner" in who[1]
    ]
    cookies = cookie_of("owner")
    seen = browser.crawl(shop.url, cookies=cookies, is_axe_asked=True, also=adding)
    assert {*adding, f"/admin/auth/group/{Group.objects.latest('pk').pk}/change/"} <= set(seen)
    assert len(seen) > 60
    assert faults(seen) == {}


@pytest.mark.long
@pytest.mark.parametrize("role", ["finance", "support", "viewer"])
def test_everybody_else_meets_no_error(shop: Live, role: str) -> None:
    seen = browser.crawl(shop.url, cookies=cookie_of(role), is_axe_asked=False)
    assert len(seen) > 20
    assert faults(seen) == {}


def faults(seen: dict[str, browser.Seen]) -> dict[str, list[str]]:
    found = {
        path: [
            *page.errors,
            *page.foreign,
            *page.serious,
            *["sideways"] * page.is_scrolled_sideways,
        ]
        for path, page in seen.items()
    }
    return {path: lines for path, lines in found.items() if lines}
