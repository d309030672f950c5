"""What operators do about a team's payments: a link to send, the auto top-up, a card for it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from payments import auto, checkout, currencies, stripe_api
from payments.models import AutoTopUp, Payment
from saas_litellm.base import idempotency
from saas_litellm.base.admin import (
    AmountField,
    PageForm,
    ShownOnce,
    actor,
    form_page,
    object_page,
    secret_page,
)
from saas_litellm.customers import page, wallets
from teams.models import Team


def _where_sold(permission: str) -> Callable[..., bool]:
    """A has_..._permission method: nothing of this is offered where credits are not sold online."""

    def has_permission(model_admin: Any, request: HttpRequest, obj: Any = None) -> bool:
        return stripe_api.is_on() and bool(request.user.has_perm(permission))

    return has_permission


def _packages() -> list[tuple[int, str]]:
    return [(sold.pk, f"{sold} ({sold.price})") for sold in checkout.for_sale()]


class LinkForm(PageForm):
    package = forms.TypedChoiceField(coerce=int, choices=_packages, widget=UnfoldAdminSelectWidget)


class TopUpForm(PageForm):
    package = forms.TypedChoiceField(coerce=int, choices=_packages, widget=UnfoldAdminSelectWidget)
    threshold = AmountField(
        label="Below, credits",
        help_text="When the balance falls below this, the package is bought.",
    )
    ceiling = forms.DecimalField(
        min_value=Decimal(0),
        max_digits=12,
        decimal_places=3,
        label="At most, each month",
        widget=UnfoldAdminTextInputWidget,
        help_text="In the package's currency. Months are UTC.",
    )
    is_on = forms.BooleanField(required=False, label="On", widget=UnfoldBooleanSwitchWidget)


class CardForm(PageForm):
    """Nothing to fill in: sending it asks Stripe for the page."""


class PaymentPages:
    """Pages of a team; mixed into its admin."""

    has_sell_permission = _where_sold("payments.add_payment")
    has_auto_top_up_permission = _where_sold("payments.change_autotopup")

    @object_page(description="Payment link", path="payment-link", permission="sell")
    def payment_link(self, request: HttpRequest, object_id: str) -> HttpResponse:
        team = _team(object_id)

        def act(given: dict[str, Any]) -> ShownOnce:
            payment = checkout.begin(
                team=team,
                account=wallets.account_of(team),
                package=checkout.find_package(given["package"]),
                actor=actor(request),
                kind=Payment.Kind.LINK,
                claim=idempotency.claim_of(
                    caller=actor(request),
                    act=f"{request.path} {given['package']}",
                    key=given["idempotency_key"],
                ),
            )
            return _link_page(
                self,
                request,
                team,
                title=f"Payment link for {payment.package.name}, {payment.price}",
                url=checkout.link_of(payment),
                note="Send it to whoever pays. It can be paid once and does not end by itself;"
                " switch it off in Stripe's dashboard. The credits are there once it is paid.",
            )

        return form_page(
            self,
            request,
            form_class=LinkForm,
            title=f"A payment link for {team}",
            note=f"Its credits come into the wallet of {wallets.payer_of(team)}.",
            button="Make the link",
            act=act,
            back=page.address(team),
        )

    @object_page(description="Auto top-up", path="auto-top-up", permission="auto_top_up")
    def auto_top_up(self, request: HttpRequest, object_id: str) -> HttpResponse:
        team = _team(object_id)

        def act(given: dict[str, Any]) -> str:
            package = checkout.find_package(given["package"])
            top_up = auto.configure(
                team=team,
                account=wallets.account_of(team),
                package=package,
                threshold_nanocredits=given["threshold"],
                monthly_ceiling_minor=int(
                    given["ceiling"].scaleb(currencies.decimals(package.currency))
                ),
                is_on=given["is_on"],
                actor=actor(request),
            )
            return f"The auto top-up of {wallets.payer_of(team)} is {top_up.state}."

        found = _top_up(team)
        return form_page(
            self,
            request,
            form_class=TopUpForm,
            title=f"Auto top-up of {wallets.payer_of(team)}",
            note=f"It pays with the card {found.card}."
            if found and found.card
            else "No card is saved yet: it can be on once one is.",
            button="Save",
            initial=_terms(found),
            act=act,
            back=page.address(team),
        )

    @object_page(description="Save a card", path="save-card", permission="auto_top_up")
    def card_link(self, request: HttpRequest, object_id: str) -> HttpResponse:
        team = _team(object_id)

        def act(given: dict[str, Any]) -> ShownOnce:
            portal = settings.PUBLIC_URL + reverse("portal:auto_top_up", args=[team.slug])
            url = checkout.card_url(team=team, account=wallets.account_of(team), page=portal)
            note = "Send it to the owner of the card: nothing is charged there. It ends in a day."
            return _link_page(
                self, request, team, title="A page to save a card", url=url, note=note
            )

        return form_page(
            self,
            request,
            form_class=CardForm,
            title=f"Save a card for {wallets.payer_of(team)}",
            note="The owner of the card enters it at Stripe; its number never comes here.",
            button="Make the link",
            act=act,
            back=page.address(team),
        )


def _link_page(
    model_admin: Any, request: HttpRequest, team: Team, *, title: str, url: str, note: str
) -> ShownOnce:
    return secret_page(
        model_admin,
        request,
        title=title,
        secret=url,
        note=note,
        back=page.address(team),
        again=title,
    )


def _team(object_id: str) -> Team:
    return get_object_or_404(Team.objects.select_related("organization"), pk=object_id)


def _top_up(team: Team) -> AutoTopUp | None:
    account = wallets.find(team)
    return AutoTopUp.objects.select_related("package").filter(account=account).first()


def _terms(top_up: AutoTopUp | None) -> dict[str, Any]:
    if top_up is None or top_up.package is None:
        return {}
    places = currencies.decimals(top_up.package.currency)
    return {
        "package": top_up.package_id,
        "threshold": top_up.threshold_nanocredits,
        "ceiling": Decimal(top_up.monthly_ceiling_minor).scaleb(-places),
        "is_on": top_up.is_on,
    }
