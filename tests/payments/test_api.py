"""Buying over HTTP: by a team's key, by an operator's, where it is switched off, and by a stranger."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from payments.models import AutoTopUp, Package, Payment
from teams import keys, operators
from tests import factories, leaks, paying
from tests.conftest import Live
from tests.leaks import Ask
from tests.providers.stripe_double import StripeDouble
from tests.teams.test_roles import person

pytestmark = pytest.mark.any_database
KEY = {"Idempotency-Key": "one"}


@pytest.fixture
def alice(live: Live) -> factories.Company:
    return factories.company(credits_=0)


@pytest.fixture
def http(live: Live, alice: factories.Company) -> Iterator[httpx.Client]:
    with live.client(alice.headers) as client:
        yield client


@pytest.fixture
def package(live: Live) -> Package:
    return paying.package(lot_days=365)


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_a_team_buys_and_sees_that_it_is_paid(
    stripe: StripeDouble, http: httpx.Client, alice: factories.Company, package: Package
) -> None:
    (sold,) = http.get("/api/credits/packages").json()["packages"]
    assert sold == {
        "package_id": package.pk,
        "name": "Medium",
        "description": "",
        "price": "45.00 USD",
        "amount_minor": 4500,
        "currency": "usd",
        "credits": 500,
        "expires_after_days": 365,
    }
    body = {"package_id": package.pk, "success_url": "https://app.example.com/done"}
    answer = http.post("/api/credits/checkout", json=body)
    assert answer.status_code == 201, answer.text
    begun = answer.json()
    payment = Payment.objects.get(pk=begun["payment_id"])
    assert begun["url"] == f"https://checkout.stripe.test/{payment.session_id}"
    session = stripe.objects[payment.session_id]
    assert session["success_url"] == body["success_url"]
    assert session["metadata"] == {
        "saas_payment": str(payment.pk),
        "saas_team": "alice",
        "saas_organization": "alice-org",
    }
    show = f"/api/credits/payments/{payment.pk}"
    assert http.get(show).json()["state"] == "open"
    paying.deliver(stripe, "checkout.session.completed", stripe.pay(payment.session_id))
    assert http.get(show).json()["state"] == "paid"
    assert paying.balance(alice.team) == 500
    asks = [
        Ask(endpoint="GET /api/credits/packages"),
        Ask(endpoint="POST /api/credits/checkout", body={"package_id": package.pk}),
        Ask(endpoint=f"GET {show}"),
    ]
    shown = [ask.put(http, job="") for ask in asks]
    assert [answer.status for answer in shown] == [200, 201, 200]
    assert leaks.leaks(shown) == []


def test_the_same_key_is_the_same_payment(
    stripe: StripeDouble, http: httpx.Client, package: Package
) -> None:
    body = {"package_id": package.pk}
    first, second = (http.post("/api/credits/checkout", json=body, headers=KEY) for _ in range(2))
    assert first.json() == second.json()
    assert second.headers["Idempotent-Replayed"] == "true"
    other = http.post(
        "/api/credits/checkout", json={**body, "cancel_url": "https://x.example"}, headers=KEY
    )
    assert code(other) == (409, "idempotency_key_reused")
    assert Payment.objects.count() == 1


def test_a_retry_after_stripe_was_away_begins_no_second_payment(
    stripe: StripeDouble, http: httpx.Client, package: Package
) -> None:
    stripe.is_away = True
    body = {"package_id": package.pk}
    away = http.post("/api/credits/checkout", json=body, headers=KEY)
    assert code(away) == (503, "payment_provider_unavailable")
    stripe.is_away = False
    assert http.post("/api/credits/checkout", json=body, headers=KEY).status_code == 201
    assert Payment.objects.count() == 1
    customers = [o for o in stripe.objects.values() if o["object"] == "customer"]
    assert len(customers) == 1


def test_refusals(stripe: StripeDouble, http: httpx.Client, package: Package) -> None:
    def buy(**body: Any) -> httpx.Response:
        return http.post("/api/credits/checkout", json=body)

    assert code(buy(package_id=99)) == (422, "validation_failed")
    assert code(buy(package_id=package.pk, success_url="javascript:x")) == (
        422,
        "validation_failed",
    )
    Package.objects.update(is_active=False)
    assert code(buy(package_id=package.pk)) == (422, "validation_failed")


def test_switched_off_nothing_is_offered(
    live: Live, http: httpx.Client, package: Package, settings: Any
) -> None:
    settings.STRIPE_SECRET_KEY = "sk_test_x"
    for answer in (
        http.get("/api/credits/packages"),
        http.post("/api/credits/checkout", json={"package_id": package.pk}),
        http.post("/api/stripe/webhook", json={}),
    ):
        assert code(answer) == (404, "payments_off")
    key = operators.issue(user=person("olga", "owner"), actor="test")[1]
    with live.client({"Authorization": f"Bearer {key}"}) as operator:
        answer = operator.get("/api/credits/teams/alice/auto-top-up")
    assert code(answer) == (404, "payments_off")


def test_a_stranger_finds_no_payment(
    stripe: StripeDouble, live: Live, alice: factories.Company
) -> None:
    payment = paying.begun(alice.team)
    bob = factories.team(name="bob")
    key = keys.issue(team=bob, actor="test")[1]
    with live.client({"Authorization": f"Bearer {key}"}) as http:
        assert http.get(f"/api/credits/payments/{payment.pk}").status_code == 404
        body = {"package_id": payment.package_id, "team_id": "alice"}
        assert code(http.post("/api/credits/checkout", json=body)) == (403, "team_mismatch")
    with live.client() as nobody:
        assert nobody.get("/api/credits/packages").status_code == 401


def test_a_shared_wallet_is_filled_by_operators(
    stripe: StripeDouble, live: Live, http: httpx.Client, alice: factories.Company, package: Package
) -> None:
    alice.team.draws_on = "organization"
    alice.team.save()
    body = {"package_id": package.pk, "team_id": "alice"}
    assert code(http.post("/api/credits/checkout", json=body)) == (403, "wallet_is_shared")
    key = operators.issue(user=person("olga", "owner"), actor="test")[1]
    with live.client({"Authorization": f"Bearer {key}"}) as operator:
        answer = operator.post("/api/credits/checkout", json=body)
    assert answer.status_code == 201
    payment = Payment.objects.get()
    assert payment.account.organization == alice.team.organization
    customer = stripe.objects[stripe.objects[payment.session_id]["customer"]]
    assert customer["metadata"]["saas_organization"] == "alice-org"


def test_an_operator_sets_an_auto_top_up(
    stripe: StripeDouble, live: Live, alice: factories.Company, package: Package
) -> None:
    key = operators.issue(user=person("fred", "finance"), actor="test")[1]
    at = "/api/credits/teams/alice/auto-top-up"
    terms = {"package_id": package.pk, "threshold": 50, "monthly_ceiling_minor": 9000}
    with live.client({"Authorization": f"Bearer {key}"}) as operator:
        assert operator.get(at).status_code == 404
        assert code(operator.put(at, json=terms)) == (409, "no_card")
        url = operator.post(f"{at}/card", json={}).json()["url"]
        session = stripe.pay(url.rpartition("/")[2])
        paying.deliver(stripe, "checkout.session.completed", session)
        answer = operator.put(at, json=terms)
    assert answer.json() == {
        "team_id": "alice",
        "state": "on",
        "is_on": True,
        "package_id": package.pk,
        "threshold": 50,
        "monthly_ceiling_minor": 9000,
        "card": "visa 4242",
        "last_error": "",
    }
    assert AutoTopUp.objects.get().is_on
