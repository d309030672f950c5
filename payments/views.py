"""What a team asks about buying credits, and Stripe's own deliveries."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import reverse
from pydantic import BaseModel, Field

from billing import ledger
from billing.models import Account
from payments import checkout, customers, events, stripe_api
from payments.models import Package, Payment
from payments.refusals import PaymentMismatch
from saas_litellm.base import http
from saas_litellm.base.bridge import outside
from saas_litellm.base.idempotency import Claim
from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import MethodNotAllowed, NotFound
from teams.api import Body, Caller, Query, documented, endpoint, guarded

_URL = Field(None, max_length=2000, description="Where Checkout leads to; default: the portal.")


class BuyCredits(Body):
    package_id: int = Field(ge=1)
    team_id: str | None = Field(None, max_length=63)
    success_url: str | None = _URL
    cancel_url: str | None = _URL


class Packages(Query):
    team_id: str | None = Field(None, max_length=63)


class PackageView(BaseModel):
    package_id: int
    name: str
    description: str
    price: str
    amount_minor: int
    currency: str
    credits: Decimal
    expires_after_days: int | None


class PackageList(BaseModel):
    packages: list[PackageView]


class CheckoutView(BaseModel):
    payment_id: UUID
    url: str


class PaymentView(BaseModel):
    payment_id: UUID
    state: str
    package: str
    price: str
    credits: Decimal
    receipt_url: str


class Received(BaseModel):
    received: bool


@endpoint("GET", query=Packages, answer=PackageList, summary="List the credits for sale")
def list_packages(caller: Caller, query: Packages) -> dict[str, Any]:
    """In the order in which the operator shows them; prices are in the smallest unit, too."""
    stripe_api.require_on()
    return {"packages": [_package(package) for package in checkout.for_sale()]}


@endpoint(
    "POST",
    body=BuyCredits,
    answer=CheckoutView,
    status=201,
    asks_outside=True,
    summary="Buy credits",
)
def buy_credits(
    caller: Caller, body: BuyCredits, *, claim: Claim | None
) -> dict[str, Any] | HttpResponse:
    """The address of a payment page for one package. Credits are there once it is paid.

    A team buys for its own wallet; an operator's key for whichever wallet the team draws on.
    """
    stripe_api.require_on()
    payment = checkout.begin(
        team=caller.team,
        account=_account(caller),
        package=checkout.find_package(body.package_id),
        actor=caller.actor,
        claim=claim,
    )
    is_replay = bool(payment.url)
    page = settings.PUBLIC_URL + reverse("portal:purchase", args=[caller.team.slug, payment.pk])
    url = checkout.url_of(
        payment, success_url=body.success_url or page, cancel_url=body.cancel_url or page
    )
    answer = {"payment_id": payment.pk, "url": url}
    if is_replay:
        return http.answer(answer, status=201, headers={"Idempotent-Replayed": "true"})
    return answer


@endpoint(
    "GET",
    query=Packages,
    answer=PaymentView,
    summary="Show a payment",
    owner_slug=lambda path: _owner_slug(path["payment_id"]),
)
def show_payment(caller: Caller, query: Packages, payment_id: UUID) -> dict[str, Any]:
    """Whether it is paid: open, paid, failed or ended."""
    stripe_api.require_on()
    payment = (
        Payment.objects.select_related("package").filter(pk=payment_id, team=caller.team).first()
    )
    if payment is None:
        raise NotFound("This team has no such payment.")
    return {
        "payment_id": payment.pk,
        "state": payment.state,
        "package": payment.package.name,
        "price": payment.price,
        "credits": from_nano(payment.nanocredits),
        "receipt_url": payment.receipt_url,
    }


async def _webhook(request: HttpRequest, **path: Any) -> HttpResponseBase:
    return await guarded(request, _receive, path)


async def _receive(request: HttpRequest, path: dict[str, Any]) -> HttpResponse:
    stripe_api.require_on()
    if request.method != "POST":
        raise MethodNotAllowed
    event = stripe_api.event_of(request.body, request.headers.get("Stripe-Signature", ""))
    kept = await outside(events.take, event)
    # A mismatch is kept as failed, with an alarm: sending it again changes nothing.
    with suppress(PaymentMismatch):
        await outside(events.apply, kept)
    return http.answer({"received": True})


def _stripe_webhook() -> Any:
    _webhook.__name__ = "stripe_webhook"
    return documented(
        _webhook,
        method="POST",
        request=None,
        answers={200: Received},
        summary="Receive Stripe's events",
        description=(
            "For Stripe alone, which signs each delivery. It is answered 200 once the event is"
            " applied, or kept because it is about nothing of ours; otherwise Stripe sends it again."
        ),
        security="",
    )


stripe_webhook = _stripe_webhook()


def _account(caller: Caller) -> Account:
    if caller.operator is not None:
        return ledger.account_of(caller.team)
    return customers.own_account(caller.team)


def _owner_slug(payment_id: UUID) -> str | None:
    return Payment.objects.filter(pk=payment_id).values_list("team__slug", flat=True).first()


def _package(package: Package) -> dict[str, Any]:
    return {
        "package_id": package.pk,
        "name": package.name,
        "description": package.description,
        "price": package.price,
        "amount_minor": package.amount_minor,
        "currency": package.currency,
        "credits": from_nano(package.nanocredits),
        "expires_after_days": package.lot_days,
    }
