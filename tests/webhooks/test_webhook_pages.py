"""The admin's pages of webhooks: each act once, a secret on one page, what was sent and how it went."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from saas_litellm.base import outbox
from saas_litellm.base.models import AuditEntry
from tests import factories, work
from tests.teams.test_roles import browser, person
from tests.webhooks import making
from webhooks import deliveries, endpoints
from webhooks.models import Delivery, Endpoint
from webhooks.sending import Answer

pytestmark = pytest.mark.any_database
BASE = "/admin/webhooks/endpoint/"
NEW = {"url": "https://app.example.com/hooks", "types": ["job.created"], "description": "ours"}


@pytest.fixture
def olga(db: None, pages_served: None) -> Client:
    return browser(person("olga", "admin"))


def key_of(client: Client, path: str) -> str:
    return str(client.get(path).context["form"].initial["idempotency_key"])


def test_an_endpoint_is_made_once_and_its_secret_shown_once(olga: Client) -> None:
    factories.team()
    form = {**NEW, "team": "alice", "idempotency_key": key_of(olga, f"{BASE}create/")}
    page = olga.post(f"{BASE}create/", form)
    assert "whsec_" in page.content.decode()
    assert "no-store" in page["Cache-Control"]
    again = olga.post(f"{BASE}create/", form, follow=True).content.decode()
    assert "whsec_" not in again
    assert "rotate it" in again
    endpoint = Endpoint.objects.get()
    assert (str(endpoint.team), endpoint.types) == ("alice", ["job.created"])
    assert AuditEntry.objects.get(action="endpoint.create").actor == "user:olga"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"url": "https://127.0.0.1/"}, "not on the open internet"),
        ({"team": "nobody"}, "nobody"),
        ({"types": ["provider.down"]}, "provider.down is none of them"),
    ],
)
def test_what_is_refused_is_said_on_the_form(olga: Client, wrong: Any, said: str) -> None:
    factories.team()
    form = {**NEW, "team": "alice", "idempotency_key": "x", **wrong}
    assert said in olga.post(f"{BASE}create/", form).content.decode()
    assert not Endpoint.objects.exists()


@pytest.fixture
def endpoint(olga: Client) -> Endpoint:
    alice = factories.team()
    made, _ = making.endpoint(NEW["url"], team=alice)  # type: ignore[arg-type]
    work.job(alice)
    deliveries.fan_out()
    return made


def test_it_is_changed_tested_rotated_and_deleted(olga: Client, endpoint: Endpoint) -> None:
    page = f"{BASE}{endpoint.pk}/"
    off = {**NEW, "types": ["*"], "idempotency_key": "1"}
    olga.post(f"{page}edit/", off)
    endpoint.refresh_from_db()
    assert (endpoint.is_active, endpoint.types, endpoint.description) == (False, ["*"], "ours")
    refused = olga.post(f"{page}test/", {"idempotency_key": "2"}).content.decode()
    assert "switched off" in refused
    assert "switched off by hand" in olga.get(f"{page}change/").content.decode()
    olga.post(f"{page}edit/", {**off, "is_active": "on", "idempotency_key": "3"})
    for _ in range(2):
        olga.post(f"{page}test/", {"idempotency_key": "4"})
    assert Delivery.objects.filter(cause="test").count() == 1
    secret = olga.post(f"{page}rotate/", {"idempotency_key": "5"}).content.decode()
    assert endpoints.secrets_of(endpoint)[0] in secret
    olga.post(f"{page}end/", {"idempotency_key": "6"})
    assert not Endpoint.objects.exists()


def test_what_was_sent_is_shown_and_sent_again(olga: Client, endpoint: Endpoint) -> None:
    ((pk, lease),) = deliveries.claim(most=1)
    parcel = deliveries.next_parcel(pk, lease=lease)
    assert parcel is not None
    answer = Answer(milliseconds=7, status=500, failure="answered 500", excerpt="<b>broken</b>")
    deliveries.finish(parcel, answer)
    listed = olga.get(f"/admin/webhooks/delivery/?endpoint__id__exact={endpoint.pk}")
    assert "job.created" in listed.content.decode()
    for page in ("webhooks/delivery", "base/event"):
        found = olga.get(f"/admin/{page}/?type=job.created").context["cl"].result_count
        none = olga.get(f"/admin/{page}/?type=job.failed").context["cl"].result_count
        assert (found, none) == (1, 0)
    path = f"/admin/webhooks/delivery/{parcel.delivery_id}/"
    page = olga.get(f"{path}change/").content.decode()
    assert "answered 500" in page
    assert "&lt;b&gt;broken" in page
    assert "evt_" in page
    for _ in range(2):
        olga.post(f"{path}resend/", {"idempotency_key": "x"})
    again = {"action": "resend", "_selected_action": [parcel.delivery_id]}
    olga.post("/admin/webhooks/delivery/", again)
    assert Delivery.objects.filter(cause="resend", event=parcel.event).count() == 2


def test_a_range_is_sent_again(olga: Client, endpoint: Endpoint) -> None:
    outbox.forget()
    ids = making.happen("a", "b", "c", team=endpoint.team)
    deliveries.fan_out()
    form = {"from_id": ids[0], "to_id": ids[1].removeprefix("evt_"), "idempotency_key": "x"}
    for _ in range(2):
        olga.post(f"{BASE}{endpoint.pk}/replay/", form)
    again = Delivery.objects.filter(cause="resend").order_by("id")
    assert [str(delivery.event) for delivery in again] == ids[:2]
    nothing = olga.post(f"{BASE}{endpoint.pk}/replay/", {"idempotency_key": "y"})
    assert "Say which" in nothing.content.decode()
