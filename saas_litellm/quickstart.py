"""The demo company of a first `make run`: idempotent, and nothing secret is shown twice."""

from __future__ import annotations

import os
from dataclasses import dataclass

from django.db import transaction

from billing import ledger, plans
from billing.models import Grant
from saas_litellm.base.money import NANO, femto
from teams import cost_map, directory, keys, prices, roles, staff
from teams.models import AccessGroup, Alias, Deployment, Organization, Team, User
from teams.prices import Rates, UnitPrices

ACTOR = "quickstart"
TEAM = "acme-corp"
OWNER = "owner"
CREDITS = 1_000
DEMO_MODEL = "demo/echo"
# The demo's price list, in USD per token: 0.50 in, 0.05 cached, 1.50 out per million.
DEMO_PRICES = UnitPrices(
    base=Rates(input=femto("0.0000005"), cached_read=femto("0.00000005"), output=femto("0.0000015"))
)
CHAT_MODEL = "openai/gpt-4o-mini"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What is shown once: None where it was made on an earlier run."""

    password: str | None
    api_key: str | None


def set_up() -> Shown:
    """Make whatever of the demo is missing, in one transaction."""
    with transaction.atomic():
        group = _group()
        _serve(group, alias="demo", model=DEMO_MODEL, sheet=DEMO_PRICES, source="built-in demo")
        if os.environ.get("OPENAI_API_KEY"):
            _serve_openai(group)
        team = _team(group)
        plans.ensure_preset("job_based")
        ledger.grant(
            account=ledger.account_of(team),
            amount_nanocredits=CREDITS * NANO,
            actor=ACTOR,
            idempotency_key="quickstart",
            kind=Grant.Kind.PROMOTIONAL,
            reason="Welcome credits",
        )
        return Shown(password=_owner(), api_key=_key(team))


def _group() -> AccessGroup:
    return AccessGroup.objects.get_or_create(name="demo")[0]


def _serve(group: AccessGroup, *, alias: str, model: str, sheet: UnitPrices, source: str) -> None:
    served, _ = Alias.objects.get_or_create(name=alias)
    Deployment.objects.get_or_create(alias=served, model=model)
    group.aliases.add(served)
    if not prices.current([model]):
        prices.publish(price_key=model, prices=sheet, source=source)


def _serve_openai(group: AccessGroup) -> None:
    listed = {entry.model: entry for entry in cost_map.priced_models(cost_map.load())}
    found = listed.get(CHAT_MODEL)
    if found is not None and found.prices is not None:
        _serve(group, alias="chat", model=CHAT_MODEL, sheet=found.prices, source="litellm cost map")


def _team(group: AccessGroup) -> Team:
    team = Team.objects.filter(slug=TEAM).first()
    if team is not None:
        return team
    organization = Organization.objects.filter(slug="acme").first() or (
        directory.create_organization(slug="acme", name="Acme", actor=ACTOR)
    )
    return directory.create_team(
        slug=TEAM,
        name="Acme Corp",
        organization=organization,
        actor=ACTOR,
        access_groups=[group],
        default_alias=Alias.objects.get(name="demo"),
    )


def _owner() -> str | None:
    if User.objects.filter(username=OWNER).exists():
        return None
    return staff.create(username=OWNER, role=roles.OWNER, actor=ACTOR)[1]


def _key(team: Team) -> str | None:
    if team.api_keys.exists():
        return None
    return keys.issue(team=team, actor=ACTOR, name="quickstart")[1]
