"""A package for sale, payments of it, and Stripe's events as they are delivered."""

from __future__ import annotations

from typing import Any

from billing import ledger
from billing.models import Account
from payments import auto, checkout, events, stripe_api
from payments.models import AutoTopUp, Package, Payment, StripeEvent
from saas_litellm.base.money import NANO
from teams.models import Team
from tests.providers.stripe_double import StripeDouble

PAGE = "https://app.example.com/credits"


def package(**more: Any) -> Package:
    """500 credits for 45.00 USD."""
    given = {"name": "Medium", "amount_minor": 4500, "nanocredits": 500 * NANO, **more}
    return Package.objects.get_or_create(name=given.pop("name"), defaults=given)[0]


def begun(team: Team, **more: Any) -> Payment:
    """A payment whose Checkout session is open."""
    payment = checkout.begin(
        team=team,
        account=ledger.account_of(team),
        package=more.pop("package", None) or package(),
        actor="test",
        **more,
    )
    checkout.url_of(payment, success_url=PAGE, cancel_url=PAGE)
    return payment


def bought(stripe: StripeDouble, team: Team, **more: Any) -> Payment:
    """One that is paid, and booked."""
    payment = begun(team, **more)
    deliver(stripe, "checkout.session.completed", stripe.pay(payment.session_id))
    return fresh(payment)


def deliver(stripe: StripeDouble, type_: str, about: dict[str, Any]) -> StripeEvent:
    """An event as the webhook takes it: signed, verified, kept, applied."""
    return redeliver(stripe, stripe.event(type_, about))


def redeliver(stripe: StripeDouble, event: dict[str, Any]) -> StripeEvent:
    body, signature = stripe.signed(event)
    return events.apply(events.take(stripe_api.event_of(body.encode(), signature)))


def with_auto_top_up(stripe: StripeDouble, team: Team, **more: Any) -> AutoTopUp:
    """A saved card, and the switch on: 500 credits below 100, at most 200.00 USD a month."""
    account = ledger.account_of(team)
    url = checkout.card_url(team=team, account=account, page=PAGE)
    deliver(stripe, "checkout.session.completed", stripe.pay(url.rpartition("/")[2]))
    given = {
        "package": package(),
        "threshold_nanocredits": 100 * NANO,
        "monthly_ceiling_minor": 20_000,
        "is_on": True,
        **more,
    }
    return auto.configure(team=team, account=account, actor="test", **given)


def fresh(payment: Payment) -> Payment:
    return Payment.objects.select_related("entry__grant").get(pk=payment.pk)


def balance(team: Team) -> int:
    """Whole credits."""
    account: Account = ledger.account_of(team)
    account.refresh_from_db()
    whole, rest = divmod(account.balance_nanocredits, NANO)
    assert rest == 0
    return whole
