"""Looking writes nothing: whatever a page of the admin needs, a GET does not make it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.urls import reverse

from billing import plans
from billing.models import Account, PricePlan
from teams import directory
from teams.models import Deployment
from tests import factories
from tests.saas_litellm.test_rights import _ACTION_LISTS, REPORTS, alice, label
from tests.teams.test_roles import browser, person

__all__ = ["alice"]
pytestmark = [pytest.mark.any_database, pytest.mark.usefixtures("pages_served")]
WRITE = re.compile(r"\s*(INSERT INTO|UPDATE|DELETE FROM) \"(\w+)\"", re.IGNORECASE)
# Who is there; and what lots have left, which is worked out of the entries whenever it is asked.
NOT_COUNTED = {"django_session", "billing_fold", "billing_lot", "billing_draw"}


def pages() -> list[str]:
    """Every page of the admin, of the newest row where it is of a row."""
    found = ["", *REPORTS, *(f"prices/plans/{preset}/" for preset in plans.PRESETS)]
    for model, page in admin.site._registry.items():
        base = f"{label(model).replace('.', '/')}/"
        found += [base, f"{base}add/"]
        rows = model._default_manager.order_by("-pk")[:1]
        found += [f"{base}{row.pk}/{kind}/" for row in rows for kind in ("change", "delete")]
        for kind in _ACTION_LISTS:
            places = [base] if kind == "actions_list" else [f"{base}{row.pk}/" for row in rows]
            names = [page.get_unfold_action(name).path for name in getattr(page, kind, ())]
            found += [f"{place}{path}/" for place in places for path in names]
    found += [f"catalog/deployments/{row.pk}/test/" for row in Deployment.objects.all()]
    own = [reverse("second_factor"), reverse("admin:password_change")]
    return own + [f"/admin/{path}" for path in found]


def written(client: Client) -> list[str]:
    """What a GET of each page writes, as page and table."""
    return [f"{path} {table}" for path in pages() for table in _tables_written(client, path)]


def _tables_written(client: Client, path: str) -> set[str]:
    statements: list[str] = []

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        statements.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        assert client.get(path).status_code in {200, 302, 403, 404}, path
    return {match[2] for match in map(WRITE.match, statements) if match} - NOT_COUNTED


def test_a_get_writes_nothing(alice: factories.Company) -> None:
    assert written(browser(person("pat", "owner"))) == []


@pytest.mark.parametrize("role", ["owner", "viewer"])
def test_nor_where_nothing_was_ever_used(db: None, role: str) -> None:
    """A team without a wallet or a plan, and no plan there is."""
    organization = directory.create_organization(slug="new", actor="test")
    directory.create_team(slug="new", organization=organization, actor="test")
    assert written(browser(person("pat", role))) == []
    assert not Account.objects.exists()
    assert not PricePlan.objects.exists()


def test_a_preset_is_made_by_whoever_takes_it_and_only_looked_at_before(db: None) -> None:
    for role, status in (("viewer", 403), ("finance", 302)):
        client = browser(person(f"the-{role}", role))
        assert client.get("/admin/prices/plans/consumption_usd/").status_code == 404
        assert (
            client.post("/admin/prices/plans/", {"slug": "consumption_usd"}).status_code == status
        )
    assert PricePlan.objects.get().slug == "consumption_usd"
    page = client.get("/admin/prices/plans/consumption_usd/")
    assert "version 1" in page.content.decode().lower()
