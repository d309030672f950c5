"""Beginning a purchase: a Checkout session for somebody who is there, a link for somebody who is not.

A payment is a row before Stripe hears of it, and its id is the idempotency key there: the same
request again leads to the same session.
"""

from __future__ import annotations

import uuid
from typing import Any
from urllib.parse import urlsplit

from django.db import transaction

from billing.models import Account
from payments import customers, stripe_api
from payments.models import AutoTopUp, Package, Payment
from payments.refusals import NotForSale
from saas_litellm.base import audit, clock, idempotency
from saas_litellm.base.idempotency import Claim
from saas_litellm.base.refusals import Invalid
from teams import keys
from teams.models import Team


def for_sale() -> list[Package]:
    """What can be bought now, in order."""
    return list(Package.objects.filter(is_active=True))


def find_package(package_id: int) -> Package:
    """Raises NotForSale."""
    package = Package.objects.filter(pk=package_id, is_active=True).first()
    if package is None:
        raise NotForSale(param="package_id")
    return package


def begin(
    *,
    team: Team,
    account: Account,
    package: Package,
    actor: str,
    kind: str = Payment.Kind.CHECKOUT,
    saves_card: bool = False,
    claim: Claim | None = None,
) -> Payment:
    """A payment that nobody has paid yet. The same claim again is the same payment.

    Raises PaymentsOff, what a closed team raises, or idempotency's refusals.
    """
    stripe_api.require_on()
    with transaction.atomic():
        keys.require_open(team)
        record = idempotency.find(claim) if claim else None
        if record is not None:
            return Payment.objects.get(pk=record.reference)
        payment = Payment.objects.create(
            account=account,
            team=team,
            kind=kind,
            saves_card=saves_card,
            created_by=actor[:200],
            created_at=clock.now(),
            **package.figures(),
        )
        if claim is not None:
            idempotency.take(claim, reference=str(payment.pk))
        audit.record(
            actor=actor,
            action="payment.begin",
            target=payment.reference,
            after={"package": str(package), "price": payment.price, "kind": kind},
            team=team.slug,
        )
    return payment


def url_of(payment: Payment, *, success_url: str, cancel_url: str) -> str:
    """Where a payment is paid: a Checkout session, made on first asking.

    Raises StripeAway, StripeRefused, or Invalid for an address that is none.
    """
    if payment.url:
        return payment.url
    for name, url in (("success_url", success_url), ("cancel_url", cancel_url)):
        _check_url(url, param=name)
    intent: dict[str, Any] = {
        "metadata": metadata_of(payment),
        "description": _description(payment),
    }
    if payment.saves_card:
        intent["setup_future_usage"] = "off_session"
    session_id, url = stripe_api.create_session(
        {
            "mode": "payment",
            "customer": customers.stripe_id_of(payment.account),
            "client_reference_id": str(payment.pk),
            "line_items": [_line(payment)],
            "metadata": metadata_of(payment),
            "payment_intent_data": intent,
            "success_url": success_url,
            "cancel_url": cancel_url,
        },
        key=f"checkout-{payment.pk}",
    )
    Payment.objects.filter(pk=payment.pk).update(session_id=session_id, url=url)
    payment.session_id, payment.url = session_id, url
    return url


def link_of(payment: Payment) -> str:
    """A payment link: it can be paid once, by whoever has it, and does not end by itself.

    Raises StripeAway, StripeRefused.
    """
    if payment.url:
        return payment.url
    link_id, url = stripe_api.create_link(
        {
            "line_items": [_line(payment)],
            "metadata": metadata_of(payment),
            "payment_intent_data": {
                "metadata": metadata_of(payment),
                "description": _description(payment),
            },
            "restrictions": {"completed_sessions": {"limit": 1}},
        },
        key=f"link-{payment.pk}",
    )
    Payment.objects.filter(pk=payment.pk).update(link_id=link_id, url=url)
    payment.link_id, payment.url = link_id, url
    return url


def card_url(*, team: Team, account: Account, page: str) -> str:
    """Where a card is saved for the auto top-up: a Checkout session that charges nothing.

    ``page`` is where it leads to afterwards. Raises StripeAway, StripeRefused.
    """
    AutoTopUp.objects.get_or_create(account=account, defaults={"team": team})
    _, url = stripe_api.create_session(
        {
            "mode": "setup",
            "customer": customers.stripe_id_of(account),
            "payment_method_types": ["card"],
            "metadata": {
                stripe_api.CUSTOMER_KEY: str(customers.of(account).key),
                "saas_team": team.slug,
            },
            "success_url": page,
            "cancel_url": page,
        },
        # Each click is a session of its own; one that nobody uses ends by itself.
        key=f"card-{uuid.uuid4()}",
    )
    return url


def metadata_of(payment: Payment) -> dict[str, str]:
    """What Stripe's objects carry of ours: the payment's id is how they are found again."""
    return {
        stripe_api.PAYMENT_KEY: str(payment.pk),
        "saas_team": payment.team.slug,
        "saas_organization": payment.team.organization.slug,
    }


def _line(payment: Payment) -> dict[str, Any]:
    return {
        "quantity": 1,
        "price_data": {
            "currency": payment.currency,
            "unit_amount": payment.amount_minor,
            "product_data": {"name": payment.package.name},
        },
    }


def _description(payment: Payment) -> str:
    return f"{payment.package.name} for {payment.team.name}"[:500]


def _check_url(url: str, *, param: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc or len(url) > 2000:
        raise Invalid(f"{param} is a whole address, beginning with https://.", param=param)
