from __future__ import annotations

import pytest
from django.apps import apps
from django.contrib import admin
from django.test import Client

from billing import ledger
from billing.models import Entry
from jobs import lifecycle
from teams.models import ProviderCredential, Team, User
from tests import factories

OURS = ("base", "teams", "billing", "jobs", "webhooks", "payments")


@pytest.fixture
def owner(client: Client, db: None, pages_served: None) -> Client:
    client.force_login(User.objects.create_superuser("owner", password="x" * 20))
    return client


def test_every_model_of_ours_is_registered_but_those_shown_inside_others() -> None:
    inline = {"Deployment", "JobRule", "CallRule", "Attempt", "StatusChange", "BudgetPeriod"}
    # Whoever asks again reads an idempotency record; operators have nothing to see in it. A
    # payload is shown by its call, to whoever may look.
    inline |= {"Lot", "Fold", "UsageCounter", "ShadowDay", "IdempotencyRecord", "Payload"}
    # The overview shows an account's pace, and when the worker last ran; reports show what is kept
    # of days.
    inline |= {"Pace", "Heartbeat", "RevenueDay", "PlatformDay", "CostDay"}
    # An endpoint's page stands for who listens; its secrets are shown to nobody.
    inline |= {"Listener", "Outbox", "Standing", "Secret"}
    # An archived month is looked at by its command, and as a file.
    inline |= {"ArchivedEntry", "ArchivedMonth"}
    # A payment's page shows its reversals; a customer is an id.
    inline |= {"Reversal", "Customer"}
    missing = {
        model.__name__
        for name in OURS
        for model in apps.get_app_config(name).get_models()
        if model not in admin.site._registry
    }
    assert missing == inline


def test_every_page_opens(owner: Client) -> None:
    alice = factories.company(plan="job_based")
    job = lifecycle.create(team=alice.team, api_key=None, job_type="x")
    assert job.hold_id
    for model, page in admin.site._registry.items():
        base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        assert owner.get(base).status_code == 200, base
        row = model._default_manager.first()
        if row is not None:
            assert owner.get(f"{base}{row.pk}/change/").status_code == 200, base
        if page.has_add_permission(type("R", (), {"user": User.objects.get()})()):  # type: ignore[arg-type]
            assert owner.get(f"{base}add/").status_code == 200, base


@pytest.mark.parametrize("model", ["entry", "hold", "grant", "account"])
def test_the_ledger_can_only_be_looked_at(owner: Client, model: str) -> None:
    factories.company()
    assert owner.get(f"/admin/billing/{model}/add/").status_code == 403
    assert owner.post(f"/admin/billing/{model}/1/delete/").status_code in {302, 403}
    assert Entry.objects.exists()


def test_topping_up_twice_from_one_form_adds_once(owner: Client) -> None:
    account = ledger.account_of(factories.team(credits_=1))
    path = f"/admin/billing/account/{account.pk}/top-up/"
    key = owner.get(path).context["form"].initial["idempotency_key"]
    form = {"credits": "2.5", "paid_usd": "1", "reason": "invoice 7", "idempotency_key": key}
    assert owner.post(path, form).status_code == 302
    assert owner.post(path, form).status_code == 302
    account.refresh_from_db()
    assert account.balance_nanocredits == 3_500_000_000
    wrong = owner.post(path, {**form, "credits": "-1"})
    assert wrong.status_code == 200
    account.refresh_from_db()
    assert account.balance_nanocredits == 3_500_000_000


def test_suspending_and_resuming_a_team(owner: Client) -> None:
    team = factories.team()
    for action, status in (("suspend", "suspended"), ("resume", "active")):
        owner.post("/admin/teams/team/", {"action": action, "_selected_action": [team.pk]})
        assert Team.objects.get().status == status


def test_a_team_is_moved_to_its_organizations_wallet_and_back(owner: Client) -> None:
    team = factories.team()
    for action, wallet in (("share_wallet", "organization"), ("own_wallet", "team")):
        owner.post("/admin/teams/team/", {"action": action, "_selected_action": [team.pk]})
        assert Team.objects.get().draws_on == wallet


def test_a_credential_is_sealed_and_never_shown_again(owner: Client) -> None:
    form = {"name": "main", "secret": "sk-very-secret", "api_base": "", "extra": "{}"}
    assert owner.post("/admin/teams/providercredential/add/", form).status_code == 302
    saved = ProviderCredential.objects.get()
    assert "sk-very-secret" not in saved.secret_ciphertext
    page = owner.get(f"/admin/teams/providercredential/{saved.pk}/change/").content.decode()
    assert "sk-very-secret" not in page
    assert saved.secret_ciphertext not in page


def test_an_operator_makes_an_organization_and_a_team(owner: Client) -> None:
    owner.post("/admin/teams/organization/add/", {"slug": "new-org", "name": "New"})
    organization = Team._meta.get_field("organization").related_model.objects.get()
    form = {"organization": organization.pk, "slug": "new-team", "name": "N", "draws_on": "team"}
    assert owner.post("/admin/teams/team/add/", form).status_code == 302
    assert Team.objects.get().slug == "new-team"


@pytest.mark.filterwarnings("error::django.core.paginator.UnorderedObjectListWarning")
def test_organizations_are_offered_in_an_order(owner: Client) -> None:
    for name in ("bob", "alice"):
        factories.team(name=name)
    offered = owner.get(
        "/admin/autocomplete/?app_label=teams&model_name=team&field_name=organization"
    ).json()
    names = [found["text"] for found in offered["results"]]
    assert names == sorted(names)
