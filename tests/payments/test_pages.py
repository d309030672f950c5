"""Buying in the portal, and selling in the admin."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from billing import ledger
from billing.models import Entry
from payments import auto
from payments.models import AutoTopUp, Package, Payment, StripeEvent
from payments.refusals import PaymentMismatch
from saas_litellm.base.models import AuditEntry
from saas_litellm.base.money import NANO
from teams.models import Team
from tests import factories, paying
from tests.portal import MIA, at, signed_in, text
from tests.providers.stripe_double import StripeDouble
from tests.teams.test_members import member
from tests.teams.test_roles import browser, person

pytestmark = [
    pytest.mark.any_database,
    pytest.mark.django_db,
    pytest.mark.usefixtures("pages_served"),
]


@pytest.fixture
def alice() -> Team:
    team = factories.team(credits_=0)
    member(team, MIA)
    return team


@pytest.fixture
def mia(alice: Team) -> Client:
    return signed_in(MIA)


@pytest.fixture
def fred(db: None) -> Client:
    return browser(person("fred", "finance"))


def key_of(client: Client, path: str) -> str:
    return str(client.get(path).context["form"]["idempotency_key"].value())


def test_a_manager_buys_and_has_a_receipt(stripe: StripeDouble, alice: Team, mia: Client) -> None:
    package = paying.package(description="For a busy month")
    assert "45.00 USD" in text(mia, "buy")
    form = {"package": package.pk, "idempotency_key": key_of(mia, at("buy"))}
    first, again = (mia.post(at("buy"), form) for _ in range(2))
    payment = Payment.objects.get()
    assert first["Location"] == again["Location"] == at("purchase", payment.pk)
    page = text(mia, "purchase", payment.pk)
    assert f'href="{payment.url}"' in page
    assert "not paid yet" in page
    stripe.pay(payment.session_id)
    # Before any event has come.
    mia.post(at("purchase", payment.pk))
    payment = paying.fresh(payment)
    assert payment.entry is not None
    receipt = at("receipt", payment.entry.grant.pk)
    assert receipt in text(mia, "purchase", payment.pk)
    stripe.refund(payment.intent_id or "", 900)
    paying.deliver(stripe, "charge.refunded", stripe.charge(payment.intent_id or ""))
    page = mia.get(receipt).content.decode()
    assert f'href="{payment.receipt_url}"' in page
    for said in ("visa 4242: 45.00 USD", "9.00 USD, and 100 credits", "$45", "Medium, 45.00 USD"):
        assert said in page


def test_another_package_from_the_same_page_is_another_payment(
    stripe: StripeDouble, alice: Team, mia: Client
) -> None:
    key = key_of(mia, at("buy"))
    for name in ("Small", "Large"):
        package = paying.package(name=name)
        mia.post(at("buy"), {"package": package.pk, "idempotency_key": key})
    assert Payment.objects.count() == 2
    gone = mia.post(at("buy"), {"package": 99, "idempotency_key": key})
    assert "not sold any more" in gone.content.decode()


def test_stripe_away_is_said_and_tried_again(
    stripe: StripeDouble, alice: Team, mia: Client
) -> None:
    stripe.is_away = True
    form = {"package": paying.package().pk, "idempotency_key": key_of(mia, at("buy"))}
    answer = mia.post(at("buy"), form)
    assert answer.status_code == 503
    assert "does not answer right now" in answer.content.decode()
    stripe.is_away = False
    payment = Payment.objects.get()
    assert "Try again" in text(mia, "purchase", payment.pk)
    mia.post(at("purchase", payment.pk))
    assert paying.fresh(payment).url


def test_who_is_offered_nothing(stripe: StripeDouble, alice: Team, mia: Client) -> None:
    paying.begun(alice)
    Team.objects.update(draws_on="organization")
    assert mia.get(at("buy")).status_code == 404
    assert "Buy credits" not in text(mia, "overview")
    Team.objects.update(draws_on="team")
    assert "Buy credits" in text(mia, "overview")
    member(alice, "bob@example.com", "member")
    bob = signed_in("bob@example.com")
    assert bob.get(at("buy")).status_code == 404
    assert bob.post(at("card")).status_code == 404


def test_another_teams_payment_is_not_there(stripe: StripeDouble, alice: Team, mia: Client) -> None:
    bobs = paying.begun(factories.team(name="bob"))
    assert mia.get(at("purchase", bobs.pk)).status_code == 404
    assert mia.post(at("purchase", bobs.pk)).status_code == 404


def test_a_manager_sets_the_auto_top_up(stripe: StripeDouble, alice: Team, mia: Client) -> None:
    package = paying.package()
    terms = {"package": package.pk, "threshold": "50", "ceiling": "90.00", "is_on": "on"}
    assert "Save a card first" in mia.post(at("auto_top_up"), terms).content.decode()
    page = mia.post(at("card")).content.decode()
    session = next(o for o in stripe.objects.values() if o["object"] == "checkout.session")
    assert f'href="{session["url"]}"' in page
    paying.deliver(stripe, "checkout.session.completed", stripe.pay(session["id"]))
    assert mia.post(at("auto_top_up"), terms).status_code == 302
    assert "visa 4242" in text(mia, "auto_top_up")
    kept = AutoTopUp.objects.get()
    assert (kept.threshold_nanocredits, kept.monthly_ceiling_minor) == (50 * NANO, 9000)
    assert (
        "below the package"
        in mia.post(at("auto_top_up"), {**terms, "ceiling": "44.99"}).content.decode()
    )


def test_a_payment_to_confirm_is_paid_by_hand(
    stripe: StripeDouble, alice: Team, mia: Client
) -> None:
    paying.with_auto_top_up(stripe, alice)
    assert mia.post(at("pay_by_hand")).status_code == 404
    stripe.next_charge("authentication_required")
    auto.charge_due()
    assert "wants the owner of the card to confirm" in text(mia, "auto_top_up")
    first, again = (mia.post(at("pay_by_hand")) for _ in range(2))
    assert first["Location"] == again["Location"]
    payment = Payment.objects.get(state="open")
    paying.deliver(stripe, "checkout.session.completed", stripe.pay(payment.session_id))
    assert AutoTopUp.objects.get().state == "on"
    assert paying.balance(alice) == 500


# --- Operators -----------------------------------------------------------------------------------


def test_a_package_is_made_and_audited(fred: Client) -> None:
    form = {
        "name": "Yen",
        "amount_minor": "7000",
        "currency": "jpy",
        "nanocredits": "500",
        "worth_nano_usd": "",
        "priority": "100",
        "position": "0",
        "is_active": "on",
    }
    path = "/admin/payments/package/add/"
    assert "in another currency" in fred.post(path, form).content.decode()
    assert fred.post(path, {**form, "worth_nano_usd": "46"}).status_code == 302
    made = Package.objects.get()
    assert (made.price, made.nanocredits, made.paid_nano_usd) == (
        "7,000 JPY",
        500 * NANO,
        46 * NANO,
    )
    assert AuditEntry.objects.get(action="package.create").actor == "user:fred"


def test_an_operator_makes_a_link_once(stripe: StripeDouble, alice: Team, fred: Client) -> None:
    package = paying.package()
    path = f"/admin/teams/team/{alice.pk}/payment-link/"
    assert path in fred.get(f"/admin/teams/team/{alice.pk}/change/").content.decode()
    form = {"package": package.pk, "idempotency_key": key_of(fred, path)}
    first, again = (fred.post(path, form).content.decode() for _ in range(2))
    payment = Payment.objects.get()
    assert payment.url.startswith("https://buy.stripe.test/plink_")
    assert payment.url in first
    assert payment.url in again
    link = stripe.objects[payment.link_id]
    assert link["restrictions"] == {"completed_sessions": {"limit": "1"}}
    paying.deliver(stripe, "checkout.session.completed", stripe.pay_link(payment.link_id))
    assert paying.balance(alice) == 500


def test_an_operator_sets_the_auto_top_up_and_switches_it_off(
    stripe: StripeDouble, alice: Team, fred: Client
) -> None:
    paying.with_auto_top_up(stripe, alice, is_on=False)
    path = f"/admin/teams/team/{alice.pk}/auto-top-up/"
    assert "visa 4242" in fred.get(path).content.decode()
    form = {
        "package": paying.package().pk,
        "threshold": "10",
        "ceiling": "45",
        "is_on": "on",
        "idempotency_key": key_of(fred, path),
    }
    assert fred.post(path, form).status_code == 302
    kept = AutoTopUp.objects.get()
    assert (kept.is_on, kept.monthly_ceiling_minor) == (True, 4500)
    action = {"action": "switch_off", "_selected_action": [kept.pk]}
    fred.post("/admin/payments/autotopup/", action)
    assert not AutoTopUp.objects.get().is_on
    card = fred.post(
        f"/admin/teams/team/{alice.pk}/save-card/", {"idempotency_key": "1"}
    ).content.decode()
    assert "https://checkout.stripe.test/cs_test" in card


def test_a_payment_shows_its_ids_and_lines(stripe: StripeDouble, alice: Team, fred: Client) -> None:
    payment = paying.bought(stripe, alice)
    ledger.adjust(
        account=ledger.account_of(alice),
        amount_nanocredits=-500 * NANO,
        reason="spent",
        actor="test",
        idempotency_key="1",
    )
    stripe.refund(payment.intent_id or "", 900)
    action = {"action": "look_again", "_selected_action": [payment.pk]}
    fred.post("/admin/payments/payment/", action)
    page = fred.get(f"/admin/payments/payment/{payment.pk}/change/").content.decode()
    entry = Entry.objects.get(kind="grant")
    for said in (
        payment.intent_id,
        payment.charge_id,
        "9.00 USD",
        " loss 100 ",
        payment.receipt_url,
    ):
        assert said
        assert said in page
    assert reverse("admin:billing_entry_change", args=[entry.pk]) in page


def test_a_failed_event_is_applied_again(stripe: StripeDouble, alice: Team, fred: Client) -> None:
    payment = paying.begun(alice)
    session = stripe.pay(payment.session_id, amount=4000)
    with pytest.raises(PaymentMismatch):
        paying.deliver(stripe, "checkout.session.completed", session)
    kept = StripeEvent.objects.get()
    action: dict[str, Any] = {"action": "apply_again", "_selected_action": [kept.pk]}
    page = fred.post("/admin/payments/stripeevent/", action, follow=True).content.decode()
    assert "40.00 USD were paid for what was offered at 45.00 USD" in page
    # What was asked is put right, by whoever decides so.
    Payment.objects.update(amount_minor=4000)
    fred.post("/admin/payments/stripeevent/", action)
    assert StripeEvent.objects.get().state == "applied"
    assert paying.balance(alice) == 500
