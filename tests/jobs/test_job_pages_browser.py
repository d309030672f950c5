"""A job's page in a real browser: no finding of axe-core, no error, no foreign request."""

from __future__ import annotations

from typing import Any

import pytest

from jobs import calls
from jobs.models import Job
from teams.models import Deployment
from tests import browser, factories, work
from tests.conftest import Live
from tests.saas_litellm import test_browser
from tests.saas_litellm.test_browser import SIZES, cookie_of

pytestmark = test_browser.pytestmark


@pytest.fixture
def shop(paged: Any) -> Live:
    """Two jobs of Alice's, one of which fell back to a second deployment and still runs."""
    company = factories.company(credits_=9)
    Deployment.objects.create(alias=company.alias, model="demo/echo", priority=2)
    work.close(work.job(company.team, "letters"))
    running = work.job(company.team, "contract", metadata={"doc": "d1"})
    work.fail_over(work.start(running), prompt=9000)
    work.call(running, prompt=2000, delivered=False)
    calls.dispatch(work.start(running))
    live: Live = paged()
    return live


@SIZES
def test_a_jobs_page_is_well(shop: Live, size: tuple[int, int], is_dark: bool) -> None:
    job = Job.objects.get(job_type="contract")
    seen = browser.look(
        f"{shop.url}/admin/jobs/job/{job.pk}/change/",
        cookies=cookie_of("owner"),
        size=size,
        is_dark=is_dark,
        act=lambda page: page.inner_text(".timeline"),
    )
    assert "failed, rate_limited (429)" in seen.found
    assert (seen.errors, seen.foreign, seen.serious) == ([], [], [])
    assert not seen.is_scrolled_sideways


def test_the_list_is_filtered_by_keyboard_on_a_phone_in_the_dark(shop: Live) -> None:
    def ask(page: Any) -> str:
        page.click("text=Filters")
        page.fill("#filter_job_type", "contract")
        page.press("#filter_job_type", "Enter")
        page.wait_for_load_state("networkidle")
        return str(page.inner_text("#result_list"))

    seen = browser.look(
        f"{shop.url}/admin/jobs/job/",
        cookies=cookie_of("viewer"),
        size=browser.PHONE,
        is_dark=True,
        act=ask,
    )
    assert "contract" in seen.found
    assert "letters" not in seen.found
    assert (seen.errors, seen.foreign, seen.serious) == ([], [], [])
    assert not seen.is_scrolled_sideways
