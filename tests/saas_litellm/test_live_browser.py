"""The live view in a real browser: calls arrive, the list pauses, a lost connection comes back."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection

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
PLACE = "#live-rows tr"
SIGN_OUT = """fetch("/admin/logout/", {
  method: "POST",
  headers: {"X-CSRFToken": document.querySelector("[name=csrfmiddlewaretoken]").value},
})"""
STATUS = "document.getElementById('live-status').textContent"


@pytest.fixture
def letters(transactional_db: None) -> Any:
    """A job, and a function that makes a call of it while a browser's thread is busy."""
    job = work.job(factories.company().team, "letters")
    work.call(job, prompt=1000)

    def call() -> None:
        with ThreadPoolExecutor(1) as thread:
            thread.submit(_call, job).result()

    return call


def _call(job: Any) -> None:
    work.call(job, prompt=2000)
    connection.close()


@pytest.fixture
def served(paged: Any, letters: Any) -> Live:
    live: Live = paged()
    return live


@SIZES
def test_a_call_arrives_in_the_page(
    served: Live, letters: Any, size: tuple[int, int], is_dark: bool
) -> None:
    def watch(page: Any) -> list[str]:
        page.wait_for_function(f"{STATUS} === 'Live'")
        letters()
        page.wait_for_function(f"document.querySelectorAll('{PLACE}').length === 2")
        return [page.inner_text(f"{PLACE} >> nth=0"), page.inner_text("[data-tile=tokens]")]

    seen = browser.look(
        f"{served.url}/admin/live/",
        cookies=cookie_of("viewer"),
        size=size,
        is_dark=is_dark,
        act=watch,
    )
    row, tokens = seen.found
    assert "2,000" in row
    assert "3,000 last minute" in tokens
    assert (seen.errors, seen.foreign, seen.serious) == ([], [], [])
    assert not seen.is_scrolled_sideways


def test_a_paused_list_counts_what_waits_and_goes_on(served: Live, letters: Any) -> None:
    def pause(page: Any) -> list[int]:
        page.wait_for_function(f"{STATUS} === 'Live'")
        page.focus("#live-pause")
        page.keyboard.press("Enter")
        letters()
        page.wait_for_selector("text=Go on (1 new)")
        before = page.locator(PLACE).count()
        page.keyboard.press("Enter")
        return [before, page.locator(PLACE).count()]

    seen = browser.look(f"{served.url}/admin/live/", cookies=cookie_of("viewer"), act=pause)
    assert (seen.found, seen.errors) == ([1, 2], [])


def test_a_lost_connection_is_said_and_comes_back(served: Live, paged: Any, letters: Any) -> None:
    def lose(page: Any) -> str:
        page.wait_for_function(f"{STATUS} === 'Live'")
        served.process.kill()
        page.wait_for_function(f"{STATUS} === 'Connection lost: reconnecting'")
        said = str(page.inner_text("#live-countdown"))
        paged(port=int(served.url.rpartition(":")[2]))
        letters()
        page.wait_for_function(f"{STATUS} === 'Live'", timeout=60_000)
        page.wait_for_function(f"document.querySelectorAll('{PLACE}').length === 2")
        return said

    seen = browser.look(f"{served.url}/admin/live/", cookies=cookie_of("viewer"), act=lose)
    assert re.fullmatch(r"in \d+ s", seen.found)
    assert seen.serious == []


def test_signed_out_is_said_and_leads_to_signing_in(served: Live) -> None:
    def sign_out(page: Any) -> str:
        page.wait_for_function(f"{STATUS} === 'Live'")
        other = page.context.new_page()
        other.goto(f"{served.url}/admin/")
        other.evaluate(SIGN_OUT)
        page.wait_for_function(f"{STATUS} === 'You are signed out.'")
        page.click("text=Sign in again")
        return str(page.url)

    seen = browser.look(f"{served.url}/admin/live/", cookies=cookie_of("viewer"), act=sign_out)
    assert seen.found.endswith("/admin/login/?next=/admin/live/")
    assert seen.serious == []
