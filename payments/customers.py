"""Whose wallet is paid for, who may pay for it, and what Stripe calls its owner."""

from __future__ import annotations

from billing import ledger
from billing.models import Account
from payments import stripe_api
from payments.models import Customer
from payments.refusals import SharedWallet
from teams.models import Team


def own_account(team: Team) -> Account:
    """The wallet that the team itself may buy credits for: its own.

    What it paid into its organization's would be spent by teams it does not see, and a card it
    saved would pay for their work: there operators sell. Raises SharedWallet.
    """
    if team.draws_on == Team.Wallet.ORGANIZATION:
        raise SharedWallet
    return ledger.account_of(team)


def of(account: Account) -> Customer:
    return Customer.objects.get_or_create(account=account)[0]


def stripe_id_of(account: Account) -> str:
    """Stripe's customer for a wallet's owner, made on first use. Raises StripeAway, StripeRefused."""
    customer = of(account)
    if customer.stripe_id:
        return customer.stripe_id
    owner = account.team or account.organization
    assert owner is not None
    kind = "team" if account.team_id else "organization"
    made = stripe_api.create_customer(
        name=owner.name,
        metadata={f"saas_{kind}": owner.slug, stripe_api.CUSTOMER_KEY: str(customer.key)},
        key=f"customer-{customer.key}",
    )
    Customer.objects.filter(pk=account.pk, stripe_id=None).update(stripe_id=made)
    return Customer.objects.values_list("stripe_id", flat=True).get(pk=account.pk) or made
