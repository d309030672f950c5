"""Pages that change a wallet, for whichever page of the admin they are opened from.

Each takes ``account``, called when it acts: a team's wallet appears on first use, and not because
somebody looked at a form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from billing import ledger
from billing.models import Account, Grant
from saas_litellm.base import shown
from saas_litellm.base.admin import AmountField, MomentField, PageForm, actor, form_page
from saas_litellm.base.money import from_nano

_SOLD = ("purchase", "promotional", "subscription")


def reason_field(*, required: bool = True) -> forms.CharField:
    return forms.CharField(widget=UnfoldAdminTextInputWidget, max_length=500, required=required)


class TopUpForm(PageForm):
    credits = AmountField(help_text="A decimal number.")
    paid_usd = AmountField(initial="0", label="Paid, USD")
    kind = forms.ChoiceField(
        choices=[choice for choice in Grant.Kind.choices if choice[0] in _SOLD],
        widget=UnfoldAdminSelectWidget,
        initial="purchase",
        required=False,
    )
    expires_at = MomentField(required=False, help_text="UTC; empty: never.")
    payment_reference = forms.CharField(
        widget=UnfoldAdminTextInputWidget,
        max_length=ledger.LONGEST_REFERENCE,
        required=False,
        help_text="An invoice's or a transfer's number; it stands on the receipt.",
    )
    reason = reason_field()


class AdjustForm(PageForm):
    credits = AmountField(help_text="Signed. What is not there to take is booked as a loss.")
    reason = reason_field()


class CreditLimitForm(PageForm):
    credit_limit = AmountField(help_text="How far below zero it may go; 0 is prepaid.")
    reason = reason_field(required=False)


def top_up(
    model_admin: Any,
    request: HttpRequest,
    *,
    account: Callable[[], Account],
    whose: str,
    back: str = "",
) -> HttpResponse:
    def act(given: dict[str, Any]) -> str:
        entry = ledger.grant(
            account=account(),
            amount_nanocredits=given["credits"],
            paid_nano_usd=given["paid_usd"],
            kind=given["kind"] or Grant.Kind.PURCHASE,
            expires_at=given["expires_at"],
            reason=given["reason"],
            reference=ledger.reference_of(given["payment_reference"]),
            idempotency_key=given["idempotency_key"],
            actor=actor(request),
        )
        return (
            f"Added {shown.counted(from_nano(entry.amount_nanocredits), 'credit')}; the balance after is"
            f" {from_nano(entry.balance_after_nanocredits)}."
        )

    return form_page(
        model_admin,
        request,
        form_class=TopUpForm,
        title=f"Top up the {whose}",
        button="Add credits",
        initial={"paid_usd": "0"},
        act=act,
        back=back,
    )


def adjust(
    model_admin: Any,
    request: HttpRequest,
    *,
    account: Callable[[], Account],
    whose: str,
    back: str = "",
) -> HttpResponse:
    def act(given: dict[str, Any]) -> str:
        adjusted = ledger.adjust(
            account=account(),
            amount_nanocredits=given["credits"],
            reason=given["reason"],
            idempotency_key=given["idempotency_key"],
            actor=actor(request),
        )
        moved = from_nano(adjusted.entry.amount_nanocredits if adjusted.entry else 0)
        lost = from_nano(adjusted.loss.amount_nanocredits if adjusted.loss else 0)
        return f"Adjusted by {shown.counted(moved, 'credit')}; {lost} could not be taken."

    return form_page(
        model_admin,
        request,
        form_class=AdjustForm,
        title=f"Adjust the {whose}",
        button="Adjust",
        act=act,
        back=back,
    )


def credit_limit(
    model_admin: Any,
    request: HttpRequest,
    *,
    account: Callable[[], Account],
    whose: str,
    now: int = 0,
    back: str = "",
) -> HttpResponse:
    """``now``: the limit as it stands, in nanocredits."""

    def act(given: dict[str, Any]) -> str:
        after = ledger.set_credit_limit(
            account=account(),
            limit_nanocredits=given["credit_limit"],
            reason=given["reason"],
            actor=actor(request),
        )
        return f"The credit limit is {from_nano(after.credit_limit)} credits."

    return form_page(
        model_admin,
        request,
        form_class=CreditLimitForm,
        title=f"Credit limit of the {whose}",
        button="Set the limit",
        initial={"credit_limit": str(from_nano(now))},
        act=act,
        back=back,
        is_once=True,
    )
