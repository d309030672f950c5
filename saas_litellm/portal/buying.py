"""Credits bought by a team itself: packages, a payment on its way, and the auto top-up.

For managers of teams with a wallet of their own. What a team paid into its organization's wallet
would be spent by teams that it does not see: for that one operators sell.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from billing import ledger
from payments import auto, checkout, currencies, events
from payments.models import AutoTopUp, Payment
from saas_litellm.base import idempotency
from saas_litellm.base.money import from_nano
from saas_litellm.base.refusals import NotFound, Refusal
from saas_litellm.portal.access import Visit, team_page
from saas_litellm.portal.forms import ActForm, CreditsField


class BuyForm(ActForm):
    package = forms.TypedChoiceField(coerce=int)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["package"].choices = _choices()  # type: ignore[attr-defined]


class AutoTopUpForm(forms.Form):
    is_on = forms.BooleanField(required=False, label="Buy credits automatically")
    threshold = CreditsField(label="When fewer credits are left than")
    package = forms.TypedChoiceField(coerce=int, label="Buy")
    ceiling = forms.DecimalField(
        min_value=Decimal(0),
        max_digits=12,
        decimal_places=3,
        label="At most, each month",
        help_text="In the currency of the package. Months are UTC; once it is reached, nothing more"
        " is bought before the next.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["package"].choices = _choices()  # type: ignore[attr-defined]


@team_page
def buy(visit: Visit) -> HttpResponse:
    """What is for sale. Choosing a package begins a payment and leads to its page."""
    _require_offered(visit)
    form = BuyForm(visit.request.POST or None)
    if visit.request.method == "POST" and form.is_valid():
        payment = _begun(visit, form.cleaned_data["package"], form.cleaned_data["idempotency_key"])
        return _to_purchase(visit, payment)
    given = {"packages": checkout.for_sale(), "form": form, "top_up": _top_up(visit)}
    return visit.show("portal/buy.html", given)


@team_page
def purchase(visit: Visit, payment_id: UUID) -> HttpResponse:
    """One payment: where it is paid, and then its receipt. Posting looks after it at Stripe."""
    _require_offered(visit)
    payment = (
        Payment.objects.select_related("package", "team__organization", "account", "entry__grant")
        .filter(pk=payment_id, account__team=visit.team)
        .first()
    )
    if payment is None:
        raise NotFound("There is no such payment.")
    if visit.request.method == "POST":
        if payment.session_id:
            events.look_at_session(payment.session_id)
        elif payment.state == Payment.State.OPEN:
            _ask_for_url(visit, payment)
        return redirect(visit.link("purchase", payment.pk))
    return visit.show("portal/purchase.html", {"payment": payment})


@team_page
def auto_top_up(visit: Visit) -> HttpResponse:
    """The switch, its terms and its card."""
    _require_offered(visit)
    top_up = _top_up(visit)
    form = AutoTopUpForm(visit.request.POST or None, initial=_terms(top_up))
    if visit.request.method == "POST" and form.is_valid() and _configured(visit, form):
        return visit.go("auto_top_up", "Saved.")
    given = {"form": form, "top_up": top_up, "has_packages": bool(checkout.for_sale())}
    return visit.show("portal/auto_top_up.html", given)


@require_POST
@team_page
def save_card(visit: Visit) -> HttpResponse:
    """The way to the page where a card is saved; nothing is charged there."""
    _require_offered(visit)
    page = settings.PUBLIC_URL + visit.link("auto_top_up")
    account = ledger.account_of(visit.team)
    url = checkout.card_url(team=visit.team, account=account, page=page)
    return visit.show("portal/card.html", {"url": url})


@require_POST
@team_page
def pay_by_hand(visit: Visit) -> HttpResponse:
    """What the bank would not let the card pay alone: paid by a person, and the card saved anew."""
    _require_offered(visit)
    top_up = _top_up(visit)
    if top_up is None or top_up.package_id is None or not top_up.needs_person:
        raise NotFound("There is nothing to confirm.")
    key = (
        f"confirm:{top_up.account.payments.filter(kind=Payment.Kind.AUTO).latest('created_at').pk}"
    )
    return _to_purchase(visit, _begun(visit, top_up.package_id, key, saves_card=True))


def _begun(visit: Visit, package_id: int, key: str, *, saves_card: bool = False) -> Payment:
    """The same form and package again are the same payment."""
    act = f"{visit.request.path} {package_id}"
    payment = checkout.begin(
        team=visit.team,
        account=ledger.account_of(visit.team),
        package=checkout.find_package(package_id),
        actor=visit.actor,
        saves_card=saves_card,
        claim=idempotency.claim_of(caller=visit.actor, act=act, key=key),
    )
    _ask_for_url(visit, payment)
    return payment


def _ask_for_url(visit: Visit, payment: Payment) -> None:
    page = settings.PUBLIC_URL + visit.link("purchase", payment.pk)
    checkout.url_of(payment, success_url=page, cancel_url=page)


def _to_purchase(visit: Visit, payment: Payment) -> HttpResponse:
    return redirect(visit.link("purchase", payment.pk))


def _configured(visit: Visit, form: AutoTopUpForm) -> bool:
    given = form.cleaned_data
    try:
        package = checkout.find_package(given["package"])
        ceiling = given["ceiling"].scaleb(currencies.decimals(package.currency))
        auto.configure(
            team=visit.team,
            account=ledger.account_of(visit.team),
            package=package,
            threshold_nanocredits=given["threshold"],
            monthly_ceiling_minor=int(ceiling),
            is_on=given["is_on"],
            actor=visit.actor,
        )
    except Refusal as refusal:
        form.add_error(None, refusal.message)
        return False
    return True


def _terms(top_up: AutoTopUp | None) -> dict[str, Any]:
    if top_up is None or top_up.package is None:
        return {}
    places = currencies.decimals(top_up.package.currency)
    return {
        "is_on": top_up.is_on,
        "threshold": from_nano(top_up.threshold_nanocredits),
        "package": top_up.package_id,
        "ceiling": Decimal(top_up.monthly_ceiling_minor).scaleb(-places),
    }


def _top_up(visit: Visit) -> AutoTopUp | None:
    return (
        AutoTopUp.objects.select_related("package", "account")
        .filter(account__team=visit.team)
        .first()
    )


def _choices() -> list[tuple[int, str]]:
    return [
        (package.pk, f"{package.credits} credits for {package.price}")
        for package in checkout.for_sale()
    ]


def _require_offered(visit: Visit) -> None:
    """Switched off, not a manager, or a shared wallet: then there is no such page."""
    if not visit.may_buy:
        raise NotFound("There is no such page.")
