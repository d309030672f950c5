"""The pages of webhooks in a real browser: no finding of axe-core, no error, no foreign request."""

from __future__ import annotations

from typing import Any

import pytest

from tests import browser, factories
from tests.conftest import Live
from tests.saas_litellm import test_browser
from tests.saas_litellm.test_browser import SIZES, cookie_of
from tests.webhooks import making
from webhooks import deliveries
from webhooks.models import Delivery, Endpoint
from webhooks.sending import Answer

pytestmark = test_browser.pytestmark
# What is ours on a page; the theme's own lists are not judged here.
PAGES = {
    "endpoints": "/admin/webhooks/endpoint/",
    "endpoint": "/admin/webhooks/endpoint/{endpoint}/change/",
    "new endpoint": "/admin/webhooks/endpoint/create/",
    "replay": "/admin/webhooks/endpoint/{endpoint}/replay/",
    "deliveries": "/admin/webhooks/delivery/",
    "delivery": "/admin/webhooks/delivery/{delivery}/change/",
    "events": "/admin/base/event/",
    "event": "/admin/base/event/{event}/change/",
}


@pytest.fixture
def shop(paged: Any) -> Live:
    """An endpoint of Alice's that failed once, on a platform that is served with its files."""
    alice = factories.team()
    making.endpoint("https://app.example.com/hooks", team=alice)
    making.happen("a", "b", team=alice)
    deliveries.fan_out()
    ((pk, lease),) = deliveries.claim(most=1)
    parcel = deliveries.next_parcel(pk, lease=lease)
    assert parcel is not None
    answer = Answer(milliseconds=7, status=500, failure="answered 500", excerpt="oh no")
    deliveries.finish(parcel, answer)
    Endpoint.objects.update(is_active=False, disabled_reason="only failures since yesterday")
    live: Live = paged()
    return live


@SIZES
def test_the_pages_are_well(shop: Live, size: tuple[int, int], is_dark: bool) -> None:
    first = Delivery.objects.earliest("id")
    ids = {"endpoint": first.endpoint_id, "delivery": first.pk, "event": first.event_id}
    cookies = cookie_of("owner")
    for name, path in PAGES.items():
        seen = browser.look(
            shop.url + path.format(**ids), cookies=cookies, size=size, is_dark=is_dark
        )
        assert (seen.errors, seen.foreign, seen.serious) == ([], [], []), name
        assert not seen.is_scrolled_sideways, name


def test_an_endpoint_is_made_by_hand(shop: Live) -> None:
    def make(page: Any) -> str:
        page.fill("input[name=url]", "https://other.example.com/hooks")
        page.check("input[name=types][value='job.completed']")
        page.click("button[type=submit]:has-text('Make it')")
        page.wait_for_selector("#secret")
        return str(page.inner_text("#secret"))

    seen = browser.look(
        f"{shop.url}/admin/webhooks/endpoint/create/", cookies=cookie_of("admin"), act=make
    )
    assert seen.found.startswith("whsec_")
    made = Endpoint.objects.latest("id")
    assert (made.url, made.types) == ("https://other.example.com/hooks", ["job.completed"])
    assert (seen.errors, seen.foreign, seen.serious) == ([], [], [])
