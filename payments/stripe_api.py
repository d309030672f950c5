"""Stripe over HTTP: the only module that knows its library. What comes back is plain values.

Nothing here writes to the database, and none of it runs inside a transaction: the connection is
given back while Stripe is asked. Each POST carries an idempotency key of the row that it is for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import stripe
from django.conf import settings
from django.db import connection

from payments.refusals import BadSignature, PaymentsOff, StripeAway, StripeRefused
from saas_litellm.base import alarms

# Seconds to connect, and to wait for an answer.
TIMEOUT = (5.0, 20.0)
# Names what is ours among the objects of a Stripe account that others may use too.
PAYMENT_KEY = "saas_payment"
CUSTOMER_KEY = "saas_customer"
# A refund in one of these has left, and so has a dispute's amount.
_OUT = {
    "refund": frozenset({"pending", "requires_action", "succeeded"}),
    "dispute": frozenset({"needs_response", "under_review", "lost"}),
}
# The bank wants the owner of the card to confirm.
NEEDS_PERSON = "authentication_required"
stripe.enable_telemetry = False


class Declined(Exception):
    """A saved card was not charged, and why; ``intent_id`` is what it was tried with, if anything."""

    def __init__(self, *, code: str, message: str, intent_id: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.intent_id = code, message, intent_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A refund or a dispute. ``is_out``: its amount has left our balance, in the smallest unit."""

    kind: str
    stripe_id: str
    amount_minor: int
    status: str
    reason: str

    @property
    def is_out(self) -> bool:
        return is_out(self.kind, self.status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """A PaymentIntent as Stripe has it now, with everything that came back of it."""

    intent_id: str
    status: str
    payment_id: str
    currency: str
    received_minor: int
    charge_id: str = ""
    receipt_url: str = ""
    card: str = ""
    payment_method_id: str = ""
    failure_code: str = ""
    failure: str = ""
    reversals: list[Seen] = field(default_factory=list)

    @property
    def is_paid(self) -> bool:
        return self.status == "succeeded"

    @property
    def returned_minor(self) -> int:
        out = sum(one.amount_minor for one in self.reversals if one.is_out)
        return min(out, self.received_minor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A Checkout session: what it is for, and what it came to."""

    session_id: str
    mode: str
    status: str
    payment_id: str
    customer_key: str
    intent_id: str
    setup_intent_id: str
    created: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    payment_method_id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    event_id: str
    type: str
    object_id: str
    intent_id: str
    created: int


def is_out(kind: str, status: str) -> bool:
    """Whether a refund or a dispute of that status has left our balance."""
    return status in _OUT[kind]


def is_on() -> bool:
    return bool(settings.STRIPE_SECRET_KEY and settings.STRIPE_WEBHOOK_SECRET)


def require_on() -> None:
    """Raises PaymentsOff."""
    if not is_on():
        raise PaymentsOff


def event_of(body: bytes, signature: str) -> Event:
    """The event in a delivery, once Stripe's library has verified it. Raises BadSignature."""
    try:
        event = stripe.Webhook.construct_event(body, signature, settings.STRIPE_WEBHOOK_SECRET)
    except (ValueError, stripe.SignatureVerificationError) as error:
        raise BadSignature from error
    given = _plain(event)
    about = given.get("data", {}).get("object", {})
    object_id = str(about.get("id") or "")
    is_intent = about.get("object") == "payment_intent"
    return Event(
        event_id=given["id"],
        type=given["type"],
        object_id=object_id,
        intent_id=object_id if is_intent else _id(about.get("payment_intent")),
        created=int(given["created"]),
    )


def create_customer(*, name: str, metadata: Mapping[str, str], key: str) -> str:
    """Its id. Raises StripeAway, StripeRefused."""
    made = _ask(
        lambda client: client.v1.customers.create(
            {"name": name, "metadata": dict(metadata)}, {"idempotency_key": key}
        )
    )
    return str(made["id"])


def create_session(params: dict[str, Any], *, key: str) -> tuple[str, str]:
    """A Checkout session's id and its URL. Raises StripeAway, StripeRefused."""
    made = _ask(
        lambda client: client.v1.checkout.sessions.create(params, {"idempotency_key": key})  # type: ignore[arg-type]
    )
    return str(made["id"]), str(made["url"])


def create_link(params: dict[str, Any], *, key: str) -> tuple[str, str]:
    """A payment link's id and its URL. Raises StripeAway, StripeRefused."""
    made = _ask(
        lambda client: client.v1.payment_links.create(params, {"idempotency_key": key})  # type: ignore[arg-type]
    )
    return str(made["id"]), str(made["url"])


def charge_saved_card(params: dict[str, Any], *, key: str) -> str:
    """Charge off-session; the PaymentIntent's id. Raises Declined, StripeAway, StripeRefused."""

    def charge(client: stripe.StripeClient) -> Any:
        return client.v1.payment_intents.create(
            {**params, "off_session": True, "confirm": True},  # type: ignore[typeddict-item]
            {"idempotency_key": key},
        )

    try:
        return str(_ask(charge)["id"])
    except stripe.CardError as error:
        answered: Any = error.json_body or {}
        body = answered.get("error", {})
        raise Declined(
            code=str(body.get("code") or body.get("decline_code") or "card_declined"),
            message=error.user_message or "The card was declined.",
            intent_id=_id(body.get("payment_intent")),
        ) from error


def cancel(intent_id: str) -> None:
    """So that nobody completes it later. One that has succeeded or ended stays as it is."""
    try:
        _ask(lambda client: client.v1.payment_intents.cancel(intent_id))
    except StripeRefused:
        return


def intent_of(*, customer_id: str, payment_id: str, since: int) -> str:
    """The PaymentIntent that was made for a payment, "" for none. Raises StripeAway."""

    def find(client: stripe.StripeClient) -> Any:
        found = client.v1.payment_intents.list(
            {"customer": customer_id, "created": {"gte": since}, "limit": 100}
        )
        for intent in found.auto_paging_iter():
            if _plain(intent).get("metadata", {}).get(PAYMENT_KEY) == payment_id:
                return intent
        return {"id": ""}

    return str(_ask(find)["id"])


def truth_of(intent_id: str) -> Truth:
    """Everything about a PaymentIntent, as it is now. Raises StripeAway, StripeRefused."""

    def look(client: stripe.StripeClient) -> Any:
        intent = client.v1.payment_intents.retrieve(intent_id, {"expand": ["latest_charge"]})
        refunds = client.v1.refunds.list({"payment_intent": intent_id, "limit": 100})
        disputes = client.v1.disputes.list({"payment_intent": intent_id, "limit": 100})
        return {
            "intent": _plain(intent),
            "refund": [_plain(one) for one in refunds.auto_paging_iter()],
            "dispute": [_plain(one) for one in disputes.auto_paging_iter()],
        }

    found = _ask(look)
    intent = found["intent"]
    charge = intent.get("latest_charge")
    charge = charge if isinstance(charge, dict) else {}
    wrong = intent.get("last_payment_error") or {}
    received = int(intent.get("amount_received") or 0)
    return Truth(
        intent_id=intent["id"],
        status=intent["status"],
        payment_id=str((intent.get("metadata") or {}).get(PAYMENT_KEY, "")),
        currency=intent["currency"],
        received_minor=received,
        charge_id=str(charge.get("id", "")),
        receipt_url=str(charge.get("receipt_url") or ""),
        card=_card_name(charge.get("payment_method_details") or {}),
        payment_method_id=_id(intent.get("payment_method")),
        failure_code=str(wrong.get("code") or "")[:100],
        failure=str(wrong.get("message") or "")[:300],
        reversals=[
            _seen(kind, one, intent["currency"], received)
            for kind in ("refund", "dispute")
            for one in found[kind]
        ],
    )


def session_of(session_id: str) -> Session:
    """Raises StripeAway, StripeRefused."""
    found = _ask(lambda client: client.v1.checkout.sessions.retrieve(session_id))
    metadata = found.get("metadata") or {}
    return Session(
        session_id=found["id"],
        mode=found["mode"],
        status=str(found.get("status") or ""),
        payment_id=str(metadata.get(PAYMENT_KEY, "")),
        customer_key=str(metadata.get(CUSTOMER_KEY, "")),
        intent_id=_id(found.get("payment_intent")),
        setup_intent_id=_id(found.get("setup_intent")),
        created=int(found["created"]),
    )


def saved_card(setup_intent_id: str) -> Card | None:
    """The card that a set-up saved; None when it saved none. Raises StripeAway, StripeRefused."""
    found = _ask(
        lambda client: client.v1.setup_intents.retrieve(
            setup_intent_id, {"expand": ["payment_method"]}
        )
    )
    method = found.get("payment_method")
    if found.get("status") != "succeeded" or not isinstance(method, dict):
        return None
    return Card(payment_method_id=method["id"], name=_card_name(method))


def _ask(question: Callable[[stripe.StripeClient], Any]) -> dict[str, Any]:
    """Ask without holding a database connection, and say in our words what went wrong."""
    require_on()
    if connection.vendor == "postgresql" and not connection.in_atomic_block:
        connection.close()
    try:
        return _plain(question(_client()))
    except stripe.CardError:
        raise
    except (stripe.APIConnectionError, stripe.RateLimitError) as error:
        raise StripeAway from error
    except stripe.StripeError as error:
        if (error.http_status or 500) >= 500 or error.http_status == 409:
            raise StripeAway from error
        alarms.sound(
            kind="stripe.refused",
            subject=type(error).__name__,
            detail=f"{error.code or ''} {error.user_message or ''}".strip()[:900],
        )
        raise StripeRefused from error


def _client() -> stripe.StripeClient:
    return _client_of(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE, TIMEOUT)


@lru_cache(maxsize=4)
def _client_of(key: str, api_base: str, timeout: tuple[float, float]) -> stripe.StripeClient:
    return stripe.StripeClient(
        key,
        base_addresses={"api": api_base} if api_base else {},
        http_client=stripe.RequestsClient(timeout=timeout),
        max_network_retries=1,
    )


def _plain(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else dict(found.to_dict())


def _id(reference: Any) -> str:
    """Of an object that is expanded, or named by its id, or not there."""
    if isinstance(reference, Mapping):
        return str(reference.get("id") or "")
    return str(reference or "")


def _seen(kind: str, one: dict[str, Any], currency: str, received: int) -> Seen:
    """What a bank withdraws in another currency than was paid counts as the whole payment."""
    is_same = one["currency"] == currency
    return Seen(
        kind=kind,
        stripe_id=one["id"],
        amount_minor=int(one["amount"]) if is_same else received,
        status=str(one.get("status") or ""),
        reason=str(one.get("reason") or "")[:100],
    )


def _card_name(method: Mapping[str, Any]) -> str:
    """Brand and last digits of a card; another way of paying by its name."""
    card = method.get("card")
    if isinstance(card, Mapping):
        return f"{card.get('brand', 'card')} {card.get('last4', '')}".strip()
    return str(method.get("type") or "")[:60]
