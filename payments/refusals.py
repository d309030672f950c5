from __future__ import annotations

from saas_litellm.base.refusals import Conflict, Forbidden, Invalid, NotFound, Unavailable


class PaymentsOff(NotFound):
    code = "payments_off"
    default_message = (
        "Credits are not sold online here. Ask the operator for credits; operators switch this on"
        " with STRIPE_SECRET_KEY and STRIPE_WEBHOOK_SECRET."
    )


class StripeAway(Unavailable):
    code = "payment_provider_unavailable"
    default_message = "The payment provider does not answer right now. Try again in a minute."


class StripeRefused(Unavailable):
    code = "payment_provider_error"
    default_message = "The payment provider did not accept this. The operator has been told."


class BadSignature(Invalid):
    status = 400
    code = "invalid_signature"
    default_message = "This is not signed by Stripe with STRIPE_WEBHOOK_SECRET, or is too old."


class SharedWallet(Forbidden):
    code = "wallet_is_shared"
    default_message = (
        "This team draws on its organization's wallet, which other teams spend too. The operator"
        " sells credits for it."
    )


class NotForSale(Invalid):
    default_message = "There is no such package for sale."


class NoCard(Conflict):
    code = "no_card"
    default_message = "Save a card first: an auto top-up pays with it."


class PaymentMismatch(Conflict):
    """What was paid is not what was offered: nothing is booked, an operator decides."""

    code = "payment_mismatch"
